//! The service as Terraform sees it, call by call, without a process in between.

mod apply;
mod calls;
mod plan;
mod read;
mod thing;

use tfplug::proto::tfplugin6 as pb;
use tfplug::proto::tfplugin6::provider_server::Provider as _;
use tfplug::{Path, Service, Type, Value};
use tonic::Request;

/// Terraform's side of a conversation.
pub(crate) struct Terraform {
    pub(crate) service: Service,
    pub(crate) ty: Type,
}

impl Terraform {
    pub(crate) async fn new() -> Self {
        let service = Service::new(thing::Provider);
        let config = encode(&Value::object::<&str, Value>([]), &Type::object::<&str>([]));
        let request = pb::configure_provider::Request {
            config: Some(config),
            ..Default::default()
        };
        let answer = service
            .configure_provider(Request::new(request))
            .await
            .expect("an answer");
        assert_eq!(answer.into_inner().diagnostics, vec![]);
        Self {
            service,
            ty: thing::schema().ty(),
        }
    }

    pub(crate) fn message(&self, value: &Value) -> Option<pb::DynamicValue> {
        Some(encode(value, &self.ty))
    }

    pub(crate) fn value(&self, message: &Option<pb::DynamicValue>) -> Value {
        let message = message.as_ref().expect("a value");
        Value::from_msgpack(&message.msgpack, &self.ty).expect("a value of the schema's type")
    }

    pub(crate) async fn plan(
        &self,
        prior: &Value,
        config: &Value,
    ) -> pb::plan_resource_change::Response {
        // What core proposes: what is configured, and what is stored where nothing is.
        let mut proposed = config.clone();
        for (name, value) in prior.members().into_iter().flatten() {
            let computed = thing::schema()
                .attribute_list()
                .iter()
                .any(|a| a.name() == name && a.is_computed());
            if computed && config.get(name).is_null() {
                proposed.set(name, value.clone());
            }
        }
        let request = pb::plan_resource_change::Request {
            type_name: "test_thing".to_owned(),
            prior_state: self.message(prior),
            proposed_new_state: self.message(&proposed),
            config: self.message(config),
            prior_private: br#"{"kept":1}"#.to_vec(),
            ..Default::default()
        };
        self.service
            .plan_resource_change(Request::new(request))
            .await
            .expect("an answer")
            .into_inner()
    }

    pub(crate) fn apply_request(
        &self,
        prior: &Value,
        planned: &Value,
        config: &Value,
    ) -> pb::apply_resource_change::Request {
        pb::apply_resource_change::Request {
            type_name: "test_thing".to_owned(),
            prior_state: self.message(prior),
            planned_state: self.message(planned),
            config: self.message(config),
            ..Default::default()
        }
    }

    pub(crate) async fn apply(
        &self,
        prior: &Value,
        planned: &Value,
        config: &Value,
    ) -> pb::apply_resource_change::Response {
        let request = self.apply_request(prior, planned, config);
        self.service
            .apply_resource_change(Request::new(request))
            .await
            .expect("an answer")
            .into_inner()
    }

    /// Plans and applies a creation that goes wrong in the way that `chaos` says.
    pub(crate) async fn create(&self, chaos: &str) -> pb::apply_resource_change::Response {
        let config = thing::config("a", chaos);
        let planned = self.value(&self.plan(&Value::Null, &config).await.planned_state);
        self.apply(&Value::Null, &planned, &config).await
    }
}

pub(crate) fn encode(value: &Value, ty: &Type) -> pb::DynamicValue {
    pb::DynamicValue {
        msgpack: value.to_msgpack(ty).expect("fits"),
        json: Vec::new(),
    }
}

/// `error name: summary` for each diagnostic.
pub(crate) fn told(diagnostics: &[pb::Diagnostic]) -> Vec<String> {
    diagnostics
        .iter()
        .map(|d| {
            let path = d
                .attribute
                .as_ref()
                .map(Path::from_proto)
                .unwrap_or_default();
            let severity = if d.severity == 1 { "error" } else { "warning" };
            format!("{severity} {path}: {}", d.summary)
        })
        .collect()
}
