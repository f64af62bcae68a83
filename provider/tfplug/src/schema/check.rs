//! What Terraform demands of every schema (its `InternalValidate`).

use super::{Attribute, AttributeKind, Block, BlockNesting, Nesting, Schema};
use crate::path::Path;

/// A rule that a schema breaks: a defect of the provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema: {path}: {rule}")]
pub struct SchemaError {
    /// The attribute or block.
    pub path: Path,
    /// The rule.
    pub rule: String,
}

/// Names that Terraform keeps for itself in resources and data sources.
const RESERVED: &[&str] = &[
    "count",
    "for_each",
    "depends_on",
    "lifecycle",
    "provider",
    "provisioner",
    "connection",
];

struct Checker {
    errors: Vec<SchemaError>,
}

pub(super) fn schema(schema: &Schema) -> Result<(), Vec<SchemaError>> {
    let mut checker = Checker { errors: Vec::new() };
    if schema.version() < 0 {
        checker.broken(&Path::empty(), "the version must not be negative");
    }
    // What the provider alone sets is never written in a block, so the language cannot take it for its own.
    let written = |a: &&Attribute| a.is_required() || a.is_optional();
    let names = schema
        .attribute_list()
        .iter()
        .filter(written)
        .map(Attribute::name)
        .chain(schema.block_list().iter().map(Block::name));
    for name in names.filter(|name| RESERVED.contains(name)) {
        checker.broken(&Path::root(name), "the name is reserved by Terraform");
    }
    checker.level(
        schema.attribute_list(),
        schema.block_list(),
        &Path::empty(),
        false,
    );
    if checker.errors.is_empty() {
        Ok(())
    } else {
        Err(checker.errors)
    }
}

/// True for names that Terraform takes: `^[a-z_][a-z0-9_]*$`.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

// === impl Checker ===

impl Checker {
    fn broken(&mut self, path: &Path, rule: impl Into<String>) {
        self.errors.push(SchemaError {
            path: path.clone(),
            rule: rule.into(),
        });
    }

    fn level(&mut self, attributes: &[Attribute], blocks: &[Block], at: &Path, in_set: bool) {
        let mut names = std::collections::BTreeSet::new();
        for name in attributes
            .iter()
            .map(Attribute::name)
            .chain(blocks.iter().map(Block::name))
        {
            let path = at.attr(name);
            if !is_name(name) {
                self.broken(&path, "a name has lower-case letters, digits and underscores and starts with no digit");
            }
            if !names.insert(name) {
                self.broken(&path, "declared twice");
            }
        }
        for attribute in attributes {
            self.attribute(attribute, &at.attr(attribute.name()), in_set);
        }
        for block in blocks {
            self.block(block, &at.attr(block.name()), in_set);
        }
    }

    fn attribute(&mut self, a: &Attribute, path: &Path, in_set: bool) {
        if a.is_required() && (a.is_optional() || a.is_computed()) {
            self.broken(
                path,
                "a required attribute can be neither optional nor computed",
            );
        }
        if !a.is_required() && !a.is_optional() && !a.is_computed() {
            self.broken(path, "an attribute is required, optional or computed");
        }
        if a.is_write_only() {
            if a.is_computed() || !(a.is_required() || a.is_optional()) {
                self.broken(
                    path,
                    "a write-only attribute is required or optional and not computed",
                );
            }
            if in_set {
                self.broken(path, "a write-only attribute cannot be inside a set");
            }
        }
        if a.default_value().is_some() && !a.is_optional() {
            self.broken(path, "an attribute with a default is optional");
        }
        if let Some(super::AttributeDefault::Static(value)) = a.default_value()
            && let Err(error) = value.to_msgpack(&a.ty())
        {
            self.broken(path, format!("the default does not fit: {error}"));
        }
        match a.kind() {
            AttributeKind::Plain(ty) => {
                let set_of_any =
                    matches!(ty, crate::value::Type::Set(element) if element.has_dynamic());
                if ty.has_dynamic() && (in_set || set_of_any) {
                    self.broken(path, "a set cannot hold dynamic values");
                }
                if ty.has_dynamic() && *ty != crate::value::Type::Dynamic {
                    self.broken(path, "a collection cannot have dynamic elements; make the whole attribute dynamic");
                }
            }
            AttributeKind::Nested(nesting, attributes) => {
                let in_set = in_set || *nesting == Nesting::Set;
                self.level(attributes, &[], path, in_set);
                let inside = |a: &Attribute| a.is_computed() || a.default_value().is_some();
                if *nesting == Nesting::Set && attributes.iter().any(|a| a.is_write_only()) {
                    self.broken(path, "a set cannot hold write-only attributes");
                }
                if a.is_write_only() && attributes.iter().any(inside) {
                    self.broken(
                        path,
                        "a write-only attribute has no computed attributes inside",
                    );
                }
            }
        }
    }

    fn block(&mut self, block: &Block, path: &Path, in_set: bool) {
        let (min, max) = (block.min_items(), block.max_items());
        match block.nesting() {
            BlockNesting::Single if min != max || max > 1 => {
                self.broken(path, "a single block has min and max both 0 or both 1");
            }
            BlockNesting::List | BlockNesting::Set if max != 0 && min > max => {
                self.broken(path, "min is greater than max");
            }
            _ => {}
        }
        let in_set = in_set || block.nesting() == BlockNesting::Set;
        self.level(block.attribute_list(), block.block_list(), path, in_set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Type;

    fn rules(schema: &Schema) -> String {
        let errors = schema.internal_validate().err().unwrap_or_default();
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn every_rule_of_terraform_is_checked() {
        let one = |a: Attribute| Schema::new(0).attribute(a);
        let secret = || Attribute::string("s").write_only();
        let table = [
            (Schema::new(-1), "negative"),
            (one(Attribute::string("Name").optional()), "lower-case"),
            (one(Attribute::string("count").optional()), "reserved"),
            (
                one(Attribute::string("a").optional()).attribute(Attribute::bool("a").optional()),
                "twice",
            ),
            (
                one(Attribute::string("a")),
                "required, optional or computed",
            ),
            (
                one(Attribute::string("a").required().computed()),
                "neither optional nor computed",
            ),
            (one(secret().computed()), "write-only"),
            (
                one(Attribute::nested_set("a", [secret().optional()]).optional()),
                "inside a set",
            ),
            (
                Schema::new(0).block(Block::set("b", [Attribute::dynamic("d").optional()])),
                "dynamic",
            ),
            (
                one(Attribute::set("a", Type::Dynamic).optional()),
                "dynamic",
            ),
            (
                Schema::new(0).block(Block::single("b", []).max(2)),
                "both 0 or both 1",
            ),
            (
                Schema::new(0).block(Block::list("b", []).min(3).max(2)),
                "greater than max",
            ),
            (
                one(Attribute::string("a").default("x")),
                "default is optional",
            ),
            (
                one(Attribute::string("a").optional().default(5)),
                "does not fit",
            ),
        ];
        for (schema, rule) in table {
            assert!(
                rules(&schema).contains(rule),
                "{rule}: {:?}",
                rules(&schema)
            );
        }
    }

    #[test]
    fn a_sound_schema_passes() {
        let schema = Schema::new(1)
            .attribute(Attribute::string("id").computed())
            .attribute(Attribute::string("connection").computed())
            .attribute(Attribute::string("secret").optional().write_only())
            .attribute(
                Attribute::object("o", [Attribute::int64("n").optional().default(3)]).optional(),
            )
            .block(Block::single("one", []).min(1))
            .block(
                Block::list("many", [Attribute::dynamic("d").optional()])
                    .min(1)
                    .max(2),
            );
        assert_eq!(rules(&schema), "");
    }
}
