//! Walking configuration, stored and planned objects side by side.

use crate::schema::{BlockNesting, Nesting};
use crate::value::Value;

static NULL: Value = Value::Null;

// === impl Nesting ===

impl From<BlockNesting> for Nesting {
    fn from(nesting: BlockNesting) -> Self {
        match nesting {
            BlockNesting::Single => Self::Single,
            BlockNesting::List => Self::List,
            BlockNesting::Set => Self::Set,
        }
    }
}

/// Calls `f(config, prior, planned)` for every planned object of a nested attribute or block.
/// Lists pair by index, maps by key, sets by what is configured; null stands for no partner.
pub(super) fn each_object(
    config: &Value,
    prior: &Value,
    planned: &mut Value,
    f: &mut dyn FnMut(&Value, &Value, &mut Value),
) {
    match planned {
        Value::Object(_) => f(config, prior, planned),
        Value::List(elements) | Value::Tuple(elements) => {
            for (i, element) in elements.iter_mut().enumerate() {
                let partner = |of: &Value| of.elements().get(i).cloned().unwrap_or_default();
                f(&partner(config), &partner(prior), element);
            }
        }
        Value::Map(members) => {
            for (key, element) in members {
                f(config.get(key), prior.get(key), element);
            }
        }
        Value::Set(elements) => {
            let mut free: Vec<&Value> = config.elements().iter().collect();
            for element in elements {
                let at = free.iter().position(|c| configures(c, element));
                let configured = at.map_or(&NULL, |i| free.swap_remove(i));
                let stored = prior
                    .elements()
                    .iter()
                    .find(|p| configures(configured, p))
                    .unwrap_or(&NULL);
                f(
                    configured,
                    if configured.is_null() { &NULL } else { stored },
                    element,
                );
            }
        }
        _ => {}
    }
}

/// True when whatever is set in `config` is the same in `value`.
fn configures(config: &Value, value: &Value) -> bool {
    match (config, value) {
        (Value::Null, _) => true,
        (Value::Object(c), Value::Object(v)) => c
            .iter()
            .all(|(name, c)| v.get(name).is_some_and(|v| configures(c, v))),
        _ => config == value,
    }
}
