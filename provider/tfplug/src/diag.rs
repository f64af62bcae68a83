//! What the person at the keyboard is told: problems with a severity, a detail and a place.

use std::error::Error;

use crate::path::Path;
use crate::proto::tfplugin6 as pb;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Terraform stops.
    Error,
    /// Terraform goes on.
    Warning,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// One line: what went wrong.
    pub summary: String,
    /// The value, the reason and what to do about it; may be empty.
    pub detail: String,
    /// The attribute at fault; `None` points at the whole block.
    pub path: Option<Path>,
}

/// Any number of problems, in the order in which they were found, none twice.
///
/// Any `std::error::Error` turns into one error with `?`; its sources become the detail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

/// Gives an error a summary that says what was tried.
pub trait OrDiag<T> {
    /// The value, or one error diagnostic with this summary and the error's whole chain as detail.
    ///
    /// # Errors
    /// When `self` is an error.
    fn or_diag(self, summary: impl Into<String>) -> Result<T, Diagnostics>;
}

// === impl Diagnostic ===

impl Diagnostic {
    /// An error about the whole block.
    pub fn error(summary: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            summary: summary.into(),
            detail: detail.into(),
            path: None,
        }
    }

    /// A warning about the whole block.
    pub fn warning(summary: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(summary, detail)
        }
    }

    /// The same problem, at this place.
    #[must_use]
    pub fn at(mut self, path: impl Into<Path>) -> Self {
        let path = path.into();
        self.path = (!path.is_empty()).then_some(path);
        self
    }

    /// The wire form.
    #[must_use]
    pub fn to_proto(&self) -> pb::Diagnostic {
        let severity = match self.severity {
            Severity::Error => pb::diagnostic::Severity::Error,
            Severity::Warning => pb::diagnostic::Severity::Warning,
        };
        pb::Diagnostic {
            severity: severity.into(),
            summary: self.summary.clone(),
            detail: self.detail.clone(),
            attribute: self.path.as_ref().map(Path::to_proto),
        }
    }
}

// === impl Diagnostics ===

impl Diagnostics {
    /// No problem at all.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a problem unless the very same one is there already.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if !self.0.contains(&diagnostic) {
            self.0.push(diagnostic);
        }
    }

    /// Adds an error about the whole block.
    pub fn error(&mut self, summary: impl Into<String>, detail: impl Into<String>) {
        self.push(Diagnostic::error(summary, detail));
    }

    /// Adds an error about one attribute.
    pub fn error_at(
        &mut self,
        path: impl Into<Path>,
        summary: impl Into<String>,
        detail: impl Into<String>,
    ) {
        self.push(Diagnostic::error(summary, detail).at(path));
    }

    /// Adds a warning about the whole block.
    pub fn warn(&mut self, summary: impl Into<String>, detail: impl Into<String>) {
        self.push(Diagnostic::warning(summary, detail));
    }

    /// Adds a warning about one attribute.
    pub fn warn_at(
        &mut self,
        path: impl Into<Path>,
        summary: impl Into<String>,
        detail: impl Into<String>,
    ) {
        self.push(Diagnostic::warning(summary, detail).at(path));
    }

    /// Adds all problems of another list.
    pub fn extend(&mut self, others: impl IntoIterator<Item = Diagnostic>) {
        others.into_iter().for_each(|d| self.push(d));
    }

    /// True when Terraform has to stop.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.severity == Severity::Error)
    }

    /// True when there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many problems there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The problems in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// `Ok` unless there is an error; warnings alone stay in `self`.
    ///
    /// # Errors
    /// All problems, when one of them is an error.
    pub fn into_result(self) -> Result<Self, Self> {
        if self.has_errors() {
            Err(self)
        } else {
            Ok(self)
        }
    }

    pub(crate) fn to_proto(&self) -> Vec<pb::Diagnostic> {
        self.0.iter().map(Diagnostic::to_proto).collect()
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(iter: I) -> Self {
        let mut all = Self::new();
        all.extend(iter);
        all
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl<E: Error> From<E> for Diagnostics {
    fn from(error: E) -> Self {
        Diagnostic::error(error.to_string(), sources(&error)).into()
    }
}

impl<T, E: Error> OrDiag<T> for Result<T, E> {
    fn or_diag(self, summary: impl Into<String>) -> Result<T, Diagnostics> {
        self.map_err(|error| {
            let causes = sources(&error);
            let detail = if causes.is_empty() {
                error.to_string()
            } else {
                format!("{error}: {causes}")
            };
            Diagnostic::error(summary, detail).into()
        })
    }
}

/// The causes of an error, outermost first, joined by colons; empty when it has none.
fn sources(error: &dyn Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_problem_is_told_once() {
        let mut all = Diagnostics::new();
        all.error_at("a", "bad", "x");
        all.error_at("a", "bad", "x");
        all.warn("odd", "");
        assert_eq!(all.len(), 2);
        assert!(all.has_errors());
    }

    #[test]
    fn an_error_keeps_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot launch pool a")]
        struct Launch(#[source] std::io::Error);
        let error = Launch(std::io::Error::other("disk full"));
        let all = Diagnostics::from(error);
        let first = all.iter().next().expect("one problem");
        assert_eq!(
            (first.summary.as_str(), first.detail.as_str()),
            ("cannot launch pool a", "disk full")
        );
    }
}
