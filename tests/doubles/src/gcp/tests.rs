//! The double by itself: what it refuses, remembers and lets happen.

use super::*;
use crate::faults::FaultRule;
use crate::http::client;
use serde_json::json;

async fn double() -> Double {
    let double = Double::start(Options::default()).await.expect("a port");
    let revision = double.contract();
    assert!(
        revision.is_ok(),
        "{revision:?}: the double's tests need the contract"
    );
    double
}

async fn call(double: &Double, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let url = format!("{}/compute/v1/projects/{PROJECT}/{path}", double.endpoint());
    let method = method.parse().expect("a method");
    let mut request = client().request(method, url);
    if let Some(body) = body {
        request = request.body(body.to_string());
    }
    let answer = request.send().await.expect("answers");
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("text");
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

fn insert(name: &str) -> Value {
    json!({
        "name": name, "machineType": "zones/us-central1-a/machineTypes/g2-standard-4",
        "disks": [{"boot": true, "autoDelete": true, "initializeParams": {"sourceImage": "projects/p/global/images/i"}}],
        "networkInterfaces": [{"network": "global/networks/default"}],
        "labels": {"fleet": "ml"}
    })
}

async fn until_done(double: &Double, operation: &Value) -> Value {
    let name = operation["name"].as_str().expect("a name");
    let path = format!("zones/us-central1-a/operations/{name}/wait");
    for _ in 0..5 {
        let (status, now) = call(double, "POST", &path, None).await;
        assert_eq!(status, 200, "{now}");
        if now["status"] == "DONE" {
            return now;
        }
    }
    panic!("{name} is never done");
}

#[tokio::test]
async fn an_instance_is_made_shown_and_ended_by_operations() {
    let double = double().await;
    let (status, begun) = call(
        &double,
        "POST",
        "zones/us-central1-a/instances",
        Some(insert("a")),
    )
    .await;
    assert_eq!(
        (status, &begun["status"]),
        (200, &json!("PENDING")),
        "{begun}"
    );
    let (_, found) = call(&double, "GET", "zones/us-central1-a/instances/a", None).await;
    assert_eq!(found["status"], "PROVISIONING");
    until_done(&double, &begun).await;
    let (_, found) = call(&double, "GET", "zones/us-central1-a/instances/a", None).await;
    assert_eq!(found["status"], "RUNNING");
    let (status, _) = call(
        &double,
        "POST",
        "zones/us-central1-a/instances",
        Some(insert("a")),
    )
    .await;
    assert_eq!(status, 409, "the name is taken");
    let (_, begun) = call(&double, "DELETE", "zones/us-central1-a/instances/a", None).await;
    until_done(&double, &begun).await;
    let (status, _) = call(&double, "GET", "zones/us-central1-a/instances/a", None).await;
    assert_eq!(status, 404);
    assert!(double.disks().is_empty(), "the boot disk goes with it");
    assert_eq!(double.control().violations(), [""; 0]);
}

#[tokio::test]
async fn what_is_not_of_the_contract_is_refused_and_noted() {
    let double = double().await;
    let mut body = insert("a");
    body["spot"] = json!(true);
    let (status, answer) = call(&double, "POST", "zones/us-central1-a/instances", Some(body)).await;
    assert_eq!(status, 400, "{answer}");
    let mut body = insert("a");
    body["disks"][0]["diskSizeGb"] = json!(10);
    let (status, _) = call(&double, "POST", "zones/us-central1-a/instances", Some(body)).await;
    assert_eq!(status, 400);
    let (status, _) = call(
        &double,
        "GET",
        "zones/us-central1-a/instances?limit=5",
        None,
    )
    .await;
    assert_eq!(status, 400);
    let violations = double.control().violations();
    assert_eq!(violations.len(), 3, "{violations:?}");
    assert!(
        violations[0].contains("body.spot does not exist"),
        "{violations:?}"
    );
    assert!(
        violations[1].contains("body.disks[0].diskSizeGb = 10: is no string"),
        "{violations:?}"
    );
    assert!(
        violations[2].contains("\"limit\" does not exist"),
        "{violations:?}"
    );
    assert!(double.living().is_empty());
}

#[tokio::test]
async fn a_request_id_is_answered_with_the_same_operation() {
    let double = double().await;
    let path = "zones/us-central1-a/instances?requestId=01234567-0123-8123-8123-0123456789ab";
    let (_, first) = call(&double, "POST", path, Some(insert("a"))).await;
    let (status, again) = call(&double, "POST", path, Some(insert("a"))).await;
    assert_eq!((status, &again["name"]), (200, &first["name"]));
    let (status, _) = call(
        &double,
        "POST",
        "zones/us-central1-a/instances?requestId=1",
        Some(insert("b")),
    )
    .await;
    assert_eq!(status, 400, "no UUID");
}

#[tokio::test]
async fn no_room_is_said_by_the_operation() {
    let double = double().await;
    double.set_room("us-central1-a/*", 0);
    let (_, begun) = call(
        &double,
        "POST",
        "zones/us-central1-a/instances",
        Some(insert("a")),
    )
    .await;
    let done = until_done(&double, &begun).await;
    assert_eq!(
        done["error"]["errors"][0]["code"],
        "ZONE_RESOURCE_POOL_EXHAUSTED"
    );
    assert!(double.living().is_empty());
    double.clear_rooms();
    double
        .faults()
        .add(FaultRule::new("instances.insert", Effect::Quota).times(1))
        .expect("a rule");
    let (_, begun) = call(
        &double,
        "POST",
        "zones/us-central1-a/instances",
        Some(insert("a")),
    )
    .await;
    let done = until_done(&double, &begun).await;
    assert_eq!(done["error"]["errors"][0]["code"], "QUOTA_EXCEEDED");
}

#[tokio::test]
async fn lists_are_filtered_paged_and_late() {
    let options = Options {
        page: 1,
        list_lag: 1,
        ..Options::default()
    };
    let double = Double::start(options).await.expect("a port");
    for name in ["a", "b"] {
        call(
            &double,
            "POST",
            "zones/us-central1-a/instances",
            Some(insert(name)),
        )
        .await;
    }
    let path = "zones/us-central1-a/instances?filter=labels.fleet%20%3D%20%22ml%22";
    let (_, late) = call(&double, "GET", path, None).await;
    assert_eq!(late["items"], json!([]));
    let (_, first) = call(&double, "GET", path, None).await;
    assert_eq!(first["items"].as_array().map(Vec::len), Some(1));
    let token = first["nextPageToken"].as_str().expect("another page");
    let (_, second) = call(&double, "GET", &format!("{path}&pageToken={token}"), None).await;
    assert_eq!(second["items"][0]["name"], "b");
    let (_, other) = call(&double, "GET", "zones/us-central1-b/instances", None).await;
    assert_eq!(other["items"], json!([]));
}

#[tokio::test]
async fn once_a_key_was_made_every_request_needs_its_token() {
    let double = double().await;
    let dir = tempfile::tempdir().expect("a folder");
    let path = double.key_file(dir.path()).expect("a key");
    let key: Value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
    assert_eq!(key["client_email"], EMAIL);
    let (status, answer) = call(&double, "GET", "zones", None).await;
    assert_eq!(
        (status, &answer["error"]["errors"][0]["reason"]),
        (401, &json!("authError"))
    );
}

#[tokio::test]
async fn a_kill_leaves_the_disks_that_outlive_it() {
    let double = double().await;
    let mut body = insert("a");
    let kept =
        json!({"autoDelete": false, "initializeParams": {"diskName": "kept", "diskSizeGb": "20"}});
    body["disks"].as_array_mut().expect("disks").push(kept);
    call(&double, "POST", "zones/us-central1-a/instances", Some(body)).await;
    assert_eq!(double.disks().len(), 2);
    double.kill("a");
    let kept = ("us-central1-a".to_owned(), "kept".to_owned(), false);
    assert_eq!(double.disks(), [kept]);
    assert!(double.machines()[0].ended);
}
