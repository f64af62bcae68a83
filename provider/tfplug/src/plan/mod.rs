//! Plans: what the framework does to a proposed state before and after the resource sees it.
//!
//! ```text
//! proposed --write-only nulled--> --defaults--> differs from prior? --yes--> computed and unset: unknown,
//!          or the stored value where the schema says it stays --> Resource::plan --> replacement paths
//! ```

mod blocks;
mod conform;
mod defaults;
mod each;
mod replace;
mod unknowns;
mod validate;
mod write_only;

pub(crate) use blocks::fill_blocks;
pub(crate) use conform::conform;
pub(crate) use defaults::apply_defaults;
pub(crate) use replace::replacements;
pub(crate) use validate::{validate, validate_write_only};
pub(crate) use write_only::null_write_only;

use crate::schema::Schema;
use crate::value::Value;

/// The plan that follows from the schema alone. `prior` is null when creating; `config` and
/// `proposed` are objects. The result depends on nothing else, so a second call agrees.
pub(crate) fn propose(
    schema: &Schema,
    config: &Value,
    prior: &Value,
    mut proposed: Value,
) -> Value {
    null_write_only(schema.attribute_list(), schema.block_list(), &mut proposed);
    apply_defaults(schema, config, &mut proposed);
    if proposed != *prior {
        unknowns::mark(schema, config, prior, &mut proposed);
    }
    proposed
}

#[cfg(test)]
mod tests;
