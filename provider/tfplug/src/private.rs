//! What a provider remembers beside the state, unseen by users.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// Named JSON values that travel with a resource's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Private(BTreeMap<String, Json>);

// === impl Private ===

impl Private {
    /// The value of this name.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.0.get(key)
    }

    /// The text of this name.
    #[must_use]
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Json::as_str)
    }

    /// Sets a value.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Json>) {
        self.0.insert(key.into(), value.into());
    }

    /// Removes a value.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        self.0.remove(key)
    }

    /// True when nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the state file holds. Bytes of another origin, which an earlier provider may have
    /// left behind, read as nothing.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::default();
        }
        serde_json::from_slice(bytes)
            .map(Self)
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "private state is not ours and is ignored");
                Self::default()
            })
    }

    /// The form for the state file; no bytes at all when nothing is remembered.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let members: serde_json::Map<String, Json> = self.0.clone().into_iter().collect();
        Json::Object(members).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_values_survive_the_state_file() {
        let mut private = Private::default();
        assert!(private.to_bytes().is_empty());
        private.set("token", "abc");
        private.set("attempt", 3);
        assert_eq!(Private::from_bytes(&private.to_bytes()), private);
        assert_eq!(private.get_str("token"), Some("abc"));
        assert!(Private::from_bytes(b"not json").is_empty());
    }
}
