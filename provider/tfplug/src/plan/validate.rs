//! Running the schema's validators over a configuration.

use crate::diag::Diagnostics;
use crate::path::{Path, Step};
use crate::schema::{Attribute, AttributeKind, Block, Schema};
use crate::value::{Value, View};

/// The problems of a configuration, each with the path of its attribute. Unknown values are passed over.
pub(crate) fn validate(schema: &Schema, config: &Value) -> Diagnostics {
    let mut out = Diagnostics::new();
    level(
        schema.attribute_list(),
        schema.block_list(),
        &config.view(),
        &mut |attribute, view| {
            let mut found = Diagnostics::new();
            for validator in attribute.validators() {
                validator.check(view.value(), view.path(), &mut found);
                if !found.is_empty() {
                    break; // One problem for each value: the first that it has.
                }
            }
            for mut diagnostic in found {
                diagnostic.path = diagnostic.path.map(|path| outside_sets(config, &path));
                out.push(diagnostic);
            }
        },
    );
    for rule in schema.config_validators() {
        out.extend(rule.check(config));
    }
    out
}

/// The problems of write-only values under a Terraform that cannot handle them.
pub(crate) fn validate_write_only(schema: &Schema, config: &Value) -> Diagnostics {
    let mut out = Diagnostics::new();
    level(
        schema.attribute_list(),
        schema.block_list(),
        &config.view(),
        &mut |attribute, view| {
            if attribute.is_write_only() && !view.is_null() {
                let detail = "Write-only attributes need Terraform 1.11 or later.";
                out.push(view.error(format!("Terraform is too old for {}", view.path()), detail));
            }
        },
    );
    out
}

fn level(
    attributes: &[Attribute],
    blocks: &[Block],
    object: &View<'_>,
    f: &mut dyn FnMut(&Attribute, &View<'_>),
) {
    if object.is_null() || object.is_unknown() {
        return;
    }
    for attribute in attributes {
        let value = object.attr(attribute.name());
        f(attribute, &value);
        if let AttributeKind::Nested(_, nested) = attribute.kind() {
            objects(&value)
                .iter()
                .for_each(|object| level(nested, &[], object, f));
        }
    }
    for block in blocks {
        let value = object.attr(block.name());
        objects(&value)
            .iter()
            .for_each(|o| level(block.attribute_list(), block.block_list(), o, f));
    }
}

fn objects<'v>(value: &View<'v>) -> Vec<View<'v>> {
    match value.value() {
        Value::Object(_) => vec![value.clone()],
        Value::Map(_) => value.entries().into_iter().map(|(_, view)| view).collect(),
        _ => value.elements(),
    }
}

/// The path up to the first set on the way: the protocol cannot point inside.
fn outside_sets(config: &Value, path: &Path) -> Path {
    let mut so_far = Path::empty();
    for step in path.steps() {
        if matches!(
            (config.at(&so_far), step),
            (Value::Set(_), Step::Attribute(_))
        ) {
            break;
        }
        so_far = so_far.step(step.clone());
    }
    so_far
}
