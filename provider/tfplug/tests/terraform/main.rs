//! The example provider under the real `terraform`, which has to be on the PATH (any version from 1.11).

mod cli;

use cli::Workspace;

const CONFIG: &str = r#"
resource "demo_server" "a" {
  name   = "alpha"
  price  = 0.7
  labels = { a = "b" }
  tags   = ["y", "x", "y"]
  extra  = { list = [1, "two", null], big = 18446744073709551615, third = 1/3 }
  disks  = [{ size_gb = 10 }, { size_gb = 20 }]
  ports  = [{ number = 443, protocol = "udp" }, { number = 80 }]
  password         = ephemeral.demo_token.t.value
  password_version = 1
  listener {
    port = 443
    tls { certificate = "c" }
  }
  timeouts { create = "1m" }
}
ephemeral "demo_token" "t" { audience = "x" }
data "demo_server" "a" { name = demo_server.a.name }
output "size" { value = data.demo_server.a.size }
output "joined" { value = provider::demo::join("-", "a", "b") }
output "big" { value = demo_server.a.extra.big }
"#;

#[test]
fn a_server_with_everything_is_made_planned_empty_changed_and_destroyed() {
    let workspace = Workspace::new(CONFIG);
    workspace.succeeds(&["apply", "-auto-approve"]);
    workspace.plans_nothing();
    let outputs = workspace.succeeds(&["output", "-json"]);
    let outputs: serde_json::Value = serde_json::from_str(&outputs).expect("JSON");
    assert_eq!(outputs["joined"]["value"], "a-b");
    assert_eq!(outputs["size"]["value"], 1);
    assert_eq!(outputs["big"]["value"].to_string(), "18446744073709551615");
    let state = workspace.state();
    assert_eq!(
        state
            .pointer("/demo_server.a/disks/1/id")
            .and_then(|v| v.as_str()),
        Some("disk-alpha-1")
    );
    assert!(state["demo_server.a"]["password"].is_null());

    workspace.write(&CONFIG.replace("size_gb = 20", "size_gb = 30"));
    let told = workspace.succeeds(&["apply", "-auto-approve"]);
    assert!(told.contains("0 added, 1 changed, 0 destroyed"), "{told}");
    workspace.plans_nothing();
    workspace.write(&CONFIG.replace("alpha", "beta"));
    let told = workspace.succeeds(&["apply", "-auto-approve"]);
    assert!(told.contains("1 added, 0 changed, 1 destroyed"), "{told}");
    workspace.succeeds(&["destroy", "-auto-approve"]);
    assert_eq!(workspace.servers(), 0);
}

#[test]
fn what_an_outsider_made_is_imported_and_what_he_removed_is_made_again() {
    let workspace = Workspace::new(r#"resource "demo_server" "a" { name = "alpha" }"#);
    workspace.succeeds(&["apply", "-auto-approve"]);
    workspace.succeeds(&["state", "rm", "demo_server.a"]);
    let told = workspace.fails(&["apply", "-auto-approve"]);
    assert!(told.contains("exists already"), "{told}");
    let told = workspace.fails(&["import", "demo_server.a", "beta"]);
    assert!(
        told.contains("Cannot import non-existent remote object"),
        "{told}"
    );
    workspace.succeeds(&["import", "demo_server.a", "alpha"]);
    workspace.plans_nothing();
    std::fs::remove_file(workspace.root().join("alpha.json")).expect("it is there");
    let told = workspace.succeeds(&["apply", "-auto-approve"]);
    assert!(told.contains("1 added"), "{told}");
}

#[test]
fn a_create_that_panics_leaves_a_tainted_server_and_no_orphan() {
    let workspace = Workspace::new(
        r#"resource "demo_server" "a" {
          name  = "alpha"
          chaos = "panic"
        }"#,
    );
    let told = workspace.fails(&["apply", "-auto-approve"]);
    assert!(told.contains("chaos wants it"), "{told}");
    assert_eq!(workspace.state()["demo_server.a"]["id"], "server-alpha");
    workspace.write(r#"resource "demo_server" "a" { name = "alpha" }"#);
    let told = workspace.succeeds(&["apply", "-auto-approve"]);
    assert!(told.contains("1 added, 0 changed, 1 destroyed"), "{told}");
    assert_eq!(workspace.servers(), 1);
}

#[test]
fn a_degraded_create_is_a_warning_and_stays_clean() {
    let workspace = Workspace::new(
        r#"resource "demo_server" "a" {
          name  = "alpha"
          chaos = "degraded"
        }"#,
    );
    let told = workspace.succeeds(&["apply", "-auto-approve"]);
    assert!(told.contains("Warning: Degraded"), "{told}");
    workspace.plans_nothing();
}

#[test]
fn bad_values_are_told_at_validate_with_their_place() {
    let table = [
        (r#"name = "no spaces""#, "letters, digits and dashes"),
        (r#"name = "localhost""#, "localhost already"),
        ("name = \"a\"\n size = 101", "a number from 1 to 100"),
        ("name = \"a\"\n size = 1.5", "a whole number"),
        (
            "name = \"a\"\n ports = [{ number = 80, protocol = \"icmp\" }]",
            "one of \"tcp\", \"udp\"",
        ),
        ("name = \"a\"\n password = \"x\"", "password_version"),
        (
            "name = \"a\"\n timeouts { create = \"soon\" }",
            "is not a duration",
        ),
    ];
    for (body, wanted) in table {
        let workspace = Workspace::new(&format!("resource \"demo_server\" \"a\" {{\n {body}\n}}"));
        let told = workspace.fails(&["validate"]);
        let unwrapped = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(unwrapped.contains(wanted), "{wanted}: {told}");
        assert_eq!(told.matches("Error:").count(), 1, "{told}");
    }
}
