//! Configuration as Terraform hands it over: every attribute present, blocks never null.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use tfplug::{Number, Path, Step, Type, Value};

use crate::HostError;
use crate::check::value::{each_attribute, nested_objects};
use crate::check::{Rule, Violation};
use crate::schema::{AttributeKind, AttributeSchema, BlockSchema, NestedBlockSchema, Nesting};

/// The text that stands for an unknown value in a JSON configuration.
pub const UNKNOWN: &str = "${unknown}";

// === types of schemas ===

impl BlockSchema {
    /// The type of a value of this block.
    #[must_use]
    pub fn implied_type(&self) -> Type {
        let attributes = self
            .attributes
            .iter()
            .map(|(name, one)| (name.clone(), one.implied_type()));
        let blocks = self
            .blocks
            .iter()
            .map(|(name, one)| (name.clone(), one.implied_type()));
        Type::object(attributes.chain(blocks))
    }

    /// Whether a path leads to an attribute, a block or a part of one.
    #[must_use]
    pub fn has_path(&self, path: &Path) -> bool {
        let mut ty = self.implied_type();
        for step in path.steps() {
            ty = match (ty, step) {
                (Type::Dynamic, _) => return true,
                (Type::Object { mut attributes, .. }, Step::Attribute(name)) => {
                    match attributes.remove(name) {
                        Some(ty) => ty,
                        None => return false,
                    }
                }
                (Type::Map(element), Step::Key(_)) => *element,
                (Type::List(element) | Type::Set(element), Step::Index(_)) => *element,
                (Type::Tuple(mut elements), Step::Index(index)) => match usize::try_from(*index) {
                    Ok(index) if index < elements.len() => elements.swap_remove(index),
                    _ => return false,
                },
                _ => return false,
            };
        }
        true
    }
}

impl AttributeSchema {
    /// The type of this attribute's value.
    #[must_use]
    pub fn implied_type(&self) -> Type {
        match &self.kind {
            AttributeKind::Plain(ty) => ty.clone(),
            AttributeKind::Nested {
                nesting,
                attributes,
            } => {
                let object = Type::object(
                    attributes
                        .iter()
                        .map(|(name, one)| (name.clone(), one.implied_type())),
                );
                wrap(*nesting, object)
            }
        }
    }
}

impl NestedBlockSchema {
    /// The type of all blocks of this name together.
    #[must_use]
    pub fn implied_type(&self) -> Type {
        wrap(self.nesting, self.block.implied_type())
    }
}

fn wrap(nesting: Nesting, object: Type) -> Type {
    match nesting {
        Nesting::Single | Nesting::Group => object,
        Nesting::List => Type::list(object),
        Nesting::Set => Type::set(object),
        Nesting::Map => Type::map(object),
    }
}

// === building values ===

/// What an empty block decodes to: attributes null, nested blocks empty.
#[must_use]
pub fn empty_block(schema: &BlockSchema) -> Value {
    let attributes = schema
        .attributes
        .keys()
        .map(|name| (name.clone(), Value::Null));
    let blocks = schema
        .blocks
        .iter()
        .map(|(name, nested)| (name.clone(), no_blocks(nested)));
    Value::Object(attributes.chain(blocks).collect())
}

fn no_blocks(nested: &NestedBlockSchema) -> Value {
    match nested.nesting {
        Nesting::Single => Value::Null,
        Nesting::Group => empty_block(&nested.block),
        Nesting::List => Value::List(Vec::new()),
        Nesting::Set => Value::Set(Vec::new()),
        Nesting::Map => Value::Map(BTreeMap::new()),
    }
}

/// Builds a configuration from what a person would write, as JSON: missing attributes become null, missing blocks empty,
/// [`UNKNOWN`] unknown; numbers and booleans become text where text is wanted, as in HCL. JSON null is an empty block.
///
/// # Errors
/// [`HostError::Value`] naming the member that the schema lacks or that cannot be converted.
pub fn from_json(schema: &BlockSchema, json: &Json) -> Result<Value, HostError> {
    let nothing = Json::Object(serde_json::Map::new());
    let json = if json.is_null() { &nothing } else { json };
    block(schema, json, &Path::empty())
}

/// What Terraform itself misses in a configuration before it asks the provider: required attributes that are null, and
/// too few or too many blocks.
#[must_use]
pub fn missing(schema: &BlockSchema, config: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    each_attribute(
        schema,
        config,
        &Path::empty(),
        &mut |attribute, value, path| {
            if attribute.required && value.is_null() {
                found.push(Violation::new(
                    Rule::INPUT,
                    path.to_string(),
                    "a required attribute is null",
                ));
            }
        },
    );
    missing_blocks(schema, config, &Path::empty(), &mut found);
    found
}

fn missing_blocks(schema: &BlockSchema, config: &Value, path: &Path, found: &mut Vec<Violation>) {
    for (name, nested) in &schema.blocks {
        let (value, path) = (config.get(name), path.attr(name));
        if !value.is_unknown() {
            let written = nested_objects(nested.nesting, value, &path);
            let count = i64::try_from(written.len()).unwrap_or(i64::MAX);
            if count < nested.min_items || (nested.max_items > 0 && count > nested.max_items) {
                let message = format!(
                    "{count} blocks, {} to {} are wanted",
                    nested.min_items, nested.max_items
                );
                found.push(Violation::new(Rule::INPUT, path.to_string(), message));
            }
            for (path, one) in written {
                missing_blocks(&nested.block, one, &path, found);
            }
        }
    }
}

fn wrong(path: &Path, reason: impl Into<String>) -> HostError {
    HostError::Value {
        what: format!("configuration at {path}"),
        reason: reason.into(),
    }
}

fn object<'j>(json: &'j Json, path: &Path) -> Result<&'j serde_json::Map<String, Json>, HostError> {
    json.as_object()
        .ok_or_else(|| wrong(path, format!("{json} is not an object")))
}

fn array<'j>(json: &'j Json, path: &Path) -> Result<&'j Vec<Json>, HostError> {
    json.as_array()
        .ok_or_else(|| wrong(path, format!("{json} is not a list")))
}

fn block(schema: &BlockSchema, json: &Json, path: &Path) -> Result<Value, HostError> {
    let given = object(json, path)?;
    let known =
        |name: &String| schema.attributes.contains_key(name) || schema.blocks.contains_key(name);
    if let Some(stranger) = given.keys().find(|name| !known(name)) {
        return Err(wrong(
            &path.attr(stranger),
            "the schema has no such attribute or block",
        ));
    }
    let mut built = object_of(&schema.attributes, given, path)?;
    for (name, nested) in &schema.blocks {
        let value = match given.get(name) {
            None | Some(Json::Null) => no_blocks(nested),
            Some(json) => {
                let one = |json: &Json, path: &Path| block(&nested.block, json, path);
                collection(nested.nesting, json, &path.attr(name), &one)?
            }
        };
        built.insert(name.clone(), value);
    }
    Ok(Value::Object(built))
}

fn object_of(
    schema: &BTreeMap<String, AttributeSchema>,
    given: &serde_json::Map<String, Json>,
    path: &Path,
) -> Result<BTreeMap<String, Value>, HostError> {
    schema
        .iter()
        .map(|(name, one)| {
            let json = given.get(name).unwrap_or(&Json::Null);
            Ok((name.clone(), attribute(one, json, &path.attr(name))?))
        })
        .collect()
}

/// Builds one attribute's value from JSON by the rules of [`from_json`].
///
/// # Errors
/// As [`from_json`].
pub fn attribute(schema: &AttributeSchema, json: &Json, path: &Path) -> Result<Value, HostError> {
    match &schema.kind {
        AttributeKind::Plain(ty) => plain(ty, json, path),
        AttributeKind::Nested { .. } if json.is_null() => Ok(Value::Null),
        AttributeKind::Nested {
            nesting,
            attributes,
        } => collection(*nesting, json, path, &|json, path| {
            if json.is_null() {
                return Ok(Value::Null);
            }
            let given = object(json, path)?;
            if let Some(stranger) = given.keys().find(|name| !attributes.contains_key(*name)) {
                return Err(wrong(
                    &path.attr(stranger),
                    "the schema has no such attribute",
                ));
            }
            object_of(attributes, given, path).map(Value::Object)
        }),
    }
}

fn collection(
    nesting: Nesting,
    json: &Json,
    path: &Path,
    one: &dyn Fn(&Json, &Path) -> Result<Value, HostError>,
) -> Result<Value, HostError> {
    let one = |json: &Json, path: &Path| {
        if is_unknown(json) {
            Ok(Value::unknown())
        } else {
            one(json, path)
        }
    };
    if is_unknown(json) {
        return Ok(Value::unknown());
    }
    match nesting {
        Nesting::Single | Nesting::Group => one(json, path),
        Nesting::List | Nesting::Set => {
            let all = array(json, path)?.iter().enumerate();
            let all = all
                .map(|(index, json)| one(json, &path.index(index)))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(if nesting == Nesting::Set {
                Value::set_of(all)
            } else {
                Value::List(all)
            })
        }
        Nesting::Map => {
            let all = object(json, path)?.iter();
            all.map(|(key, json)| Ok((key.clone(), one(json, &path.key(key))?)))
                .collect::<Result<_, _>>()
                .map(Value::Map)
        }
    }
}

fn is_unknown(json: &Json) -> bool {
    json.as_str() == Some(UNKNOWN)
}

/// Converts JSON to a value of a plain type, as HCL converts.
///
/// # Errors
/// [`HostError::Value`] when it cannot be converted.
pub fn plain(ty: &Type, json: &Json, path: &Path) -> Result<Value, HostError> {
    if json.is_null() {
        return Ok(Value::Null);
    }
    if is_unknown(json) {
        return Ok(Value::unknown());
    }
    let each = |element: &Type| -> Result<Vec<Value>, HostError> {
        let all = array(json, path)?.iter().enumerate();
        all.map(|(index, json)| plain(element, json, &path.index(index)))
            .collect()
    };
    match ty {
        Type::Dynamic => dynamic(json, path),
        Type::Bool | Type::String | Type::Number => primitive(ty, json, path),
        Type::List(element) => each(element).map(Value::List),
        Type::Set(element) => each(element).map(Value::set_of),
        Type::Map(element) => {
            let all = object(json, path)?.iter();
            let all =
                all.map(|(key, json)| Ok((key.clone(), plain(element, json, &path.key(key))?)));
            all.collect::<Result<_, HostError>>().map(Value::Map)
        }
        Type::Tuple(types) => {
            let all = array(json, path)?;
            if all.len() != types.len() {
                return Err(wrong(
                    path,
                    format!("a tuple of {} elements is required", types.len()),
                ));
            }
            let all = types.iter().zip(all).enumerate();
            all.map(|(index, (ty, json))| plain(ty, json, &path.index(index)))
                .collect::<Result<_, _>>()
                .map(Value::Tuple)
        }
        Type::Object { attributes, .. } => {
            let given = object(json, path)?;
            if let Some(stranger) = given.keys().find(|name| !attributes.contains_key(*name)) {
                return Err(wrong(
                    &path.attr(stranger),
                    "the type has no such attribute",
                ));
            }
            let all = attributes.iter().map(|(name, ty)| {
                let json = given.get(name).unwrap_or(&Json::Null);
                Ok((name.clone(), plain(ty, json, &path.attr(name))?))
            });
            all.collect::<Result<_, HostError>>().map(Value::Object)
        }
    }
}

fn primitive(ty: &Type, json: &Json, path: &Path) -> Result<Value, HostError> {
    match (ty, json) {
        (Type::Bool, Json::Bool(flag)) => Ok(Value::Bool(*flag)),
        (Type::Bool, Json::String(text)) if text == "true" || text == "false" => {
            Ok(Value::Bool(text == "true"))
        }
        (Type::String, Json::String(text)) => Ok(Value::String(text.clone())),
        (Type::String, Json::Number(_) | Json::Bool(_)) => Ok(Value::String(json.to_string())),
        (Type::Number, Json::Number(number)) => number_from(&number.to_string(), path),
        (Type::Number, Json::String(text)) => number_from(text, path),
        _ => Err(wrong(path, format!("a {ty} is required, not {json}"))),
    }
}

fn number_from(text: &str, path: &Path) -> Result<Value, HostError> {
    text.parse::<Number>()
        .map(Value::Number)
        .map_err(|source| wrong(path, source.to_string()))
}

/// The value and type that HCL gives a literal: lists are tuples, maps are objects (trap 16).
fn dynamic(json: &Json, path: &Path) -> Result<Value, HostError> {
    let ty = literal_type(json);
    let value = plain(&ty, json, path)?;
    Ok(Value::Dynamic(ty, Box::new(value)))
}

fn literal_type(json: &Json) -> Type {
    match json {
        Json::Null => Type::Dynamic,
        Json::Bool(_) => Type::Bool,
        Json::Number(_) => Type::Number,
        Json::String(_) => Type::String,
        Json::Array(all) => Type::Tuple(all.iter().map(literal_type).collect()),
        Json::Object(all) => Type::object(
            all.iter()
                .map(|(name, json)| (name.clone(), literal_type(json))),
        ),
    }
}

#[cfg(test)]
mod tests;
