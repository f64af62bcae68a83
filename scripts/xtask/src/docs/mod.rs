//! The registry's reference pages, written from the schema so that they cannot lie.

mod page;
mod schema;

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Largest page the registry shows, in bytes.
const MAX_PAGE_BYTES: usize = 500_000;
/// Folders this chore owns; guides are written by hand.
const OWNED: [&str; 4] = [
    "resources",
    "data-sources",
    "functions",
    "ephemeral-resources",
];

/// Writes every page, or with `check` fails when one differs, is missing or is left over.
pub(crate) fn run(root: &Path, check: bool) -> Result<ExitCode> {
    let pages = page::all(root)?;
    let docs = root.join("docs");
    for (path, text) in &pages {
        if text.len() >= MAX_PAGE_BYTES {
            bail!(
                "docs/{}: {} bytes; the registry shows less than {MAX_PAGE_BYTES}",
                path.display(),
                text.len()
            );
        }
    }
    let stale = stale(&docs, &pages)?;
    if check {
        check_guides(&docs)?;
        for path in &stale {
            eprintln!("docs/{} is out of date", path.display());
        }
        if !stale.is_empty() {
            bail!("run `cargo run -p xtask -- docs` and commit what it writes");
        }
        println!("docs: {} pages are up to date", pages.len());
        return Ok(ExitCode::SUCCESS);
    }
    for path in stale {
        let target = docs.join(&path);
        match pages.get(&path) {
            Some(text) => {
                fs::create_dir_all(target.parent().context("a page has a folder")?)?;
                fs::write(&target, text)?;
                println!("wrote docs/{}", path.display());
            }
            None => {
                fs::remove_file(&target)?;
                println!("removed docs/{}", path.display());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Pages that differ from what is on disk, and pages on disk that nothing writes.
fn stale(docs: &Path, pages: &BTreeMap<PathBuf, String>) -> Result<Vec<PathBuf>> {
    let mut stale: Vec<PathBuf> = pages
        .iter()
        .filter(|(path, text)| fs::read_to_string(docs.join(path)).ok().as_ref() != Some(*text))
        .map(|(path, _)| path.clone())
        .collect();
    for folder in OWNED {
        let Ok(entries) = fs::read_dir(docs.join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = Path::new(folder).join(entry?.file_name());
            if !pages.contains_key(&path) {
                stale.push(path);
            }
        }
    }
    Ok(stale)
}

/// Guides need front matter with a page title, or the registry refuses them.
fn check_guides(docs: &Path) -> Result<()> {
    for entry in fs::read_dir(docs.join("guides"))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        if !text.starts_with("---\npage_title:") {
            bail!(
                "{}: begin with front matter holding a page_title",
                path.display()
            );
        }
    }
    Ok(())
}
