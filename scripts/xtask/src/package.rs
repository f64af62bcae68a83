//! Release packages in the registry's layout: the provider's zip, its manifest and the checksums,
//! and an archive of the agent with its units and installer.

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use zip::write::SimpleFileOptions;

/// Writes everything a release holds into `out`, which must be empty or missing.
pub(crate) fn run(root: &Path, out: &Path) -> Result<ExitCode> {
    if out.read_dir().is_ok_and(|mut d| d.next().is_some()) {
        bail!("{} is not empty; name a new folder", out.display());
    }
    fs::create_dir_all(out)?;
    let bin = crate::bench::release_binaries()?;
    let version = env!("CARGO_PKG_VERSION");
    let target = format!("{}_{}", std::env::consts::OS, architecture()?);
    let stem = format!("terraform-provider-gpuloom_{version}");
    let archive = out.join(format!("{stem}_{target}.zip"));
    let inside = format!("terraform-provider-gpuloom_v{version}");
    zip_of(
        &archive,
        &[(bin.join("terraform-provider-gpuloom"), inside, 0o755)],
    )?;
    let manifest = out.join(format!("{stem}_manifest.json"));
    fs::copy(root.join("terraform-registry-manifest.json"), &manifest)?;
    // The registry wants the checksums of exactly these; the agent has its own.
    sums(
        &out.join(format!("{stem}_SHA256SUMS")),
        &[&archive, &manifest],
    )?;
    let agent = out.join(format!("gpuloom_{version}_{target}.zip"));
    zip_of(&agent, &agent_files(root, &bin))?;
    sums(
        &out.join(format!("gpuloom_{version}_SHA256SUMS")),
        &[&agent],
    )?;
    for entry in fs::read_dir(out)? {
        println!("{}", entry?.path().display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Go's name of this architecture, as the registry wants it.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no release is made for {other}"),
    }
}

fn agent_files(root: &Path, bin: &Path) -> Vec<(PathBuf, String, u32)> {
    let built = [
        "gpuloom",
        "libgpuloom_nvml_sim.so",
        "gpuloom-sim",
        "gpuloom-sim-workload",
    ];
    let kept = [
        ("scripts/install", 0o755),
        ("scripts/lib.sh", 0o644),
        ("agent/systemd/gpuloom-agent.service", 0o644),
        ("agent/systemd/gpuloom-jobs.service", 0o644),
        ("LICENSE", 0o644),
    ];
    let built = built
        .iter()
        .map(|n| (bin.join(n), format!("scripts/{n}"), 0o755));
    let kept = kept
        .iter()
        .map(|(n, mode)| (root.join(n), (*n).to_owned(), *mode));
    built.chain(kept).collect()
}

fn zip_of(path: &Path, files: &[(PathBuf, String, u32)]) -> Result<()> {
    let mut zip = zip::ZipWriter::new(File::create(path)?);
    for (from, name, mode) in files {
        // No times: the same binaries give the same archive.
        let options = SimpleFileOptions::default().unix_permissions(*mode);
        zip.start_file(name.as_str(), options)?;
        let mut file = File::open(from).with_context(|| format!("{} is built", from.display()))?;
        io::copy(&mut file, &mut zip)?;
    }
    zip.finish()?;
    Ok(())
}

fn sums(path: &Path, files: &[&PathBuf]) -> Result<()> {
    let mut text = String::new();
    for file in files {
        let digest = hex::encode(Sha256::digest(fs::read(file)?));
        let name = file
            .file_name()
            .context("a file has a name")?
            .to_string_lossy();
        let _ = writeln!(text, "{digest}  {name}");
    }
    File::create(path)?.write_all(text.as_bytes())?;
    Ok(())
}

/// Checks that the tag of a release says the version that is built.
pub(crate) fn check_tag(tag: &str) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let stated = tag
        .strip_prefix('v')
        .context("a release's tag begins with v")?;
    if stated != version {
        bail!("the tag {tag} is not version {version} of Cargo.toml");
    }
    let out = Command::new("git")
        .args(["status", "--porcelain"])
        .output()?;
    if !out.stdout.is_empty() {
        bail!("the work tree has changes that no commit holds");
    }
    Ok(())
}
