//! Checks of single values. Null and unknown values are never checked.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::parse_duration;
use crate::diag::{Diagnostic, Diagnostics};
use crate::path::Path;
use crate::value::{Number, Value};

type Check = dyn Fn(&Value, &Path, &mut Diagnostics) + Send + Sync;

/// A check of one value with a sentence that says what is wanted.
#[derive(Clone)]
pub struct Validator {
    description: String,
    check: Arc<Check>,
}

// === impl Validator ===

impl Validator {
    /// A check with a description such as "at most 63 characters"; true is good.
    pub fn new(
        description: impl Into<String>,
        good: impl Fn(&Value) -> bool + Send + Sync + 'static,
    ) -> Self {
        let description = description.into();
        let wanted = description.clone();
        let check = move |value: &Value, path: &Path, out: &mut Diagnostics| {
            if !good(value) {
                out.push(complaint(path, &wanted, value));
            }
        };
        Self {
            description,
            check: Arc::new(check),
        }
    }

    /// A check that explains itself: `Err` holds the reason.
    pub fn explained(
        description: impl Into<String>,
        check: impl Fn(&Value) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let check = move |value: &Value, path: &Path, out: &mut Diagnostics| {
            if let Err(reason) = check(value) {
                out.push(
                    Diagnostic::error(format!("Invalid value for {path}"), reason).at(path.clone()),
                );
            }
        };
        Self {
            description: description.into(),
            check: Arc::new(check),
        }
    }

    /// What is wanted.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Checks a value at a path; null and unknown are passed over.
    pub fn check(&self, value: &Value, path: &Path, out: &mut Diagnostics) {
        if !value.is_null() && !value.is_unknown() {
            (self.check)(value, path, out);
        }
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Validator({:?})", self.description)
    }
}

fn complaint(path: &Path, wanted: &str, value: &Value) -> Diagnostic {
    Diagnostic::error(
        format!("Invalid value for {path}"),
        format!("Expected {wanted}, got {value}."),
    )
    .at(path.clone())
}

/// A whole number of 64 bits.
#[must_use]
pub fn whole() -> Validator {
    Validator::new("a whole number of at most 64 bits", |v| {
        v.as_i64().is_some()
    })
}

/// Text of so many characters.
#[must_use]
pub fn length(range: RangeInclusive<usize>) -> Validator {
    let wanted = format!("{} to {} characters", range.start(), range.end());
    Validator::new(wanted, move |v| {
        v.as_str()
            .is_some_and(|s| range.contains(&s.chars().count()))
    })
}

/// A list, set or map of so many elements.
#[must_use]
pub fn size(range: RangeInclusive<usize>) -> Validator {
    let wanted = format!("{} to {} elements", range.start(), range.end());
    Validator::new(wanted, move |v| {
        range.contains(
            &v.members()
                .map_or_else(|| v.elements().len(), std::collections::BTreeMap::len),
        )
    })
}

/// One of these texts.
#[must_use]
pub fn one_of<S: Into<String>>(choices: impl IntoIterator<Item = S>) -> Validator {
    let choices: Vec<String> = choices.into_iter().map(Into::into).collect();
    let quoted: Vec<String> = choices.iter().map(|c| format!("{c:?}")).collect();
    Validator::new(format!("one of {}", quoted.join(", ")), move |v| {
        v.as_str().is_some_and(|s| choices.iter().any(|c| c == s))
    })
}

/// A number in a range, both ends included.
#[must_use]
pub fn between(min: impl Into<Number>, max: impl Into<Number>) -> Validator {
    let (min, max) = (min.into(), max.into());
    let wanted = format!("a number from {min} to {max}");
    Validator::new(wanted, move |v| {
        v.as_number().is_some_and(|n| *n >= min && *n <= max)
    })
}

/// A number of at least this.
#[must_use]
pub fn at_least(min: impl Into<Number>) -> Validator {
    let min = min.into();
    Validator::new(format!("a number of at least {min}"), move |v| {
        v.as_number().is_some_and(|n| *n >= min)
    })
}

/// A number of at most this.
#[must_use]
pub fn at_most(max: impl Into<Number>) -> Validator {
    let max = max.into();
    Validator::new(format!("a number of at most {max}"), move |v| {
        v.as_number().is_some_and(|n| *n <= max)
    })
}

/// Text for which `good` is true; the description says what it looks like.
#[must_use]
pub fn pattern(
    description: impl Into<String>,
    good: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Validator {
    Validator::new(description, move |v| v.as_str().is_some_and(&good))
}

/// Text that `parse` accepts; its error is shown to the user.
#[must_use]
pub fn parses<T, E: fmt::Display>(
    description: impl Into<String>,
    parse: impl Fn(&str) -> Result<T, E> + Send + Sync + 'static,
) -> Validator {
    Validator::explained(description, move |v| match v.as_str() {
        Some(text) => parse(text).map(drop).map_err(|e| format!("{e}.")),
        None => Err("Expected text.".to_owned()),
    })
}

/// A duration such as `90s`, `10m` or `1h30m`.
#[must_use]
pub fn duration() -> Validator {
    parses("a duration such as `90s`, `10m` or `1h30m`", parse_duration)
}

/// Every element of a list, set or map passes this check; problems point at the element.
#[must_use]
pub fn each(element: Validator) -> Validator {
    let description = format!("each element: {}", element.description);
    let check = move |value: &Value, path: &Path, out: &mut Diagnostics| {
        let set = matches!(value, Value::Set(_));
        for (i, v) in value.elements().iter().enumerate() {
            element.check(v, &if set { path.clone() } else { path.index(i) }, out);
        }
        for (key, v) in value.members().into_iter().flatten() {
            element.check(v, &path.key(key), out);
        }
    };
    Validator {
        description,
        check: Arc::new(check),
    }
}

/// Every key of a map passes this check of texts; problems point at the entry.
#[must_use]
pub fn each_key(key: Validator) -> Validator {
    let description = format!("each key: {}", key.description);
    let check = move |value: &Value, path: &Path, out: &mut Diagnostics| {
        for name in value
            .members()
            .into_iter()
            .flat_map(std::collections::BTreeMap::keys)
        {
            key.check(&Value::from(name.as_str()), &path.key(name), out);
        }
    };
    Validator {
        description,
        check: Arc::new(check),
    }
}

/// A list without repetitions; unknown elements may still differ.
#[must_use]
pub fn unique() -> Validator {
    Validator::new("distinct elements", |v| {
        let elements = v.elements();
        let twice = |i: usize, v: &Value| v.is_wholly_known() && elements[..i].contains(v);
        !elements.iter().enumerate().any(|(i, v)| twice(i, v))
    })
}
