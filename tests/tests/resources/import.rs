//! What exists is taken over: by command and by block, by the short id and by the one that works anywhere.

use crate::stand::{ONE_OF_EACH, configuration};
use gpuloom_tests::Rig;

#[test]
fn every_resource_is_imported_and_the_plan_is_empty() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    terraform.write(&configuration(&ONE_OF_EACH));
    terraform.apply(&[]);
    let before = terraform.state();
    let fleet = rig.fleet("r");

    // By command: half with the fleet's name, half with where it answers.
    terraform.ok(&["state", "rm", "gpuloom_fleet.r"]);
    terraform.ok(&["import", "-no-color", "gpuloom_fleet.r", "r"]);
    for (at, (kind, name, _)) in ONE_OF_EACH.iter().enumerate() {
        let address = format!("gpuloom_{kind}.x");
        let id = match at % 2 {
            0 => format!("r/{name}"),
            _ => format!("{}|{}|{name}", fleet.endpoint, fleet.ca_pin),
        };
        terraform.ok(&["state", "rm", &address]);
        terraform.ok(&["import", "-no-color", &address, &id]);
    }
    terraform.plan_is_empty();
    assert_eq!(
        terraform.state(),
        before,
        "an import knows what a create knew"
    );

    // By block, all at once.
    let mut text = configuration(&ONE_OF_EACH);
    text.push_str("import {\n  to = gpuloom_fleet.r\n  id = \"r\"\n}\n");
    terraform.ok(&["state", "rm", "gpuloom_fleet.r"]);
    for (kind, name, _) in ONE_OF_EACH {
        let address = format!("gpuloom_{kind}.x");
        terraform.ok(&["state", "rm", &address]);
        text.push_str(&format!(
            "import {{\n  to = {address}\n  id = \"r/{name}\"\n}}\n"
        ));
    }
    terraform.write(&text);
    let changes = terraform.plan();
    assert!(changes.iter().all(|c| c.action == "import"), "{changes:?}");
    let done = terraform.apply(&[]);
    assert!(
        done.stdout.contains("7 imported") || done.all().contains("\"import\":7"),
        "{}",
        done.all()
    );
    terraform.plan_is_empty();

    // What does not exist is not imported, and says so.
    terraform.ok(&["state", "rm", "gpuloom_tenant.x"]);
    terraform.write(&configuration(&ONE_OF_EACH));
    for (id, said) in [
        ("r/nobody", "Cannot import non-existent remote object"),
        ("nowhere/t", "There is no fleet"),
        ("t", "neither"),
        ("127.0.0.1:1|sha256:00|t", "ca_pin"),
    ] {
        let refused = terraform.run(&["import", "-no-color", "gpuloom_tenant.x", id]);
        assert!(!refused.status.success(), "{id} was imported");
        let flat = refused
            .all()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(flat.contains(said) || flat.contains("pin"), "{id}: {flat}");
    }
    terraform.ok(&["import", "-no-color", "gpuloom_tenant.x", "r/t"]);
    terraform.plan_is_empty();
    terraform.destroy();
    rig.nothing_is_left();
}
