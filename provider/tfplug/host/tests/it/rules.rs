//! The rules that run from the schema alone, on a provider that keeps them and on ones that do not.

use serde_json::json;
use tfplug_host::Rule;
use tfplug_host::rules::{
    Bad, BadCall, Call, DataSourceFixture, EphemeralFixture, Fixtures, FunctionFixture,
    ResourceFixture, Update, check_provider,
};

use crate::host;

fn thing() -> ResourceFixture {
    let config = json!({
        "name": "a", "note": "n", "secret": "s", "tags": {"k": "v"}, "limits": [{"kind": "gpu"}], "rule": [{"port": 1}],
        "local": {"path": "/p"}, "timeouts": {"create": "10m"}
    });
    let mut changed = config.clone();
    changed["note"] = json!("other");
    let mut renamed = changed.clone();
    renamed["name"] = json!("b");
    ResourceFixture {
        config: config.clone(),
        bad: vec![
            Bad::new("name", ""),
            Bad::new("size", 101),
            Bad::new("size", 1.5),
            Bad::new("size", 13).refused_by_plan(),
            Bad::new("mood", "sad"),
            Bad::new("limits[0].kind", "far too long"),
            Bad::new("rule[0].port", 0),
            Bad::new("timeouts.create", "soon"),
        ],
        free: vec![
            "note",
            "ratio",
            "secret",
            "tags",
            "names",
            "any",
            "local.path",
        ],
        apply: true,
        updates: vec![Update::in_place(changed), Update::replace(renamed)],
        import_id: Some("${name}"),
        import_ignore: vec!["timeouts"],
    }
}

fn fixtures() -> Fixtures {
    Fixtures {
        provider: json!({}),
        provider_bad: vec![Bad::new("dir", "relative")],
        resources: [("fixture_thing".to_owned(), thing())].into(),
        data_sources: [(
            "fixture_things".to_owned(),
            DataSourceFixture {
                config: json!({}),
                bad: vec![Bad::new("prefix", "toolong")],
                free: vec![],
                apply: true,
            },
        )]
        .into(),
        ephemeral: [(
            "fixture_ticket".to_owned(),
            EphemeralFixture {
                config: json!({"holder": "me"}),
                bad: vec![Bad::new("holder", "")],
                free: vec![],
                apply: true,
            },
        )]
        .into(),
        functions: [(
            "double".to_owned(),
            FunctionFixture {
                calls: vec![Call {
                    arguments: vec![json!(2)],
                    result: json!(4),
                }],
                bad: vec![BadCall {
                    arguments: vec![json!(-2)],
                    at: Some(0),
                }],
                free: vec![],
            },
        )]
        .into(),
        ..Fixtures::default()
    }
}

#[tokio::test]
async fn a_sound_provider_keeps_every_rule() {
    let (mut host, dir) = host("").await;
    let found = check_provider(&mut host, &fixtures())
        .await
        .expect("it can be asked");
    assert_eq!(found, vec![]);
    let mut left: Vec<_> = std::fs::read_dir(dir.path())
        .expect("the directory")
        .flatten()
        .map(|e| e.file_name())
        .collect();
    left.sort();
    assert_eq!(
        left,
        ["opened", "secret-seen"],
        "nothing is left of what was applied"
    );
}

#[tokio::test]
async fn what_has_no_fixture_is_a_violation() {
    let (mut host, _dir) = host("").await;
    let mut some = fixtures();
    some.resources.clear();
    some.functions.clear();
    some.data_sources
        .insert("fixture_nothing".to_owned(), DataSourceFixture::default());
    some.provider_bad.clear();
    let ephemeral = some
        .ephemeral
        .get_mut("fixture_ticket")
        .expect("the fixture");
    ephemeral.bad = vec![Bad::new("holder", "perfectly good")];
    ephemeral.free = vec!["holdr"];
    let found = check_provider(&mut host, &some)
        .await
        .expect("it can be asked");
    let all: Vec<_> = found.iter().map(ToString::to_string).collect();
    for (place, words) in [
        ("resource.fixture_thing", "no fixture"),
        ("function.double", "no fixture"),
        ("data.fixture_nothing", "not declared"),
        ("provider.dir", "no bad value"),
        ("ephemeral.fixture_ticket.holder", "is accepted"),
        ("ephemeral.fixture_ticket.holdr", "does not exist"),
    ] {
        assert!(
            all.iter()
                .any(|one| one.contains(place) && one.contains(words)),
            "{place}: {words} not in {all:#?}"
        );
    }
}

#[tokio::test]
async fn an_impure_plan_is_found_by_the_rules() {
    let (mut host, _dir) = host("impure-plan").await;
    let found = check_provider(&mut host, &fixtures())
        .await
        .expect("it can be asked");
    assert!(found.iter().any(|one| one.rule == Rule::P9), "{found:?}");
}
