//! A directory in which the real terraform runs against the example provider.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

const HEADER: &str = r#"
terraform {
  required_providers {
    demo = { source = "example/demo" }
  }
}
variable "root" { type = string }
provider "demo" { root = var.root }
"#;

pub(crate) struct Workspace {
    dir: TempDir,
}

// === impl Workspace ===

impl Workspace {
    pub(crate) fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path();
        fs::create_dir(path.join("root")).expect("made");
        fs::create_dir(path.join("bin")).expect("made");
        symlink(
            env!("CARGO_BIN_EXE_tfplug-example"),
            path.join("bin/terraform-provider-demo"),
        )
        .expect("linked");
        let rc = format!(
            "provider_installation {{\n dev_overrides {{ \"example/demo\" = \"{}\" }}\n direct {{}}\n}}\n",
            path.join("bin").display()
        );
        fs::write(path.join("rc"), rc).expect("written");
        let workspace = Self { dir };
        workspace.write(config);
        workspace
    }

    pub(crate) fn write(&self, config: &str) {
        fs::write(self.dir.path().join("main.tf"), format!("{HEADER}{config}")).expect("written");
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// How many servers there really are.
    pub(crate) fn servers(&self) -> usize {
        fs::read_dir(self.root()).expect("readable").count()
    }

    fn terraform(&self, arguments: &[&str]) -> Output {
        Command::new("terraform")
            .args(arguments)
            .current_dir(self.dir.path())
            .env("TF_CLI_CONFIG_FILE", self.dir.path().join("rc"))
            .env("TF_CLI_ARGS", "-no-color")
            .env("TF_VAR_root", self.root())
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .env_remove("TF_REATTACH_PROVIDERS")
            .output()
            .expect("terraform 1.11 or later is on the PATH; get it from https://developer.hashicorp.com/terraform")
    }

    pub(crate) fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.terraform(arguments);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{arguments:?}\n{told}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        told
    }

    /// What was told on stderr.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let output = self.terraform(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            output.status.code(),
            Some(1),
            "{}\n{told}",
            String::from_utf8_lossy(&output.stdout)
        );
        told
    }

    pub(crate) fn plans_nothing(&self) {
        let output = self.terraform(&["plan", "-detailed-exitcode"]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }

    /// The values of every managed resource by address.
    pub(crate) fn state(&self) -> serde_json::Value {
        let json: serde_json::Value =
            serde_json::from_str(&self.succeeds(&["show", "-json"])).expect("JSON");
        let resources = json["values"]["root_module"]["resources"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let address = |r: &serde_json::Value| r["address"].as_str().unwrap_or_default().to_owned();
        let managed = resources.iter().filter(|r| r["mode"] == "managed");
        managed
            .map(|r| (address(r), r["values"].clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}
