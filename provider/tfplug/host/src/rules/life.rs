//! Creation to destruction, where the environment can apply.

use std::collections::BTreeSet;

use tfplug::Value;

use super::fixture::{FunctionFixture, ResourceFixture};
use crate::check::{Rule, Violation};
use crate::driver::ResourceDriver;
use crate::{Action, Host, HostError, State, config};

/// Created, settled, imported, updated, destroyed, gone.
pub(super) async fn check_resource(
    host: &Host,
    name: &str,
    fixture: &ResourceFixture,
) -> Result<Vec<Violation>, HostError> {
    let driver = host.resource(name).await?;
    let mut found = Vec::new();
    let mut state = driver.create(&fixture.config).await?.state()?;
    let checked = alive(&driver, fixture, &mut state, &mut found).await;
    // Whatever was found, nothing is left behind.
    let destroyed = driver.destroy(&state).await?.ok()?;
    if destroyed.is_some() {
        found.push(Violation::new(
            Rule::A4,
            "",
            "still in state after it was destroyed",
        ));
    }
    if driver.read(&state).await?.is_some() {
        found.push(Violation::new(
            Rule::A4,
            "",
            "can still be read after it was destroyed",
        ));
    }
    checked.map(|()| found)
}

async fn alive(
    driver: &ResourceDriver<'_>,
    fixture: &ResourceFixture,
    state: &mut State,
    found: &mut Vec<Violation>,
) -> Result<(), HostError> {
    *state = driver.settled(state, &fixture.config).await?;
    if let Some(id) = fixture.import_id {
        let imported = driver.import(&fill(id, &state.value)).await?;
        found.extend(import_differences(
            &state.value,
            &imported.value,
            &fixture.import_ignore,
        ));
        if fixture.import_ignore.is_empty() {
            driver.settled(&imported, &fixture.config).await?;
        }
        if let Some(identity) = &state.identity {
            let again = driver.import_by_identity(identity).await?;
            found.extend(import_differences(
                &state.value,
                &again.value,
                &fixture.import_ignore,
            ));
        }
    }
    for update in &fixture.updates {
        let (plan, applied) = driver.update(state, &update.config).await?;
        if plan.action != update.action {
            let message = format!(
                "{} where {} is expected, for {}",
                plan.action.name(),
                update.action.name(),
                update.config
            );
            found.push(Violation::new(Rule::NOOP, "", message));
        }
        if plan.action != Action::NoOp {
            *state = applied.state()?;
        }
        *state = driver.settled(state, &update.config).await?;
    }
    Ok(())
}

/// `${name}` replaced by the attribute's value.
fn fill(template: &str, value: &Value) -> String {
    let mut filled = template.to_owned();
    for (name, member) in value.members().into_iter().flatten() {
        if let Some(text) = member.as_str() {
            filled = filled.replace(&format!("${{{name}}}"), text);
        }
    }
    filled
}

fn import_differences(state: &Value, imported: &Value, ignore: &[&'static str]) -> Vec<Violation> {
    let Some(members) = state.members() else {
        return Vec::new();
    };
    let differing = members
        .iter()
        .filter(|(name, before)| !ignore.contains(&name.as_str()) && imported.get(name) != *before);
    differing
        .map(|(name, before)| {
            let message = format!(
                "was {before:?}, but is {:?} after an import",
                imported.get(name)
            );
            Violation::new(Rule::I1, name, message)
        })
        .collect()
}

/// The calls of the fixture, and a refusal for every parameter that is not free.
pub(super) async fn check_function(
    host: &Host,
    name: &str,
    fixture: &FunctionFixture,
) -> Result<Vec<Violation>, HostError> {
    let driver = host.function(name).await?;
    let mut found = Vec::new();
    if fixture.calls.is_empty() {
        found.push(Violation::new(
            Rule::INPUT,
            "",
            "the fixture has no call that succeeds",
        ));
    }
    for call in &fixture.calls {
        let wanted = config::plain(
            &driver.schema().result,
            &call.result,
            &tfplug::Path::empty(),
        )?;
        match driver.call(&call.arguments).await? {
            Ok(result) if result == wanted => {}
            other => {
                let message = format!(
                    "{:?} should give {wanted:?}, but gives {other:?}",
                    call.arguments
                );
                found.push(Violation::new(Rule::F1, "", message));
            }
        }
    }
    let mut refused = BTreeSet::new();
    for bad in &fixture.bad {
        match driver.call(&bad.arguments).await? {
            Err(failure) if failure.argument == bad.at => refused.extend(failure.argument),
            other => {
                let message = format!(
                    "{:?} should be refused at {:?}, but gives {other:?}",
                    bad.arguments, bad.at
                );
                found.push(Violation::new(Rule::INPUT, "", message));
            }
        }
    }
    for (index, parameter) in driver.schema().parameters.iter().enumerate() {
        if !refused.contains(&index) && !fixture.free.contains(&parameter.name.as_str()) {
            let message = "the fixture has no refused call for it and does not say that it is free";
            found.push(Violation::new(Rule::INPUT, &parameter.name, message));
        }
    }
    Ok(found)
}
