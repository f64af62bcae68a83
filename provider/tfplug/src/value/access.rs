//! Looking into values and changing them.

use std::collections::BTreeMap;
use std::fmt;

use super::{Number, Value, View};
use crate::path::{Path, Step};

static NULL: Value = Value::Null;
static UNKNOWN: Value = Value::Unknown(None);

// === impl Value ===

impl Value {
    /// The attribute or map element of this name. Null when absent or when `self` is null;
    /// unknown when `self` is.
    #[must_use]
    pub fn get(&self, name: &str) -> &Value {
        match self {
            Self::Object(members) | Self::Map(members) => members.get(name).unwrap_or(&NULL),
            Self::Unknown(_) => &UNKNOWN,
            Self::Dynamic(_, value) => value.get(name),
            _ => &NULL,
        }
    }

    /// The part at a path, by the rules of [`get`](Self::get).
    #[must_use]
    pub fn at(&self, path: &Path) -> &Value {
        path.steps().iter().fold(self, |value, step| match step {
            Step::Attribute(name) | Step::Key(name) => value.get(name),
            Step::Index(index) => match value {
                Self::Unknown(_) => &UNKNOWN,
                _ => usize::try_from(*index)
                    .ok()
                    .and_then(|i| value.elements().get(i))
                    .unwrap_or(&NULL),
            },
        })
    }

    /// The part at a path, to be changed; `None` when the path leads nowhere.
    pub fn at_mut(&mut self, path: &Path) -> Option<&mut Value> {
        path.steps()
            .iter()
            .try_fold(self, |value, step| match (step, value) {
                (
                    Step::Attribute(name) | Step::Key(name),
                    Self::Object(members) | Self::Map(members),
                ) => members.get_mut(name),
                (Step::Index(index), Self::List(elements) | Self::Tuple(elements)) => {
                    elements.get_mut(usize::try_from(*index).ok()?)
                }
                _ => None,
            })
    }

    /// Sets an attribute. A value that is no object becomes one with this attribute alone,
    /// which the codec then refuses by naming the attributes that are missing.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        if !matches!(self, Self::Object(_)) {
            *self = Self::Object(BTreeMap::new());
        }
        if let Self::Object(members) = self {
            members.insert(name.to_owned(), value.into());
        }
        self
    }

    /// The same object with one attribute set, for building.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets an attribute only when it is unknown, as create does with what it has computed.
    pub fn set_if_unknown(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        if self.get(name).is_unknown() {
            self.set(name, value);
        }
        self
    }

    /// True for null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Dynamic(_, value) => value.is_null(),
            _ => false,
        }
    }

    /// True when the value as such is unknown; parts of a known value may be, too.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Unknown(_) => true,
            Self::Dynamic(_, value) => value.is_unknown(),
            _ => false,
        }
    }

    /// True when neither the value nor any part of it is unknown.
    #[must_use]
    pub fn is_wholly_known(&self) -> bool {
        match self {
            Self::Unknown(_) => false,
            Self::Null | Self::Bool(_) | Self::String(_) | Self::Number(_) => true,
            Self::List(e) | Self::Set(e) | Self::Tuple(e) => e.iter().all(Self::is_wholly_known),
            Self::Map(m) | Self::Object(m) => m.values().all(Self::is_wholly_known),
            Self::Dynamic(_, value) => value.is_wholly_known(),
        }
    }

    /// The same value with null for whatever is unknown.
    #[must_use]
    pub fn unknown_as_null(self) -> Self {
        let all = |e: Vec<Value>| e.into_iter().map(Self::unknown_as_null).collect();
        let each = |m: BTreeMap<String, Value>| {
            m.into_iter()
                .map(|(k, v)| (k, v.unknown_as_null()))
                .collect()
        };
        match self {
            Self::Unknown(_) => Self::Null,
            Self::List(e) => Self::List(all(e)),
            Self::Set(e) => Self::Set(all(e)),
            Self::Tuple(e) => Self::Tuple(all(e)),
            Self::Map(m) => Self::Map(each(m)),
            Self::Object(m) => Self::Object(each(m)),
            Self::Dynamic(ty, value) => Self::Dynamic(ty, Box::new(value.unknown_as_null())),
            known => known,
        }
    }

    /// The text; `None` for null, unknown and other types.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Dynamic(_, value) => value.as_str(),
            _ => None,
        }
    }

    /// The number; `None` for null, unknown and other types.
    #[must_use]
    pub fn as_number(&self) -> Option<&Number> {
        match self {
            Self::Number(number) => Some(number),
            Self::Dynamic(_, value) => value.as_number(),
            _ => None,
        }
    }

    /// The integer; `None` also for fractions and what does not fit.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number()?.as_i64()
    }

    /// The natural number; `None` also for fractions and what does not fit.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number()?.as_u64()
    }

    /// The nearest float.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        self.as_number().map(Number::to_f64)
    }

    /// The flag; `None` for null, unknown and other types.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(*flag),
            Self::Dynamic(_, value) => value.as_bool(),
            _ => None,
        }
    }

    /// The elements of a list, set or tuple; empty for everything else.
    #[must_use]
    pub fn elements(&self) -> &[Value] {
        match self {
            Self::List(elements) | Self::Set(elements) | Self::Tuple(elements) => elements,
            Self::Dynamic(_, value) => value.elements(),
            _ => &[],
        }
    }

    /// The members of a map or object; `None` for everything else.
    #[must_use]
    pub fn members(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Self::Map(members) | Self::Object(members) => Some(members),
            Self::Dynamic(_, value) => value.members(),
            _ => None,
        }
    }

    /// This value with a path, for reading that reports problems at the right place.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View::new(self, Path::empty())
    }
}

/// For people: strings are quoted, unknown is `<unknown>`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Unknown(_) => f.write_str("<unknown>"),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::String(text) => write!(f, "{text:?}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::List(e) | Self::Tuple(e) => list(f, "[", e),
            Self::Set(e) => list(f, "set[", e),
            Self::Map(m) | Self::Object(m) => {
                f.write_str("{")?;
                for (i, (key, value)) in m.iter().enumerate() {
                    write!(f, "{}{key}: {value}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
            Self::Dynamic(_, value) => write!(f, "dynamic {value}"),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, open: &str, elements: &[Value]) -> fmt::Result {
    f.write_str(open)?;
    for (i, value) in elements.iter().enumerate() {
        write!(f, "{}{value}", if i == 0 { "" } else { ", " })?;
    }
    f.write_str("]")
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
