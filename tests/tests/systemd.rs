//! The units and the installer: what systemd itself says of them, and that installing twice changes nothing.

use gpuloom_tests::{Built, Needs, repository, run};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn main() {
    run(&[
        (
            "the_units_are_verified",
            Needs::SystemdAnalyze,
            the_units_are_verified,
        ),
        (
            "the_agents_unit_exposes_little",
            Needs::SystemdAnalyze,
            the_agents_unit_exposes_little,
        ),
        (
            "installing_twice_changes_nothing_and_uninstalling_leaves_nothing",
            Needs::Nothing,
            installing_twice,
        ),
    ]);
}

const UNITS: [&str; 2] = ["gpuloom-agent.service", "gpuloom-jobs.service"];

/// The units with the program they start beside them, as systemd wants to see it.
fn units() -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().expect("a directory");
    let program = Built::find().gpuloom;
    let paths = UNITS.map(|unit| {
        let text = std::fs::read_to_string(repository().join("agent/systemd").join(unit));
        let text = text.expect("the unit is there");
        assert!(
            text.contains("ExecStart=/usr/local/bin/gpuloom "),
            "{unit} starts gpuloom"
        );
        let text = text.replace("/usr/local/bin/gpuloom", &program.display().to_string());
        let path = dir.path().join(unit);
        std::fs::write(&path, text).expect("the folder is ours");
        path
    });
    (dir, paths.into())
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn the_units_are_verified() {
    let (_dir, paths) = units();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(&paths)
        .output()
        .expect("systemd-analyze starts");
    let ours: Vec<String> = said(&output)
        .lines()
        .filter(|line| line.contains("gpuloom"))
        .map(str::to_owned)
        .collect();
    assert!(
        output.status.success() && ours.is_empty(),
        "{}",
        said(&output)
    );
}

fn the_agents_unit_exposes_little() {
    let (_dir, paths) = units();
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=20"])
        .arg(&paths[0])
        .output()
        .expect("systemd-analyze starts");
    let text = said(&output);
    let level = text
        .lines()
        .find_map(|line| line.split_once("Overall exposure level for gpuloom-agent.service: "))
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
    assert!(level.is_some_and(|level| level <= 2.0), "{text}");
    assert!(output.status.success(), "{text}");
}

fn install(root: &Path, from: &Path, more: &[&str]) -> Output {
    Command::new(repository().join("scripts/install"))
        .arg("--root")
        .arg(root)
        .arg("--from")
        .arg(from)
        .args(more)
        .output()
        .expect("scripts/install starts")
}

/// Every file below `root` with its content and age.
fn files(root: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let modified = entry.metadata().and_then(|m| m.modified()).expect("a file");
            let name = path.strip_prefix(root).expect("it is below").to_owned();
            found.insert(name, (std::fs::read(&path).expect("it reads"), modified));
        }
    }
    found
}

fn installing_twice() {
    let root = tempfile::tempdir().expect("a directory");
    let from = Built::find().gpuloom;
    let from = from.parent().expect("a folder");
    let first = install(root.path(), from, &[]);
    assert!(first.status.success(), "{}", said(&first));
    let installed = files(root.path());
    for name in [
        "usr/local/bin/gpuloom",
        "etc/systemd/system/gpuloom-agent.service",
        "etc/systemd/system/gpuloom-jobs.service",
    ] {
        assert!(
            installed.contains_key(Path::new(name)),
            "{name} is not among {:?}",
            installed.keys()
        );
    }
    let second = install(root.path(), from, &[]);
    assert!(second.status.success(), "{}", said(&second));
    assert!(!said(&second).contains("installing"), "{}", said(&second));
    assert!(
        files(root.path()) == installed,
        "the second run changed something"
    );

    // A config that does not read is refused before anything changes; one that does is kept private.
    let bad = root.path().join("bad.toml");
    std::fs::write(&bad, "nonsense = 1\n").expect("the folder is ours");
    let refused = install(root.path(), from, &["--config", &bad.display().to_string()]);
    assert!(
        !refused.status.success() && said(&refused).contains("nonsense"),
        "{}",
        said(&refused)
    );
    std::fs::remove_file(&bad).expect("it is ours");
    assert!(
        files(root.path()) == installed,
        "a refused run changed something"
    );

    std::fs::create_dir_all(root.path().join("var/lib/gpuloom/kept")).expect("the folder is ours");
    let dry = install(root.path(), from, &["--uninstall", "--dry-run"]);
    assert!(
        dry.status.success() && files(root.path()) == installed,
        "{}",
        said(&dry)
    );
    let gone = install(root.path(), from, &["--uninstall"]);
    assert!(gone.status.success(), "{}", said(&gone));
    assert_eq!(
        files(root.path()).keys().collect::<Vec<_>>(),
        Vec::<&PathBuf>::new()
    );
    assert!(
        root.path().join("var/lib/gpuloom/kept").is_dir(),
        "data stays without --purge"
    );
    let purged = install(root.path(), from, &["--uninstall", "--purge"]);
    assert!(
        purged.status.success() && !root.path().join("var/lib/gpuloom").exists(),
        "{}",
        said(&purged)
    );
}
