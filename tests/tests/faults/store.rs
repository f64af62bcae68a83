//! A store that was damaged: refused by name with a way out, nothing dropped, and a backup brings it back.

use crate::stage::{Block, FLEET, Stage};
use gpuloom_tests::{SHORT, is_alive, until};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

pub(crate) fn a_corrupt_store_is_refused_with_the_way_out_and_a_backup_brings_it_back() {
    let mut stage = Stage::new("2xT4");
    stage.blocks = vec![Block::tenant("a", 3), Block::pool("t4", 1, 1, 1)];
    stage.apply().expect("the fleet comes up");
    stage.plan_is_empty();
    stop(&stage);
    let store = stage.rig.instance("lead-f").join("store.db");
    let (path, backup) = (
        store.display().to_string(),
        stage.rig.dir().join("backup.db"),
    );
    let backup = backup.display().to_string();
    let made = stage
        .rig
        .say(&["store", "backup", "--path", &path, &backup]);
    assert_eq!(made.code, 0, "{made:?}");
    damage(&store);
    let damaged = std::fs::read(&store).expect("it is there");

    let found = stage.rig.say(&["store", "check", "--path", &path]);
    assert_ne!(found.code, 0, "{found:?}");
    stage.walk();
    let refused = stage
        .apply()
        .expect_err("a lead does not start on a damaged store");
    for words in [path.as_str(), "gpuloom store restore"] {
        assert!(refused.contains(words), "{refused} does not say {words}");
    }
    let after = std::fs::read(&store).expect("it is there");
    assert!(after == damaged, "a refused store was changed");
    assert!(
        stage.fleet.state.is_some(),
        "nothing is dropped from the state"
    );

    let restored = stage.rig.say(&["store", "restore", &backup, "--to", &path]);
    assert_eq!(restored.code, 0, "{restored:?}");
    stage.walk();
    stage.apply().expect("apply starts the lead again");
    stage.plan_is_empty();
    let tenant = stage.rig.fleet(FLEET).json(&["get", "tenant", "a"]);
    assert_eq!(tenant["spec"]["weight"], 3, "{tenant}");
    assert_eq!(stage.nodes().len(), 1);
    stage.end();
}

/// SIGTERM to the lead, and its end: all of the store is in its one file.
fn stop(stage: &Stage) {
    let pid = stage.lead_pid();
    let process = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("it runs");
    until("the lead has ended", SHORT, || {
        (!is_alive(pid))
            .then_some(())
            .ok_or_else(|| pid.to_string())
    });
}

/// Overwrites the middle of every page but the first: whatever is read is damaged.
fn damage(store: &Path) {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(store)
        .expect("it is there");
    let length = file.metadata().expect("it is there").len();
    let mut at = 4096;
    while at + 4096 <= length {
        file.write_all_at(&[0xA5; 256], at + 1024)
            .expect("it is ours");
        at += 4096;
    }
}
