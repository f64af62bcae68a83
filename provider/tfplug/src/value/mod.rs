//! Values: what Terraform sends and stores, without loss.

mod access;
mod compare;
mod json;
mod msgpack;
mod number;
mod refine;
mod types;
mod view;

use std::collections::BTreeMap;

pub use compare::nfc_eq;
pub use json::Missing;
pub use number::{MAX_DIGITS, MAX_EXPONENT, Number, NumberError};
pub use refine::Refinements;
pub use types::Type;
pub use view::{Known, View};

use crate::path::Path;

/// A value of some [`Type`]. The type itself travels beside it, in the schema.
///
/// Equality is Terraform's: text is compared after NFC normalisation, sets without order and
/// duplicates, numbers exactly, and any unknown equals any other unknown.
#[derive(Clone, Default)]
pub enum Value {
    /// Absent. Not the same as empty.
    #[default]
    Null,
    /// Known only after apply; with what is known about it so far.
    Unknown(Option<Box<Refinements>>),
    /// True or false.
    Bool(bool),
    /// Text, as the user or the API wrote it.
    String(String),
    /// An exact decimal.
    Number(Number),
    /// Elements in order.
    List(Vec<Value>),
    /// Elements without order; duplicates merge.
    Set(Vec<Value>),
    /// Elements of their own types, in order.
    Tuple(Vec<Value>),
    /// Elements by key.
    Map(BTreeMap<String, Value>),
    /// Attributes and blocks by name; every one present, the absent ones null.
    Object(BTreeMap<String, Value>),
    /// A value of a dynamic attribute, with its actual type.
    Dynamic(Type, Box<Value>),
}

/// Why bytes are no value, or a value no bytes. Always a defect of the sender or of a handler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Bytes end early, continue too long or are no msgpack.
    #[error("malformed msgpack: {0}")]
    Msgpack(&'static str),
    /// Text is no JSON.
    #[error("malformed JSON: {0}")]
    Json(String),
    /// No type expression.
    #[error("{0} is not a type")]
    Type(String),
    /// The value does not fit its type.
    #[error("{at}: expected {expected}, got {got}", at = place(path))]
    Mismatch {
        /// Where.
        path: Path,
        /// The type's name.
        expected: String,
        /// What was there.
        got: String,
    },
    /// An object lacks an attribute of its type.
    #[error("{at}: attribute {name:?} is missing; absent attributes have to be null", at = place(path))]
    MissingAttribute {
        /// The object.
        path: Path,
        /// What is missing.
        name: String,
    },
    /// An object has an attribute that its type lacks.
    #[error("{at}: unexpected attribute {name:?}", at = place(path))]
    UnexpectedAttribute {
        /// The object.
        path: Path,
        /// What is too much.
        name: String,
    },
    /// A number out of bounds.
    #[error("{at}: {error}", at = place(path))]
    Number {
        /// Where.
        path: Path,
        /// Why.
        error: NumberError,
    },
}

fn place(path: &Path) -> String {
    if path.is_empty() {
        "the value".to_owned()
    } else {
        path.to_string()
    }
}

// === impl Value ===

impl Value {
    /// Unknown, nothing more to say.
    #[must_use]
    pub const fn unknown() -> Self {
        Self::Unknown(None)
    }

    /// A list.
    pub fn list<V: Into<Value>>(elements: impl IntoIterator<Item = V>) -> Self {
        Self::List(elements.into_iter().map(Into::into).collect())
    }

    /// A set; duplicates merge.
    pub fn set_of<V: Into<Value>>(elements: impl IntoIterator<Item = V>) -> Self {
        let mut elements: Vec<Value> = elements.into_iter().map(Into::into).collect();
        compare::sort_set(&mut elements);
        Self::Set(elements)
    }

    /// A map.
    pub fn map<K: Into<String>, V: Into<Value>>(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(
            entries
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
        )
    }

    /// An object.
    pub fn object<K: Into<String>, V: Into<Value>>(
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        Self::Object(
            entries
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
        )
    }

    /// A value for a dynamic attribute.
    pub fn dynamic(ty: Type, value: impl Into<Value>) -> Self {
        Self::Dynamic(ty, Box::new(value.into()))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Number> for Value {
    fn from(value: Number) -> Self {
        Self::Number(value)
    }
}

macro_rules! from_integers {
    ($($int:ty),*) => {$(
        impl From<$int> for Value {
            fn from(value: $int) -> Self {
                Self::Number(value.into())
            }
        }
    )*};
}
from_integers!(i32, u32, i64, u64);

/// `None` is null.
impl<V: Into<Value>> From<Option<V>> for Value {
    fn from(value: Option<V>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A list.
impl<V: Into<Value>> From<Vec<V>> for Value {
    fn from(elements: Vec<V>) -> Self {
        Self::list(elements)
    }
}

/// A map.
impl<V: Into<Value>> From<BTreeMap<String, V>> for Value {
    fn from(entries: BTreeMap<String, V>) -> Self {
        Self::map(entries)
    }
}
