//! Blocks are never null where Terraform wants them empty.

use crate::schema::Block;
use crate::value::Value;

/// Replaces null list and set blocks by empty ones, at every depth.
pub(crate) fn fill_blocks(object: &mut Value, blocks: &[Block]) {
    let Value::Object(members) = object else {
        return;
    };
    for block in blocks {
        let value = members.entry(block.name().to_owned()).or_default();
        if value.is_null() {
            *value = block.empty_value();
        }
        match value {
            Value::List(elements) | Value::Set(elements) => {
                elements
                    .iter_mut()
                    .for_each(|e| fill_blocks(e, block.block_list()));
            }
            single => fill_blocks(single, block.block_list()),
        }
    }
}
