//! Identities in messages.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value as Json;

use super::{encode, keep, refuse_unknown};
use crate::diag::{Diagnostic, Diagnostics};
use crate::proto::tfplugin6 as pb;
use crate::resource::Resource;
use crate::server::service::{Service, panicked};
use crate::value::{Missing, Value};

/// The identity in a message; `None` when there is none.
pub(crate) fn decode(
    handler: &dyn Resource,
    message: Option<&pb::ResourceIdentityData>,
) -> Result<Option<Value>, Diagnostics> {
    let (Some(message), Some(schema)) = (message, handler.identity_schema()) else {
        return Ok(None);
    };
    let value = super::decode(message.identity_data.as_ref(), &schema.ty())?;
    Ok((!value.is_null()).then_some(value))
}

/// A message with this identity.
pub(crate) fn to_message(
    handler: &dyn Resource,
    identity: &Value,
) -> Result<Option<pb::ResourceIdentityData>, Diagnostics> {
    let Some(schema) = handler.identity_schema() else {
        return Ok(None);
    };
    refuse_unknown(identity, "the identity was settled")?;
    Ok(Some(pb::ResourceIdentityData {
        identity_data: Some(encode(identity, &schema.ty())?),
    }))
}

/// A message with the identity of an object in this state.
pub(crate) fn of_state(
    handler: &dyn Resource,
    state: &Value,
) -> Result<Option<pb::ResourceIdentityData>, Diagnostics> {
    let identity = catch_unwind(AssertUnwindSafe(|| handler.identity(state)))
        .map_err(|panic| panicked("Reading the identity", panic.as_ref()))?;
    identity.map_or(Ok(None), |identity| to_message(handler, &identity))
}

/// Brings a stored identity to the current identity schema.
pub(crate) async fn upgrade(
    service: &Service,
    request: pb::upgrade_resource_identity::Request,
) -> pb::upgrade_resource_identity::Response {
    let mut out = Diagnostics::new();
    let upgraded_identity = keep(attempt_upgrade(service, request).await, &mut out).flatten();
    pb::upgrade_resource_identity::Response {
        upgraded_identity,
        diagnostics: out.to_proto(),
    }
}

async fn attempt_upgrade(
    service: &Service,
    request: pb::upgrade_resource_identity::Request,
) -> Result<Option<pb::ResourceIdentityData>, Diagnostics> {
    let handler = service
        .registry()
        .resource(&request.type_name)?
        .handler
        .clone();
    let Some(schema) = handler.identity_schema() else {
        let detail = format!("Resource type {} has no identity.", request.type_name);
        return Err(Diagnostic::error("No identity", detail).into());
    };
    let json: Json = serde_json::from_slice(&request.raw_identity.unwrap_or_default().json)?;
    let version = request.version;
    let identity = if version == schema.version() {
        Value::from_json(&json, &schema.ty(), Missing::Null)?
    } else {
        let (call, upgrader) = (service.call(), handler.clone());
        let run = service.run(&call.cancel, "Upgrading the identity", async move {
            upgrader.upgrade_identity(version, json).await
        });
        run.await??
    };
    to_message(handler.as_ref(), &identity)
}
