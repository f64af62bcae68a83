use super::*;

fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[test]
fn labels_take_lower_case_and_63_bytes() {
    assert_eq!(key("gpuloom:fleet-id"), "gpuloom-fleet-id");
    assert_eq!(value("gcp/us-central1/T4"), "gcp-us-central1-t4");
    assert_eq!(value(&"A".repeat(80)), "a".repeat(63));
    assert_eq!(value("é"), "-", "a byte more would be refused");
}

#[test]
fn names_follow_from_the_token_and_always_read() {
    for (front, tail) in [
        ("ml", "t4-01234567"),
        ("9-fleet", "t4-01234567"),
        ("Team_A.x", "lead-01234567"),
        (&*"f".repeat(63), &*format!("{}-01234567", "p".repeat(63))),
        (&*format!("{}-", "f".repeat(51)), "pool-01234567"),
    ] {
        let name = name(front, tail);
        assert!(is_name(&name) && name.len() <= MAX_NAME, "{name}");
        assert!(name.ends_with("-01234567"), "{name}");
    }
}

#[test]
fn a_request_id_is_a_uuid_that_token_and_number_decide() {
    let token = Token::new("t-1").expect("token");
    let id = request_id(&token, 0);
    assert_eq!(id, request_id(&token, 0));
    assert_ne!(id, request_id(&token, 1));
    assert_eq!((id.len(), &id[14..15]), (36, "8"), "{id}");
}

#[test]
fn attributes_come_back_as_they_were_left() {
    let pin = format!("sha256:{}", "0a".repeat(32));
    for value in [pin.as_str(), "", "UPPER_case é", &"x".repeat(252)] {
        let labels = write_attribute("ca-pin", value).expect("fits");
        for (key, part) in &labels {
            assert!(key.len() <= 63 && part.len() <= 63, "{key}={part}");
            assert!(is_of_attribute(key, "ca-pin"));
            assert!(!is_of_attribute(key, "ca"), "another one's label");
        }
        let labels: HashMap<_, _> = labels.into_iter().collect();
        let read = read_attribute(&labels, "ca-pin").expect("reads");
        assert_eq!(read.as_deref(), Some(value));
        assert_eq!(read_attribute(&labels, "fleet-id"), Ok(None));
    }
}

#[test]
fn an_attribute_that_does_not_fit_is_refused_with_its_size() {
    let refused = write_attribute("ca-pin", &"x".repeat(253)).expect_err("too long");
    assert!(
        refused.contains("253") && refused.contains("252"),
        "{refused}"
    );
    assert!(write_attribute("Ca Pin", "x").is_err());
    let foreign = HashMap::from([("gpuloom-attr-ca-pin-0".to_owned(), "a_zz".to_owned())]);
    assert!(read_attribute(&foreign, "ca-pin").is_err());
}

#[test]
fn a_listing_without_tags_asks_for_every_fleet() {
    assert_eq!(filter(&Tags::default()), "labels.gpuloom-fleet:*");
    let tags = Tags(BTreeMap::from([
        ("gpuloom:fleet".to_owned(), "ml".to_owned()),
        ("gpuloom:token".to_owned(), "AB-1".to_owned()),
    ]));
    assert_eq!(
        filter(&tags),
        "labels.gpuloom-fleet = \"ml\" AND labels.gpuloom-token = \"ab-1\""
    );
}
