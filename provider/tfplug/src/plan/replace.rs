//! Which changes replace the resource.

use crate::path::Path;
use crate::schema::{Attribute, AttributeKind, Block, Nesting, Replace, ReplaceCtx, Schema};
use crate::value::Value;

struct Walk<'a> {
    prior_object: &'a Value,
    planned_object: &'a Value,
    found: Vec<Path>,
}

/// The paths of changed attributes whose change replaces the resource; none when creating.
pub(crate) fn replacements(
    schema: &Schema,
    config: &Value,
    prior: &Value,
    planned: &Value,
) -> Vec<Path> {
    if prior.is_null() {
        return Vec::new();
    }
    let mut walk = Walk {
        prior_object: prior,
        planned_object: planned,
        found: Vec::new(),
    };
    walk.level(
        schema.attribute_list(),
        schema.block_list(),
        [config, prior, planned],
        &Path::empty(),
        None,
    );
    walk.found
}

// === impl Walk ===

impl Walk<'_> {
    /// `set` is the set that the path is in: paths cannot lead inside.
    fn level(
        &mut self,
        attributes: &[Attribute],
        blocks: &[Block],
        at: [&Value; 3],
        path: &Path,
        set: Option<&Path>,
    ) {
        for attribute in attributes {
            let values = at.map(|v| v.get(attribute.name()));
            let path = path.attr(attribute.name());
            self.attribute(attribute, values, set.unwrap_or(&path));
            if let AttributeKind::Nested(nesting, nested) = attribute.kind() {
                self.elements((nested, &[]), *nesting, values, &path, set);
            }
        }
        for block in blocks {
            let values = at.map(|v| v.get(block.name()));
            let inside = (block.attribute_list(), block.block_list());
            self.elements(
                inside,
                block.nesting().into(),
                values,
                &path.attr(block.name()),
                set,
            );
        }
    }

    fn attribute(
        &mut self,
        attribute: &Attribute,
        [config, prior, planned]: [&Value; 3],
        path: &Path,
    ) {
        if attribute.is_write_only() || planned == prior {
            return;
        }
        let (prior_object, planned_object) = (self.prior_object, self.planned_object);
        let replaces = match attribute.replacement() {
            Replace::Never => false,
            Replace::Always => true,
            Replace::If(rule) => rule(&ReplaceCtx {
                config,
                prior,
                planned,
                planned_object,
                prior_object,
            }),
        };
        if replaces && !self.found.contains(path) {
            self.found.push(path.clone());
        }
    }

    fn elements(
        &mut self,
        (attributes, blocks): (&[Attribute], &[Block]),
        nesting: Nesting,
        values: [&Value; 3],
        path: &Path,
        set: Option<&Path>,
    ) {
        let [config, prior, planned] = values;
        match nesting {
            Nesting::Single if planned.is_null() || planned.is_unknown() => {}
            Nesting::Single => self.level(attributes, blocks, values, path, set),
            Nesting::List => {
                for (i, element) in planned.elements().iter().enumerate() {
                    let path = path.index(i);
                    let step = Path::empty().index(i);
                    self.level(
                        attributes,
                        blocks,
                        [config.at(&step), prior.at(&step), element],
                        &path,
                        set,
                    );
                }
            }
            Nesting::Map => {
                for (key, element) in planned.members().into_iter().flatten() {
                    let at = [config.get(key), prior.get(key), element];
                    self.level(attributes, blocks, at, &path.key(key), set);
                }
            }
            Nesting::Set => {
                // An element has no name: one that was not there before counts as changed in every attribute.
                let fresh = |e: &&Value| !prior.elements().contains(*e);
                for element in planned.elements().iter().filter(fresh) {
                    let at = [element, &Value::Null, element];
                    self.level(attributes, blocks, at, path, Some(set.unwrap_or(path)));
                }
            }
        }
    }
}
