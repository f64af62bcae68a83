//! The part of Google's list filters that is used here: `labels.k = "v" AND labels.l:* AND name = "n"`.

use serde_json::Value;

/// A filter that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter(Vec<Term>);

#[derive(Debug, PartialEq, Eq)]
struct Term {
    path: Vec<String>,
    /// `None`: any value.
    value: Option<String>,
}

// === impl Filter ===

impl Filter {
    /// Reads a filter; an error names the part that does not read.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let terms = text
            .split(" AND ")
            .filter(|t| !t.trim().is_empty())
            .map(|term| {
                let term = term.trim();
                let path = |p: &str| p.trim().split('.').map(str::to_owned).collect();
                if let Some(of) = term.strip_suffix(":*") {
                    return Ok(Term {
                        path: path(of),
                        value: None,
                    });
                }
                let (of, value) = term
                    .split_once('=')
                    .ok_or_else(|| format!("Invalid filter {term:?}"))?;
                let value = value
                    .trim()
                    .strip_prefix('"')
                    .and_then(|v| v.strip_suffix('"'));
                let value =
                    value.ok_or_else(|| format!("Invalid filter {term:?}: quote the value"))?;
                Ok(Term {
                    path: path(of),
                    value: Some(value.to_owned()),
                })
            });
        terms.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a resource is as the filter has it.
    pub(super) fn fits(&self, resource: &Value) -> bool {
        self.0.iter().all(|term| {
            let found = term.path.iter().try_fold(resource, |at, key| at.get(key));
            match (&term.value, found.and_then(Value::as_str)) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(value), Some(have)) => value == have,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_term_has_to_fit() {
        let resource = json!({"name": "a", "labels": {"fleet": "ml", "role": "node"}});
        for (filter, fits) in [
            ("", true),
            ("labels.fleet = \"ml\"", true),
            ("labels.fleet = \"ml\" AND labels.role = \"lead\"", false),
            ("labels.fleet:* AND name = \"a\"", true),
            ("labels.pool:*", false),
        ] {
            assert_eq!(
                Filter::read(filter).expect("reads").fits(&resource),
                fits,
                "{filter}"
            );
        }
        assert!(Filter::read("labels.fleet").is_err());
        assert!(Filter::read("labels.fleet = ml").is_err());
    }
}
