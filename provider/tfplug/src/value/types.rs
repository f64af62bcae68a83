//! Types of values and their JSON encoding.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Value as Json, json};

use super::CodecError;

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// True or false.
    Bool,
    /// An exact decimal.
    Number,
    /// Text.
    String,
    /// Any type; the value says which.
    Dynamic,
    /// Elements of one type, in order.
    List(Box<Type>),
    /// Distinct elements of one type, without order.
    Set(Box<Type>),
    /// Elements of one type by name.
    Map(Box<Type>),
    /// A fixed row of elements, each of its own type.
    Tuple(Vec<Type>),
    /// Attributes by name; `optional` ones matter in function signatures only.
    Object {
        /// Every attribute's type.
        attributes: BTreeMap<String, Type>,
        /// Names that may be left out of an argument.
        optional: BTreeSet<String>,
    },
}

// === impl Type ===

impl Type {
    /// A list of this element type.
    #[must_use]
    pub fn list(element: Type) -> Self {
        Self::List(Box::new(element))
    }

    /// A set of this element type.
    #[must_use]
    pub fn set(element: Type) -> Self {
        Self::Set(Box::new(element))
    }

    /// A map to this element type.
    #[must_use]
    pub fn map(element: Type) -> Self {
        Self::Map(Box::new(element))
    }

    /// An object with these attributes.
    #[must_use]
    pub fn object<N: Into<String>>(attributes: impl IntoIterator<Item = (N, Type)>) -> Self {
        let attributes = attributes.into_iter().map(|(n, t)| (n.into(), t)).collect();
        Self::Object {
            attributes,
            optional: BTreeSet::new(),
        }
    }

    /// The JSON form: `"string"`, `["list", "number"]`, `["object", {..}]`.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Bool => json!("bool"),
            Self::Number => json!("number"),
            Self::String => json!("string"),
            Self::Dynamic => json!("dynamic"),
            Self::List(element) => json!(["list", element.to_json()]),
            Self::Set(element) => json!(["set", element.to_json()]),
            Self::Map(element) => json!(["map", element.to_json()]),
            Self::Tuple(elements) => json!([
                "tuple",
                elements.iter().map(Self::to_json).collect::<Vec<_>>()
            ]),
            Self::Object {
                attributes,
                optional,
            } => {
                let members: serde_json::Map<String, Json> = attributes
                    .iter()
                    .map(|(name, ty)| (name.clone(), ty.to_json()))
                    .collect();
                if optional.is_empty() {
                    json!(["object", members])
                } else {
                    json!(["object", members, optional])
                }
            }
        }
    }

    /// The JSON form as bytes, as the protocol carries it.
    #[must_use]
    pub fn to_json_bytes(&self) -> Vec<u8> {
        self.to_json().to_string().into_bytes()
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`CodecError::Type`] when it is no type.
    pub fn from_json(json: &Json) -> Result<Self, CodecError> {
        let bad = || CodecError::Type(json.to_string());
        match json {
            Json::String(name) => match name.as_str() {
                "bool" => Ok(Self::Bool),
                "number" => Ok(Self::Number),
                "string" => Ok(Self::String),
                "dynamic" => Ok(Self::Dynamic),
                _ => Err(bad()),
            },
            Json::Array(parts) => match parts.as_slice() {
                [Json::String(kind), Json::Array(elements)] if kind == "tuple" => elements
                    .iter()
                    .map(Self::from_json)
                    .collect::<Result<_, _>>()
                    .map(Self::Tuple),
                [Json::String(kind), Json::Object(members), rest @ ..]
                    if kind == "object" && rest.len() <= 1 =>
                {
                    Self::object_from_json(members, rest.first()).ok_or_else(bad)?
                }
                [Json::String(kind), element] => {
                    let element = Box::new(Self::from_json(element)?);
                    match kind.as_str() {
                        "list" => Ok(Self::List(element)),
                        "set" => Ok(Self::Set(element)),
                        "map" => Ok(Self::Map(element)),
                        _ => Err(bad()),
                    }
                }
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }

    /// Reads the JSON form from bytes.
    ///
    /// # Errors
    /// [`CodecError::Type`] when they are no type.
    pub fn from_json_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let json = serde_json::from_slice(bytes)
            .map_err(|_| CodecError::Type(String::from_utf8_lossy(bytes).into_owned()))?;
        Self::from_json(&json)
    }

    fn object_from_json(
        members: &serde_json::Map<String, Json>,
        optional: Option<&Json>,
    ) -> Option<Result<Self, CodecError>> {
        let optional = match optional {
            None => BTreeSet::new(),
            Some(Json::Array(names)) => names
                .iter()
                .map(|n| n.as_str().map(str::to_owned))
                .collect::<Option<BTreeSet<_>>>()?,
            Some(_) => return None,
        };
        let attributes: Result<_, _> = members
            .iter()
            .map(|(name, ty)| Ok((name.clone(), Self::from_json(ty)?)))
            .collect();
        Some(attributes.map(|attributes| Self::Object {
            attributes,
            optional,
        }))
    }

    /// True when a value of this type may hold a dynamic part.
    #[must_use]
    pub fn has_dynamic(&self) -> bool {
        match self {
            Self::Dynamic => true,
            Self::Bool | Self::Number | Self::String => false,
            Self::List(element) | Self::Set(element) | Self::Map(element) => element.has_dynamic(),
            Self::Tuple(elements) => elements.iter().any(Self::has_dynamic),
            Self::Object { attributes, .. } => attributes.values().any(Self::has_dynamic),
        }
    }
}

/// The name people know: `list of string`, `object`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Number => f.write_str("number"),
            Self::String => f.write_str("string"),
            Self::Dynamic => f.write_str("dynamic"),
            Self::List(element) => write!(f, "list of {element}"),
            Self::Set(element) => write!(f, "set of {element}"),
            Self::Map(element) => write!(f, "map of {element}"),
            Self::Tuple(_) => f.write_str("tuple"),
            Self::Object { .. } => f.write_str("object"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_survive_their_json() {
        let inner = Type::object([("a", Type::Number), ("b", Type::set(Type::Dynamic))]);
        let Type::Object { attributes, .. } = inner.clone() else {
            unreachable!("an object")
        };
        let optional = Type::Object {
            attributes,
            optional: ["b".to_owned()].into(),
        };
        for ty in [
            Type::map(Type::Bool),
            Type::Tuple(vec![Type::String, inner.clone()]),
            inner,
            optional,
        ] {
            assert_eq!(Type::from_json_bytes(&ty.to_json_bytes()), Ok(ty));
        }
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for text in [
            "\"int\"",
            "[\"list\"]",
            "[\"bag\",\"string\"]",
            "{}",
            "[\"object\",{},[1]]",
            "x",
        ] {
            assert!(Type::from_json_bytes(text.as_bytes()).is_err(), "{text}");
        }
    }
}
