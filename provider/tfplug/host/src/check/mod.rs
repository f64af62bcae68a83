//! Terraform core's rules as pure functions: schema and values in, broken rules out.
//!
//! Each rule has a number from the protocol's checklist and a test that a violating value is caught. Nothing here talks
//! to a provider.

use std::fmt;

pub mod apply;
#[cfg(test)]
pub(crate) mod fixture;
pub mod plan;
pub mod result;
pub mod schema;
pub mod value;

/// One rule that Terraform core enforces on providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A configured attribute is planned as configured, or as it was.
    P1,
    /// An attribute that is not computed and not configured is planned null.
    P2,
    /// A configured value is never planned unknown.
    P3,
    /// Planned null if and only if the configuration is null.
    P4,
    /// Nested blocks and objects: as many as configured, under the same keys, never unknown, never null.
    P5,
    /// Every path that requires replacement exists.
    P6,
    /// The plan to destroy is null.
    P7,
    /// Write-only attributes are planned null.
    P8,
    /// The plan made again at apply keeps every known value and the action.
    P9,
    /// Known planned values survive apply unchanged; unknown ones become known, of the same type.
    A1,
    /// Nothing is unknown after apply.
    A2,
    /// Null after apply means destroyed, and only that.
    A3,
    /// Destroying returns null.
    A4,
    /// Write-only attributes are null after apply.
    A5,
    /// Set elements after apply correlate with the planned ones.
    A6,
    /// A read object has the schema's type, nothing unknown, write-only null.
    R1,
    /// An upgraded state has the schema's type and nothing unknown.
    U1,
    /// A moved state has the schema's type and nothing unknown.
    M1,
    /// An imported object has the schema's type, nothing unknown, and can be read.
    I1,
    /// A data source's result is known, not null, and repeats its configuration.
    D1,
    /// An ephemeral result has the schema's type, is known, and repeats its configuration.
    E1,
    /// A function is pure and its result has the declared type.
    F1,
    /// An identity is known, fits its schema, and never changes.
    ID1,
    /// The schema itself is sound.
    S1,
    /// Everything that people read about has a description. Terraform does not ask for it; its registry's readers do.
    DOC,
    /// After apply, refresh and plan have nothing to do.
    NOOP,
    /// Nothing is deferred without the client's leave, and the legacy type system is never asked for.
    PROTO,
    /// Bad input gives exactly one error, at the attribute at fault.
    INPUT,
    /// A diagnostic has a severity, a summary and a path that exists. Terraform tolerates the contrary and points at
    /// nothing.
    DIAG,
    /// Stderr holds log entries only, stdout the handshake only.
    LOG,
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// Where, such as `autoscaling[0].min`; empty for the whole object.
    pub path: String,
    /// What is wrong, in Terraform's terms.
    pub message: String,
}

// === impl Rule ===

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

// === impl Violation ===

impl Violation {
    pub(crate) fn new(rule: Rule, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            rule,
            path: path.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.path.is_empty() {
            "(whole object)"
        } else {
            &self.path
        };
        write!(f, "{} at {place}: {}", self.rule, self.message)
    }
}

/// `path.name`, or `name` at the root.
pub(crate) fn child(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}
