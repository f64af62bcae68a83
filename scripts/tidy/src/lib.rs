//! Checks what the compiler does not: who imports whom, file sizes, and that promises are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest Rust file, in lines.
pub const MAX_LINES: usize = 800;

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the crate lies two folders below the root")
}

/// Every tracked-looking file below `dir`, sorted: hidden folders (but `.github`), `target` and
/// Terraform's leftovers are left out.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        let entries = fs::read_dir(&dir).expect("a folder of the repository reads");
        for path in entries.map(|e| e.expect("an entry reads").path()) {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let hidden = name.starts_with('.') && name != ".github" && name != ".ci";
            if hidden || name == "target" || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every crate of the workspace: its folder and its manifest.
pub fn manifests(root: &Path) -> BTreeMap<String, (PathBuf, toml::Table)> {
    let mut crates = BTreeMap::new();
    for path in files(root)
        .into_iter()
        .filter(|p| p.ends_with("Cargo.toml"))
    {
        let text = fs::read_to_string(&path).expect("a manifest reads");
        let table: toml::Table = text.parse().expect("a manifest is TOML");
        if let Some(name) = table
            .get("package")
            .and_then(|p| p.get("name"))
            .and_then(|n| n.as_str())
        {
            let folder = path.parent().expect("a file has a folder").to_path_buf();
            crates.insert(name.to_owned(), (folder, table));
        }
    }
    crates
}

/// What a crate depends on outside its tests and build script.
pub fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    manifest
        .get("dependencies")
        .and_then(|d| d.as_table())
        .map(|d| d.keys().cloned().collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Crates that may know nothing of the outside: no runtime, no clock, no device.
    const PURE: [&str; 6] = [
        "gpuloom-fleet",
        "gpuloom-sched",
        "gpuloom-replay",
        "gpuloom-watch",
        "gpuloom-scale",
        "gpuloom-cost",
    ];

    fn ours(name: &str) -> bool {
        name.starts_with("gpuloom-") || name.starts_with("tfplug")
    }

    /// (crate, may depend on these of ours): the arrows of docs/guides/architecture.md.
    const ARROWS: &[(&str, &[&str])] = &[
        ("gpuloom-fleet", &[]),
        ("gpuloom-store", &[]),
        ("gpuloom-gpu-sim", &[]),
        ("tfplug", &[]),
        ("tfplug-host", &["tfplug"]),
        ("gpuloom-api", &["gpuloom-fleet"]),
        ("gpuloom-sched", &["gpuloom-fleet"]),
        ("gpuloom-replay", &["gpuloom-fleet", "gpuloom-sched"]),
        ("gpuloom-watch", &["gpuloom-fleet"]),
        ("gpuloom-scale", &["gpuloom-fleet", "gpuloom-watch"]),
        ("gpuloom-cloud", &["gpuloom-fleet"]),
        ("gpuloom-cloud-local", &["gpuloom-cloud", "gpuloom-fleet"]),
        ("gpuloom-cloud-aws", &["gpuloom-cloud", "gpuloom-fleet"]),
        ("gpuloom-cloud-gcp", &["gpuloom-cloud", "gpuloom-fleet"]),
        ("gpuloom-cloud-azure", &["gpuloom-cloud", "gpuloom-fleet"]),
        ("gpuloom-cloud-catalog", &["gpuloom-cloud", "gpuloom-fleet"]),
        ("gpuloom-cloud-imds", &["gpuloom-cloud", "gpuloom-fleet"]),
        (
            "gpuloom-cloud-attest",
            &["gpuloom-cloud", "gpuloom-cloud-imds", "gpuloom-fleet"],
        ),
        ("gpuloom-doubles", &[]),
        ("gpuloom-gpu", &["gpuloom-fleet", "gpuloom-watch"]),
        ("gpuloom-cli", &["gpuloom-api", "gpuloom-fleet"]),
        (
            "gpuloom-provider",
            &[
                "tfplug",
                "gpuloom-api",
                "gpuloom-cloud",
                "gpuloom-cloud-aws",
                "gpuloom-cloud-azure",
                "gpuloom-cloud-catalog",
                "gpuloom-cloud-gcp",
                "gpuloom-cloud-local",
                "gpuloom-fleet",
            ],
        ),
    ];

    #[test]
    fn imports_follow_the_arrows() {
        let crates = manifests(&root());
        for (name, allowed) in ARROWS {
            let (_, manifest) = crates
                .get(*name)
                .unwrap_or_else(|| panic!("crate {name} exists"));
            for dep in dependencies(manifest).iter().filter(|d| ours(d)) {
                assert!(
                    allowed.contains(&dep.as_str()),
                    "{name} -> {dep} runs against the arrows"
                );
            }
        }
        for (name, (_, manifest)) in &crates {
            let known = ARROWS.iter().any(|(n, _)| n == name)
                || [
                    "gpuloom-agent",
                    "gpuloom-tests",
                    "corebench",
                    "tidy",
                    "xtask",
                ]
                .contains(&name.as_str());
            assert!(
                known,
                "crate {name} has no place in the arrows: add it to ARROWS"
            );
            let forbidden = ["gpuloom-provider", "gpuloom-tests"];
            if !["xtask", "gpuloom-tests"].contains(&name.as_str()) {
                for dep in dependencies(manifest) {
                    assert!(!forbidden.contains(&dep.as_str()), "{name} -> {dep}");
                }
            }
        }
    }

    #[test]
    fn pure_crates_have_no_runtime_no_clock_and_no_chance() {
        let crates = manifests(&root());
        let outside = [
            "tokio",
            "tonic",
            "rusqlite",
            "rustix",
            "libc",
            "getrandom",
            "rand",
            "reqwest",
        ];
        let words = [
            "Instant::now",
            "SystemTime::now",
            "thread_rng",
            "env::var",
            "HashMap",
            "std::fs",
        ];
        for name in PURE {
            let Some((folder, manifest)) = crates.get(name) else {
                continue;
            };
            for dep in dependencies(manifest) {
                assert!(
                    !outside.contains(&dep.as_str()),
                    "{name} is pure and depends on {dep}"
                );
            }
            for path in files(&folder.join("src")) {
                let text = fs::read_to_string(&path).expect("a source reads");
                for word in words {
                    assert!(
                        !text.contains(word),
                        "{} is pure and says {word}",
                        path.display()
                    );
                }
            }
        }
    }

    #[test]
    fn no_file_is_longer_than_800_lines() {
        for path in files(&root())
            .iter()
            .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        {
            let lines = fs::read_to_string(path)
                .expect("a source reads")
                .lines()
                .count();
            assert!(
                lines <= MAX_LINES,
                "{}: {lines} lines; split it by noun",
                path.display()
            );
        }
    }

    #[test]
    fn a_crate_opens_with_its_promise_and_the_code_map_repeats_it() {
        let root = root();
        let map =
            fs::read_to_string(root.join("docs/guides/architecture.md")).expect("the code map");
        let map = map.split_whitespace().collect::<Vec<_>>().join(" ");
        for (name, (folder, _)) in manifests(&root) {
            let lib = folder.join("src/lib.rs");
            let main = folder.join("src/main.rs");
            let text = fs::read_to_string(&lib)
                .or_else(|_| fs::read_to_string(&main))
                .expect("a root module");
            let promise: Vec<&str> = text
                .lines()
                .take_while(|l| l.starts_with("//! "))
                .map(|l| l.trim_start_matches("//! ").trim())
                .collect();
            let promise = promise.join(" ");
            let promise = promise.split(". ").next().unwrap_or_default();
            assert!(
                !promise.is_empty(),
                "{name}: the first line of its root module is its promise"
            );
            let sentence = promise.trim_end_matches('.');
            assert!(
                map.contains(sentence),
                "docs/guides/architecture.md does not hold {name}'s promise: {sentence}"
            );
        }
    }

    #[test]
    fn nothing_is_ignored_allowed_or_left_to_do() {
        let me = Path::new(file!()).file_name().expect("a name").to_owned();
        for path in files(&root())
            .iter()
            .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        {
            if path.file_name() == Some(&me) && path.to_string_lossy().contains("scripts/tidy") {
                continue;
            }
            let text = fs::read_to_string(path).expect("a source reads");
            for word in [
                "#[ignore",
                "todo!(",
                "unimplemented!(",
                "#[allow(",
                "#![allow(",
            ] {
                assert!(!text.contains(word), "{} says {word}", path.display());
            }
        }
    }

    #[test]
    fn one_tls_stack_and_no_openssl() {
        let lock = fs::read_to_string(root().join("Cargo.lock")).expect("the lock file");
        for name in ["openssl", "openssl-sys", "native-tls"] {
            assert!(
                !lock.contains(&format!("name = \"{name}\"")),
                "{name} is in Cargo.lock"
            );
        }
    }

    #[test]
    fn unsafe_code_stays_where_it_belongs() {
        let root = root();
        for path in files(&root)
            .iter()
            .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        {
            let at = path
                .strip_prefix(&root)
                .expect("below the root")
                .to_string_lossy()
                .into_owned();
            let may = at.starts_with("agent/gpu/")
                || at.starts_with("agent/src/launch/")
                || at == "agent/cloud/local/src/spawn.rs"
                || at.starts_with("scripts/tidy/");
            let text = fs::read_to_string(path).expect("a source reads");
            assert!(may || !text.contains("unsafe {"), "{at} holds unsafe code");
        }
    }

    #[test]
    fn every_requirement_names_tests_that_exist() {
        let root = root();
        let page = fs::read_to_string(root.join("docs/guides/requirements.md")).expect("the page");
        let sources: String = files(&root)
            .iter()
            .filter(|p| p.extension().is_some_and(|e| e == "rs" || e == "hcl"))
            .map(|p| fs::read_to_string(p).expect("a source reads"))
            .collect();
        for n in 1..=33 {
            assert!(
                page.contains(&format!("| R{n} |")),
                "requirements.md has no row R{n}"
            );
        }
        for name in page
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(|t| t.strip_prefix("test:"))
        {
            let found = sources.contains(&format!("fn {name}("))
                || sources.contains(&format!("run \"{name}\""));
            assert!(
                found,
                "requirements.md names the test {name}, which does not exist"
            );
        }
    }
}
