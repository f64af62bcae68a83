//! The real terraform in one folder, with its answers as values.

use serde_json::Value;
use std::path::{Path, PathBuf};
use tfplug_host::terraform::{Cli, MAX_RUN, Output, Running};

/// A working directory of terraform, or a folder below it.
#[derive(Debug)]
pub struct Terraform {
    cli: Cli,
    below: Option<String>,
}

/// What a plan does to one resource: `create`, `update`, `replace`, `delete`, `import`, ...
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The resource's address.
    pub address: String,
    /// What happens to it.
    pub action: String,
}

/// An error about a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The block it is in: `gpuloom_tenant.x`; empty outside of resources.
    pub address: String,
    /// The line it is at.
    pub code: String,
    /// Summary and detail.
    pub said: String,
}

// === impl Terraform ===

impl Terraform {
    pub(crate) fn new(cli: Cli) -> Self {
        Self { cli, below: None }
    }

    /// Goes on in `folder` of the working directory.
    #[must_use]
    pub fn below(mut self, folder: &str) -> Self {
        self.below = Some(folder.to_owned());
        self
    }

    /// The folder terraform works in.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        let work = self.cli.work_dir();
        self.below.as_ref().map_or(work.clone(), |b| work.join(b))
    }

    /// Replaces the configuration.
    pub fn write(&self, text: &str) {
        std::fs::write(self.folder().join("main.tf"), text).expect("the folder is ours");
    }

    /// Copies a folder of the repository into the working directory, under the same name.
    pub fn copy(&self, from: &Path, to: &str) {
        copy(from, &self.cli.work_dir().join(to));
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<String> {
        let chdir = self.below.iter().map(|below| format!("-chdir={below}"));
        chdir.chain(args.iter().map(|a| (*a).to_owned())).collect()
    }

    /// Runs a subcommand to its end, whatever its exit status.
    pub fn run(&self, args: &[&str]) -> Output {
        self.cli.run(&self.args(args)).expect("terraform starts")
    }

    /// Starts a subcommand.
    pub fn start(&self, args: &[&str]) -> Running {
        self.cli.start(&self.args(args)).expect("terraform starts")
    }

    /// Runs a subcommand that has to succeed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Output {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "terraform {args:?}: {}\n{}",
            output.status,
            said(&output)
        );
        output
    }

    /// `terraform apply`, whatever comes of it.
    pub fn try_apply(&self, more: &[&str]) -> Output {
        let args = [
            "apply",
            "-auto-approve",
            "-input=false",
            "-no-color",
            "-json",
        ];
        self.run(&[&args, more].concat())
    }

    /// `terraform apply` that has to succeed.
    #[track_caller]
    pub fn apply(&self, more: &[&str]) -> Output {
        let output = self.try_apply(more);
        assert!(output.status.success(), "apply: {}", said(&output));
        output
    }

    /// `terraform apply` that has to fail; its errors.
    #[track_caller]
    pub fn apply_fails(&self, more: &[&str]) -> Vec<String> {
        let output = self.try_apply(more);
        assert!(
            !output.status.success(),
            "apply succeeded: {}",
            said(&output)
        );
        output.diagnostics("error")
    }

    /// `terraform destroy`, whatever comes of it.
    pub fn try_destroy(&self, more: &[&str]) -> Output {
        let args = [
            "destroy",
            "-auto-approve",
            "-input=false",
            "-no-color",
            "-json",
        ];
        self.run(&[&args, more].concat())
    }

    /// `terraform destroy` that has to succeed.
    #[track_caller]
    pub fn destroy(&self) -> Output {
        let output = self.try_destroy(&[]);
        assert!(output.status.success(), "destroy: {}", said(&output));
        output
    }

    /// What a plan would do.
    #[track_caller]
    pub fn plan(&self) -> Vec<Change> {
        self.plan_with(&[])
    }

    /// What a plan with these arguments would do.
    #[track_caller]
    pub fn plan_with(&self, more: &[&str]) -> Vec<Change> {
        let output = self.try_plan(more);
        assert!(output.status.success(), "plan: {}", said(&output));
        changes(&output)
    }

    /// A plan, whatever comes of it.
    pub fn try_plan(&self, more: &[&str]) -> Output {
        let args = ["plan", "-input=false", "-no-color", "-json"];
        self.run(&[&args, more].concat())
    }

    /// A plan that has to find nothing to do.
    #[track_caller]
    pub fn plan_is_empty(&self) {
        let output = self.try_plan(&["-detailed-exitcode"]);
        let code = output.status.code();
        assert_eq!(code, Some(0), "the plan is not empty: {}", said(&output));
    }

    /// A plan that has to change this and nothing else.
    #[track_caller]
    pub fn plan_is(&self, expected: &[(&str, &str)]) {
        let mut found: Vec<_> = self
            .plan()
            .into_iter()
            .map(|c| (c.address, c.action))
            .collect();
        let mut expected: Vec<_> = expected
            .iter()
            .map(|(address, action)| ((*address).to_owned(), (*action).to_owned()))
            .collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }

    /// Every resource in state, child modules too: address and values.
    #[track_caller]
    pub fn state(&self) -> Vec<(String, Value)> {
        let shown = self.ok(&["show", "-json"]);
        let state: Value = serde_json::from_str(&shown.stdout).expect("show -json is JSON");
        let mut found = Vec::new();
        collect(&state["values"]["root_module"], &mut found);
        found
    }

    /// The values of one resource in state.
    #[track_caller]
    pub fn values(&self, address: &str) -> Value {
        let state = self.state();
        let found = state.iter().find(|(at, _)| at == address);
        found
            .unwrap_or_else(|| panic!("no {address} in {state:?}"))
            .1
            .clone()
    }

    /// Whether a resource in state is tainted, from the state itself.
    #[track_caller]
    pub fn is_tainted(&self, address: &str) -> bool {
        let shown = self.ok(&["show", "-json"]);
        let state: Value = serde_json::from_str(&shown.stdout).expect("show -json is JSON");
        let resources = state["values"]["root_module"]["resources"].as_array();
        resources
            .into_iter()
            .flatten()
            .any(|r| r["address"] == address && r["tainted"] == true)
    }

    /// The root module's outputs.
    #[track_caller]
    pub fn outputs(&self) -> Value {
        let shown = self.ok(&["output", "-json", "-no-color"]);
        serde_json::from_str(&shown.stdout).expect("output -json is JSON")
    }

    /// The errors of `terraform validate`.
    #[track_caller]
    pub fn validate(&self) -> Vec<Mistake> {
        let report = self.run(&["validate", "-json", "-no-color"]);
        let report: Value = serde_json::from_str(&report.stdout).expect("validate -json is JSON");
        let found = report["diagnostics"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        found
            .iter()
            .filter(|d| d["severity"] == "error")
            .map(|d| {
                let text = |v: &Value| v.as_str().unwrap_or_default().trim().to_owned();
                let words = [text(&d["summary"]), text(&d["detail"])].join(": ");
                let context = text(&d["snippet"]["context"]);
                Mistake {
                    // `resource "gpuloom_tenant" "x"`: the address, as far as it has one.
                    address: address(&context),
                    code: text(&d["snippet"]["code"]),
                    said: words.split_whitespace().collect::<Vec<_>>().join(" "),
                }
            })
            .collect()
    }

    /// Waits for a started subcommand.
    pub fn wait(running: Running) -> Output {
        running.wait(MAX_RUN).expect("terraform ends")
    }
}

/// The changes a `plan -json` announces; reads of data sources and no-ops left out.
fn changes(output: &Output) -> Vec<Change> {
    output
        .events()
        .iter()
        .filter(|event| event["type"] == "planned_change")
        .map(|event| &event["change"])
        .map(|change| Change {
            address: change["resource"]["addr"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            action: change["action"].as_str().unwrap_or_default().to_owned(),
        })
        .filter(|change| change.action != "read" && change.action != "noop")
        .collect()
}

fn collect(module: &Value, found: &mut Vec<(String, Value)>) {
    for resource in module["resources"].as_array().into_iter().flatten() {
        let address = resource["address"].as_str().unwrap_or_default().to_owned();
        found.push((address, resource["values"].clone()));
    }
    for child in module["child_modules"].as_array().into_iter().flatten() {
        collect(child, found);
    }
}

/// What terraform said, short enough to read: diagnostics if there are any, else all of it.
fn said(output: &Output) -> String {
    let mut lines = output.diagnostics("error");
    lines.extend(changes(output).iter().map(|c| format!("{c:?}")));
    if lines.is_empty() {
        return output.all();
    }
    lines.join("\n")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the folder is ours");
    for entry in std::fs::read_dir(from).expect("a folder of the repository") {
        let entry = entry.expect("it is listed");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            std::fs::copy(&source, &target).expect("it is copied");
        }
    }
}

fn address(context: &str) -> String {
    let words: Vec<_> = context.split('"').collect();
    match words.as_slice() {
        ["resource ", kind, " ", name, ..] => format!("{kind}.{name}"),
        _ => String::new(),
    }
}
