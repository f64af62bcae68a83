//! One schema with every kind of attribute and block, for the tests of the checks.

use tfplug::Type;

use crate::schema::{AttributeKind, AttributeSchema, BlockSchema, NestedBlockSchema, Nesting};

/// An attribute with these flags out of `r`equired, `o`ptional, `c`omputed, `w`rite-only, `s`ensitive.
pub(crate) fn attribute(flags: &str, kind: AttributeKind) -> AttributeSchema {
    AttributeSchema {
        kind,
        required: flags.contains('r'),
        optional: flags.contains('o'),
        computed: flags.contains('c'),
        sensitive: flags.contains('s'),
        write_only: flags.contains('w'),
        deprecated: false,
        description: "A thing.".to_owned(),
    }
}

fn plain(flags: &str, ty: Type) -> AttributeSchema {
    attribute(flags, AttributeKind::Plain(ty))
}

fn nested(nesting: Nesting, attributes: &[(&str, AttributeSchema)]) -> NestedBlockSchema {
    let attributes = attributes
        .iter()
        .map(|(name, one)| ((*name).to_owned(), one.clone()))
        .collect();
    let block = BlockSchema {
        attributes,
        ..BlockSchema::default()
    };
    NestedBlockSchema {
        nesting,
        block,
        min_items: 0,
        max_items: 0,
    }
}

/// `name` required; `note` optional; `size` optional and computed; `id` computed; `secret` write-only; `tags` a map;
/// `names` a set; `any` dynamic; `limits` nested in a list, `gates` nested in a set; blocks `rule` (list), `member`
/// (set), `zone` (map) and `local` (single, with a write-only `token`).
pub(crate) fn schema() -> BlockSchema {
    let limit = [
        ("kind", plain("r", Type::String)),
        ("used", plain("c", Type::Number)),
    ];
    let limit = || {
        limit
            .iter()
            .map(|(name, one)| ((*name).to_owned(), one.clone()))
            .collect()
    };
    let attributes = [
        ("name", plain("r", Type::String)),
        ("note", plain("o", Type::String)),
        ("size", plain("oc", Type::Number)),
        ("id", plain("c", Type::String)),
        ("secret", plain("ow", Type::String)),
        ("tags", plain("o", Type::map(Type::String))),
        ("names", plain("o", Type::set(Type::String))),
        ("any", plain("o", Type::Dynamic)),
        ("key", plain("os", Type::String)),
        (
            "limits",
            attribute(
                "o",
                AttributeKind::Nested {
                    nesting: Nesting::List,
                    attributes: limit(),
                },
            ),
        ),
        (
            "gates",
            attribute(
                "o",
                AttributeKind::Nested {
                    nesting: Nesting::Set,
                    attributes: limit(),
                },
            ),
        ),
    ];
    BlockSchema {
        attributes: attributes
            .into_iter()
            .map(|(name, one)| (name.to_owned(), one))
            .collect(),
        blocks: blocks()
            .into_iter()
            .map(|(name, one)| (name.to_owned(), one))
            .collect(),
        description: "A thing.".to_owned(),
    }
}

fn blocks() -> [(&'static str, NestedBlockSchema); 4] {
    [
        (
            "rule",
            nested(Nesting::List, &[("port", plain("r", Type::Number))]),
        ),
        (
            "member",
            nested(
                Nesting::Set,
                &[
                    ("who", plain("r", Type::String)),
                    ("seen", plain("c", Type::Bool)),
                ],
            ),
        ),
        (
            "zone",
            nested(Nesting::Map, &[("size", plain("o", Type::Number))]),
        ),
        (
            "local",
            nested(
                Nesting::Single,
                &[
                    ("dir", plain("o", Type::String)),
                    ("token", plain("ow", Type::String)),
                ],
            ),
        ),
    ]
}
