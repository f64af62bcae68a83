//! `binary-size`: the provider as people download it; `validate-time`: what it adds to `terraform validate`.

use super::{Row, build};
use anyhow::{Context, Result, bail};
use std::process::Command;
use std::time::Instant;
use tfplug_host::terraform::Cli;

/// At most so many MB (10^6 bytes), stripped.
const MAX_MB: f64 = 60.0;
/// At most so many seconds more than terraform alone.
const MAX_MORE_S: f64 = 0.3;
const TIMES: usize = 11;

const NAMES: &str =
    "terraform {\n  required_providers {\n    gpuloom = { source = \"gpuloom/gpuloom\" }\n  }\n}\n";
const POOL: &str = r#"resource "gpuloom_fleet" "x" {
  name = "x"
  local { simulate = "1xT4" }
}
resource "gpuloom_pool" "x" {
  fleet = gpuloom_fleet.x.connection
  name  = "x"
  gpu   = { model = "T4" }
  local {}
}
"#;
/// The same reading and graph without a provider.
const WITHOUT: &str = r#"resource "terraform_data" "x" {
  input = "x"
}
resource "terraform_data" "y" {
  input = terraform_data.x.output
}
"#;

pub(crate) fn size() -> Result<Vec<Row>> {
    let built = build::release()?.join("terraform-provider-gpuloom");
    let dir = tempfile::tempdir()?;
    let stripped = dir.path().join("provider");
    let strip = Command::new("strip")
        .arg("-o")
        .arg(&stripped)
        .arg(&built)
        .status();
    let strip = strip.context("strip is missing: install binutils")?;
    if !strip.success() {
        bail!("strip ended with {strip}");
    }
    let bytes = std::fs::metadata(&stripped)?.len();
    let megabytes = f64::from(u32::try_from(bytes / 1_000)?) / 1_000.0;
    Ok(vec![Row {
        name: "binary-size: provider".to_owned(),
        figure: megabytes,
        unit: "MB",
        goal: Some(MAX_MB),
        peer: None,
        inputs: "release build, stripped, 10^6 bytes".to_owned(),
    }])
}

pub(crate) fn validate() -> Result<Vec<Row>> {
    let provider = build::release()?.join("terraform-provider-gpuloom");
    let with = folder(&provider, &format!("{NAMES}{POOL}"))?;
    let without = folder(&provider, WITHOUT)?;
    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        ours.push(time(&with)?);
        alone.push(time(&without)?);
    }
    let median = |of: &mut Vec<f64>| super::median(of).context("it ran");
    let (ours, alone) = (median(&mut ours)?, median(&mut alone)?);
    let row = |what: &str, figure, goal| Row {
        name: format!("validate-time: {what}"),
        figure,
        unit: "s",
        goal,
        peer: None,
        inputs: format!("release build, median of {TIMES}, a fleet and a pool"),
    };
    Ok(vec![
        row("with a pool", ours, None),
        row("without our provider", alone, None),
        row("more", ours - alone, Some(MAX_MORE_S)),
    ])
}

fn folder(provider: &std::path::Path, text: &str) -> Result<Cli> {
    let cli = Cli::new()?.provider("gpuloom/gpuloom", provider)?;
    cli.write("main.tf", text)?;
    Ok(cli)
}

fn time(cli: &Cli) -> Result<f64> {
    let start = Instant::now();
    cli.run(&["validate", "-no-color"])?.success()?;
    Ok(start.elapsed().as_secs_f64())
}
