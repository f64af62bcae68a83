//! The `timeouts` block.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Attribute, Block, parse_duration, validators};
use crate::value::Value;

/// Time limit of an operation that the schema declares none for.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// An operation with a time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Making the object.
    Create,
    /// Refreshing it, or reading a data source.
    Read,
    /// Changing it.
    Update,
    /// Destroying it.
    Delete,
    /// Opening an ephemeral resource.
    Open,
}

/// How long each operation may take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeouts(BTreeMap<Op, Duration>);

// === impl Op ===

impl Op {
    /// The attribute's name in the block.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Open => "open",
        }
    }
}

// === impl Timeouts ===

impl Timeouts {
    /// What the object's `timeouts` block says, and the defaults where it says nothing.
    #[must_use]
    pub fn of(object: &Value, defaults: &BTreeMap<Op, Duration>) -> Self {
        let written = object.get("timeouts");
        let limit = |op: Op| {
            written
                .get(op.name())
                .as_str()
                .and_then(|text| parse_duration(text).ok())
        };
        Self(
            defaults
                .iter()
                .map(|(op, default)| (*op, limit(*op).unwrap_or(*default)))
                .collect(),
        )
    }

    /// How long this operation may take; [`DEFAULT_TIMEOUT`] when the schema declares none.
    #[must_use]
    pub fn get(&self, op: Op) -> Duration {
        self.0.get(&op).copied().unwrap_or(DEFAULT_TIMEOUT)
    }
}

pub(super) fn block(defaults: &BTreeMap<Op, Duration>) -> Block {
    let attributes = defaults.iter().map(|(op, default)| {
        let name = op.name();
        let minutes = default.as_secs() / 60;
        let default = if minutes > 0 && default.as_secs().is_multiple_of(60) {
            format!("{minutes}m")
        } else {
            format!("{}s", default.as_secs())
        };
        Attribute::string(name)
            .optional()
            .description(format!(
                "How long {name} may take, such as `90s` or `1h30m`. Default: `{default}`."
            ))
            .validate(validators::duration())
    });
    Block::single("timeouts", attributes).description("Time limits of operations.")
}
