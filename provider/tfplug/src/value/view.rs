//! Typed reading of values, with diagnostics that point at the right attribute.

use super::{Number, Value};
use crate::diag::Diagnostic;
use crate::path::Path;

/// A value and the way that led to it.
///
/// `str()`, `i64()`, .. want a known, non-null value; `opt_str()`, .. take null as `None`.
/// Both refuse an unknown value, which never turns into a default; [`known`](View::known) tells
/// the three apart where unknown is legitimate (validate and plan).
#[derive(Debug, Clone)]
pub struct View<'a> {
    value: &'a Value,
    path: Path,
}

/// A value that may not be there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known<T> {
    /// Absent.
    Null,
    /// Known only after apply.
    Unknown,
    /// Here it is.
    Value(T),
}

// === impl Known ===

impl<T> Known<T> {
    /// The value; `None` for null and unknown alike.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Null | Self::Unknown => None,
        }
    }

    /// The value turned into another.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Known<U> {
        match self {
            Self::Null => Known::Null,
            Self::Unknown => Known::Unknown,
            Self::Value(value) => Known::Value(f(value)),
        }
    }
}

// === impl View ===

macro_rules! readers {
    ($($(#[$doc:meta])* $name:ident, $opt:ident: $out:ty, $what:literal, $get:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// A diagnostic at this path when the value is null, unknown or something else.
        pub fn $name(&self) -> Result<$out, Diagnostic> {
            self.$opt()?.ok_or_else(|| self.missing($what))
        }

        #[doc = concat!("Like [`", stringify!($name), "`](Self::", stringify!($name), "), with null as `None`.")]
        ///
        /// # Errors
        /// A diagnostic at this path when the value is unknown or something else.
        pub fn $opt(&self) -> Result<Option<$out>, Diagnostic> {
            if self.value.is_null() {
                return Ok(None);
            }
            let get: fn(&'a Value) -> Option<$out> = $get;
            get(self.value).map(Some).ok_or_else(|| self.unfit($what))
        }
    )*};
}

impl<'a> View<'a> {
    /// A value at a path.
    #[must_use]
    pub fn new(value: &'a Value, path: Path) -> Self {
        Self { value, path }
    }

    /// The value itself.
    #[must_use]
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// The way that led here.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An attribute or block of this object, by the rules of [`Value::get`].
    #[must_use]
    pub fn attr(&self, name: &str) -> View<'a> {
        View::new(self.value.get(name), self.path.attr(name))
    }

    /// The elements of a list, set or tuple. The path to an element of a set is that of the set.
    #[must_use]
    pub fn elements(&self) -> Vec<View<'a>> {
        let set = matches!(self.value, Value::Set(_));
        let path = |i| {
            if set {
                self.path.clone()
            } else {
                self.path.index(i)
            }
        };
        self.value
            .elements()
            .iter()
            .enumerate()
            .map(|(i, v)| View::new(v, path(i)))
            .collect()
    }

    /// The entries of a map.
    #[must_use]
    pub fn entries(&self) -> Vec<(&'a str, View<'a>)> {
        let members = self.value.members().into_iter().flatten();
        members
            .map(|(k, v)| (k.as_str(), View::new(v, self.path.key(k))))
            .collect()
    }

    /// True for null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.value.is_null()
    }

    /// True when the value as such is unknown.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.value.is_unknown()
    }

    /// Null, unknown or known, where unknown is legitimate.
    #[must_use]
    pub fn known(&self) -> Known<View<'a>> {
        if self.value.is_null() {
            Known::Null
        } else if self.value.is_unknown() {
            Known::Unknown
        } else {
            Known::Value(self.clone())
        }
    }

    /// This view unless the value is null.
    #[must_use]
    pub fn non_null(&self) -> Option<View<'a>> {
        (!self.value.is_null()).then(|| self.clone())
    }

    /// An error at this path.
    pub fn error(&self, summary: impl Into<String>, detail: impl Into<String>) -> Diagnostic {
        Diagnostic::error(summary, detail).at(self.path.clone())
    }

    readers! {
        /// The text.
        str, opt_str: &'a str, "a string", |v| v.as_str();
        /// The flag.
        bool, opt_bool: bool, "a bool", |v| v.as_bool();
        /// The integer, never through a float.
        i64, opt_i64: i64, "a whole number", |v| v.as_i64();
        /// The natural number, never through a float.
        u64, opt_u64: u64, "a whole number of at least 0", |v| v.as_u64();
        /// The natural number, if it fits 32 bits.
        u32, opt_u32: u32, "a whole number from 0 to 4294967295", |v| v.as_u64()?.try_into().ok();
        /// The nearest float.
        f64, opt_f64: f64, "a number", |v| v.as_f64();
        /// The exact decimal.
        number, opt_number: &'a Number, "a number", |v| v.as_number();
    }

    fn missing(&self, wanted: &str) -> Diagnostic {
        self.error(
            format!("Missing value for {}", self.path),
            format!("Expected {wanted}, got null."),
        )
    }

    fn unfit(&self, wanted: &str) -> Diagnostic {
        let got = if self.value.is_unknown() {
            "a value that is known only after apply".to_owned()
        } else {
            self.value.to_string()
        };
        self.error(
            format!("Invalid value for {}", self.path),
            format!("Expected {wanted}, got {got}."),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_unknown_and_known_are_told_apart() {
        let v = Value::object([
            ("a", Value::Null),
            ("b", Value::unknown()),
            ("c", Value::from(5)),
        ]);
        let v = v.view();
        assert_eq!(v.attr("a").opt_i64(), Ok(None));
        assert_eq!(v.attr("c").opt_i64(), Ok(Some(5)));
        assert_eq!(v.attr("b").known().map(|_| ()), Known::Unknown);
        let problem = v
            .attr("b")
            .opt_i64()
            .expect_err("unknown is never a default");
        assert_eq!(problem.path, Some(Path::root("b")));
        assert!(
            problem.detail.contains("known only after apply"),
            "{}",
            problem.detail
        );
        assert!(v.attr("a").i64().is_err());
    }

    #[test]
    fn problems_point_into_lists_and_maps() {
        let v = Value::object([
            ("l", Value::list([Value::from("x")])),
            ("m", Value::map([("k", "y")])),
        ]);
        let v = v.view();
        assert_eq!(
            v.attr("l").elements()[0].i64().expect_err("text").path,
            Some(Path::root("l").index(0))
        );
        let (_, entry) = &v.attr("m").entries()[0];
        assert_eq!(
            entry.bool().expect_err("text").path,
            Some(Path::root("m").key("k"))
        );
    }
}
