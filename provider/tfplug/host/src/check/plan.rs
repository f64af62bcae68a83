//! P1-P9: what Terraform asks of a plan.

use std::collections::BTreeMap;

use tfplug::{Path, Step, Value};

use crate::check::value::{
    elements, has_unknown, is_null, is_unknown, member, members, same, write_only_null,
};
use crate::check::{Rule, Violation, apply};
use crate::schema::{AttributeKind, AttributeSchema, BlockSchema, NestedBlockSchema, Nesting};

/// The three values a plan is judged by, at one place.
#[derive(Clone, Copy)]
struct Trio<'v> {
    prior: &'v Value,
    config: &'v Value,
    planned: &'v Value,
}

/// P1-P5 and P8: whether `planned` is a valid plan to get from `prior` to `config`. `prior` is null for a new object,
/// `config` is null to destroy.
#[must_use]
pub fn check(
    schema: &BlockSchema,
    prior: &Value,
    config: &Value,
    planned: &Value,
) -> Vec<Violation> {
    let mut found = Vec::new();
    block(
        schema,
        Trio {
            prior,
            config,
            planned,
        },
        &Path::empty(),
        &mut found,
    );
    found.extend(write_only_null(Rule::P8, schema, planned));
    found
}

/// P6: every path that requires replacement leads to something in the prior or the planned value.
#[must_use]
pub fn check_requires_replace(prior: &Value, planned: &Value, paths: &[Path]) -> Vec<Violation> {
    paths
        .iter()
        .filter(|path| {
            path.is_empty() || !(leads_somewhere(prior, path) || leads_somewhere(planned, path))
        })
        .map(|path| {
            Violation::new(
                Rule::P6,
                path.to_string(),
                "replacement is required by an attribute that does not exist",
            )
        })
        .collect()
}

/// P7: the plan to destroy is null.
#[must_use]
pub fn check_destroy(planned: &Value) -> Vec<Violation> {
    if is_null(planned) {
        Vec::new()
    } else {
        vec![Violation::new(
            Rule::P7,
            "",
            "the plan to destroy is not null",
        )]
    }
}

/// P9: the plan made again at apply, when more is known, keeps what the first one knew. `first_action` and
/// `second_action` are compared as they are shown.
#[must_use]
pub fn check_again(
    schema: &BlockSchema,
    first: (&Value, &str),
    second: (&Value, &str),
) -> Vec<Violation> {
    let mut found: Vec<_> = apply::compatible(schema, first.0, second.0)
        .into_iter()
        .map(|one| Violation {
            rule: Rule::P9,
            ..one
        })
        .collect();
    if first.1 != second.1 {
        let message = format!(
            "the action changed from {} to {} between plan and apply",
            first.1, second.1
        );
        found.push(Violation::new(Rule::P9, "", message));
    }
    found
}

fn leads_somewhere(value: &Value, path: &Path) -> bool {
    let mut here = value;
    for step in path.steps() {
        // Below an unknown or inside a set nothing can be said.
        if is_unknown(here) || matches!(here, Value::Set(_)) {
            return true;
        }
        let next = match step {
            Step::Attribute(name) | Step::Key(name) => members(here).and_then(|all| all.get(name)),
            Step::Index(index) => usize::try_from(*index)
                .ok()
                .and_then(|index| elements(here).get(index)),
        };
        match next {
            Some(next) => here = next,
            None => return false,
        }
    }
    true
}

impl<'v> Trio<'v> {
    fn member(self, name: &str) -> Self {
        Self {
            prior: member(self.prior, name),
            config: member(self.config, name),
            planned: member(self.planned, name),
        }
    }

    fn element(self, index: usize) -> Self {
        static NULL: Value = Value::Null;
        let at = |value: &'v Value| elements(value).get(index).unwrap_or(&NULL);
        Self {
            prior: at(self.prior),
            config: at(self.config),
            planned: at(self.planned),
        }
    }
}

/// P4: present if and only if it is configured. False when there is nothing more to compare.
fn presence(at: Trio<'_>, path: &Path, found: &mut Vec<Violation>) -> bool {
    match (is_null(at.config), is_null(at.planned)) {
        (false, true) => {
            found.push(Violation::new(
                Rule::P4,
                path.to_string(),
                "planned for absence but config wants existence",
            ));
            false
        }
        (true, false) => {
            found.push(Violation::new(
                Rule::P4,
                path.to_string(),
                "planned for existence but config wants absence",
            ));
            false
        }
        (true, true) => false,
        (false, false) => true,
    }
}

fn block(schema: &BlockSchema, at: Trio<'_>, path: &Path, found: &mut Vec<Violation>) {
    if !presence(at, path, found) {
        return;
    }
    attributes(&schema.attributes, at, path, found);
    for (name, nested) in &schema.blocks {
        nested_block(nested, at.member(name), &path.attr(name), found);
    }
}

fn nested_block(schema: &NestedBlockSchema, at: Trio<'_>, path: &Path, found: &mut Vec<Violation>) {
    let mut p5 = |message: &str| found.push(Violation::new(Rule::P5, path.to_string(), message));
    if schema.nesting != Nesting::Single && is_null(at.planned) {
        return p5("nested blocks must be empty to indicate no blocks, not null");
    }
    if same(at.planned, at.config) {
        return;
    }
    if is_unknown(at.config) {
        return p5("a planned value for a dynamic block whose count is not known yet");
    }
    if is_unknown(at.planned) {
        return p5("planned unknown for a block; set the attributes in it to unknown instead");
    }
    match schema.nesting {
        Nesting::Single | Nesting::Group => block(&schema.block, at, path, found),
        Nesting::List | Nesting::Map => {
            for (at, path) in paired(schema.nesting, at, path, "block", found) {
                if is_unknown(at.planned) {
                    let message = "a nested block must not be unknown itself; set the attributes in it to unknown instead";
                    found.push(Violation::new(Rule::P5, path.to_string(), message));
                } else {
                    block(&schema.block, at, &path, found);
                }
            }
        }
        Nesting::Set => unknown_elements(at, path, found),
    }
}

/// Elements of sets have no identity to compare them by; Terraform trusts the provider but for this.
fn unknown_elements(at: Trio<'_>, path: &Path, found: &mut Vec<Violation>) {
    for _ in elements(at.planned).iter().filter(|one| is_unknown(one)) {
        found.push(Violation::new(
            Rule::P5,
            path.to_string(),
            "a set element must not be unknown itself",
        ));
    }
}

/// The elements of a list or map with what they are compared to; counts and keys must agree (P5).
fn paired<'v>(
    nesting: Nesting,
    at: Trio<'v>,
    path: &Path,
    what: &str,
    found: &mut Vec<Violation>,
) -> Vec<(Trio<'v>, Path)> {
    let count = |value: &Value| members(value).map_or_else(|| elements(value).len(), BTreeMap::len);
    let (planned, configured) = (count(at.planned), count(at.config));
    if planned != configured {
        let message = format!(
            "{what} count in plan ({planned}) disagrees with count in config ({configured})"
        );
        found.push(Violation::new(Rule::P5, path.to_string(), message));
        return Vec::new();
    }
    if nesting != Nesting::Map {
        return (0..planned)
            .map(|index| (at.element(index), path.index(index)))
            .collect();
    }
    let mut pairs = Vec::new();
    for key in members(at.planned)
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
    {
        if members(at.config).is_some_and(|all| all.contains_key(key)) {
            pairs.push((at.member(key), path.key(key)));
        } else {
            let message = format!("{what} key {key:?} of the plan is not in the configuration");
            found.push(Violation::new(Rule::P5, path.to_string(), message));
        }
    }
    pairs
}

fn attributes(
    schema: &BTreeMap<String, AttributeSchema>,
    at: Trio<'_>,
    path: &Path,
    found: &mut Vec<Violation>,
) {
    for (name, one) in schema {
        attribute(one, at.member(name), &path.attr(name), found);
    }
}

fn attribute(schema: &AttributeSchema, at: Trio<'_>, path: &Path, found: &mut Vec<Violation>) {
    let unchanged = !is_null(at.prior) && !is_null(at.config) && same(at.planned, at.prior);
    if same(at.planned, at.config) || unchanged || schema.write_only {
        return;
    }
    if schema.computed && (!schema.optional || is_null(at.config)) {
        return;
    }
    if is_null(at.config) {
        found.push(Violation::new(
            Rule::P2,
            path.to_string(),
            "planned value for a non-computed attribute",
        ));
        return;
    }
    if let AttributeKind::Nested {
        nesting,
        attributes,
    } = &schema.kind
    {
        nested_attribute(*nesting, attributes, at, path, found);
        return;
    }
    let shown = |value: &Value| {
        if schema.sensitive {
            "(sensitive)".to_owned()
        } else {
            format!("{value:?}")
        }
    };
    if has_unknown(at.planned) && !has_unknown(at.config) {
        found.push(Violation::new(
            Rule::P3,
            path.to_string(),
            "planned unknown for a configured value",
        ));
    } else {
        let (planned, config) = (shown(at.planned), shown(at.config));
        let prior = if is_null(at.prior) {
            String::new()
        } else {
            format!(" nor prior value {}", shown(at.prior))
        };
        let message =
            format!("planned value {planned} does not match config value {config}{prior}");
        found.push(Violation::new(Rule::P1, path.to_string(), message));
    }
}

fn nested_attribute(
    nesting: Nesting,
    schema: &BTreeMap<String, AttributeSchema>,
    at: Trio<'_>,
    path: &Path,
    found: &mut Vec<Violation>,
) {
    if is_unknown(at.planned) {
        found.push(Violation::new(
            Rule::P3,
            path.to_string(),
            "planned unknown for a configured value",
        ));
        return;
    }
    if !presence(at, path, found) {
        return;
    }
    if is_unknown(at.config) {
        found.push(Violation::new(
            Rule::P1,
            path.to_string(),
            "a planned value for a configuration that is not known yet",
        ));
        return;
    }
    match nesting {
        Nesting::Single | Nesting::Group => attributes(schema, at, path, found),
        Nesting::List | Nesting::Map => {
            for (at, path) in paired(nesting, at, path, "element", found) {
                if is_unknown(at.planned) && !is_unknown(at.config) {
                    found.push(Violation::new(
                        Rule::P3,
                        path.to_string(),
                        "planned unknown for a configured element",
                    ));
                } else if !same(at.planned, at.config) && presence(at, &path, found) {
                    attributes(schema, at, &path, found);
                }
            }
        }
        Nesting::Set => {
            let (planned, configured) = (elements(at.planned).len(), elements(at.config).len());
            if planned != configured {
                let message = format!(
                    "element count in plan ({planned}) disagrees with count in config ({configured})"
                );
                found.push(Violation::new(Rule::P5, path.to_string(), message));
            }
        }
    }
}

#[cfg(test)]
mod tests;
