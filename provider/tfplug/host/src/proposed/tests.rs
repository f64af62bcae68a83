//! Terraform's merge of configuration and prior state.

use serde_json::{Value as Json, json};

use super::*;
use crate::check::fixture::schema;
use crate::config::from_json;

#[track_caller]
fn merges(prior: &Json, config: &Json, expected: &Json) {
    let value = |json: &Json| {
        if json.is_null() {
            Value::Null
        } else {
            from_json(&schema(), json).expect("a value of the test schema")
        }
    };
    assert_eq!(
        proposed_new_state(&schema(), &value(prior), &value(config)),
        value(expected)
    );
}

#[test]
fn a_new_object_is_its_configuration() {
    let config = json!({"name": "a", "rule": [{"port": 1}]});
    merges(&json!(null), &config, &config);
    merges(&json!(null), &json!(null), &json!(null));
}

#[test]
fn computed_values_are_kept_and_optional_ones_are_not() {
    merges(
        &json!({"name": "a", "id": "7", "size": 3, "note": "old"}),
        &json!({"name": "b"}),
        &json!({"name": "b", "id": "7", "size": 3}),
    );
    merges(
        &json!({"name": "a", "size": 3}),
        &json!({"name": "a", "size": 9}),
        &json!({"name": "a", "size": 9}),
    );
}

#[test]
fn lists_match_by_index_maps_by_key() {
    merges(
        &json!({"name": "a", "limits": [{"kind": "x", "used": 5}]}),
        &json!({"name": "a", "limits": [{"kind": "y"}, {"kind": "z"}], "zone": {"q": {"size": 1}}}),
        &json!({"name": "a", "limits": [{"kind": "y", "used": 5}, {"kind": "z"}], "zone": {"q": {"size": 1}}}),
    );
}

#[test]
fn sets_match_by_what_is_configured() {
    merges(
        &json!({"name": "a", "member": [{"who": "me", "seen": true}, {"who": "you", "seen": false}]}),
        &json!({"name": "a", "member": [{"who": "me"}, {"who": "her"}]}),
        &json!({"name": "a", "member": [{"who": "me", "seen": true}, {"who": "her"}]}),
    );
    merges(
        &json!({"name": "a", "gates": [{"kind": "in", "used": 1}]}),
        &json!({"name": "a", "gates": [{"kind": "in"}, {"kind": "out"}]}),
        &json!({"name": "a", "gates": [{"kind": "in", "used": 1}, {"kind": "out"}]}),
    );
}

#[test]
fn unknown_configuration_stays_unknown() {
    let unknown = crate::UNKNOWN;
    merges(
        &json!({"name": "a", "rule": [{"port": 1}], "limits": [{"kind": "x"}]}),
        &json!({"name": unknown, "rule": unknown, "limits": unknown}),
        &json!({"name": unknown, "rule": unknown, "limits": unknown}),
    );
}
