//! The rules that hold for every type of a provider, run from its schema alone.
//!
//! [`check_provider`] walks the schema: whatever it declares must have a fixture, so a type or an attribute that nobody
//! thought of is a violation, not a gap.

mod fixture;
mod input;
mod life;

use std::collections::BTreeSet;

pub use fixture::{
    Bad, BadCall, Call, DataSourceFixture, EphemeralFixture, Fixtures, FunctionFixture,
    ResourceFixture, Update,
};

use crate::check::{self, Rule, Violation};
use crate::{Host, HostError};

/// What was found, in the order in which it was found.
#[derive(Debug, Default)]
struct Report {
    found: Vec<Violation>,
}

/// Runs every rule against everything that the provider declares. An empty answer means that all of them hold.
///
/// Provider, resources, data sources, functions and ephemeral resources: schema sound and described (S1, DOC); a fixture
/// for each type; for each attribute that can be configured: a wrong type and each bad value give exactly one error at
/// its path (INPUT), an unknown value is accepted at validate and at plan; the plan is deterministic (P9), valid
/// (P1-P8), null for a destroy (P7). Where the fixture says that it can be applied: created, settled, updated, imported,
/// destroyed and gone.
///
/// # Errors
/// [`HostError`] only when the provider cannot be asked for its schema or configured at all.
pub async fn check_provider(
    host: &mut Host,
    fixtures: &Fixtures,
) -> Result<Vec<Violation>, HostError> {
    let mut report = Report::default();
    let schema = host.schema().await?;
    report.found.extend(check::schema::check_all(&schema.raw));
    host.configure(&fixtures.provider).await?;
    let host = &*host;
    report.coverage(
        "resource",
        schema.resources.keys(),
        fixtures.resources.keys(),
    );
    report.coverage(
        "data",
        schema.data_sources.keys(),
        fixtures.data_sources.keys(),
    );
    report.coverage(
        "ephemeral",
        schema.ephemeral.keys(),
        fixtures.ephemeral.keys(),
    );
    report.coverage(
        "function",
        schema.functions.keys(),
        fixtures.functions.keys(),
    );
    input::check_provider_block(host, fixtures, &mut report).await?;
    for (name, fixture) in &fixtures.resources {
        if schema.resources.contains_key(name) {
            let place = format!("resource.{name}");
            report.take(
                &place,
                input::check_resource(host, name, fixture, &place).await,
            );
            if fixture.apply {
                report.take(&place, life::check_resource(host, name, fixture).await);
            }
        }
    }
    for (name, fixture) in &fixtures.data_sources {
        if schema.data_sources.contains_key(name) {
            let place = format!("data.{name}");
            report.take(
                &place,
                input::check_data_source(host, name, fixture, &place).await,
            );
        }
    }
    for (name, fixture) in &fixtures.ephemeral {
        if schema.ephemeral.contains_key(name) {
            let place = format!("ephemeral.{name}");
            report.take(
                &place,
                input::check_ephemeral(host, name, fixture, &place).await,
            );
        }
    }
    for (name, fixture) in &fixtures.functions {
        if schema.functions.contains_key(name) {
            let place = format!("function.{name}");
            report.take(&place, life::check_function(host, name, fixture).await);
        }
    }
    Ok(report.found)
}

// === impl Report ===

impl Report {
    fn push(&mut self, rule: Rule, place: &str, message: impl Into<String>) {
        self.found.push(Violation::new(rule, place, message));
    }

    /// Takes over what was found at `place`; a call that failed is a finding of its own.
    fn take(&mut self, place: &str, found: Result<Vec<Violation>, HostError>) {
        match found {
            Ok(found) => self
                .found
                .extend(found.into_iter().map(|one| at(place, one))),
            Err(error) => self
                .found
                .extend(findings(error).into_iter().map(|one| at(place, one))),
        }
    }

    /// Both sides must name the same types.
    fn coverage<'n>(
        &mut self,
        kind: &str,
        declared: impl Iterator<Item = &'n String>,
        covered: impl Iterator<Item = &'n String>,
    ) {
        let (declared, covered): (BTreeSet<_>, BTreeSet<_>) =
            (declared.collect(), covered.collect());
        for name in declared.difference(&covered) {
            self.push(Rule::INPUT, &format!("{kind}.{name}"), "has no fixture");
        }
        for name in covered.difference(&declared) {
            self.push(
                Rule::INPUT,
                &format!("{kind}.{name}"),
                "has a fixture but is not declared",
            );
        }
    }
}

fn at(place: &str, one: Violation) -> Violation {
    if one.path.starts_with(place) {
        return one;
    }
    let path = if one.path.is_empty() {
        place.to_owned()
    } else {
        format!("{place}.{}", one.path)
    };
    Violation { path, ..one }
}

/// A failed call as findings: its violations, or itself.
fn findings(error: HostError) -> Vec<Violation> {
    match error {
        HostError::Violations { call, violations } => violations
            .into_iter()
            .map(|one| Violation {
                message: format!("{} ({call})", one.message),
                ..one
            })
            .collect(),
        HostError::Diagnostics { .. } => {
            vec![Violation::new(Rule::INPUT, "", format!("refused: {error}"))]
        }
        other => vec![Violation::new(Rule::PROTO, "", other.to_string())],
    }
}
