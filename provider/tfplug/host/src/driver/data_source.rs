//! One data source type.

use std::sync::Arc;

use serde_json::Value as Json;
use tfplug::proto::tfplugin6 as wire;
use tfplug::{Diagnostic, Type, Value};

use crate::check::{self, Rule, Violation};
use crate::host::{CLIENT, decode_as, encode_as, finish_at, no_violations, rpc};
use crate::schema::ObjectSchema;
use crate::{Host, HostError, config};

/// Plays core's part for one data source type.
#[derive(Debug)]
pub struct DataSourceDriver<'h> {
    host: &'h Host,
    name: String,
    schema: Arc<ObjectSchema>,
    ty: Type,
}

// === impl Host ===

impl Host {
    /// A driver for the data source type `name`.
    ///
    /// # Errors
    /// [`HostError::UnknownType`], or as [`Host::schema`].
    pub async fn data_source(&self, name: &str) -> Result<DataSourceDriver<'_>, HostError> {
        let provider = self.schema().await?;
        let schema =
            provider
                .data_sources
                .get(name)
                .cloned()
                .ok_or_else(|| HostError::UnknownType {
                    kind: "data source",
                    name: name.to_owned(),
                    known: provider.data_sources.keys().cloned().collect(),
                })?;
        let ty = schema.block.implied_type();
        Ok(DataSourceDriver {
            host: self,
            name: name.to_owned(),
            schema: Arc::new(schema),
            ty,
        })
    }
}

// === impl DataSourceDriver ===

impl DataSourceDriver<'_> {
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

    /// `ValidateDataResourceConfig`: the warnings.
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] with everything the provider found wrong.
    pub async fn validate(&self, config: &Value) -> Result<Vec<Diagnostic>, HostError> {
        let call = "ValidateDataResourceConfig";
        let request = wire::validate_data_resource_config::Request {
            type_name: self.name.clone(),
            config: Some(encode_as(&self.ty, config)?),
        };
        let answer = self
            .host
            .client()
            .validate_data_resource_config(request)
            .await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        finish_at(call, &response.diagnostics, &self.schema.block)
    }

    /// Validates and reads, with D1.
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] when the provider refuses, [`HostError::Violations`] when its answer is unsound.
    pub async fn read(&self, config: &Json) -> Result<Value, HostError> {
        let call = "ReadDataSource";
        let config = self.config(config)?;
        self.validate(&config).await?;
        let request = wire::read_data_source::Request {
            type_name: self.name.clone(),
            config: Some(encode_as(&self.ty, &config)?),
            client_capabilities: Some(CLIENT),
            ..wire::read_data_source::Request::default()
        };
        let answer = self.host.client().read_data_source(request).await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        finish_at(call, &response.diagnostics, &self.schema.block)?;
        let named = format!("{call} of {}", self.name);
        let value = match decode_as(&self.ty, response.state.as_ref()) {
            Ok(value) => value.unwrap_or_default(),
            Err(reason) => {
                no_violations(&named, vec![Violation::new(Rule::D1, "", reason)])?;
                Value::Null
            }
        };
        let mut wrong = check::result::check_data(&self.schema.block, &config, &value);
        if response.deferred.is_some() {
            wrong.push(Violation::new(
                Rule::PROTO,
                "",
                "deferred, though the client does not allow it",
            ));
        }
        no_violations(&named, wrong)?;
        Ok(value)
    }
}
