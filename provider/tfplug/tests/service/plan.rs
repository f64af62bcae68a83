//! Plans.

use tfplug::proto::tfplugin6 as pb;
use tfplug::proto::tfplugin6::provider_server::Provider as _;
use tfplug::{Path, Value};
use tonic::Request;

use crate::thing::{config, stored};
use crate::{Terraform, told};

#[tokio::test]
async fn a_plan_of_a_new_object_is_repeatable_and_hides_the_secret() {
    let terraform = Terraform::new().await;
    for chaos in ["", "leak"] {
        let first = terraform.plan(&Value::Null, &config("a", chaos)).await;
        let planned = terraform.value(&first.planned_state);
        assert!(planned.get("id").is_unknown() && planned.get("size").is_unknown());
        assert!(planned.get("secret").is_null());
        assert_eq!(first.planned_private, br#"{"kept":1}"#);
        assert_eq!(
            first,
            terraform.plan(&Value::Null, &config("a", chaos)).await
        );
    }
}

#[tokio::test]
async fn replacement_comes_from_the_schema_and_from_the_handler() {
    let terraform = Terraform::new().await;
    let prior = stored("a", "");
    for (config, path) in [(config("b", ""), "name"), (config("a", "replace"), "chaos")] {
        let plan = terraform.plan(&prior, &config).await;
        assert_eq!(
            plan.requires_replace
                .iter()
                .map(Path::from_proto)
                .collect::<Vec<_>>(),
            [Path::root(path)]
        );
    }
    let same = terraform.plan(&prior, &config("a", "")).await;
    assert_eq!(terraform.value(&same.planned_state), prior);
}

#[tokio::test]
async fn a_destroy_plan_is_null() {
    let terraform = Terraform::new().await;
    let request = pb::plan_resource_change::Request {
        type_name: "test_thing".to_owned(),
        prior_state: terraform.message(&stored("a", "")),
        proposed_new_state: terraform.message(&Value::Null),
        config: terraform.message(&Value::Null),
        ..Default::default()
    };
    let plan = terraform
        .service
        .plan_resource_change(Request::new(request))
        .await
        .expect("an answer")
        .into_inner();
    assert!(terraform.value(&plan.planned_state).is_null());
    assert_eq!(told(&plan.diagnostics), ["warning : Going"]);
    assert!(plan.requires_replace.is_empty());
}

#[tokio::test]
async fn a_panic_while_planning_is_a_diagnostic() {
    let terraform = Terraform::new().await;
    let plan = terraform
        .plan(&stored("a", ""), &config("a", "plan panic"))
        .await;
    assert_eq!(told(&plan.diagnostics), ["error : Planning failed"]);
    assert!(plan.diagnostics[0].detail.contains("no plan"));
}
