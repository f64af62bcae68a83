//! Schemas as Terraform wants them.

use super::{Attribute, AttributeKind, Block, BlockNesting, Nesting, Schema};
use crate::proto::tfplugin6 as pb;

pub(crate) fn schema_to_proto(schema: &Schema) -> pb::Schema {
    let block = pb::schema::Block {
        version: schema.version(),
        attributes: schema.attribute_list().iter().map(attribute).collect(),
        block_types: schema.block_list().iter().map(nested_block).collect(),
        description: schema.description_text().to_owned(),
        description_kind: pb::StringKind::Markdown.into(),
        deprecated: schema.deprecation().is_some(),
        deprecation_message: schema.deprecation().unwrap_or_default().to_owned(),
    };
    pb::Schema {
        version: schema.version(),
        block: Some(block),
    }
}

fn attribute(a: &Attribute) -> pb::schema::Attribute {
    let (ty, nested_type) = match a.kind() {
        AttributeKind::Plain(ty) => (ty.to_json_bytes(), None),
        AttributeKind::Nested(nesting, attributes) => {
            (Vec::new(), Some(object(*nesting, attributes)))
        }
    };
    pb::schema::Attribute {
        name: a.name().to_owned(),
        r#type: ty,
        nested_type,
        description: a.description_text().to_owned(),
        required: a.is_required(),
        optional: a.is_optional(),
        computed: a.is_computed(),
        sensitive: a.is_sensitive(),
        description_kind: pb::StringKind::Markdown.into(),
        deprecated: a.deprecation().is_some(),
        write_only: a.is_write_only(),
        deprecation_message: a.deprecation().unwrap_or_default().to_owned(),
    }
}

fn object(nesting: Nesting, attributes: &[Attribute]) -> pb::schema::Object {
    use pb::schema::object::NestingMode;
    let nesting = match nesting {
        Nesting::Single => NestingMode::Single,
        Nesting::List => NestingMode::List,
        Nesting::Set => NestingMode::Set,
        Nesting::Map => NestingMode::Map,
    };
    pb::schema::Object {
        attributes: attributes.iter().map(attribute).collect(),
        nesting: nesting.into(),
        ..pb::schema::Object::default()
    }
}

fn nested_block(block: &Block) -> pb::schema::NestedBlock {
    use pb::schema::nested_block::NestingMode;
    let nesting = match block.nesting() {
        BlockNesting::Single => NestingMode::Single,
        BlockNesting::List => NestingMode::List,
        BlockNesting::Set => NestingMode::Set,
    };
    pb::schema::NestedBlock {
        type_name: block.name().to_owned(),
        block: Some(pb::schema::Block {
            version: 0,
            attributes: block.attribute_list().iter().map(attribute).collect(),
            block_types: block.block_list().iter().map(nested_block).collect(),
            description: block.description_text().to_owned(),
            description_kind: pb::StringKind::Markdown.into(),
            deprecated: block.deprecation().is_some(),
            deprecation_message: block.deprecation().unwrap_or_default().to_owned(),
        }),
        nesting: nesting.into(),
        min_items: block.min_items().into(),
        max_items: block.max_items().into(),
    }
}
