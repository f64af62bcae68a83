//! Traps 1 to 11: handshake, certificates, streams, signals, sizes, logs, capabilities.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tfplug::Value;
use tfplug::proto::go_plugin::grpc_stdio_client::GrpcStdioClient;
use tfplug::proto::health::HealthCheckRequest;
use tfplug::proto::health::health_check_response::ServingStatus;
use tfplug::proto::health::health_client::HealthClient;
use tfplug_host::{ClientIdentity, Host, HostError, MAGIC_COOKIE_KEY, Rule, SpawnOptions};

use crate::{fixture, host, options};

/// A shell that runs `script` with the provider's path as `$0`.
fn shell(script: &str) -> SpawnOptions {
    SpawnOptions {
        args: vec!["-c".into(), script.into(), fixture().into()],
        ..SpawnOptions::default()
    }
}

#[tokio::test]
async fn the_first_line_is_the_handshake_and_stdout_stays_silent() {
    let (host, _dir) = host("").await;
    assert_eq!(host.process().handshake().protocol, 6);
    assert!(!host.process().handshake().server_certificate.is_empty());
    host.resource("fixture_thing")
        .await
        .expect("the type exists");
    host.shutdown()
        .await
        .expect("clean output and a prompt end");
}

#[tokio::test]
async fn noise_on_stdout_before_the_handshake_is_refused() {
    for noise in [
        "echo hello; exec \"$0\"",
        "printf ' '; exec \"$0\"",
        "echo; exec \"$0\"",
    ] {
        let refused = Host::spawn(Path::new("/bin/sh"), shell(noise))
            .await
            .expect_err(noise);
        assert!(
            matches!(refused, HostError::Handshake(_)),
            "{noise}: {refused}"
        );
    }
}

#[tokio::test]
async fn a_provider_that_ends_or_says_nothing_is_told_apart() {
    let refused = Host::spawn(Path::new("/bin/sh"), shell("echo why >&2; exit 7"))
        .await
        .expect_err("it ended");
    assert!(
        matches!(&refused, HostError::Exited { status, stderr } if status.code() == Some(7) && stderr == "why")
    );
    let mut options = SpawnOptions::default().env("FIXTURE_MODE", "never-ready");
    options.start_timeout = Duration::from_millis(300);
    let refused = Host::spawn(fixture(), options).await.expect_err("it hangs");
    assert!(matches!(refused, HostError::Timeout { .. }), "{refused}");
    let refused = Host::spawn(Path::new("/no/such/provider"), SpawnOptions::default())
        .await
        .expect_err("none");
    assert!(refused.to_string().contains("build it first"), "{refused}");
}

#[test]
fn started_by_hand_it_explains_itself_and_exits_with_1() {
    let output = Command::new(fixture())
        .env_remove(MAGIC_COOKIE_KEY)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.to_lowercase().contains("terraform") && !said.contains("|grpc|"),
        "{said}"
    );
}

#[tokio::test]
async fn protocol_versions_are_understood_in_any_order() {
    for order in ["5,6", "6,5", "6"] {
        let options = SpawnOptions::default().env("PLUGIN_PROTOCOL_VERSIONS", order);
        let host = Host::spawn(fixture(), options).await.expect(order);
        assert_eq!(host.process().handshake().protocol, 6, "{order}");
    }
    let options = SpawnOptions::default().env("PLUGIN_PROTOCOL_VERSIONS", "5");
    Host::spawn(fixture(), options)
        .await
        .expect_err("it does not speak protocol 5 alone");
}

#[tokio::test]
async fn only_the_holder_of_the_pinned_client_certificate_gets_in() {
    let (told, other) = (
        ClientIdentity::generate().expect("one"),
        ClientIdentity::generate().expect("another"),
    );
    let refusal = |shown| {
        let told = &told;
        async move {
            let host = Host::spawn_as(fixture(), SpawnOptions::default(), Some(told), shown).await;
            // With TLS 1.3 a client learns of its refusal only when it reads.
            match host {
                Ok(host) => host.schema().await.map(|_| ()).err(),
                Err(error) => Some(error),
            }
        }
    };
    assert!(
        refusal(Some(&other)).await.is_some(),
        "a stranger's certificate was accepted"
    );
    assert!(refusal(None).await.is_some(), "no certificate was accepted");
    assert!(
        refusal(Some(&told)).await.is_none(),
        "Terraform's own certificate was refused"
    );
}

#[tokio::test]
async fn alpn_h2_is_negotiated() {
    let (host, _dir) = host("").await;
    assert_eq!(host.tls().map(|facts| facts.alpn.as_str()), Some("h2"));
}

#[tokio::test]
async fn a_provider_without_alpn_is_refused_as_newer_terraforms_do() {
    let options = SpawnOptions::default().env("FIXTURE_MODE", "no-alpn");
    let refused = Host::spawn(fixture(), options).await.expect_err("no ALPN");
    assert!(
        matches!(refused, HostError::Alpn { got: None }),
        "{refused}"
    );
}

#[tokio::test]
async fn a_provider_that_shows_another_certificate_is_refused() {
    let options = SpawnOptions::default().env("FIXTURE_MODE", "other-certificate");
    let refused = Host::spawn(fixture(), options)
        .await
        .expect_err("another certificate");
    assert!(matches!(refused, HostError::Tls(_)), "{refused}");
}

#[tokio::test]
async fn without_a_client_certificate_it_speaks_plain_text() {
    let host = Host::spawn(fixture(), SpawnOptions::default().without_tls())
        .await
        .expect("plain text");
    assert!(host.tls().is_none());
    host.schema().await.expect("an answer");
}

#[tokio::test]
async fn shutdown_ends_the_process_promptly() {
    let (host, _dir) = host("").await;
    host.schema().await.expect("an answer");
    let (took, status) = host.shutdown().await.expect("an end");
    assert!(
        took < Duration::from_millis(1000),
        "go-plugin kills after 2 s; it took {took:?}"
    );
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn the_streams_of_go_plugin_stay_open_and_health_answers() {
    let (host, _dir) = host("").await;
    match GrpcStdioClient::new(host.channel()).stream_stdio(()).await {
        Err(status) => assert_eq!(status.code(), tonic::Code::Unimplemented),
        Ok(stream) => {
            let mut stream = stream.into_inner();
            host.schema().await.expect("an answer");
            let ended = tokio::time::timeout(Duration::ZERO, stream.message()).await;
            assert!(
                ended.is_err(),
                "the stream has ended or sent something: {ended:?}"
            );
        }
    }
    let request = HealthCheckRequest {
        service: "plugin".to_owned(),
    };
    let answer = HealthClient::new(host.channel())
        .check(request)
        .await
        .expect("health");
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
}

#[tokio::test]
async fn sigint_is_ignored() {
    let (mut host, _dir) = host("").await;
    for _ in 0..3 {
        host.process().interrupt().expect("it runs");
    }
    host.schema().await.expect("still there");
    assert!(!host.process_mut().has_exited());
    host.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn a_killed_provider_leaves_nothing_that_the_next_does_not_remove() {
    let temporary = tempfile::tempdir().expect("a directory");
    let options = || SpawnOptions::default().env("TMPDIR", temporary.path());
    let mut host = Host::spawn(fixture(), options()).await.expect("the first");
    let socket = host.process().handshake().socket.clone();
    if socket.exists() {
        let directory = socket.parent().expect("a directory");
        let mode = directory.metadata().expect("metadata").permissions().mode();
        assert_eq!(
            mode & 0o777,
            0o700,
            "others could reach {}",
            socket.display()
        );
    }
    host.process_mut().kill().await.expect("killed");
    let host = Host::spawn(fixture(), options()).await.expect("the second");
    host.shutdown().await.expect("a clean end");
    let left: Vec<_> = std::fs::read_dir(temporary.path())
        .expect("the directory")
        .flatten()
        .map(|e| e.path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_request_of_32_mib_is_taken() {
    let (host, _dir) = host("").await;
    let driver = host.resource("fixture_thing").await.expect("the type");
    let mut config = driver
        .config(&json!({"name": "big"}))
        .expect("a configuration");
    config.set("note", Value::from("x".repeat(32 << 20)));
    assert_eq!(driver.validate(&config).await.expect("an answer"), vec![]);
    let plan = driver.plan(None, &config).await.expect("a plan as large");
    assert_eq!(plan.planned.get("note"), config.get("note"));
}

#[tokio::test]
async fn every_line_on_stderr_is_a_log_entry_even_of_a_panic() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = options(&dir, "panic-in-create").env("TF_LOG", "TRACE");
    let mut host = Host::spawn(fixture(), options)
        .await
        .expect("the provider starts");
    host.configure(&json!({})).await.expect("configured");
    let driver = host.resource("fixture_thing").await.expect("the type");
    driver
        .create(&json!({"name": "a"}))
        .await
        .expect("diagnostics, not a status");
    let mut lines = host.process().stderr();
    lines.retain(|line| !line.is_empty());
    host.output_is_clean().expect("log entries only");
    assert!(
        lines.iter().any(|line| line.contains("configured")),
        "nothing was logged: {lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.contains("half-way through")),
        "the panic was not logged: {lines:?}"
    );
}

#[tokio::test]
async fn it_says_what_it_can_do() {
    let (host, _dir) = host("").await;
    let schema = host.schema().await.expect("a schema");
    let can = &schema.capabilities;
    assert!(
        can.get_provider_schema_optional && can.plan_destroy && can.move_resource_state,
        "{can:?}"
    );
    assert!(!can.generate_resource_config, "{can:?}");
}

#[tokio::test]
async fn what_is_not_there_yet_is_unimplemented() {
    use tfplug::proto::tfplugin6 as wire;
    let (host, _dir) = host("").await;
    let mut client = host.client();
    let codes = [
        client
            .list_resource(wire::list_resource::Request::default())
            .await
            .err()
            .map(|status| status.code()),
        client
            .plan_action(wire::plan_action::Request::default())
            .await
            .err()
            .map(|status| status.code()),
        client
            .get_states(wire::get_states::Request::default())
            .await
            .err()
            .map(|status| status.code()),
        client
            .generate_resource_config(wire::generate_resource_config::Request::default())
            .await
            .err()
            .map(|status| status.code()),
    ];
    assert_eq!(codes, [Some(tonic::Code::Unimplemented); 4]);
    let metadata = client
        .get_metadata(wire::get_metadata::Request {})
        .await
        .expect("metadata")
        .into_inner();
    let names: Vec<_> = metadata
        .resources
        .iter()
        .map(|one| one.type_name.as_str())
        .collect();
    assert_eq!(names, ["fixture_thing"]);
    let functions = client
        .get_functions(wire::get_functions::Request {})
        .await
        .expect("functions")
        .into_inner();
    assert!(functions.functions.contains_key("double"));
}

#[tokio::test]
async fn output_that_terraform_cannot_read_fails_the_shutdown() {
    for (script, place) in [
        ("echo not JSON >&2; exec \"$0\"", "stderr"),
        ("\"$0\"; echo late", "stdout"),
    ] {
        let host = Host::spawn(Path::new("/bin/sh"), shell(script))
            .await
            .expect(script);
        host.schema().await.expect("an answer");
        match host.shutdown().await {
            Err(HostError::Violations { violations, .. }) => {
                assert_eq!(violations.len(), 1, "{violations:?}");
                assert_eq!(
                    (violations[0].rule, violations[0].path.as_str()),
                    (Rule::LOG, place)
                );
            }
            other => panic!("{script}: {other:?}"),
        }
    }
}
