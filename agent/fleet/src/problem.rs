//! What is wrong with an input, in terms its author can act on.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing wrong with one field: which field, which value, why, and the fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Dotted path of the field inside its object, e.g. `autoscaling.max` or `gpu.model`.
    pub field: String,
    /// The offending value as the author would write it; empty when nothing was given.
    pub value: String,
    /// What is wrong, without the field's name.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

/// Every problem of one input; empty means it is good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems(pub Vec<Problem>);

// === impl Problem ===

impl Problem {
    /// A problem of `field`, holding `value`.
    pub fn new(
        field: impl Into<String>,
        value: impl fmt::Display,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            value: value.to_string(),
            message: message.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.field)?;
        if !self.value.is_empty() {
            write!(f, " = {:?}", self.value)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.fix.is_empty() {
            write!(f, " ({})", self.fix)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

// === impl Problems ===

impl Problems {
    /// Adds a problem of `field`.
    pub fn add(
        &mut self,
        field: impl Into<String>,
        value: impl fmt::Display,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.0.push(Problem::new(field, value, message, fix));
    }

    /// Adds a problem unless `good`.
    pub fn require(
        &mut self,
        good: bool,
        field: &str,
        value: impl fmt::Display,
        message: &str,
        fix: &str,
    ) {
        if !good {
            self.add(field, value, message, fix);
        }
    }

    /// Requires `low <= value <= high`.
    pub fn range<T: PartialOrd + fmt::Display>(&mut self, field: &str, value: T, low: T, high: T) {
        if value < low || value > high {
            let fix = format!("use a value from {low} to {high}");
            self.add(field, value, "is out of range", fix);
        }
    }

    /// `Ok` when nothing is wrong.
    pub fn into_result(self) -> Result<(), Problems> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, p) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{p}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
