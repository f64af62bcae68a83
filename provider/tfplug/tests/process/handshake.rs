//! Who is answered, and how.

use std::os::unix::fs::PermissionsExt as _;

use tfplug::{COOKIE_KEY, COOKIE_VALUE};

use crate::client::{Plugin, command};

#[tokio::test]
async fn started_by_hand_it_says_what_it_is() {
    let base = tempfile::tempdir().expect("a directory");
    let output = command(base.path()).output().await.expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("demo") && told.contains("Terraform starts it"),
        "{told}"
    );
    assert_eq!(std::fs::read_dir(base.path()).expect("readable").count(), 0);
}

#[tokio::test]
async fn a_terraform_without_protocol_6_is_refused() {
    let base = tempfile::tempdir().expect("a directory");
    let mut command = command(base.path());
    command
        .env(COOKIE_KEY, COOKIE_VALUE)
        .env("PLUGIN_PROTOCOL_VERSIONS", "4,5");
    let output = command.output().await.expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("offers 4,5"));
}

#[tokio::test]
async fn a_broken_client_certificate_is_refused() {
    let base = tempfile::tempdir().expect("a directory");
    let mut command = command(base.path());
    command
        .env(COOKIE_KEY, COOKIE_VALUE)
        .env("PLUGIN_PROTOCOL_VERSIONS", "6")
        .env("PLUGIN_CLIENT_CERT", "none");
    let output = command.output().await.expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("PLUGIN_CLIENT_CERT"));
}

#[tokio::test]
async fn the_line_has_six_fields_and_the_socket_is_private() {
    let plugin = Plugin::start(None).await;
    let socket = plugin.socket();
    assert_eq!(
        plugin.line,
        ["1", "6", "unix", &socket.display().to_string(), "grpc", ""]
    );
    let dir = socket.parent().expect("a directory");
    assert_eq!(dir.parent(), Some(plugin.base.path()));
    let mode = std::fs::metadata(dir).expect("exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
