//! The real terraform drives the fixture provider: what the host pretends is what happens.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tfplug_host::terraform::Cli;

use crate::fixture;

const HEAD: &str = r#"
terraform {
  required_providers {
    fixture = { source = "tfplug/fixture" }
  }
}
provider "fixture" {}
"#;

const STORY: &str = r#"
ephemeral "fixture_ticket" "me" {
  holder = "me"
}
resource "fixture_thing" "a" {
  name   = "a"
  note   = var.note
  ratio  = 0.7
  secret = ephemeral.fixture_ticket.me.token
  tags   = { k = "v" }
  names  = ["y", "x"]
  any    = { deep = [1, "two"] }
  limits = [{ kind = "gpu" }]
  rule { port = 1 }
  rule { port = 2 }
  local { path = "/p" }
}
data "fixture_things" "all" {
  depends_on = [fixture_thing.a]
}
variable "note" { default = "n" }
output "twice" { value = provider::fixture::double(21) }
output "names" { value = data.fixture_things.all.names }
output "used" { value = fixture_thing.a.limits[0].used }
"#;

/// A working directory with this configuration, and the directory of the fixture's objects.
fn terraform(body: &str, mode: &str) -> (Cli, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    // A missing terraform fails here and says where to get it.
    let cli = Cli::new().unwrap_or_else(|error| panic!("{error}"));
    let cli = cli
        .provider("tfplug/fixture", fixture())
        .expect("the provider is linked");
    let cli = cli.env("FIXTURE_DIR", dir.path()).env("FIXTURE_MODE", mode);
    cli.write("main.tf", &format!("{HEAD}{body}"))
        .expect("main.tf");
    (cli, dir)
}

fn wait_for(file: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !file.exists() {
        assert!(Instant::now() < deadline, "{} never came", file.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn terraform_validates_plans_applies_imports_and_destroys() {
    let (cli, dir) = terraform(STORY, "");
    let report = cli.validate().expect("a report");
    assert_eq!(report["valid"], json!(true), "{report}");
    assert_eq!(report["error_count"], json!(0), "{report}");

    let plan = cli.plan().expect("a plan");
    let changes = plan["resource_changes"].as_array().expect("changes");
    let thing = changes
        .iter()
        .find(|one| one["address"] == "fixture_thing.a")
        .expect("the thing");
    assert_eq!(thing["change"]["actions"], json!(["create"]), "{plan}");
    assert!(
        !plan.to_string().contains("token-of-me"),
        "a secret in the plan"
    );

    let applied = cli.apply().expect("it runs").success().expect("it applies");
    assert_eq!(applied.diagnostics("error"), Vec::<String>::new());
    assert_eq!(
        std::fs::read_to_string(dir.path().join("secret-seen")).expect("seen"),
        "token-of-me"
    );
    assert!(
        !dir.path().join("me.ticket").exists(),
        "the ephemeral resource was closed"
    );
    let opened = std::fs::read_to_string(dir.path().join("opened")).expect("opened at all");
    assert!(
        opened.lines().count() >= 2,
        "opened in the plan and again in the apply: {opened:?}"
    );
    let outputs = cli
        .run(&["output", "-json"])
        .expect("it runs")
        .json()
        .expect("outputs");
    assert_eq!(outputs["twice"]["value"], json!(42));
    assert_eq!(outputs["names"]["value"], json!(["a"]));
    assert_eq!(outputs["used"]["value"], json!(0));
    let state = std::fs::read_to_string(cli.work_dir().join("terraform.tfstate")).expect("a state");
    assert!(!state.contains("token-of-me"), "a secret in the state");
    assert!(
        cli.plan_is_empty().expect("a plan"),
        "apply is not followed by an empty plan"
    );

    updates_and_imports(&cli);
    cli.destroy()
        .expect("it runs")
        .success()
        .expect("it destroys");
    assert!(!dir.path().join("a.json").exists());
    assert_eq!(cli.resources().expect("a state"), vec![]);
}

fn updates_and_imports(cli: &Cli) {
    let update = cli
        .run(&["apply", "-auto-approve", "-no-color", "-var", "note=other"])
        .expect("it runs");
    let update = update.success().expect("it updates");
    assert!(update.stdout.contains("1 changed"), "{}", update.all());
    assert!(
        cli.plan_is_empty().is_ok_and(|empty| !empty),
        "back to the default is a change"
    );

    cli.run(&["state", "rm", "fixture_thing.a"])
        .expect("it runs")
        .success()
        .expect("forgotten");
    cli.run(&[
        "import",
        "-no-color",
        "-var",
        "note=other",
        "fixture_thing.a",
        "a",
    ])
    .expect("it runs")
    .success()
    .expect("imported");
    let plan = cli
        .run(&[
            "plan",
            "-no-color",
            "-detailed-exitcode",
            "-var",
            "note=other",
        ])
        .expect("it runs");
    assert_eq!(
        plan.status.code(),
        Some(0),
        "import is not followed by an empty plan: {}",
        plan.all()
    );
}

#[test]
fn terraform_shows_one_error_at_the_attribute() {
    let (cli, _dir) = terraform("resource \"fixture_thing\" \"a\" {\n  name = \"\"\n}\n", "");
    let report = cli.validate().expect("a report");
    assert_eq!(
        (&report["valid"], &report["error_count"]),
        (&json!(false), &json!(1)),
        "{report}"
    );
    let code = report
        .pointer("/diagnostics/0/snippet/code")
        .and_then(Json::as_str)
        .unwrap_or_default();
    assert!(code.contains("name = \"\""), "{report}");
}

#[test]
fn terraform_names_the_argument_of_a_function_that_refuses() {
    let (cli, _dir) = terraform(
        "output \"twice\" { value = provider::fixture::double(-1) }\n",
        "",
    );
    let plan = cli.run(&["plan", "-no-color"]).expect("it runs");
    assert!(!plan.status.success());
    assert!(
        plan.all().contains("must be a whole number, not negative"),
        "{}",
        plan.all()
    );
}

#[test]
fn ctrl_c_cancels_the_create_and_saves_its_state() {
    let (cli, dir) = terraform(
        "resource \"fixture_thing\" \"a\" {\n  name = \"a\"\n}\n",
        "hang-in-create",
    );
    let running = cli
        .start(&["apply", "-auto-approve", "-no-color"])
        .expect("it starts");
    wait_for(&dir.path().join("creating"));
    running.interrupt().expect("it runs");
    let output = running.wait(Duration::from_secs(60)).expect("it ends");
    assert!(!output.status.success());
    assert!(output.all().contains("Cancelled"), "{}", output.all());
    let state = std::fs::read_to_string(cli.work_dir().join("terraform.tfstate")).expect("a state");
    let state: Json = serde_json::from_str(&state).expect("JSON");
    let instance = state
        .pointer("/resources/0/instances/0")
        .expect("the thing is in state");
    assert_eq!(instance["status"], json!("tainted"), "{state}");
    assert_eq!(instance["attributes"]["id"], json!("thing-a"), "{state}");
}

#[test]
fn terraform_stores_what_a_panicking_create_has_made() {
    let (cli, _dir) = terraform(
        "resource \"fixture_thing\" \"a\" {\n  name = \"a\"\n}\n",
        "panic-in-create",
    );
    let output = cli.apply().expect("it runs");
    assert!(!output.status.success());
    assert_eq!(output.diagnostics("error").len(), 1, "{}", output.all());
    let resources = cli.resources().expect("a state");
    assert_eq!(resources.len(), 1, "the object would be an orphan");
    // A second apply by a provider that behaves replaces it, and leaves one.
    let cli = cli.env("FIXTURE_MODE", "");
    cli.apply()
        .expect("it runs")
        .success()
        .expect("it recovers");
    assert!(cli.plan_is_empty().expect("a plan"));
    assert_eq!(cli.resources().expect("a state").len(), 1);
}

#[test]
fn a_degraded_create_warns_and_is_not_tainted() {
    let body = "resource \"fixture_thing\" \"a\" {\n  name = \"a\"\n  size = 3\n}\n";
    let (cli, _dir) = terraform(body, "degrade");
    let output = cli
        .apply()
        .expect("it runs")
        .success()
        .expect("a warning is no error");
    assert!(
        output
            .diagnostics("warning")
            .iter()
            .any(|one| one.starts_with("Degraded")),
        "{}",
        output.all()
    );
    assert!(
        cli.plan_is_empty().expect("a plan"),
        "a tainted object would be replaced"
    );
}
