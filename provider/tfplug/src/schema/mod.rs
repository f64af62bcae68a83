//! What may be written in a block, and what the framework does about it.

mod attribute;
mod block;
mod check;
mod config_validators;
mod duration;
mod timeouts;
pub mod validators;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

pub use attribute::{Attribute, AttributeDefault, AttributeKind, Nesting, Replace, ReplaceCtx};
pub use block::{Block, BlockNesting};
pub use check::SchemaError;
pub(crate) use check::is_name;
pub use config_validators::{
    ConfigValidator, at_least_one_of, conflicts_with, exactly_one_of, required_with,
};
pub use duration::{DurationError, parse_duration};
pub use timeouts::{DEFAULT_TIMEOUT, Op, Timeouts};
pub use validators::Validator;

pub(crate) use wire::schema_to_proto;

use crate::value::{Type, Value};

/// Attributes and blocks of a resource, data source, ephemeral resource or provider.
#[derive(Debug, Clone)]
pub struct Schema {
    version: i64,
    description: String,
    deprecated: Option<String>,
    attributes: Vec<Attribute>,
    blocks: Vec<Block>,
    config_validators: Vec<ConfigValidator>,
    timeouts: BTreeMap<Op, Duration>,
}

// === impl Schema ===

impl Schema {
    /// An empty schema. `version` counts from 0 and rises when stored states have to be upgraded.
    #[must_use]
    pub fn new(version: i64) -> Self {
        Self {
            version,
            description: String::new(),
            deprecated: None,
            attributes: Vec::new(),
            blocks: Vec::new(),
            config_validators: Vec::new(),
            timeouts: BTreeMap::new(),
        }
    }

    /// What it is for, in Markdown.
    #[must_use]
    pub fn description(mut self, markdown: impl Into<String>) -> Self {
        self.description = markdown.into();
        self
    }

    /// Marks the whole thing as deprecated; the message says what to use instead.
    #[must_use]
    pub fn deprecated(mut self, message: impl Into<String>) -> Self {
        self.deprecated = Some(message.into());
        self
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attribute(mut self, attribute: Attribute) -> Self {
        self.attributes.push(attribute);
        self
    }

    /// Adds attributes.
    #[must_use]
    pub fn attributes(mut self, attributes: impl IntoIterator<Item = Attribute>) -> Self {
        self.attributes.extend(attributes);
        self
    }

    /// Adds a nested block.
    #[must_use]
    pub fn block(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }

    /// Adds a rule about several attributes, such as [`exactly_one_of`].
    #[must_use]
    pub fn validate(mut self, rule: ConfigValidator) -> Self {
        self.config_validators.push(rule);
        self
    }

    /// Adds a `timeouts` block with these operations and the time each may take unless told otherwise.
    #[must_use]
    pub fn timeouts(mut self, defaults: impl IntoIterator<Item = (Op, Duration)>) -> Self {
        self.timeouts = defaults.into_iter().collect();
        let block = timeouts::block(&self.timeouts);
        self.block(block)
    }

    /// The version of stored states.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The description, in Markdown.
    #[must_use]
    pub fn description_text(&self) -> &str {
        &self.description
    }

    /// What to use instead, when deprecated.
    #[must_use]
    pub fn deprecation(&self) -> Option<&str> {
        self.deprecated.as_deref()
    }

    /// The attributes in the order of declaration.
    #[must_use]
    pub fn attribute_list(&self) -> &[Attribute] {
        &self.attributes
    }

    /// The nested blocks in the order of declaration.
    #[must_use]
    pub fn block_list(&self) -> &[Block] {
        &self.blocks
    }

    /// The rules about several attributes.
    #[must_use]
    pub fn config_validators(&self) -> &[ConfigValidator] {
        &self.config_validators
    }

    /// The operations with a configurable time limit and their defaults.
    #[must_use]
    pub fn timeout_defaults(&self) -> &BTreeMap<Op, Duration> {
        &self.timeouts
    }

    /// The object type of values of this schema.
    #[must_use]
    pub fn ty(&self) -> Type {
        object_type(&self.attributes, &self.blocks)
    }

    /// An object with every attribute null and every block empty: the stub that import starts from.
    #[must_use]
    pub fn empty_value(&self) -> Value {
        empty_object(&self.attributes, &self.blocks)
    }

    /// Checks the schema against what Terraform itself demands of schemas.
    ///
    /// # Errors
    /// Every rule that is broken, with the attribute's path.
    pub fn internal_validate(&self) -> Result<(), Vec<SchemaError>> {
        check::schema(self)
    }
}

pub(crate) fn object_type(attributes: &[Attribute], blocks: &[Block]) -> Type {
    let attributes = attributes.iter().map(|a| (a.name().to_owned(), a.ty()));
    Type::object(attributes.chain(blocks.iter().map(|b| (b.name().to_owned(), b.ty()))))
}

pub(crate) fn empty_object(attributes: &[Attribute], blocks: &[Block]) -> Value {
    let attributes = attributes.iter().map(|a| (a.name(), Value::Null));
    Value::object(attributes.chain(blocks.iter().map(|b| (b.name(), b.empty_value()))))
}
