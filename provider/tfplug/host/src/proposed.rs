//! What Terraform proposes as the new state before it asks the provider for a plan.

use std::collections::BTreeMap;

use tfplug::Value;

use crate::check::value::{elements, is_null, is_unknown, member, members};
use crate::config;
use crate::schema::{AttributeKind, AttributeSchema, BlockSchema, NestedBlockSchema, Nesting};

/// Merges what is configured with what was computed before. `prior` is null for a new object.
///
/// A computed attribute without configuration keeps its prior value, everything else is as configured. Nested objects
/// are matched by index or key; in sets by being equal in all that is configured.
#[must_use]
pub fn proposed_new_state(schema: &BlockSchema, prior: &Value, config: &Value) -> Value {
    if is_null(config) && is_null(prior) {
        return Value::Null;
    }
    let empty;
    let prior = if is_null(prior) {
        empty = config::empty_block(schema);
        &empty
    } else {
        prior
    };
    if is_null(config) || is_unknown(config) {
        return prior.clone();
    }
    let mut merged = attributes(&schema.attributes, prior, config);
    for (name, nested) in &schema.blocks {
        merged.insert(
            name.clone(),
            nested_block(nested, member(prior, name), member(config, name)),
        );
    }
    Value::Object(merged)
}

fn attributes(
    schema: &BTreeMap<String, AttributeSchema>,
    prior: &Value,
    config: &Value,
) -> BTreeMap<String, Value> {
    schema
        .iter()
        .map(|(name, one)| {
            (
                name.clone(),
                attribute(one, member(prior, name), member(config, name)),
            )
        })
        .collect()
}

fn attribute(schema: &AttributeSchema, prior: &Value, config: &Value) -> Value {
    if schema.computed && is_null(config) {
        return prior.clone();
    }
    match &schema.kind {
        AttributeKind::Plain(_) => config.clone(),
        AttributeKind::Nested { .. } if is_null(config) || is_unknown(config) => config.clone(),
        AttributeKind::Nested {
            nesting,
            attributes: inner,
        } => {
            let merge = |prior: &Value, config: &Value| {
                if is_null(config) || is_unknown(config) {
                    config.clone()
                } else {
                    Value::Object(attributes(inner, prior, config))
                }
            };
            collection(*nesting, prior, config, &merge, &|prior, config| {
                fits_attributes(inner, prior, config)
            })
        }
    }
}

fn nested_block(schema: &NestedBlockSchema, prior: &Value, config: &Value) -> Value {
    if is_unknown(config) || (schema.nesting == Nesting::Single && is_null(config)) {
        return config.clone();
    }
    let merge = |prior: &Value, config: &Value| proposed_new_state(&schema.block, prior, config);
    collection(schema.nesting, prior, config, &merge, &|prior, config| {
        fits_block(&schema.block, prior, config)
    })
}

/// Merges each configured element with the prior element that it is matched with, or takes it as it is.
fn collection(
    nesting: Nesting,
    prior: &Value,
    config: &Value,
    merge: &dyn Fn(&Value, &Value) -> Value,
    fits: &dyn Fn(&Value, &Value) -> bool,
) -> Value {
    let merged = |at: Option<&Value>, config: &Value| {
        at.map_or_else(|| config.clone(), |prior| merge(prior, config))
    };
    match nesting {
        Nesting::Single | Nesting::Group => merge(prior, config),
        Nesting::List => {
            let all = elements(config).iter().enumerate();
            Value::List(
                all.map(|(index, one)| merged(elements(prior).get(index), one))
                    .collect(),
            )
        }
        Nesting::Map => {
            let all = members(config).into_iter().flatten();
            let at = |key: &String| members(prior).and_then(|prior| prior.get(key));
            Value::Map(
                all.map(|(key, one)| (key.clone(), merged(at(key), one)))
                    .collect(),
            )
        }
        Nesting::Set => {
            let mut left: Vec<_> = elements(prior).iter().collect();
            let all = elements(config).iter().map(|one| {
                let at = left
                    .iter()
                    .position(|prior| fits(prior, one))
                    .map(|index| left.remove(index));
                merged(at, one)
            });
            Value::set_of(all.collect::<Vec<_>>())
        }
    }
}

/// Whether `prior` is `config` with nothing but computed values added.
fn fits_block(schema: &BlockSchema, prior: &Value, config: &Value) -> bool {
    fits_attributes(&schema.attributes, prior, config)
        && schema.blocks.iter().all(|(name, nested)| {
            let (prior, config) = (member(prior, name), member(config, name));
            let fits = |prior: &Value, config: &Value| fits_block(&nested.block, prior, config);
            fits_nested(nested.nesting, prior, config, &fits)
        })
}

fn fits_attributes(
    schema: &BTreeMap<String, AttributeSchema>,
    prior: &Value,
    config: &Value,
) -> bool {
    schema.iter().all(|(name, one)| {
        let (prior, config) = (member(prior, name), member(config, name));
        if one.computed && is_null(config) {
            return true;
        }
        match &one.kind {
            AttributeKind::Plain(_) => prior == config,
            AttributeKind::Nested {
                nesting,
                attributes,
            } => {
                let fits =
                    |prior: &Value, config: &Value| fits_attributes(attributes, prior, config);
                fits_nested(*nesting, prior, config, &fits)
            }
        }
    })
}

fn fits_nested(
    nesting: Nesting,
    prior: &Value,
    config: &Value,
    fits: &dyn Fn(&Value, &Value) -> bool,
) -> bool {
    if is_null(prior) || is_null(config) || is_unknown(prior) || is_unknown(config) {
        return prior == config;
    }
    match nesting {
        Nesting::Single | Nesting::Group => fits(prior, config),
        Nesting::List => {
            let (prior, config) = (elements(prior), elements(config));
            prior.len() == config.len()
                && prior
                    .iter()
                    .zip(config)
                    .all(|(prior, config)| fits(prior, config))
        }
        Nesting::Set => {
            let (prior, config) = (elements(prior), elements(config));
            prior.len() == config.len()
                && config
                    .iter()
                    .all(|one| prior.iter().any(|prior| fits(prior, one)))
        }
        Nesting::Map => {
            let (Some(prior), Some(config)) = (members(prior), members(config)) else {
                return false;
            };
            prior.keys().eq(config.keys())
                && config
                    .iter()
                    .all(|(key, one)| prior.get(key).is_some_and(|prior| fits(prior, one)))
        }
    }
}

#[cfg(test)]
mod tests;
