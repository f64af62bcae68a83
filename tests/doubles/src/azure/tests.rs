//! The double itself: it refuses what Azure refuses.

use super::path::Kind;
use super::*;
use serde_json::json;

fn contract() -> Option<Contract> {
    let types = Options::default().types?;
    let contract = Contract::read(Some(&types)).expect("they read");
    contract.validates().then_some(contract)
}

#[test]
fn bodies_are_held_against_the_types() {
    let Some(contract) = contract() else {
        eprintln!("not checked: GPULOOM_DATA has no azure/");
        return;
    };
    let wrong = |kind, body: serde_json::Value, whole| contract.body(kind, &body, whole).join("; ");
    let good = json!({
        "location": "eastus",
        "zones": ["1"],
        "tags": { "gpuloom:fleet": "ml" },
        "properties": {
            "priority": "Spot",
            "billingProfile": { "maxPrice": -1 },
            "storageProfile": { "osDisk": { "createOption": "FromImage", "diskSizeGB": 64 } },
        },
    });
    assert_eq!(wrong(Kind::Machine, good.clone(), true), "");
    for (path, value, said) in [
        ("location", json!(null), "location is null"),
        ("zones", json!("1"), "zones is no array"),
        ("rank", json!(1), "rank is unknown"),
        ("etag", json!("x"), "etag is read-only"),
        ("tags", json!({ "a": 1 }), "tags.a is no string"),
        (
            "properties",
            json!({ "timeCreated": "now" }),
            "properties.timeCreated is read-only",
        ),
        (
            "properties",
            json!({ "storageProfile": { "osDisk": {} } }),
            "properties.storageProfile.osDisk.createOption is required",
        ),
        ("identity", json!({ "type": "Mine" }), "none of its values"),
        (
            "properties",
            json!({ "billingProfile": { "maxPrice": "1" } }),
            "maxPrice is no integer",
        ),
    ] {
        let mut body = good.clone();
        body[path] = value;
        let text = wrong(Kind::Machine, body, true);
        assert!(text.contains(said), "{path}: {text:?}");
    }
    let without = json!({ "tags": {} });
    assert_eq!(
        wrong(Kind::Machine, without.clone(), false),
        "",
        "a PATCH is a part"
    );
    assert_eq!(wrong(Kind::Machine, without, true), "location is required");
    let set = json!({ "location": "eastus", "properties": { "orchestrationMode": "Flexible" } });
    assert_eq!(wrong(Kind::ScaleSet, set, true), "");
}

#[test]
fn disks_are_checked_without_the_types_too() {
    let contract = Contract::default();
    let good = json!({
        "location": "eastus",
        "sku": { "name": "StandardSSD_LRS" },
        "properties": { "creationData": { "createOption": "Empty" }, "diskSizeGB": 64 },
    });
    assert!(contract.body(Kind::Disk, &good, true).is_empty());
    let mut bad = good;
    bad["properties"]["diskSize"] = json!(1);
    assert_eq!(
        contract.body(Kind::Disk, &bad, true),
        ["properties.diskSize is unknown"]
    );
}

#[tokio::test]
async fn without_a_token_nothing_is_answered_and_a_wrong_version_is_a_violation() {
    let double = Double::start(Options::default()).await.expect("a port");
    let client = crate::http::client();
    let list = format!(
        "{}/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Compute/virtualMachines",
        double.endpoint()
    );
    let denied = client.get(&list).send().await.expect("answers");
    assert_eq!(denied.status(), 401);
    let token = format!(
        "{}/metadata/identity/oauth2/token?resource=x",
        double.endpoint()
    );
    let token = client
        .get(token)
        .header("metadata", "true")
        .send()
        .await
        .expect("answers");
    let token: serde_json::Value = token.json().await.expect("JSON");
    let token = token["access_token"].as_str().expect("a token");
    for (version, status) in [("2024-07-01", 400), ("2026-04-01", 200)] {
        let url = format!("{list}?api-version={version}");
        let answer = client
            .get(url)
            .bearer_auth(token)
            .send()
            .await
            .expect("answers");
        assert_eq!(answer.status(), status, "{version}");
    }
    assert_eq!(
        double.control().violations().len(),
        1,
        "{:?}",
        double.control().violations()
    );
    let form = |secret| {
        format!(
            "client_id={CLIENT}&client_secret={secret}&grant_type=client_credentials&scope=https%3A%2F%2Fx%2F.default"
        )
    };
    for (secret, status) in [("guessed", 401), (SECRET, 200)] {
        let url = format!("{}/{TENANT}/oauth2/v2.0/token", double.endpoint());
        let request = client.post(url).body(form(secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(request.send().await.expect("answers").status(), status);
    }
}
