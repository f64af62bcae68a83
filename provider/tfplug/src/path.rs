//! Where in a value something is: attribute names, map keys and list indices.

use std::fmt;

use crate::proto::tfplugin6 as pb;

/// One step down into a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// An attribute or block of an object.
    Attribute(String),
    /// An element of a map.
    Key(String),
    /// An element of a list or tuple, counted from 0.
    Index(i64),
}

/// A way from the root of a value to one of its parts; empty means the value itself.
///
/// The protocol has no step for an element of a set: a path to one ends at the set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Vec<Step>);

// === impl Path ===

impl Path {
    /// The value itself.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// A top-level attribute or block.
    #[must_use]
    pub fn root(name: impl Into<String>) -> Self {
        Self(vec![Step::Attribute(name.into())])
    }

    /// This path and one attribute more.
    #[must_use]
    pub fn attr(&self, name: impl Into<String>) -> Self {
        self.step(Step::Attribute(name.into()))
    }

    /// This path and one map key more.
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        self.step(Step::Key(key.into()))
    }

    /// This path and one list index more, counted from 0.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.step(Step::Index(i64::try_from(index).unwrap_or(i64::MAX)))
    }

    /// This path and one step more.
    #[must_use]
    pub fn step(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// This path followed by another.
    #[must_use]
    pub fn join(&self, tail: &Path) -> Self {
        let mut steps = self.0.clone();
        steps.extend(tail.0.iter().cloned());
        Self(steps)
    }

    /// The steps, outermost first.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// True for the path to the value itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn to_proto(&self) -> pb::AttributePath {
        use pb::attribute_path::{Step as PbStep, step::Selector};
        let steps = self.0.iter().map(|step| PbStep {
            selector: Some(match step {
                Step::Attribute(name) => Selector::AttributeName(name.clone()),
                Step::Key(key) => Selector::ElementKeyString(key.clone()),
                Step::Index(index) => Selector::ElementKeyInt(*index),
            }),
        });
        pb::AttributePath {
            steps: steps.collect(),
        }
    }

    /// The path in a protocol message; steps without a selector are skipped.
    #[must_use]
    pub fn from_proto(path: &pb::AttributePath) -> Self {
        use pb::attribute_path::step::Selector;
        let steps = path.steps.iter().filter_map(|step| step.selector.as_ref());
        Self(
            steps
                .map(|selector| match selector {
                    Selector::AttributeName(name) => Step::Attribute(name.clone()),
                    Selector::ElementKeyString(key) => Step::Key(key.clone()),
                    Selector::ElementKeyInt(index) => Step::Index(*index),
                })
                .collect(),
        )
    }
}

/// A top-level name, or names separated by dots: `"local.simulate"`.
impl From<&str> for Path {
    fn from(dotted: &str) -> Self {
        Self(
            dotted
                .split('.')
                .filter(|s| !s.is_empty())
                .map(|s| Step::Attribute(s.to_owned()))
                .collect(),
        )
    }
}

/// As a person would write it in HCL: `rule[0].labels["a"]`; empty for the value itself.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Attribute(name) if i == 0 => write!(f, "{name}")?,
                Step::Attribute(name) => write!(f, ".{name}")?,
                Step::Key(key) => write!(f, "[{key:?}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_prints_as_hcl_and_survives_the_wire() {
        let path = Path::root("rule").index(2).attr("labels").key("a b");
        assert_eq!(path.to_string(), r#"rule[2].labels["a b"]"#);
        assert_eq!(Path::from_proto(&path.to_proto()), path);
        assert_eq!(
            Path::from("local.simulate"),
            Path::root("local").attr("simulate")
        );
    }
}
