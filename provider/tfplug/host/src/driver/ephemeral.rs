//! One ephemeral resource type: open, renew, close.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;
use tfplug::proto::tfplugin6 as wire;
use tfplug::{Diagnostic, Type, Value};

use crate::check::{self, Rule, Violation};
use crate::host::{CLIENT, decode_as, encode_as, finish, finish_at, no_violations, rpc};
use crate::schema::ObjectSchema;
use crate::{Host, HostError, config};

/// Plays core's part for one ephemeral resource type.
#[derive(Debug)]
pub struct EphemeralDriver<'h> {
    host: &'h Host,
    name: String,
    schema: Arc<ObjectSchema>,
    ty: Type,
}

/// An ephemeral resource in use.
#[derive(Debug, Clone)]
pub struct OpenEphemeral {
    /// Its result.
    pub value: Value,
    /// When Terraform is to renew it; `None`: never.
    pub renew_at: Option<SystemTime>,
    /// The provider's private bytes, which it gets back at renew and close.
    pub private: Option<Vec<u8>>,
}

// === impl Host ===

impl Host {
    /// A driver for the ephemeral resource type `name`.
    ///
    /// # Errors
    /// [`HostError::UnknownType`], or as [`Host::schema`].
    pub async fn ephemeral(&self, name: &str) -> Result<EphemeralDriver<'_>, HostError> {
        let provider = self.schema().await?;
        let schema =
            provider
                .ephemeral
                .get(name)
                .cloned()
                .ok_or_else(|| HostError::UnknownType {
                    kind: "ephemeral resource",
                    name: name.to_owned(),
                    known: provider.ephemeral.keys().cloned().collect(),
                })?;
        let ty = schema.block.implied_type();
        Ok(EphemeralDriver {
            host: self,
            name: name.to_owned(),
            schema: Arc::new(schema),
            ty,
        })
    }
}

// === impl EphemeralDriver ===

impl EphemeralDriver<'_> {
    /// The type's schema.
    #[must_use]
    pub fn schema(&self) -> &ObjectSchema {
        &self.schema
    }

    /// A configuration of this type, see [`config::from_json`].
    ///
    /// # Errors
    /// [`HostError::Value`].
    pub fn config(&self, json: &Json) -> Result<Value, HostError> {
        config::from_json(&self.schema.block, json)
    }

    /// `ValidateEphemeralResourceConfig`: the warnings.
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] with everything the provider found wrong.
    pub async fn validate(&self, config: &Value) -> Result<Vec<Diagnostic>, HostError> {
        let call = "ValidateEphemeralResourceConfig";
        let request = wire::validate_ephemeral_resource_config::Request {
            type_name: self.name.clone(),
            config: Some(encode_as(&self.ty, config)?),
        };
        let answer = self
            .host
            .client()
            .validate_ephemeral_resource_config(request)
            .await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        finish_at(call, &response.diagnostics, &self.schema.block)
    }

    /// Validates and opens, with E1.
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] when the provider refuses, [`HostError::Violations`] when its answer is unsound.
    pub async fn open(&self, config: &Json) -> Result<OpenEphemeral, HostError> {
        let call = "OpenEphemeralResource";
        let config = self.config(config)?;
        self.validate(&config).await?;
        let request = wire::open_ephemeral_resource::Request {
            type_name: self.name.clone(),
            config: Some(encode_as(&self.ty, &config)?),
            client_capabilities: Some(CLIENT),
        };
        let answer = self.host.client().open_ephemeral_resource(request).await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        finish_at(call, &response.diagnostics, &self.schema.block)?;
        let named = format!("{call} of {}", self.name);
        let value = match decode_as(&self.ty, response.result.as_ref()) {
            Ok(value) => value.unwrap_or_default(),
            Err(reason) => {
                no_violations(&named, vec![Violation::new(Rule::E1, "", reason)])?;
                Value::Null
            }
        };
        let mut wrong = check::result::check_ephemeral(&self.schema.block, &config, &value);
        if response.deferred.is_some() {
            wrong.push(Violation::new(
                Rule::PROTO,
                "",
                "deferred, though the client does not allow it",
            ));
        }
        no_violations(&named, wrong)?;
        Ok(OpenEphemeral {
            value,
            renew_at: response.renew_at.map(|at| time(at.seconds, at.nanos)),
            private: response.private,
        })
    }

    /// `RenewEphemeralResource`: its new time and private bytes.
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] when the provider cannot.
    pub async fn renew(&self, open: &OpenEphemeral) -> Result<OpenEphemeral, HostError> {
        let call = "RenewEphemeralResource";
        let request = wire::renew_ephemeral_resource::Request {
            type_name: self.name.clone(),
            private: open.private.clone(),
        };
        let answer = self.host.client().renew_ephemeral_resource(request).await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        finish(call, &response.diagnostics)?;
        Ok(OpenEphemeral {
            value: open.value.clone(),
            renew_at: response.renew_at.map(|at| time(at.seconds, at.nanos)),
            private: response.private,
        })
    }

    /// `CloseEphemeralResource`: the warnings.
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] when the provider cannot.
    pub async fn close(&self, open: OpenEphemeral) -> Result<Vec<Diagnostic>, HostError> {
        let call = "CloseEphemeralResource";
        let request = wire::close_ephemeral_resource::Request {
            type_name: self.name.clone(),
            private: open.private,
        };
        let answer = self.host.client().close_ephemeral_resource(request).await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        finish(call, &response.diagnostics)
    }
}

/// A protobuf timestamp; before 1970 it is taken as 1970.
fn time(seconds: i64, nanos: i32) -> SystemTime {
    UNIX_EPOCH
        + Duration::new(
            u64::try_from(seconds).unwrap_or(0),
            u32::try_from(nanos).unwrap_or(0),
        )
}
