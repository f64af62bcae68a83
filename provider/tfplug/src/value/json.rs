//! JSON as it lies in the state file.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{CodecError, Type, Value};
use crate::path::Path;

/// What to do with attributes that the JSON lacks or has too many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Null for what is missing; what the type does not know is dropped. For states of older schemas.
    Null,
    /// Both are errors.
    Error,
}

// === impl Value ===

impl Value {
    /// Reads a value of this type.
    ///
    /// # Errors
    /// [`CodecError`] when the JSON does not fit the type.
    pub fn from_json(json: &Json, ty: &Type, missing: Missing) -> Result<Self, CodecError> {
        decode(json, ty, missing, &Path::empty())
    }

    /// Reads a value of this type from text.
    ///
    /// # Errors
    /// [`CodecError`] when the text is no JSON or does not fit the type.
    pub fn from_json_bytes(bytes: &[u8], ty: &Type, missing: Missing) -> Result<Self, CodecError> {
        let json: Json =
            serde_json::from_slice(bytes).map_err(|e| CodecError::Json(e.to_string()))?;
        Self::from_json(&json, ty, missing)
    }

    /// Writes the value as this type.
    ///
    /// # Errors
    /// [`CodecError`] when the value does not fit the type or is unknown: JSON has no unknown.
    pub fn to_json(&self, ty: &Type) -> Result<Json, CodecError> {
        encode(self, ty, &Path::empty())
    }
}

fn mismatch(path: &Path, ty: &Type, got: impl ToString) -> CodecError {
    CodecError::Mismatch {
        path: path.clone(),
        expected: ty.to_string(),
        got: got.to_string(),
    }
}

fn decode(json: &Json, ty: &Type, missing: Missing, path: &Path) -> Result<Value, CodecError> {
    let bad = || mismatch(path, ty, json);
    let elements = |of: &Type| -> Result<Vec<Value>, CodecError> {
        let all = json.as_array().ok_or_else(bad)?.iter().enumerate();
        all.map(|(i, j)| decode(j, of, missing, &path.index(i)))
            .collect()
    };
    if json.is_null() {
        return Ok(Value::Null);
    }
    match ty {
        Type::Bool => match json {
            Json::Bool(flag) => Ok(Value::Bool(*flag)),
            Json::String(text) => text.parse().map(Value::Bool).map_err(|_| bad()),
            _ => Err(bad()),
        },
        Type::Number => {
            let text = match json {
                Json::Number(number) => number.to_string(),
                Json::String(text) => text.clone(),
                _ => return Err(bad()),
            };
            let number = text.parse().map_err(|error| CodecError::Number {
                path: path.clone(),
                error,
            })?;
            Ok(Value::Number(number))
        }
        Type::String => match json {
            Json::String(text) => Ok(Value::String(text.clone())),
            Json::Number(number) => Ok(Value::String(number.to_string())),
            Json::Bool(flag) => Ok(Value::String(flag.to_string())),
            _ => Err(bad()),
        },
        Type::List(element) => elements(element).map(Value::List),
        Type::Set(element) => elements(element).map(Value::set_of),
        Type::Tuple(types) => {
            let all = json
                .as_array()
                .filter(|all| all.len() == types.len())
                .ok_or_else(bad)?;
            let each = all.iter().zip(types).enumerate();
            each.map(|(i, (j, t))| decode(j, t, missing, &path.index(i)))
                .collect::<Result<_, _>>()
                .map(Value::Tuple)
        }
        Type::Map(element) => {
            let members = json.as_object().ok_or_else(bad)?.iter();
            let members =
                members.map(|(k, j)| Ok((k.clone(), decode(j, element, missing, &path.key(k))?)));
            members.collect::<Result<_, _>>().map(Value::Map)
        }
        Type::Object { attributes, .. } => {
            decode_object(json.as_object().ok_or_else(bad)?, attributes, missing, path)
        }
        Type::Dynamic => {
            let (Some(actual), Some(inner)) = (json.get("type"), json.get("value")) else {
                return Err(bad());
            };
            let actual = Type::from_json(actual)?;
            let inner = decode(inner, &actual, missing, path)?;
            Ok(Value::Dynamic(actual, Box::new(inner)))
        }
    }
}

fn decode_object(
    json: &serde_json::Map<String, Json>,
    attributes: &BTreeMap<String, Type>,
    missing: Missing,
    path: &Path,
) -> Result<Value, CodecError> {
    if missing == Missing::Error {
        if let Some(name) = json.keys().find(|name| !attributes.contains_key(*name)) {
            return Err(CodecError::UnexpectedAttribute {
                path: path.clone(),
                name: name.clone(),
            });
        }
        if let Some(name) = attributes.keys().find(|name| !json.contains_key(*name)) {
            return Err(CodecError::MissingAttribute {
                path: path.clone(),
                name: name.clone(),
            });
        }
    }
    let members = attributes.iter().map(|(name, ty)| {
        let member = json.get(name).unwrap_or(&Json::Null);
        Ok((name.clone(), decode(member, ty, missing, &path.attr(name))?))
    });
    members.collect::<Result<_, _>>().map(Value::Object)
}

fn encode(value: &Value, ty: &Type, path: &Path) -> Result<Json, CodecError> {
    Ok(match (value, ty) {
        (Value::Null, _) => Json::Null,
        (Value::Bool(flag), Type::Bool) => json!(flag),
        (Value::String(text), Type::String) => json!(text),
        (Value::Number(number), Type::Number) => {
            let text = number.to_string();
            let number = text.parse().map_err(|_| CodecError::Json(text))?;
            Json::Number(number)
        }
        (Value::List(e) | Value::Set(e) | Value::Tuple(e), Type::List(of) | Type::Set(of)) => {
            encode_elements(e.iter().map(|v| (v, of.as_ref())), path)?
        }
        (Value::List(e) | Value::Tuple(e), Type::Tuple(types)) if e.len() == types.len() => {
            encode_elements(e.iter().zip(types), path)?
        }
        (Value::Map(m) | Value::Object(m), Type::Map(of)) => {
            let members = m
                .iter()
                .map(|(k, v)| Ok((k.clone(), encode(v, of, &path.key(k))?)));
            Json::Object(members.collect::<Result<_, CodecError>>()?)
        }
        (Value::Map(m) | Value::Object(m), Type::Object { attributes, .. }) => {
            if let Some(name) = m.keys().find(|name| !attributes.contains_key(*name)) {
                return Err(CodecError::UnexpectedAttribute {
                    path: path.clone(),
                    name: name.clone(),
                });
            }
            let members = attributes.iter().map(|(name, of)| {
                let missing = || CodecError::MissingAttribute {
                    path: path.clone(),
                    name: name.clone(),
                };
                Ok((
                    name.clone(),
                    encode(m.get(name).ok_or_else(missing)?, of, &path.attr(name))?,
                ))
            });
            Json::Object(members.collect::<Result<_, CodecError>>()?)
        }
        (Value::Dynamic(actual, inner), Type::Dynamic) => {
            json!({ "type": actual.to_json(), "value": encode(inner, actual, path)? })
        }
        _ => return Err(mismatch(path, ty, value)),
    })
}

fn encode_elements<'v>(
    elements: impl Iterator<Item = (&'v Value, &'v Type)>,
    path: &Path,
) -> Result<Json, CodecError> {
    let all = elements
        .enumerate()
        .map(|(i, (value, ty))| encode(value, ty, &path.index(i)));
    all.collect::<Result<Vec<_>, _>>().map(Json::Array)
}
