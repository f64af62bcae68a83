//! Hundreds of launches and terminations on each cloud while a third of all calls go wrong and the driver's process is killed.

use serde_json::Value;
use std::process::{Command, Stdio};

/// The same figures and goals as the benchmark `cloud-faults`, on less.
#[track_caller]
fn holds(cloud: &str, operations: u32) {
    let operations = operations.to_string();
    let run = Command::new(env!("CARGO_BIN_EXE_cloud-faults"))
        .args(["play", cloud, "--operations", &operations, "--kills", "3"])
        .args(["--within-s", "400"])
        .stdin(Stdio::null())
        .output()
        .expect("the program was built with this test");
    let (said, errors) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success(), "{cloud}: {said}\n{errors}");
    let rows: Vec<Value> = serde_json::from_str(&said).expect("rows");
    let goals = rows.iter().filter(|row| !row["goal"].is_null()).count();
    assert_eq!(goals, 6, "{said}");
    let faults = rows
        .iter()
        .find(|row| {
            row["name"]
                .as_str()
                .is_some_and(|n| n.ends_with("with a fault"))
        })
        .and_then(|row| row["figure"].as_f64());
    // Otherwise nothing was shown.
    assert!(faults.is_some_and(|share| share > 25.0), "{said}");
}

#[test]
fn aws_gives_each_launch_one_instance_and_leaves_none() {
    // moto answers about one call a second: the benchmark does the rest.
    holds("aws", 40);
}

#[test]
fn gcp_gives_each_launch_one_instance_and_leaves_none() {
    holds("gcp", 500);
}

#[test]
fn azure_gives_each_launch_one_instance_and_leaves_none() {
    holds("azure", 500);
}
