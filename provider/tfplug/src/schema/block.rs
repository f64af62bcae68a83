//! Nested blocks.

use super::Attribute;
use crate::value::{Type, Value};

/// A nested block: `local { .. }`.
#[derive(Debug, Clone)]
pub struct Block {
    name: String,
    nesting: BlockNesting,
    description: String,
    deprecated: Option<String>,
    attributes: Vec<Attribute>,
    blocks: Vec<Block>,
    min: u32,
    max: u32,
}

/// How often a block may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockNesting {
    /// At most once; null when absent.
    Single,
    /// Any number of times, in order; empty when absent.
    List,
    /// Any number of times, distinct; empty when absent.
    Set,
}

// === impl Block ===

impl Block {
    /// A block that may be written once.
    pub fn single(
        name: impl Into<String>,
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> Self {
        Self::new(name, BlockNesting::Single, attributes)
    }

    /// A block that may be written again and again, in order.
    pub fn list(name: impl Into<String>, attributes: impl IntoIterator<Item = Attribute>) -> Self {
        Self::new(name, BlockNesting::List, attributes)
    }

    /// A block that may be written again and again, without order.
    pub fn set(name: impl Into<String>, attributes: impl IntoIterator<Item = Attribute>) -> Self {
        Self::new(name, BlockNesting::Set, attributes)
    }

    fn new(
        name: impl Into<String>,
        nesting: BlockNesting,
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> Self {
        let attributes = attributes.into_iter().collect();
        let (name, description, deprecated) = (name.into(), String::new(), None);
        Self {
            name,
            nesting,
            description,
            deprecated,
            attributes,
            blocks: Vec::new(),
            min: 0,
            max: 0,
        }
    }

    /// What it is for, in Markdown.
    #[must_use]
    pub fn description(mut self, markdown: impl Into<String>) -> Self {
        self.description = markdown.into();
        self
    }

    /// Marks it as deprecated; the message says what to use instead.
    #[must_use]
    pub fn deprecated(mut self, message: impl Into<String>) -> Self {
        self.deprecated = Some(message.into());
        self
    }

    /// Adds a block inside this one.
    #[must_use]
    pub fn block(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }

    /// At least this many; for a single block 1 makes it required.
    #[must_use]
    pub fn min(mut self, min: u32) -> Self {
        self.min = min;
        if self.nesting == BlockNesting::Single {
            self.max = min;
        }
        self
    }

    /// At most this many; 0 is no limit. Without meaning for a single block.
    #[must_use]
    pub fn max(mut self, max: u32) -> Self {
        self.max = max;
        self
    }

    /// The name in HCL.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often it may be written.
    #[must_use]
    pub fn nesting(&self) -> BlockNesting {
        self.nesting
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

    /// Its attributes.
    #[must_use]
    pub fn attribute_list(&self) -> &[Attribute] {
        &self.attributes
    }

    /// The blocks inside it.
    #[must_use]
    pub fn block_list(&self) -> &[Block] {
        &self.blocks
    }

    /// At least so many.
    #[must_use]
    pub fn min_items(&self) -> u32 {
        self.min
    }

    /// At most so many; 0 is no limit.
    #[must_use]
    pub fn max_items(&self) -> u32 {
        self.max
    }

    /// The type of its values.
    #[must_use]
    pub fn ty(&self) -> Type {
        let object = super::object_type(&self.attributes, &self.blocks);
        match self.nesting {
            BlockNesting::Single => object,
            BlockNesting::List => Type::list(object),
            BlockNesting::Set => Type::set(object),
        }
    }

    /// The value when it is not written: null for a single block, else empty, never null.
    #[must_use]
    pub fn empty_value(&self) -> Value {
        match self.nesting {
            BlockNesting::Single => Value::Null,
            BlockNesting::List => Value::List(Vec::new()),
            BlockNesting::Set => Value::Set(Vec::new()),
        }
    }
}
