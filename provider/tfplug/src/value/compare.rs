//! Terraform's equality and an order that makes sets comparable.

use std::cmp::Ordering;

use unicode_normalization::UnicodeNormalization;

use super::Value;

/// True when two texts are the same after NFC normalisation, which Terraform applies to all text.
#[must_use]
pub fn nfc_eq(a: &str, b: &str) -> bool {
    text(a, b) == Ordering::Equal
}

/// Sorts the elements of a set and merges duplicates.
pub(super) fn sort_set(elements: &mut Vec<Value>) {
    elements.sort();
    // Two unknowns may still turn out different.
    elements.dedup_by(|a, b| a == b && a.is_wholly_known());
}

fn text(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() {
        a.cmp(b)
    } else {
        a.nfc().cmp(b.nfc())
    }
}

/// The place of a variant in the order.
fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Unknown(_) => 1,
        Value::Bool(_) => 2,
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::List(_) => 5,
        Value::Set(_) => 6,
        Value::Tuple(_) => 7,
        Value::Map(_) => 8,
        Value::Object(_) => 9,
        Value::Dynamic(..) => 10,
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => text(a, b),
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => a.cmp(b),
            (Self::Set(a), Self::Set(b)) => {
                let (mut a, mut b) = (a.clone(), b.clone());
                sort_set(&mut a);
                sort_set(&mut b);
                a.cmp(&b)
            }
            (Self::Map(a), Self::Map(b)) | (Self::Object(a), Self::Object(b)) => a.cmp(b),
            (Self::Dynamic(s, a), Self::Dynamic(t, b)) => s.cmp(t).then_with(|| a.cmp(b)),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composed_and_decomposed_text_is_the_same_text() {
        assert!(nfc_eq("caf\u{e9}", "cafe\u{301}"));
        assert_eq!(Value::from("caf\u{e9}"), Value::from("cafe\u{301}"));
        assert!(!nfc_eq("cafe", "caf\u{e9}"));
    }

    #[test]
    fn sets_have_no_order_and_no_duplicates() {
        assert_eq!(
            Value::set_of(["b", "a", "b"]),
            Value::Set(vec!["a".into(), "b".into()])
        );
        assert_eq!(
            Value::Set(vec!["b".into(), "a".into(), "b".into()]),
            Value::set_of(["a", "b"])
        );
        assert_ne!(Value::set_of(["a"]), Value::set_of(["b"]));
        assert_ne!(Value::list(["b", "a"]), Value::list(["a", "b"]));
    }

    #[test]
    fn null_is_not_empty_and_unknown_is_neither() {
        let empty = Value::List(vec![]);
        assert_ne!(Value::Null, empty);
        assert_ne!(Value::unknown(), Value::Null);
        assert_eq!(Value::unknown(), Value::unknown());
    }
}
