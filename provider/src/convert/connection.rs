//! How a fleet is reached: the object that `gpuloom_fleet` gives and every other resource takes.

use tfplug::{Diagnostic, Value, View};

/// A fleet's id, where its lead answers, and what to trust.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Connection {
    /// The fleet's own id; never changes.
    pub(crate) id: String,
    /// `host:port` of each agent that may answer; at least one.
    pub(crate) endpoints: Vec<String>,
    /// `sha256:` and 64 hexadecimal digits.
    pub(crate) ca_pin: String,
}

// === impl Connection ===

impl Connection {
    /// Reads a wholly known connection.
    ///
    /// # Errors
    /// At the part that is missing or unknown.
    pub(crate) fn read(view: &View<'_>) -> Result<Self, Diagnostic> {
        let endpoints = view.attr("endpoints");
        let listed = endpoints.elements();
        if listed.is_empty() {
            return Err(endpoints.error(
                "The fleet has no endpoint",
                "State at least one host:port where its lead answers.",
            ));
        }
        Ok(Self {
            id: view.attr("id").str()?.to_owned(),
            endpoints: listed
                .iter()
                .map(|e| e.str().map(str::to_owned))
                .collect::<Result<_, _>>()?,
            ca_pin: view.attr("ca_pin").str()?.to_owned(),
        })
    }

    /// As the attribute holds it.
    pub(crate) fn value(&self) -> Value {
        Value::object([
            ("id", Value::from(self.id.as_str())),
            (
                "endpoints",
                Value::list(self.endpoints.iter().map(String::as_str)),
            ),
            ("ca_pin", self.ca_pin.as_str().into()),
        ])
    }
}
