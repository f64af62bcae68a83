//! The last resort for a state that does not fit its schema: nothing that exists may be lost.

use std::collections::BTreeMap;

use crate::value::{Type, Value};

/// The nearest value of this type: missing attributes and misfits are null, superfluous ones dropped.
pub(crate) fn conform(value: Value, ty: &Type) -> Value {
    let all =
        |elements: Vec<Value>, of: &Type| elements.into_iter().map(|v| conform(v, of)).collect();
    match (value, ty) {
        (Value::Null, _) => Value::Null,
        (v @ Value::Unknown(_), _) => v,
        (v @ Value::Bool(_), Type::Bool)
        | (v @ Value::Number(_), Type::Number)
        | (v @ Value::String(_), Type::String) => v,
        (v @ Value::Dynamic(..), Type::Dynamic) => v,
        (Value::List(e) | Value::Set(e) | Value::Tuple(e), Type::List(of)) => {
            Value::List(all(e, of))
        }
        (Value::List(e) | Value::Set(e) | Value::Tuple(e), Type::Set(of)) => Value::Set(all(e, of)),
        (Value::List(e) | Value::Tuple(e), Type::Tuple(types)) if e.len() == types.len() => {
            Value::Tuple(
                e.into_iter()
                    .zip(types)
                    .map(|(v, t)| conform(v, t))
                    .collect(),
            )
        }
        (Value::Map(m) | Value::Object(m), Type::Map(of)) => {
            Value::Map(m.into_iter().map(|(k, v)| (k, conform(v, of))).collect())
        }
        (Value::Map(mut m) | Value::Object(mut m), Type::Object { attributes, .. }) => {
            let members: BTreeMap<String, Value> = attributes
                .iter()
                .map(|(name, ty)| {
                    (
                        name.clone(),
                        conform(m.remove(name).unwrap_or_default(), ty),
                    )
                })
                .collect();
            Value::Object(members)
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_fits_is_kept() {
        let ty = Type::object([
            ("id", Type::String),
            ("n", Type::Number),
            ("l", Type::list(Type::String)),
        ]);
        let broken = Value::object([
            ("id", Value::from("i-1")),
            ("n", Value::from("five")),
            ("l", Value::list([Value::from("a"), Value::from(1)])),
            ("x", Value::Null),
        ]);
        let kept = conform(broken, &ty);
        assert!(kept.to_msgpack(&ty).is_ok());
        assert_eq!(kept.get("id"), &Value::from("i-1"));
        assert_eq!(kept.get("l"), &Value::list([Value::from("a"), Value::Null]));
    }
}
