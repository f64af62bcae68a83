//! Rules about several attributes of a configuration.

use std::fmt;
use std::sync::Arc;

use crate::diag::{Diagnostic, Diagnostics};
use crate::path::Path;
use crate::value::Value;

/// A rule about a whole configuration with a sentence that says what is wanted.
#[derive(Clone)]
pub struct ConfigValidator {
    description: String,
    check: Arc<dyn Fn(&Value) -> Diagnostics + Send + Sync>,
}

/// How a configuration stands to a list of attributes.
struct Presence<'p> {
    set: Vec<&'p Path>,
    unknown: bool,
}

// === impl ConfigValidator ===

impl ConfigValidator {
    /// A rule of one's own; unknown values have to be passed over.
    pub fn new(
        description: impl Into<String>,
        check: impl Fn(&Value) -> Diagnostics + Send + Sync + 'static,
    ) -> Self {
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

    /// The problems of a configuration.
    #[must_use]
    pub fn check(&self, config: &Value) -> Diagnostics {
        (self.check)(config)
    }
}

impl fmt::Debug for ConfigValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigValidator({:?})", self.description)
    }
}

/// Exactly one of these attributes or blocks is set. Names with dots lead into nested ones.
#[must_use]
pub fn exactly_one_of<'n>(names: impl IntoIterator<Item = &'n str>) -> ConfigValidator {
    let (paths, listed) = paths(names);
    ConfigValidator::new(format!("exactly one of {listed}"), move |config| {
        let found = presence(config, &paths);
        match found.set.as_slice() {
            [] if found.unknown => Diagnostics::new(),
            [] => Diagnostic::error(
                "Missing attribute",
                format!("Exactly one of {listed} has to be set."),
            )
            .into(),
            [_] => Diagnostics::new(),
            [_, second, ..] => too_many(second, &listed),
        }
    })
}

/// At least one of these attributes or blocks is set.
#[must_use]
pub fn at_least_one_of<'n>(names: impl IntoIterator<Item = &'n str>) -> ConfigValidator {
    let (paths, listed) = paths(names);
    ConfigValidator::new(format!("at least one of {listed}"), move |config| {
        let found = presence(config, &paths);
        if found.set.is_empty() && !found.unknown {
            Diagnostic::error(
                "Missing attribute",
                format!("At least one of {listed} has to be set."),
            )
            .into()
        } else {
            Diagnostics::new()
        }
    })
}

/// At most one of these attributes or blocks is set.
#[must_use]
pub fn conflicts_with<'n>(names: impl IntoIterator<Item = &'n str>) -> ConfigValidator {
    let (paths, listed) = paths(names);
    ConfigValidator::new(
        format!("at most one of {listed}"),
        move |config| match presence(config, &paths).set.as_slice() {
            [_, second, ..] => too_many(second, &listed),
            _ => Diagnostics::new(),
        },
    )
}

/// All of these attributes or blocks are set, or none.
#[must_use]
pub fn required_with<'n>(names: impl IntoIterator<Item = &'n str>) -> ConfigValidator {
    let (paths, listed) = paths(names);
    ConfigValidator::new(format!("all or none of {listed}"), move |config| {
        let found = presence(config, &paths);
        let Some(first) = found.set.first() else {
            return Diagnostics::new();
        };
        if found.unknown || found.set.len() == paths.len() {
            return Diagnostics::new();
        }
        let missing: Vec<String> = paths
            .iter()
            .filter(|p| !found.set.contains(p))
            .map(|p| format!("`{p}`"))
            .collect();
        let detail = format!("`{first}` needs {} to be set, too.", missing.join(", "));
        Diagnostic::error("Missing attribute", detail)
            .at((*first).clone())
            .into()
    })
}

fn too_many(second: &Path, listed: &str) -> Diagnostics {
    let detail = format!("Only one of {listed} may be set; remove `{second}` or the others.");
    Diagnostic::error("Conflicting attributes", detail)
        .at(second.clone())
        .into()
}

fn paths<'n>(names: impl IntoIterator<Item = &'n str>) -> (Vec<Path>, String) {
    let paths: Vec<Path> = names.into_iter().map(Path::from).collect();
    let listed: Vec<String> = paths.iter().map(|p| format!("`{p}`")).collect();
    (paths, listed.join(", "))
}

/// A block counts as set when it is written at least once.
fn presence<'p>(config: &Value, paths: &'p [Path]) -> Presence<'p> {
    let mut found = Presence {
        set: Vec::new(),
        unknown: false,
    };
    for path in paths {
        match config.at(path) {
            Value::Unknown(_) => found.unknown = true,
            Value::Null => {}
            Value::List(elements) | Value::Set(elements) if elements.is_empty() => {}
            _ => found.set.push(path),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(a: Value, b: Value) -> Value {
        Value::object([("a", a), ("b", b)])
    }

    fn problems(rule: &ConfigValidator, a: Value, b: Value) -> Vec<Option<Path>> {
        rule.check(&config(a, b))
            .into_iter()
            .map(|d| d.path)
            .collect()
    }

    #[test]
    fn rules_point_at_the_attribute_at_fault() {
        let (set, null, unknown) = (|| Value::from(1), || Value::Null, Value::unknown);
        let b = Some(Path::root("b"));
        let exactly = exactly_one_of(["a", "b"]);
        assert_eq!(problems(&exactly, set(), null()), vec![]);
        assert_eq!(problems(&exactly, set(), set()), vec![b.clone()]);
        assert_eq!(problems(&exactly, null(), null()), vec![None]);
        assert_eq!(problems(&exactly, null(), unknown()), vec![]);
        let conflict = conflicts_with(["a", "b"]);
        assert_eq!(problems(&conflict, set(), set()), vec![b.clone()]);
        assert_eq!(problems(&conflict, null(), null()), vec![]);
        let with = required_with(["a", "b"]);
        assert_eq!(problems(&with, null(), set()), vec![b]);
        assert_eq!(problems(&with, unknown(), set()), vec![]);
        assert_eq!(
            problems(&at_least_one_of(["a", "b"]), Value::List(vec![]), null()),
            vec![None]
        );
    }
}
