//! A schema as Markdown: required, optional and read-only, nested ones after it.

use std::fmt::Write as _;
use tfplug::{
    Attribute, AttributeDefault, AttributeKind, Block, BlockNesting, Nesting, Replace, Schema,
};

type Belongs = fn(&Attribute) -> bool;

/// A nested schema still to be written: its path and what it holds.
struct Open<'a> {
    path: String,
    attributes: &'a [Attribute],
    blocks: &'a [Block],
}

/// The section `## Schema` of a page.
pub(crate) fn section(schema: &Schema) -> String {
    let mut out = String::from("## Schema\n");
    let mut open = Vec::new();
    body(
        &mut out,
        "",
        schema.attribute_list(),
        schema.block_list(),
        &mut open,
    );
    if !schema.timeout_defaults().is_empty() {
        out.push_str("\n### Nested Schema for `timeouts`\n\nHow long to wait, such as \"90s\", \"10m\" or \"1h\". Optional:\n\n");
        for (op, wait) in schema.timeout_defaults() {
            let _ = writeln!(
                out,
                "- `{}` (String) Default: {} s.",
                op.name(),
                wait.as_secs()
            );
        }
    }
    open.reverse();
    while let Some(next) = open.pop() {
        let _ = write!(
            out,
            "\n<a id=\"nested--{}\"></a>\n### Nested Schema for `{}`\n",
            next.path.replace('.', "--"),
            next.path
        );
        let mut deeper = Vec::new();
        body(
            &mut out,
            &next.path,
            next.attributes,
            next.blocks,
            &mut deeper,
        );
        deeper.reverse();
        open.extend(deeper);
    }
    for rule in schema.config_validators() {
        let _ = write!(out, "\n~> {}\n", rule.description());
    }
    out
}

fn body<'a>(
    out: &mut String,
    path: &str,
    attributes: &'a [Attribute],
    blocks: &'a [Block],
    open: &mut Vec<Open<'a>>,
) {
    let groups: [(&str, Belongs); 3] = [
        ("Required", Attribute::is_required),
        ("Optional", Attribute::is_optional),
        ("Read-Only", |a| !a.is_required() && !a.is_optional()),
    ];
    for (title, belongs) in groups {
        let mut lines = Vec::new();
        for a in attributes
            .iter()
            .filter(|a| belongs(a) && a.name() != "timeouts")
        {
            let nested = join(path, a.name());
            lines.push(attribute(a, &nested));
            if !a.nested_attributes().is_empty() {
                open.push(Open {
                    path: nested,
                    attributes: a.nested_attributes(),
                    blocks: &[],
                });
            }
        }
        for b in blocks.iter().filter(|b| b.name() != "timeouts") {
            let required = b.min_items() > 0;
            if (title == "Required") != required || title == "Read-Only" {
                continue;
            }
            let nested = join(path, b.name());
            lines.push(block(b, &nested));
            open.push(Open {
                path: nested,
                attributes: b.attribute_list(),
                blocks: b.block_list(),
            });
        }
        if !lines.is_empty() {
            let _ = write!(out, "\n### {title}\n\n{}", lines.concat());
        }
    }
    if attributes.is_empty() && blocks.is_empty() {
        out.push_str("\nNo arguments.\n");
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn attribute(a: &Attribute, path: &str) -> String {
    let mut kind = match a.kind() {
        AttributeKind::Plain(ty) => capital(&ty.to_string()),
        AttributeKind::Nested(Nesting::Single, _) => "Attributes".to_owned(),
        AttributeKind::Nested(Nesting::List, _) => "Attributes List".to_owned(),
        AttributeKind::Nested(Nesting::Set, _) => "Attributes Set".to_owned(),
        AttributeKind::Nested(Nesting::Map, _) => "Attributes Map".to_owned(),
    };
    if a.is_sensitive() {
        kind.push_str(", Sensitive");
    }
    if a.is_write_only() {
        kind.push_str(", Write-only");
    }
    let mut line = format!("- `{}` ({kind}) {}", a.name(), a.description_text());
    for v in a.validators() {
        let rule = v.description().trim_end_matches('.');
        let _ = match rule.strip_prefix("each element: ") {
            Some(each) => write!(line, " Each element must be {each}."),
            None => write!(line, " Must be {rule}."),
        };
    }
    match a.default_value() {
        Some(AttributeDefault::Static(value)) => {
            let _ = write!(line, " Default: `{}`.", display(value));
        }
        Some(AttributeDefault::With(_)) => line.push_str(" Computed when not given."),
        None => {}
    }
    if matches!(a.replacement(), Replace::Always) && !a.description_text().contains("replaces") {
        line.push_str(" Changing this replaces the resource.");
    }
    if let Some(message) = a.deprecation() {
        let _ = write!(line, " **Deprecated:** {message}");
    }
    if !a.nested_attributes().is_empty() {
        let _ = write!(line, " (see [below](#nested--{}))", path.replace('.', "--"));
    }
    line.push('\n');
    line
}

fn block(b: &Block, path: &str) -> String {
    let kind = match b.nesting() {
        BlockNesting::Single => "Block",
        BlockNesting::List => "Block List",
        BlockNesting::Set => "Block Set",
    };
    let at = path.replace('.', "--");
    format!(
        "- `{}` ({kind}) {} (see [below](#nested--{at}))\n",
        b.name(),
        b.description_text()
    )
}

fn display(value: &tfplug::Value) -> String {
    match value {
        tfplug::Value::String(s) => format!("\"{s}\""),
        tfplug::Value::Bool(b) => b.to_string(),
        tfplug::Value::Number(n) => n.to_string(),
        other => format!("{other:?}"),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}
