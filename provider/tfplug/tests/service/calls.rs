//! Everything else that Terraform asks.

use tfplug::proto::tfplugin6 as pb;
use tfplug::proto::tfplugin6::provider_server::Provider as _;
use tfplug::{Type, Value};
use tonic::{Code, Request};

use crate::thing::{config, stored};
use crate::{Terraform, encode, told};

#[tokio::test]
async fn abilities_are_declared_and_the_rest_is_unimplemented() {
    let service = Terraform::new().await.service;
    let schema = service
        .get_provider_schema(Request::new(pb::get_provider_schema::Request {}))
        .await;
    let schema = schema.expect("an answer").into_inner();
    assert_eq!(schema.diagnostics, vec![]);
    let can = schema.server_capabilities.expect("capabilities");
    assert!(can.plan_destroy && can.get_provider_schema_optional && can.move_resource_state);
    assert!(!can.generate_resource_config);
    assert_eq!(schema.resource_schemas["test_thing"].version, 2);
    let names = service
        .get_metadata(Request::new(pb::get_metadata::Request {}))
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(names.resources[0].type_name, "test_thing");
    let identities = service
        .get_resource_identity_schemas(Request::new(pb::get_resource_identity_schemas::Request {}))
        .await
        .expect("an answer")
        .into_inner();
    assert!(identities.identity_schemas["test_thing"].identity_attributes[0].required_for_import);
    let list = service
        .list_resource(Request::new(pb::list_resource::Request::default()))
        .await;
    assert_eq!(list.err().expect("refused").code(), Code::Unimplemented);
    let generate = service.generate_resource_config(Request::new(
        pb::generate_resource_config::Request::default(),
    ));
    assert_eq!(
        generate.await.expect_err("refused").code(),
        Code::Unimplemented
    );
    let action = service
        .plan_action(Request::new(pb::plan_action::Request::default()))
        .await;
    assert_eq!(action.expect_err("refused").code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_bad_value_is_told_once_at_its_attribute() {
    let terraform = Terraform::new().await;
    let validate = async |config: Value, write_only: bool| {
        let request = pb::validate_resource_config::Request {
            type_name: "test_thing".to_owned(),
            config: terraform.message(&config),
            client_capabilities: Some(pb::ClientCapabilities {
                write_only_attributes_allowed: write_only,
                deferral_allowed: false,
            }),
        };
        let answer = terraform
            .service
            .validate_resource_config(Request::new(request))
            .await
            .expect("an answer");
        told(&answer.into_inner().diagnostics)
    };
    assert_eq!(
        validate(config("a", ""), true).await,
        ["warning name: Handler ran"]
    );
    assert_eq!(
        validate(config("far too long", ""), true).await,
        ["error name: Invalid value for name"]
    );
    assert_eq!(
        validate(config("a", "").with("name", Value::unknown()), true).await,
        ["warning name: Handler ran"]
    );
    assert_eq!(
        validate(config("a", ""), false).await,
        ["error secret: Terraform is too old for secret"]
    );
}

#[tokio::test]
async fn an_unknown_type_is_told_and_not_a_grpc_error() {
    let terraform = Terraform::new().await;
    let mut request = terraform.apply_request(&Value::Null, &stored("a", ""), &config("a", ""));
    request.type_name = "test_nothing".to_owned();
    let answer = terraform
        .service
        .apply_resource_change(Request::new(request))
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(told(&answer.diagnostics), ["error : Unknown resource type"]);
}

#[tokio::test]
async fn stored_states_are_upgraded_or_refused() {
    let terraform = Terraform::new().await;
    let upgrade = async |version: i64, json: &str| {
        let raw_state = Some(pb::RawState {
            json: json.as_bytes().to_vec(),
            ..Default::default()
        });
        let request = pb::upgrade_resource_state::Request {
            type_name: "test_thing".to_owned(),
            version,
            raw_state,
        };
        terraform
            .service
            .upgrade_resource_state(Request::new(request))
            .await
            .expect("an answer")
            .into_inner()
    };
    let current = upgrade(2, r#"{"id":"i","name":"a","size":3,"removed":true}"#).await;
    let state = terraform.value(&current.upgraded_state);
    assert_eq!(
        (state.get("size").as_i64(), state.get("rule")),
        (Some(3), &Value::List(vec![]))
    );
    let older = upgrade(1, r#"{"id":"i","name":"a","cores":5}"#).await;
    assert_eq!(
        terraform.value(&older.upgraded_state).get("size").as_i64(),
        Some(5)
    );
    assert_eq!(
        told(&upgrade(3, "{}").await.diagnostics),
        ["error : State is too new"]
    );
    assert_eq!(
        told(&upgrade(2, "").await.diagnostics),
        ["error : State is too old"]
    );
    assert_eq!(upgrade(2, "{").await.diagnostics.len(), 1);
}

#[tokio::test]
async fn imports_start_by_id_or_by_identity() {
    let terraform = Terraform::new().await;
    let import = async |id: &str, identity: Option<&str>| {
        let ty = Type::object([("id", Type::String)]);
        let identity = identity.map(|id| pb::ResourceIdentityData {
            identity_data: Some(encode(&Value::object([("id", id)]), &ty)),
        });
        let request = pb::import_resource_state::Request {
            type_name: "test_thing".to_owned(),
            id: id.to_owned(),
            identity,
            ..Default::default()
        };
        let answer = terraform
            .service
            .import_resource_state(Request::new(request))
            .await
            .expect("an answer");
        answer.into_inner().imported_resources.remove(0)
    };
    for imported in [import("x", None).await, import("", Some("x")).await] {
        assert_eq!(
            terraform.value(&imported.state).get("id").as_str(),
            Some("x")
        );
        assert!(imported.identity.is_some());
    }
}

#[tokio::test]
async fn only_familiar_types_move_in() {
    let terraform = Terraform::new().await;
    let relocate = async |source: &str| {
        let request = pb::move_resource_state::Request {
            source_type_name: source.to_owned(),
            target_type_name: "test_thing".to_owned(),
            source_state: Some(pb::RawState {
                json: br#"{"id":"m"}"#.to_vec(),
                ..Default::default()
            }),
            ..Default::default()
        };
        terraform
            .service
            .move_resource_state(Request::new(request))
            .await
            .expect("an answer")
            .into_inner()
    };
    assert_eq!(
        terraform
            .value(&relocate("other_thing").await.target_state)
            .get("id")
            .as_str(),
        Some("m")
    );
    assert_eq!(
        told(&relocate("strange").await.diagnostics),
        ["error : Move is not supported"]
    );
}

#[tokio::test]
async fn a_function_names_the_argument_at_fault() {
    let service = Terraform::new().await.service;
    let call = async |numbers: &[i64]| {
        let arguments = numbers
            .iter()
            .map(|n| encode(&Value::from(*n), &Type::Number))
            .collect();
        let request = pb::call_function::Request {
            name: "half".to_owned(),
            arguments,
        };
        service
            .call_function(Request::new(request))
            .await
            .expect("an answer")
            .into_inner()
    };
    assert_eq!(call(&[2, 4]).await.result.expect("a result").msgpack, [3]);
    assert_eq!(
        call(&[2, 4, 5])
            .await
            .error
            .expect("an error")
            .function_argument,
        Some(2)
    );
    assert!(
        call(&[])
            .await
            .error
            .expect("an error")
            .text
            .contains("Expected 1 arguments")
    );
    assert!(
        call(&[13])
            .await
            .error
            .expect("an error")
            .text
            .contains("unlucky")
    );
}

#[tokio::test]
async fn an_ephemeral_resource_remembers_until_it_is_closed() {
    let service = Terraform::new().await.service;
    let ty = Type::object([("value", Type::String)]);
    let request = pb::open_ephemeral_resource::Request {
        type_name: "test_key".to_owned(),
        config: Some(encode(&Value::object([("value", Value::Null)]), &ty)),
        ..Default::default()
    };
    let opened = service
        .open_ephemeral_resource(Request::new(request))
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(opened.diagnostics, vec![]);
    assert_eq!(opened.renew_at.expect("a time").seconds, 0);
    let value = Value::from_msgpack(&opened.result.expect("a result").msgpack, &ty).expect("fits");
    assert_eq!(value.get("value").as_str(), Some("k"));
    let request = pb::close_ephemeral_resource::Request {
        type_name: "test_key".to_owned(),
        private: opened.private,
    };
    let closed = service
        .close_ephemeral_resource(Request::new(request))
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(told(&closed.diagnostics), ["warning : lease 1"]);
}
