//! Release binaries, and the machine's fixed facts.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Builds the provider, the agent and the simulator with optimizations; the folder they lie in.
pub(crate) fn release() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--locked", "--message-format=short"])
        .args([
            "-p",
            "gpuloom-provider",
            "-p",
            "gpuloom-agent",
            "-p",
            "gpuloom-gpu-sim",
        ])
        .status()
        .context("cargo runs")?;
    if !status.success() {
        bail!("the release build failed");
    }
    // This program lies in <target>/<profile>/; release binaries lie beside that folder.
    let me = std::env::current_exe()?;
    let target = me
        .parent()
        .and_then(|p| p.parent())
        .context("a target folder")?;
    Ok(target.join("release"))
}

/// A file's size in MiB.
pub(crate) fn mib(path: &std::path::Path) -> Result<f64> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a file's size is far below 2^52 bytes"
    )]
    let bytes = std::fs::metadata(path)?.len() as f64;
    Ok(bytes / f64::from(1 << 20))
}
