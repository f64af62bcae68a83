use proptest::prelude::*;

use super::*;
use crate::value::Missing;

fn round_trip(value: &Value, ty: &Type) -> Value {
    let bytes = value.to_msgpack(ty).expect("encodes");
    Value::from_msgpack(&bytes, ty).expect("decodes")
}

fn number(text: &str) -> Value {
    Value::Number(text.parse().expect("a number"))
}

#[test]
fn objects_carry_exactly_the_attributes_of_their_type() {
    let ty = Type::object([("a", Type::String), ("b", Type::Number)]);
    let short = Value::object([("a", Value::from("x"))]);
    assert_eq!(
        short.to_msgpack(&ty),
        Err(CodecError::MissingAttribute {
            path: Path::empty(),
            name: "b".to_owned()
        })
    );
    let long = short.with("b", Value::Null).with("c", Value::Null);
    assert_eq!(
        long.to_msgpack(&ty),
        Err(CodecError::UnexpectedAttribute {
            path: Path::empty(),
            name: "c".to_owned()
        })
    );
    assert!(Value::from_msgpack(&[0x81, 0xa1, b'a', 0xc0], &ty).is_err());
}

#[test]
fn an_unknown_is_ext_0_and_any_ext_is_an_unknown() {
    assert_eq!(
        Value::unknown().to_msgpack(&Type::String),
        Ok(vec![0xd4, 0, 0])
    );
    for bytes in [
        &[0xd4, 0, 0][..],
        &[0xd5, 7, 1, 2],
        &[0xc7, 3, 99, 1, 2, 3],
        &[0xc8, 0, 1, 5, 9],
    ] {
        let value = Value::from_msgpack(bytes, &Type::Number).expect("unknown");
        assert!(value.is_unknown(), "{bytes:x?}");
    }
}

#[test]
fn a_refined_unknown_keeps_its_refinements() {
    // not null, prefix "ab", between 1 (inclusive) and 9 (exclusive)
    let body = [
        0x84, 1, 0xc2, 2, 0xa2, b'a', b'b', 3, 0x92, 1, 0xc3, 4, 0x92, 9, 0xc2,
    ];
    let mut bytes = vec![0xc7, u8::try_from(body.len()).expect("short"), 12];
    bytes.extend_from_slice(&body);
    let value = Value::from_msgpack(&bytes, &Type::Dynamic).expect("decodes");
    assert_eq!(value.to_msgpack(&Type::String), Ok(bytes));
    let Value::Unknown(Some(refined)) = value else {
        panic!("refined")
    };
    assert!(refined.not_null);
    assert_eq!(refined.prefix.as_deref(), Some("ab"));
    assert_eq!(refined.min, Some((1.into(), true)));
    assert_eq!(refined.max, Some((9.into(), false)));
}

#[test]
fn integers_are_integers_and_no_digit_of_a_decimal_is_lost() {
    let table: &[(&str, &[u8])] = &[
        ("0", &[0]),
        ("127", &[0x7f]),
        ("-32", &[0xe0]),
        ("-33", &[0xd0, 0xdf]),
        ("128", &[0xd1, 0, 0x80]),
        ("65536", &[0xd2, 0, 1, 0, 0]),
        (
            "9223372036854775807",
            &[0xd3, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
        ("0.5", &[0xcb, 0x3f, 0xe0, 0, 0, 0, 0, 0, 0]),
        ("0.7", b"\xa30.7"),
        ("18446744073709551615", b"\xb418446744073709551615"),
        ("9223372036854775808", b"\xb39223372036854775808"),
    ];
    for (text, bytes) in table {
        assert_eq!(
            number(text).to_msgpack(&Type::Number).expect("encodes"),
            *bytes,
            "{text}"
        );
        assert_eq!(
            Value::from_msgpack(bytes, &Type::Number),
            Ok(number(text)),
            "{text}"
        );
    }
    let third = number(&format!("0.{}", "3".repeat(155)));
    assert_eq!(round_trip(&third, &Type::Number), third);
    assert_eq!(
        Value::from_msgpack(
            &[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &Type::Number
        ),
        Ok(number("18446744073709551615"))
    );
}

#[test]
fn null_and_empty_stay_apart() {
    for ty in [
        Type::list(Type::String),
        Type::set(Type::String),
        Type::map(Type::String),
    ] {
        let empty = if matches!(ty, Type::Map(_)) {
            Value::Map(BTreeMap::new())
        } else {
            Value::List(vec![])
        };
        assert!(!round_trip(&empty, &ty).is_null());
        assert!(round_trip(&Value::Null, &ty).is_null());
    }
}

#[test]
fn sets_merge_duplicates_and_forget_their_order() {
    let ty = Type::set(Type::String);
    let bytes = Value::list(["b", "a", "b"])
        .to_msgpack(&Type::list(Type::String))
        .expect("encodes");
    let set = Value::from_msgpack(&bytes, &ty).expect("decodes");
    assert_eq!(set.elements().len(), 2);
    assert_eq!(set, Value::set_of(["a", "b"]));
    assert_eq!(
        round_trip(&Value::Set(vec!["z".into(), "a".into()]), &ty),
        Value::set_of(["a", "z"])
    );
}

#[test]
fn a_dynamic_value_brings_its_type() {
    let actual = Type::object([("x", Type::Tuple(vec![Type::Number, Type::Bool]))]);
    let inner = Value::object([("x", Value::Tuple(vec![1.into(), true.into()]))]);
    let value = Value::dynamic(actual, inner);
    assert_eq!(round_trip(&value, &Type::Dynamic), value);
    let json = value.to_json(&Type::Dynamic).expect("encodes");
    assert_eq!(json["value"]["x"][0], serde_json::json!(1));
    assert_eq!(
        Value::from_json(&json, &Type::Dynamic, Missing::Error),
        Ok(value)
    );
    let typed_null = Value::dynamic(Type::String, Value::Null);
    assert_eq!(round_trip(&typed_null, &Type::Dynamic), typed_null);
}

#[test]
fn text_is_returned_as_it_was_written() {
    let decomposed = Value::from("cafe\u{301}");
    let Value::String(back) = round_trip(&decomposed, &Type::String) else {
        panic!("text")
    };
    assert_eq!(back, "cafe\u{301}");
}

#[test]
fn stored_json_of_an_older_schema_loses_what_is_gone_and_gains_null() {
    let ty = Type::object([("kept", Type::Number), ("new", Type::list(Type::String))]);
    let json = serde_json::json!({ "kept": 18_446_744_073_709_551_615_u64, "removed": true });
    let value = Value::from_json(&json, &ty, Missing::Null).expect("decodes");
    assert_eq!(
        value,
        Value::object([
            ("kept", number("18446744073709551615")),
            ("new", Value::Null)
        ])
    );
    assert!(Value::from_json(&json, &ty, Missing::Error).is_err());
    assert!(Value::unknown().to_json(&Type::String).is_err());
}

#[test]
fn broken_bytes_are_refused_with_the_place() {
    let ty = Type::object([("a", Type::list(Type::Number))]);
    let error = Value::from_msgpack(&[0x81, 0xa1, b'a', 0x91, 0xc3], &ty).expect_err("a bool");
    assert!(
        error.to_string().starts_with("a[0]: expected number"),
        "{error}"
    );
    for bytes in [
        &[][..],
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0x81, 0xa1, b'a', 0x90, 0],
        &[0xc1],
    ] {
        assert!(Value::from_msgpack(bytes, &ty).is_err(), "{bytes:x?}");
    }
}

/// A type with a value of it.
fn any_typed() -> impl Strategy<Value = (Type, Value)> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(|b| (Type::Bool, Value::Bool(b))),
        any::<i64>().prop_map(|n| (Type::Number, n.into())),
        "-?[0-9]{1,30}\\.[0-9]{1,30}".prop_map(|t| (Type::Number, number(&t))),
        ".{0,40}".prop_map(|t| (Type::String, t.into())),
        Just((Type::String, Value::Null)),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            inner
                .clone()
                .prop_map(|(t, v)| (Type::list(t), Value::list([v.clone(), v]))),
            inner
                .clone()
                .prop_map(|(t, v)| (Type::set(t), Value::set_of([v]))),
            inner
                .clone()
                .prop_map(|(t, v)| (Type::map(t), Value::map([("k", v)]))),
            inner.clone().prop_map(|(t, v)| (
                Type::Dynamic,
                if t == Type::Dynamic {
                    v
                } else {
                    Value::dynamic(t, v)
                }
            )),
            proptest::collection::vec(inner, 1..20).prop_map(|all| {
                let named = all
                    .into_iter()
                    .enumerate()
                    .map(|(i, tv)| (format!("a{i}"), tv));
                let (types, values): (Vec<_>, Vec<_>) =
                    named.map(|(n, (t, v))| ((n.clone(), t), (n, v))).unzip();
                (Type::object(types), Value::object(values))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn every_value_survives_msgpack_and_json((ty, value) in any_typed()) {
        prop_assert_eq!(&round_trip(&value, &ty), &value);
        let json = value.to_json(&ty).expect("no unknowns");
        prop_assert_eq!(&Value::from_json(&json, &ty, Missing::Error).expect("decodes"), &value);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), (ty, _) in any_typed()) {
        let _ = Value::from_msgpack(&bytes, &ty);
    }
}
