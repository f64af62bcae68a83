//! The contract: bodies held against Azure's own type descriptions, paths and versions against what the services have.
//!
//! The descriptions are those of Azure/bicep-types-az (`types.json` of Microsoft.Compute and Microsoft.Network), read
//! from `$GPULOOM_DATA/azure`; without them bodies are not checked. Disks are in neither file: their few properties
//! are written down here, after "Disks - Create Or Update" (2025-01-02) on learn.microsoft.com.

use super::path::Kind;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names of the two files in the data folder.
const FILES: [&str; 2] = [
    "microsoft.compute_2026-04-01.types.json",
    "microsoft.network_2025-09-01.types.json",
];
const REQUIRED: u32 = 1;
const READ_ONLY: u32 = 2;
/// Said by the path: `id`, `name`, `type` and `apiVersion`.
const BY_PATH: u32 = 8;
/// Nesting of a body: deeper ones are not Azure's.
const MAX_DEPTH: usize = 32;

/// The type descriptions, when there are any.
#[derive(Debug, Default)]
pub(super) struct Contract {
    files: Vec<Types>,
}

#[derive(Debug)]
struct Types {
    types: Vec<Type>,
    resources: BTreeMap<String, usize>,
}

#[derive(Debug)]
enum Type {
    Text,
    Literal(String),
    Boolean,
    Integer {
        low: Option<i64>,
        high: Option<i64>,
    },
    Array(Ref),
    Union(Vec<Ref>),
    Object(BTreeMap<String, Property>, Option<Ref>),
    Resource {
        name: String,
        body: Ref,
    },
    /// Anything, or what no body holds.
    Other,
}

/// A type as it stands in the file. (A tagged enum would not do: numbers are kept as text.)
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(rename = "$type")]
    kind: String,
    name: Option<String>,
    value: Option<String>,
    min_value: Option<i64>,
    max_value: Option<i64>,
    item_type: Option<Ref>,
    /// A list of a union's types; other kinds have a map.
    elements: Option<Value>,
    properties: Option<BTreeMap<String, Property>>,
    additional_properties: Option<Ref>,
    body: Option<Ref>,
}

#[derive(Debug, Deserialize)]
struct Ref {
    #[serde(rename = "$ref")]
    to: String,
}

#[derive(Debug, Deserialize)]
struct Property {
    #[serde(rename = "type")]
    kind: Ref,
    flags: u32,
}

/// What is wrong with a body.
#[derive(Debug, Default)]
struct Wrong(Vec<String>);

// === impl Ref ===

impl Ref {
    /// `#/17`.
    fn index(&self) -> Option<usize> {
        self.to.strip_prefix("#/")?.parse().ok()
    }
}

// === impl Contract ===

impl Contract {
    /// The descriptions in `folder`; none when it has none.
    ///
    /// # Errors
    /// When they are there and do not read.
    pub(super) fn read(folder: Option<&Path>) -> Result<Self, String> {
        let mut files = Vec::new();
        for name in FILES {
            let path: PathBuf = match folder {
                Some(folder) => folder.join(name),
                None => return Ok(Self::default()),
            };
            if !path.is_file() {
                return Ok(Self::default());
            }
            let unreadable = |e: String| format!("{}: {e}", path.display());
            let text = std::fs::read(&path).map_err(|e| unreadable(e.to_string()))?;
            let rows: Vec<Row> =
                serde_json::from_slice(&text).map_err(|e| unreadable(e.to_string()))?;
            files.push(Types::new(rows.into_iter().map(Type::from).collect()));
        }
        Ok(Self { files })
    }

    /// Bodies are held against the descriptions.
    pub(super) fn validates(&self) -> bool {
        !self.files.is_empty()
    }

    /// What is wrong with the body of a PUT (`whole`) or PATCH of a resource.
    pub(super) fn body(&self, kind: Kind, body: &Value, whole: bool) -> Vec<String> {
        let mut wrong = Wrong::default();
        if kind == Kind::Disk {
            disk(body, whole, &mut wrong);
            return wrong.0;
        }
        let name = format!("{}@{}", kind.provider(), kind.version()).to_ascii_lowercase();
        for types in &self.files {
            if let Some(body_type) = types.resources.get(&name) {
                types.check(*body_type, body, "", whole, 0, &mut wrong);
                return wrong.0;
            }
        }
        if self.validates() {
            wrong.0.push(format!("{name} is no resource type"));
        }
        wrong.0
    }
}

impl From<Row> for Type {
    fn from(row: Row) -> Self {
        match row.kind.as_str() {
            "StringType" => Self::Text,
            "BooleanType" => Self::Boolean,
            "StringLiteralType" => Self::Literal(row.value.unwrap_or_default()),
            "IntegerType" => Self::Integer {
                low: row.min_value,
                high: row.max_value,
            },
            "ArrayType" => row.item_type.map_or(Self::Other, Self::Array),
            "UnionType" => {
                let elements = row.elements.map(serde_json::from_value::<Vec<Ref>>);
                elements
                    .and_then(Result::ok)
                    .map_or(Self::Other, Self::Union)
            }
            "ObjectType" => Self::Object(
                row.properties.unwrap_or_default(),
                row.additional_properties,
            ),
            "ResourceType" => match (row.name, row.body) {
                (Some(name), Some(body)) => Self::Resource { name, body },
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

// === impl Types ===

impl Types {
    fn new(types: Vec<Type>) -> Self {
        let resources = types.iter().filter_map(|t| match t {
            Type::Resource { name, body } => Some((name.to_ascii_lowercase(), body.index()?)),
            _ => None,
        });
        let resources = resources.collect();
        Self { types, resources }
    }

    fn check(
        &self,
        index: usize,
        value: &Value,
        at: &str,
        whole: bool,
        depth: usize,
        wrong: &mut Wrong,
    ) {
        if depth > MAX_DEPTH {
            return wrong.say(at, "is nested too deep");
        }
        match self.types.get(index) {
            Some(Type::Text) if !value.is_string() => wrong.say(at, "is no string"),
            Some(Type::Boolean) if !value.is_boolean() => wrong.say(at, "is no boolean"),
            Some(Type::Literal(literal)) if value != literal.as_str() => {
                wrong.say(at, &format!("is {value}, not {literal:?}"));
            }
            Some(Type::Integer { low, high }) => match value.as_i64() {
                None => wrong.say(at, "is no integer"),
                Some(n) => {
                    let outside =
                        low.is_some_and(|low| n < low) || high.is_some_and(|high| n > high);
                    if outside {
                        wrong.say(at, &format!("is {n}, outside of its range"));
                    }
                }
            },
            Some(Type::Array(item)) => match value.as_array() {
                None => wrong.say(at, "is no array"),
                Some(items) => {
                    for (i, value) in items.iter().enumerate() {
                        // Items of a PATCH are whole.
                        self.follow(item, value, &format!("{at}[{i}]"), true, depth, wrong);
                    }
                }
            },
            Some(Type::Union(elements)) => {
                let fits = |r: &Ref| {
                    let mut inner = Wrong::default();
                    self.follow(r, value, at, whole, depth, &mut inner);
                    inner.0.is_empty()
                };
                if !elements.iter().any(fits) {
                    wrong.say(at, &format!("is {value}, none of its values"));
                }
            }
            Some(Type::Object(properties, additional)) => match value.as_object() {
                None => wrong.say(at, "is no object"),
                Some(object) => {
                    for (key, value) in object {
                        let here = format!("{at}.{key}");
                        match (properties.get(key), additional) {
                            (Some(p), _) if p.flags & READ_ONLY != 0 => {
                                wrong.say(&here, "is read-only");
                            }
                            (Some(p), _) => self.follow(&p.kind, value, &here, whole, depth, wrong),
                            (None, Some(any)) => {
                                self.follow(any, value, &here, whole, depth, wrong);
                            }
                            (None, None) => wrong.say(&here, "is unknown"),
                        }
                    }
                    if whole {
                        missing(properties, object, at, wrong);
                    }
                }
            },
            _ => {}
        }
    }

    fn follow(
        &self,
        to: &Ref,
        value: &Value,
        at: &str,
        whole: bool,
        depth: usize,
        wrong: &mut Wrong,
    ) {
        if value.is_null() {
            return wrong.say(at, "is null");
        }
        match to.index() {
            Some(index) => self.check(index, value, at, whole, depth + 1, wrong),
            None => wrong.say(at, "has a type that does not read"),
        }
    }
}

impl Wrong {
    fn say(&mut self, at: &str, what: &str) {
        self.0
            .push(format!("{} {what}", at.trim_start_matches('.')));
    }
}

/// What is required and not there.
fn missing(
    properties: &BTreeMap<String, Property>,
    object: &serde_json::Map<String, Value>,
    at: &str,
    wrong: &mut Wrong,
) {
    let required = |p: &Property| p.flags & REQUIRED != 0 && p.flags & BY_PATH == 0;
    for (key, _) in properties.iter().filter(|(_, p)| required(p)) {
        if !object.contains_key(key) {
            wrong.say(&format!("{at}.{key}"), "is required");
        }
    }
}

fn disk(body: &Value, whole: bool, wrong: &mut Wrong) {
    let known = |value: &Value, at: &str, keys: &[&str], wrong: &mut Wrong| match value.as_object()
    {
        None => wrong.say(at, "is no object"),
        Some(object) => {
            for key in object.keys().filter(|k| !keys.contains(&k.as_str())) {
                wrong.say(&format!("{at}.{key}"), "is unknown");
            }
        }
    };
    known(
        body,
        "",
        &["location", "tags", "zones", "sku", "properties"],
        wrong,
    );
    if !whole {
        return;
    }
    if !body["location"].is_string() {
        wrong.say("location", "is required");
    }
    known(&body["sku"], "sku", &["name"], wrong);
    known(
        &body["properties"],
        "properties",
        &["creationData", "diskSizeGB", "osType"],
        wrong,
    );
    let source = &body["properties"]["creationData"];
    known(source, "properties.creationData", &["createOption"], wrong);
    let options = ["Empty", "Copy", "FromImage", "Import", "Restore", "Upload"];
    let option = source["createOption"].as_str().unwrap_or_default();
    if !options.contains(&option) {
        wrong.say(
            "properties.creationData.createOption",
            "is none of its values",
        );
    }
    if !body["properties"]["diskSizeGB"].is_u64() {
        wrong.say("properties.diskSizeGB", "is no integer");
    }
}
