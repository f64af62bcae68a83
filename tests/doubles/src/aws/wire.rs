//! EC2's query protocol: forms in, XML out.

use crate::http::Response;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A request's parameters, e.g. `LaunchTemplateConfigs.1.Overrides.2.SubnetId`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Params(pub(crate) BTreeMap<String, String>);

/// A tag.
pub(crate) type Tag = (String, String);

// === impl Params ===

impl Params {
    /// From a decoded form; of a name given twice the last counts.
    pub(crate) fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// One parameter; empty when it was not given.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// One parameter; `None` when it was not given.
    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets a parameter.
    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// The parameters under `prefix.`, without it.
    pub(crate) fn under(&self, prefix: &str) -> Self {
        let cut = |name: &str| Some(name.strip_prefix(prefix)?.strip_prefix('.')?.to_owned());
        let inside = self.0.iter();
        Self(
            inside
                .filter_map(|(k, v)| Some((cut(k)?, v.clone())))
                .collect(),
        )
    }

    /// `name.1`, `name.2`, ... each as its own parameters; a list of plain values has them under the empty name.
    pub(crate) fn list(&self, name: &str) -> Vec<Self> {
        let mut all = Vec::new();
        loop {
            let at = format!("{name}.{}", all.len() + 1);
            let mut item = self.under(&at);
            if let Some(value) = self.find(&at) {
                item.set("", value);
            }
            if item.0.is_empty() {
                return all;
            }
            all.push(item);
        }
    }

    /// The plain values of `name.1`, `name.2`, ...
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let items = self.list(name).into_iter();
        items.map(|item| item.get("").to_owned()).collect()
    }

    /// The values of the filter of this name.
    pub(crate) fn filter(&self, name: &str) -> Option<Vec<String>> {
        let mut filters = self.list("Filter").into_iter();
        let filter = filters.find(|f| f.get("Name") == name)?;
        Some(filter.values("Value"))
    }

    /// The tags for a kind of resource.
    pub(crate) fn tags(&self, kind: &str) -> Vec<Tag> {
        let specs = self.list("TagSpecification").into_iter();
        specs
            .filter(|spec| spec.get("ResourceType") == kind)
            .flat_map(|spec| spec.list("Tag"))
            .map(|tag| (tag.get("Key").to_owned(), tag.get("Value").to_owned()))
            .collect()
    }

    /// As a form's body.
    pub(crate) fn encode(&self) -> String {
        let pairs = self.0.iter();
        let pairs = pairs.map(|(k, v)| format!("{}={}", percent(k), percent(v)));
        pairs.collect::<Vec<_>>().join("&")
    }
}

fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// EC2's error document, for [`crate::faults::Effect::Status`].
#[must_use]
pub fn error_body(code: &str, message: &str) -> String {
    let (code, message) = (escape(code), escape(message));
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error><Code>{code}</Code>\
         <Message>{message}</Message></Error></Errors><RequestID>00000000-double</RequestID></Response>"
    )
}

/// An error as EC2 answers it.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Response {
    Response::xml(status, error_body(code, message))
}

/// A 200 of this operation with these children.
pub(crate) fn answer(operation: &str, children: &str) -> Response {
    Response::xml(
        200,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><{operation}Response \
             xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>00000000-double</requestId>\
             {children}</{operation}Response>"
        ),
    )
}

/// `text` inside of an element.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_structures_are_read_from_flat_names() {
        let pairs = crate::http::pairs(
            "A.1.B=x&A.2.B=y&A.2.C.1=z&F.1=one&F.2=two&Filter.1.Name=n&Filter.1.Value.1=v",
        );
        let params = Params::new(pairs);
        let list = params.list("A");
        assert_eq!(list.len(), 2);
        assert_eq!(list[1].get("B"), "y");
        assert_eq!(list[1].values("C"), ["z"]);
        assert_eq!(params.values("F"), ["one", "two"]);
        assert_eq!(params.filter("n"), Some(vec!["v".to_owned()]));
        assert_eq!(params.filter("other"), None);
        let again = Params::new(crate::http::pairs(&params.encode()));
        assert_eq!(again, params);
    }
}
