//! One function for each call of the protocol.

pub(super) mod apply;
pub(super) mod data;
pub(super) mod ephemeral;
pub(super) mod function;
pub(super) mod identity;
pub(super) mod metadata;
pub(super) mod plan;
pub(super) mod provider;
pub(super) mod read;
pub(super) mod state;
pub(super) mod validate;

use crate::diag::{Diagnostic, Diagnostics};
use crate::path::{Path, Step};
use crate::proto::tfplugin6 as pb;
use crate::value::{Missing, Type, Value};

/// The value in a message; an absent one is null.
pub(crate) fn decode(message: Option<&pb::DynamicValue>, ty: &Type) -> Result<Value, Diagnostics> {
    let value = match message {
        Some(m) if !m.msgpack.is_empty() => Value::from_msgpack(&m.msgpack, ty),
        Some(m) if !m.json.is_empty() => Value::from_json_bytes(&m.json, ty, Missing::Error),
        _ => Ok(Value::Null),
    };
    value.map_err(|error| {
        Diagnostic::error(
            "Terraform sent a value that does not fit the schema",
            error.to_string(),
        )
        .into()
    })
}

/// A message with this value.
pub(crate) fn encode(value: &Value, ty: &Type) -> Result<pb::DynamicValue, Diagnostics> {
    let bytes = value.to_msgpack(ty);
    let bytes = bytes.map_err(|error| {
        let detail = format!("{error}. This is a defect of the provider.");
        Diagnostic::error(
            "The provider returned a value that does not fit its schema",
            detail,
        )
    })?;
    Ok(pb::DynamicValue {
        msgpack: bytes,
        json: Vec::new(),
    })
}

/// An error that names the first unknown part of a value that has to be known.
pub(crate) fn refuse_unknown(value: &Value, what: &str) -> Result<(), Diagnostics> {
    match first_unknown(value, &Path::empty()) {
        None => Ok(()),
        Some(path) => {
            let detail = format!(
                "The value is still unknown after {what}. This is a defect of the provider."
            );
            Err(
                Diagnostic::error(format!("Unknown value for {path}"), detail)
                    .at(path)
                    .into(),
            )
        }
    }
}

fn first_unknown(value: &Value, path: &Path) -> Option<Path> {
    if value.is_wholly_known() {
        return None;
    }
    let elements = value
        .elements()
        .iter()
        .enumerate()
        .map(|(i, v)| (path.index(i), v));
    let members = value.members().into_iter().flatten().map(|(name, v)| {
        let step = if matches!(value, Value::Map(_)) {
            Step::Key(name.clone())
        } else {
            Step::Attribute(name.clone())
        };
        (path.step(step), v)
    });
    let inside = elements
        .chain(members)
        .find_map(|(path, v)| first_unknown(v, &path));
    Some(inside.unwrap_or_else(|| path.clone()))
}

/// The value of a result, its problems added to `out`.
pub(crate) fn keep<T>(
    result: Result<T, impl Into<Diagnostics>>,
    out: &mut Diagnostics,
) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(problems) => {
            out.extend(problems.into());
            None
        }
    }
}
