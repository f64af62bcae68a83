//! `provider-start`: from the start of the process to its handshake line, and the binary's size.

use super::{Row, build, median};
use anyhow::{Context, Result};
use tfplug_host::{Host, SpawnOptions};

const RUNS: usize = 15;

pub(crate) fn run() -> Result<Vec<Row>> {
    let bin = build::release()?.join("terraform-provider-gpuloom");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut handshake, mut rss) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        runtime.block_on(async {
            let host = Host::spawn(&bin, SpawnOptions::default()).await?;
            handshake.push(host.process().handshake_after().as_secs_f64() * 1000.0);
            host.schema().await?;
            rss.push(resident_mib(host.process().pid())?);
            host.shutdown().await?;
            anyhow::Ok(())
        })?;
    }
    let inputs = format!("release build, mutual TLS, median of {RUNS}");
    let row = |name: &str, figure, unit, goal| Row {
        name: name.to_owned(),
        figure,
        unit,
        goal,
        peer: None,
        inputs: inputs.clone(),
    };
    Ok(vec![
        row(
            "provider-start: handshake",
            median(&mut handshake).context("runs")?,
            "ms",
            Some(30.0),
        ),
        row(
            "provider-start: memory after schema",
            median(&mut rss).context("runs")?,
            "MiB",
            None,
        ),
        row("provider-start: binary", build::mib(&bin)?, "MiB", None),
    ])
}

/// Resident memory of a process, in MiB.
pub(crate) fn resident_mib(pid: i32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|l| l.starts_with("VmRSS:"))
        .context("VmRSS in /proc")?;
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .context("a number")?
        .parse()?;
    Ok(kib / 1024.0)
}
