//! Every trap has a test, and every test that the table names exists.

use std::collections::BTreeMap;
use std::path::Path;

const TRAPS: &str = include_str!("../../TRAPS.md");

fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder)
        .expect("a source folder")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(&path).expect("a source file"));
        }
    }
}

#[test]
fn each_of_the_30_traps_names_tests_that_exist() {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    for folder in [
        host.join("src"),
        host.join("tests"),
        host.join("../src"),
        host.join("../tests"),
    ] {
        sources(&folder, &mut all);
    }
    let mut covered = BTreeMap::new();
    for line in TRAPS.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let Some(number) = cells.get(1).and_then(|cell| cell.parse::<u32>().ok()) else {
            continue;
        };
        let tests: Vec<_> = cells
            .get(3)
            .expect("a cell of tests")
            .split('`')
            .skip(1)
            .step_by(2)
            .collect();
        assert!(!tests.is_empty(), "trap {number} names no test");
        for test in &tests {
            let lines: Vec<_> = all.lines().collect();
            let at = lines
                .iter()
                .position(|line| line.contains(&format!("fn {test}(")));
            let at =
                at.unwrap_or_else(|| panic!("trap {number} names {test}, which does not exist"));
            let marked = lines[at.saturating_sub(4)..at]
                .iter()
                .any(|line| line.contains("#[test]") || line.contains("::test"));
            assert!(marked, "trap {number} names {test}, which is no test");
        }
        covered.insert(number, tests.len());
    }
    assert_eq!(
        covered.into_keys().collect::<Vec<_>>(),
        (1..=30).collect::<Vec<_>>()
    );
}
