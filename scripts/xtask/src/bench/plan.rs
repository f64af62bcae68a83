//! `provider-plan`: planning 1,000 quotas beside planning 1,000 of Terraform's own resources.

use super::{Row, build, median};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::time::Instant;
use tfplug_host::terraform::Cli;

const COUNT: usize = 1_000;
const RUNS: usize = 7;
/// Members of the peer's object: as many as a quota has attributes.
const MEMBERS: [&str; 9] = [
    "fleet",
    "name",
    "tenant",
    "pool",
    "guaranteed",
    "limit",
    "soft_limit",
    "on_excess",
    "generation",
];

pub(crate) fn run() -> Result<Vec<Row>> {
    let bin = build::release()?.join("terraform-provider-gpuloom");
    let ours = Cli::new()?.provider("gpuloom/gpuloom", &bin)?;
    ours.write("main.tf", &quotas())?;
    let peer = Cli::new()?;
    peer.write("main.tf", &peers())?;
    peer.run(&["init"])?
        .success()
        .context("terraform's own provider needs no registry")?;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..=RUNS {
        let (ours, peer) = (time(&ours)?, time(&peer)?);
        if round > 0 {
            a.push(ours);
            b.push(peer);
        }
    }
    let inputs = format!(
        "{COUNT} gpuloom_quota / terraform_data with an object of {} members; plan -refresh=false; median of {RUNS}, in turn",
        MEMBERS.len()
    );
    Ok(vec![Row {
        name: "provider-plan".into(),
        figure: median(&mut a).context("runs")?,
        unit: "s",
        goal: Some(2.0),
        peer: median(&mut b),
        inputs,
    }])
}

fn time(cli: &Cli) -> Result<f64> {
    let start = Instant::now();
    cli.run(&["plan", "-refresh=false", "-lock=false", "-no-color"])?
        .success()?;
    Ok(start.elapsed().as_secs_f64())
}

fn quotas() -> String {
    let pin = "ab".repeat(32);
    let mut hcl = String::from(
        "terraform {\n  required_providers {\n    gpuloom = { source = \"gpuloom/gpuloom\" }\n  }\n}\nprovider \"gpuloom\" {}\n",
    );
    let _ = write!(
        hcl,
        "resource \"gpuloom_quota\" \"q\" {{\n  count = {COUNT}\n  fleet = {{ id = \"f\", endpoints = [\"127.0.0.1:1\"], ca_pin = \"sha256:{pin}\" }}\n  name = \"q-${{count.index}}\"\n  tenant = \"t\"\n  pool = \"p\"\n  guaranteed = {{ gpus = 1 }}\n  limit = {{ gpus = 8, gpu_memory_gib = 64 }}\n  soft_limit = {{ gpus = 4 }}\n  on_excess = \"drain\"\n}}\n"
    );
    hcl
}

fn peers() -> String {
    let mut hcl =
        format!("resource \"terraform_data\" \"q\" {{\n  count = {COUNT}\n  input = {{\n");
    for member in MEMBERS {
        let _ = writeln!(hcl, "    {member} = \"q-${{count.index}}\"");
    }
    hcl.push_str("  }\n}\n");
    hcl
}
