//! What the rules cannot know from a schema: valid and invalid values.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::driver::Action;

/// Everything that [`super::check_provider`] needs beside the schema.
#[derive(Debug, Clone, Default)]
pub struct Fixtures {
    /// A valid provider configuration.
    pub provider: Json,
    /// Bad values for the provider's attributes.
    pub provider_bad: Vec<Bad>,
    /// Provider attributes that take any value of their type.
    pub provider_free: Vec<&'static str>,
    /// Managed resources by type name.
    pub resources: BTreeMap<String, ResourceFixture>,
    /// Data sources by type name.
    pub data_sources: BTreeMap<String, DataSourceFixture>,
    /// Ephemeral resources by type name.
    pub ephemeral: BTreeMap<String, EphemeralFixture>,
    /// Functions by name.
    pub functions: BTreeMap<String, FunctionFixture>,
}

/// One managed resource type.
#[derive(Debug, Clone, Default)]
pub struct ResourceFixture {
    /// A valid configuration; it sets every write-only attribute.
    pub config: Json,
    /// Bad values; every attribute that can be configured is here or in `free`.
    pub bad: Vec<Bad>,
    /// Attributes that take any value of their type, by path: `rule.port` for all elements.
    pub free: Vec<&'static str>,
    /// Whether the environment can create it.
    pub apply: bool,
    /// Changes to make one after the other once it is created.
    pub updates: Vec<Update>,
    /// What to import it by after its creation: `${name}` stands for an attribute's value. `None`: it cannot be imported.
    pub import_id: Option<&'static str>,
    /// Attributes that an import cannot restore.
    pub import_ignore: Vec<&'static str>,
}

/// One data source or ephemeral resource type.
#[derive(Debug, Clone, Default)]
pub struct DataSourceFixture {
    /// A valid configuration.
    pub config: Json,
    /// Bad values, as in [`ResourceFixture::bad`].
    pub bad: Vec<Bad>,
    /// Attributes that take any value, as in [`ResourceFixture::free`].
    pub free: Vec<&'static str>,
    /// Whether the environment can read or open it.
    pub apply: bool,
}

/// One ephemeral resource type: the same as a data source's.
pub type EphemeralFixture = DataSourceFixture;

/// One function.
#[derive(Debug, Clone, Default)]
pub struct FunctionFixture {
    /// Calls that succeed.
    pub calls: Vec<Call>,
    /// Calls that are refused; every parameter is at fault in one of them or stands in `free`.
    pub bad: Vec<BadCall>,
    /// Parameters that take any value of their type.
    pub free: Vec<&'static str>,
}

/// One call of a function.
#[derive(Debug, Clone)]
pub struct Call {
    /// The arguments.
    pub arguments: Vec<Json>,
    /// The result.
    pub result: Json,
}

/// One call of a function that is refused.
#[derive(Debug, Clone)]
pub struct BadCall {
    /// The arguments.
    pub arguments: Vec<Json>,
    /// The argument at fault, counted from 0; `None` when it is all of them together.
    pub at: Option<usize>,
}

/// One bad value.
#[derive(Debug, Clone)]
pub struct Bad {
    /// Where in the valid configuration it is put, with indices: `rule[0].port`.
    pub path: String,
    /// The value.
    pub value: Json,
    /// Where the error is expected; usually `path`.
    pub at: String,
    /// Whether validate cannot know it, so that plan must say it.
    pub at_plan: bool,
}

/// One change.
#[derive(Debug, Clone)]
pub struct Update {
    /// The new configuration.
    pub config: Json,
    /// What Terraform must do about it.
    pub action: Action,
}

// === impl Bad ===

impl Bad {
    /// A bad value at a path, expected to be refused there at validate.
    pub fn new(path: impl Into<String>, value: impl Into<Json>) -> Self {
        let path = path.into();
        Self {
            at: path.clone(),
            path,
            value: value.into(),
            at_plan: false,
        }
    }

    /// The same, with the error expected elsewhere, such as at the attribute that conflicts.
    #[must_use]
    pub fn refused_at(mut self, path: impl Into<String>) -> Self {
        self.at = path.into();
        self
    }

    /// The same, refused only once the plan is made.
    #[must_use]
    pub fn refused_by_plan(mut self) -> Self {
        self.at_plan = true;
        self
    }
}

// === impl Update ===

impl Update {
    /// A change made in place.
    pub fn in_place(config: impl Into<Json>) -> Self {
        Self {
            config: config.into(),
            action: Action::Update,
        }
    }

    /// A change that destroys and creates anew.
    pub fn replace(config: impl Into<Json>) -> Self {
        Self {
            config: config.into(),
            action: Action::Replace,
        }
    }
}

/// Puts `value` at `path` (`rule[0].labels["a"]`) into a JSON configuration, making objects on the way.
pub(crate) fn put(config: &Json, path: &str, value: &Json) -> Json {
    let mut changed = config.clone();
    let mut here = &mut changed;
    for step in steps(path) {
        here = match step.parse::<usize>() {
            Ok(index) => {
                if !here.is_array() {
                    *here = json!([]);
                }
                let Json::Array(all) = here else {
                    return changed;
                };
                while all.len() <= index {
                    all.push(json!({}));
                }
                &mut all[index]
            }
            Err(_) => {
                if !here.is_object() {
                    *here = json!({});
                }
                &mut here[step.as_str()]
            }
        };
    }
    *here = value.clone();
    changed
}

/// `rule[0].labels["a"]` as `rule`, `0`, `labels`, `a`.
fn steps(path: &str) -> Vec<String> {
    path.split(['.', '['])
        .map(|step| step.trim_end_matches(']').trim_matches('"').to_owned())
        .collect()
}

/// `rule[0].port` as `rule.port`: an attribute of the schema.
pub(crate) fn schema_path(path: &str) -> String {
    let mut plain = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if !inside => plain.push(c),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_put_where_the_path_says() {
        let config = json!({"name": "a", "rule": [{"port": 1}]});
        assert_eq!(
            put(&config, "rule[0].port", &json!(0)),
            json!({"name": "a", "rule": [{"port": 0}]})
        );
        assert_eq!(
            put(&config, "tags[\"k\"]", &json!(1))["tags"],
            json!({"k": 1})
        );
        assert_eq!(
            put(&config, "local.dir", &json!("/"))["local"],
            json!({"dir": "/"})
        );
        assert_eq!(schema_path("rule[0].labels[\"a\"]"), "rule.labels");
    }
}
