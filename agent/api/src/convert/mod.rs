//! Fleet types to messages and back: the only place that knows both.
//!
//! Reading a message answers with every [`Problems`] at once, each naming the field as it is
//! written in HCL and on the command line. Reading checks that each part is well formed; whether
//! the whole makes sense is `check()` of the fleet's type, which the server calls.

mod job;
mod node;
mod object;
mod place;

pub use job::{JobExtras, job_view};
pub use node::{device_health_word, node_state_word, node_view, usage};
pub use object::{pool_status, pool_view};

use gpuloom_fleet::{ParseIdError, Problems};
use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

/// Collects what does not read while a message is read field by field.
#[derive(Debug, Default)]
pub(crate) struct Fields(pub(crate) Problems);

// === impl Fields ===

impl Fields {
    /// `value` as an id, or a problem of `field`.
    pub(crate) fn id<T: FromStr<Err = ParseIdError>>(
        &mut self,
        field: &str,
        value: &str,
    ) -> Option<T> {
        match value.parse() {
            Ok(id) => Some(id),
            Err(e) => {
                let fix = format!("use {}", e.expected);
                let message = if value.is_empty() {
                    "is missing"
                } else {
                    "is not well formed"
                };
                self.0.add(field, value, message, fix);
                None
            }
        }
    }

    /// `Some(None)` when nothing is stated, `None` when it does not read.
    pub(crate) fn optional_id<T: FromStr<Err = ParseIdError>>(
        &mut self,
        field: &str,
        value: Option<&str>,
    ) -> Option<Option<T>> {
        match value {
            None => Some(None),
            Some(text) => self.id(field, text).map(Some),
        }
    }

    /// The enum value `number` stands for; 0 and numbers of a newer protocol are problems.
    pub(crate) fn choice<W: TryFrom<i32>, T>(
        &mut self,
        field: &str,
        number: i32,
        read: impl Fn(W) -> Option<T>,
    ) -> Option<T> {
        let value = W::try_from(number).ok().and_then(read);
        if value.is_none() {
            let (message, fix) = if number == 0 {
                ("is missing", "state it")
            } else {
                ("is not known to this agent", "upgrade the fleet's agents")
            };
            self.0.add(field, number, message, fix);
        }
        value
    }

    /// `value` when every field read; the problems otherwise.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.0.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}

/// A message map in the order fleet types keep.
pub(crate) fn sorted(map: HashMap<String, String>) -> BTreeMap<String, String> {
    map.into_iter().collect()
}

/// A fleet map as a message holds it.
pub(crate) fn unsorted(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[cfg(test)]
mod tests;
