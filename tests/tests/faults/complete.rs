//! That no place is without its case.

use std::collections::BTreeSet;

/// Every list of places, with the processes that pass them.
const LISTS: [(&str, &[&str]); 7] = [
    ("provider", gpuloom_provider::FAILPOINTS),
    ("provider", gpuloom_cloud_local::FAILPOINTS),
    ("lead", gpuloom_agent::lead::FAILPOINTS),
    ("lead", gpuloom_store::FAILPOINTS),
    ("lead", gpuloom_cloud::FAILPOINTS),
    ("lead", gpuloom_cloud_local::FAILPOINTS),
    ("node", gpuloom_agent::launch::FAILPOINTS),
];

/// Compares the lists with the cases: who dies, and where.
///
/// # Errors
/// The places without a case, and the cases of places that are in no list.
pub(crate) fn check(cases: &BTreeSet<(&str, &str)>) -> Result<(), String> {
    let places = LISTS
        .iter()
        .flat_map(|(who, list)| list.iter().map(|place| (*who, *place)));
    let places: BTreeSet<_> = places.collect();
    let uncovered: Vec<_> = places.difference(cases).collect();
    let unknown: Vec<_> = cases.difference(&places).collect();
    if uncovered.is_empty() && unknown.is_empty() {
        return Ok(());
    }
    Err(format!(
        "without a case: {uncovered:?}; of no list: {unknown:?}"
    ))
}
