//! The official contract: every request is held against Google's discovery document of Compute Engine.
//!
//! The document comes with the Python package google-api-python-client and is found through `python3`; without it
//! nothing is validated, and [`Contract::find`] says so.

use regex::Regex;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Prints where the document is.
const FIND: &str = "import importlib.util as u; s = u.find_spec('googleapiclient'); \
                    print(s.submodule_search_locations[0] if s else '')";
const DOCUMENT: &str = "discovery_cache/documents/compute.v1.json";
/// Every path of the API begins so.
pub(super) const BASE: &str = "/compute/v1/";
/// Schemas refer to each other, some to themselves; no body is this deep.
const MAX_DEPTH: usize = 24;

/// The document, read and taken apart.
#[derive(Debug)]
pub(super) struct Contract {
    /// E.g. `20261106`.
    pub(super) revision: String,
    methods: Vec<Method>,
    schemas: Map<String, Value>,
    parameters: Map<String, Value>,
    patterns: Mutex<BTreeMap<String, Option<Regex>>>,
}

#[derive(Debug)]
struct Method {
    /// E.g. `compute.instances.insert`.
    id: String,
    http: String,
    path: Vec<Segment>,
    parameters: Map<String, Value>,
    request: Option<String>,
    response: Option<String>,
}

#[derive(Debug)]
enum Segment {
    Fixed(String),
    Parameter(String),
}

/// A request as the contract sees it.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) http: &'a str,
    /// Below [`BASE`], decoded, in parts.
    pub(super) path: &'a [String],
    pub(super) query: &'a [(String, String)],
    pub(super) body: &'a Value,
}

// === impl Contract ===

impl Contract {
    /// The document, once for the whole process; an error says how to get it.
    pub(super) fn find() -> Result<Arc<Self>, String> {
        static FOUND: OnceLock<Result<Arc<Contract>, String>> = OnceLock::new();
        FOUND.get_or_init(|| Self::read().map(Arc::new)).clone()
    }

    fn read() -> Result<Self, String> {
        let hint = "pip install google-api-python-client";
        let said = Command::new("python3").args(["-c", FIND]).output();
        let said = said.map_err(|e| format!("python3 does not start ({e}): {hint}"))?;
        let folder = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        if folder.is_empty() {
            return Err(format!("python3 has no googleapiclient: {hint}"));
        }
        let path = std::path::Path::new(&folder).join(DOCUMENT);
        let text = std::fs::read(&path).map_err(|e| format!("{}: {e}: {hint}", path.display()))?;
        let document: Value =
            serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self::of(&document))
    }

    fn of(document: &Value) -> Self {
        let map = |key: &str| document[key].as_object().cloned().unwrap_or_default();
        let mut methods = Vec::new();
        collect(document, &mut methods);
        Self {
            revision: document["revision"].as_str().unwrap_or_default().to_owned(),
            methods,
            schemas: map("schemas"),
            parameters: map("parameters"),
            patterns: Mutex::default(),
        }
    }

    /// What is wrong with a request; its method's id when it has one.
    pub(super) fn check(&self, asked: &Asked<'_>) -> (Option<&str>, Vec<String>) {
        let Some((method, given)) = self.method(asked) else {
            let path = asked.path.join("/");
            return (
                None,
                vec![format!(
                    "{} {path} is no method of Compute Engine",
                    asked.http
                )],
            );
        };
        let mut wrong = Vec::new();
        for (name, value) in given.iter().chain(asked.query) {
            let known = method.parameters.get(name).or(self.parameters.get(name));
            match known {
                Some(schema) => self.parameter(name, value, schema, &mut wrong),
                // Of the transport itself.
                None if name.starts_with('$') => {}
                None => wrong.push(format!("the parameter {name:?} does not exist")),
            }
        }
        match &method.request {
            Some(schema) => self.reference(schema, asked.body, "body", &method.id, &mut wrong),
            None if asked.body.is_null() || asked.body == &Value::Object(Map::new()) => {}
            None => wrong.push("there is a body, and none is taken".to_owned()),
        }
        (Some(&method.id), wrong)
    }

    /// What is wrong with an answer of ours.
    pub(super) fn check_answer(&self, id: &str, answer: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        let method = self.methods.iter().find(|m| m.id == id);
        if let Some(schema) = method.and_then(|m| m.response.as_ref()) {
            self.reference(schema, answer, "answer", id, &mut wrong);
        }
        wrong
    }

    fn method(&self, asked: &Asked<'_>) -> Option<(&Method, Vec<(String, String)>)> {
        let of_method = |method: &'_ Method| {
            if method.http != asked.http || method.path.len() != asked.path.len() {
                return None;
            }
            let mut given = Vec::new();
            for (segment, have) in method.path.iter().zip(asked.path) {
                match segment {
                    Segment::Fixed(fixed) if fixed == have => {}
                    Segment::Fixed(_) => return None,
                    Segment::Parameter(name) => given.push((name.clone(), have.clone())),
                }
            }
            Some(given)
        };
        self.methods.iter().find_map(|m| Some((m, of_method(m)?)))
    }

    fn parameter(&self, name: &str, value: &str, schema: &Value, wrong: &mut Vec<String>) {
        let text = Value::from(value);
        let fits = match schema["type"].as_str() {
            Some("integer") => value.parse::<i64>().is_ok(),
            Some("boolean") => matches!(value, "true" | "false"),
            _ => true,
        };
        if !fits {
            wrong.push(format!(
                "the parameter {name} = {value:?} is no {}",
                schema["type"]
            ));
        } else if schema["type"] == "string" {
            self.text(&text, schema, name, wrong);
        }
    }

    fn reference(&self, schema: &str, value: &Value, at: &str, id: &str, wrong: &mut Vec<String>) {
        match self.schemas.get(schema) {
            Some(of) => self.value(of, value, at, id, wrong, 0),
            None => wrong.push(format!("{at}: the contract has no {schema}")),
        }
    }

    fn value(
        &self,
        schema: &Value,
        value: &Value,
        at: &str,
        id: &str,
        wrong: &mut Vec<String>,
        depth: usize,
    ) {
        if depth > MAX_DEPTH {
            wrong.push(format!("{at}: too deep"));
            return;
        }
        if let Some(name) = schema["$ref"].as_str() {
            if let Some(of) = self.schemas.get(name) {
                self.value(of, value, at, id, wrong, depth + 1);
            }
            return;
        }
        let fits = match schema["type"].as_str().unwrap_or("any") {
            "object" => {
                if let Some(object) = value.as_object() {
                    self.object(schema, object, at, id, wrong, depth);
                }
                value.is_object()
            }
            "array" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.value(
                        &schema["items"],
                        item,
                        &format!("{at}[{n}]"),
                        id,
                        wrong,
                        depth + 1,
                    );
                }
                value.is_array()
            }
            "string" => {
                self.text(value, schema, at, wrong);
                true
            }
            "integer" => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            "boolean" => value.is_boolean(),
            "number" => value.is_number(),
            _ => true,
        };
        if !fits {
            wrong.push(format!("{at} = {value}: is no {}", schema["type"]));
        }
    }

    fn object(
        &self,
        schema: &Value,
        object: &Map<String, Value>,
        at: &str,
        id: &str,
        wrong: &mut Vec<String>,
        depth: usize,
    ) {
        let none = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        for (key, value) in object {
            let path = format!("{at}.{key}");
            match (properties.get(key), &schema["additionalProperties"]) {
                (Some(of), _) => self.value(of, value, &path, id, wrong, depth + 1),
                (None, Value::Null) => wrong.push(format!("{path} does not exist")),
                (None, of) => self.value(of, value, &path, id, wrong, depth + 1),
            }
        }
        for (key, of) in properties {
            let required = of["annotations"]["required"].as_array();
            let here = required.is_some_and(|of| of.iter().any(|m| m == id));
            if here && !object.contains_key(key) {
                wrong.push(format!("{at}.{key} is missing"));
            }
        }
    }

    fn text(&self, value: &Value, schema: &Value, at: &str, wrong: &mut Vec<String>) {
        let Some(text) = value.as_str() else {
            wrong.push(format!("{at} = {value}: is no string"));
            return;
        };
        let fits = match schema["format"].as_str() {
            Some("int64") => text.parse::<i64>().is_ok(),
            Some("uint64") => text.parse::<u64>().is_ok(),
            Some("byte") => base64(text),
            Some("date-time" | "google-datetime") => text.parse::<jiff::Timestamp>().is_ok(),
            _ => true,
        };
        if !fits {
            wrong.push(format!("{at} = {text:?}: is no {}", schema["format"]));
        }
        if let Some(words) = schema["enum"].as_array()
            && !words.iter().any(|w| w == text)
        {
            wrong.push(format!("{at} = {text:?}: is none of its words"));
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && !self.matches(pattern, text)
        {
            wrong.push(format!("{at} = {text:?}: is not as {pattern}"));
        }
    }

    /// The whole text is as the pattern has it; one that we cannot read is no reason to refuse.
    fn matches(&self, pattern: &str, text: &str) -> bool {
        let mut patterns = self.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        let read = patterns
            .entry(pattern.to_owned())
            .or_insert_with(|| Regex::new(&format!("^(?:{pattern})$")).ok());
        read.as_ref().is_none_or(|r| r.is_match(text))
    }
}

// === functions ===

fn collect(resource: &Value, methods: &mut Vec<Method>) {
    for of in resource["methods"]
        .as_object()
        .into_iter()
        .flat_map(Map::values)
    {
        let text = |key: &str| of[key].as_str().unwrap_or_default().to_owned();
        let path = of["flatPath"]
            .as_str()
            .or(of["path"].as_str())
            .unwrap_or_default();
        let segment = |part: &str| match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
            Some(name) => Segment::Parameter(name.to_owned()),
            None => Segment::Fixed(part.to_owned()),
        };
        let reference = |key: &str| of[key]["$ref"].as_str().map(str::to_owned);
        methods.push(Method {
            id: text("id"),
            http: text("httpMethod"),
            path: path.split('/').map(segment).collect(),
            parameters: of["parameters"].as_object().cloned().unwrap_or_default(),
            request: reference("request"),
            response: reference("response"),
        });
    }
    for inner in resource["resources"]
        .as_object()
        .into_iter()
        .flat_map(Map::values)
    {
        collect(inner, methods);
    }
}

fn base64(text: &str) -> bool {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    STANDARD.decode(text).is_ok() || URL_SAFE.decode(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn contract() -> Contract {
        Contract::of(&json!({
            "revision": "1",
            "parameters": {"alt": {"type": "string"}},
            "schemas": {
                "Thing": {"type": "object", "properties": {
                    "name": {"type": "string", "pattern": "[a-z]+", "annotations": {"required": ["t.things.insert"]}},
                    "size": {"type": "string", "format": "int64"},
                    "mode": {"type": "string", "enum": ["A", "B"]},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "parts": {"type": "array", "items": {"$ref": "Thing"}}
                }}
            },
            "resources": {"things": {"methods": {"insert": {
                "id": "t.things.insert", "httpMethod": "POST", "flatPath": "zones/{zone}/things",
                "parameters": {
                    "zone": {"type": "string", "location": "path", "pattern": "[a-z]-[a-z]"},
                    "maxResults": {"type": "integer", "location": "query"}
                },
                "request": {"$ref": "Thing"}, "response": {"$ref": "Thing"}
            }}}}
        }))
    }

    fn check(path: &str, query: &[(&str, &str)], body: Value) -> Vec<String> {
        let path: Vec<String> = path.split('/').map(str::to_owned).collect();
        let query: Vec<_> = query
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let asked = Asked {
            http: "POST",
            path: &path,
            query: &query,
            body: &body,
        };
        contract().check(&asked).1
    }

    #[test]
    fn a_request_of_the_contract_has_nothing_wrong() {
        let body = json!({"name": "a", "size": "5", "mode": "A", "labels": {"k": "v"}, "parts": [{"mode": "B"}]});
        let wrong = check(
            "zones/a-b/things",
            &[("alt", "json"), ("$apiVersion", "1"), ("maxResults", "5")],
            body,
        );
        // The inner thing has no name; Google's annotation is for the whole request.
        assert_eq!(wrong, ["body.parts[0].name is missing"]);
    }

    #[test]
    fn each_mistake_is_named() {
        for (path, query, body, expected) in [
            ("zones/a-b/others", "", json!({"name": "a"}), "is no method"),
            ("zones/ab/things", "", json!({"name": "a"}), "zone = \"ab\""),
            (
                "zones/a-b/things",
                "limit",
                json!({"name": "a"}),
                "\"limit\" does not exist",
            ),
            (
                "zones/a-b/things",
                "",
                json!({"name": "a", "x": 1}),
                "body.x does not exist",
            ),
            (
                "zones/a-b/things",
                "",
                json!({"name": "a", "size": 5}),
                "body.size = 5: is no string",
            ),
            (
                "zones/a-b/things",
                "",
                json!({"name": "a", "size": "x"}),
                "is no \"int64\"",
            ),
            (
                "zones/a-b/things",
                "",
                json!({"name": "a", "mode": "C"}),
                "none of its words",
            ),
            (
                "zones/a-b/things",
                "",
                json!({"name": "A"}),
                "is not as [a-z]+",
            ),
            (
                "zones/a-b/things",
                "",
                json!({"name": "a", "labels": {"k": 1}}),
                "body.labels.k",
            ),
            ("zones/a-b/things", "", json!({}), "body.name is missing"),
            ("zones/a-b/things", "", Value::Null, "is no \"object\""),
        ] {
            let query: &[(&str, &str)] = if query.is_empty() {
                &[]
            } else {
                &[(query, "1")]
            };
            let wrong = check(path, query, body).join("; ");
            assert!(wrong.contains(expected), "{expected:?} in {wrong:?}");
        }
    }
}
