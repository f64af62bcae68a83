//! States from elsewhere: older versions, imports, other resource types.

use serde_json::Value as Json;

use super::identity;
use super::{encode, keep, refuse_unknown};
use crate::diag::{Diagnostic, Diagnostics};
use crate::plan;
use crate::private::Private;
use crate::proto::tfplugin6 as pb;
use crate::resource::{ImportCtx, MoveCtx, UpgradeCtx};
use crate::server::registry::Compiled;
use crate::server::service::Service;
use crate::value::{Missing, Value};

/// A state ready for an answer: without write-only values and unknowns, blocks never null.
fn settle(
    mut state: Value,
    compiled: &Compiled,
    what: &str,
) -> Result<pb::DynamicValue, Diagnostics> {
    let (schema, ty) = compiled.as_ref();
    plan::null_write_only(schema.attribute_list(), schema.block_list(), &mut state);
    plan::fill_blocks(&mut state, schema.block_list());
    refuse_unknown(&state, what)?;
    encode(&state, ty)
}

fn stored_json(raw: Option<pb::RawState>) -> Result<Json, Diagnostics> {
    let raw = raw.unwrap_or_default();
    if raw.json.is_empty() {
        let detail = "The state is in the format of Terraform 0.11 or earlier; apply once with Terraform 0.12 first.";
        return Err(Diagnostic::error("State is too old", detail).into());
    }
    Ok(serde_json::from_slice(&raw.json)?)
}

/// Brings a stored state to the current schema.
pub(crate) async fn upgrade(
    service: &Service,
    request: pb::upgrade_resource_state::Request,
) -> pb::upgrade_resource_state::Response {
    let mut out = Diagnostics::new();
    let upgraded_state = keep(attempt_upgrade(service, request, &mut out).await, &mut out);
    pb::upgrade_resource_state::Response {
        upgraded_state,
        diagnostics: out.to_proto(),
    }
}

async fn attempt_upgrade(
    service: &Service,
    request: pb::upgrade_resource_state::Request,
    out: &mut Diagnostics,
) -> Result<pb::DynamicValue, Diagnostics> {
    let kind = service.registry().resource(&request.type_name)?;
    let compiled = kind.schema().clone();
    let (version, current) = (request.version, compiled.0.version());
    let json = stored_json(request.raw_state)?;
    if version > current {
        let detail = format!(
            "The state has schema version {version}; this provider knows up to {current}. Use a newer provider."
        );
        return Err(Diagnostic::error("State is too new", detail).into());
    }
    let state = if version == current {
        Value::from_json(&json, &compiled.1, Missing::Null)?
    } else {
        let mut ctx = UpgradeCtx {
            call: service.call(),
            version,
            state: json,
            schema: compiled.clone(),
        };
        let (cancel, handler) = (ctx.cancel.clone(), kind.handler.clone());
        let run = service.run(&cancel, "Upgrading the state", async move {
            let result = handler.upgrade(&mut ctx).await;
            (ctx.call.diagnostics, result)
        });
        let (told, result) = run.await?;
        out.extend(told);
        result?
    };
    settle(state, &compiled, "the upgrade")
}

/// The stub of an object that exists already.
pub(crate) async fn import(
    service: &Service,
    request: pb::import_resource_state::Request,
) -> pb::import_resource_state::Response {
    let mut out = Diagnostics::new();
    let imported = keep(attempt_import(service, request, &mut out).await, &mut out);
    pb::import_resource_state::Response {
        imported_resources: imported.into_iter().collect(),
        diagnostics: out.to_proto(),
        deferred: None,
    }
}

async fn attempt_import(
    service: &Service,
    request: pb::import_resource_state::Request,
    out: &mut Diagnostics,
) -> Result<pb::import_resource_state::ImportedResource, Diagnostics> {
    let kind = service.registry().resource(&request.type_name)?;
    let compiled = kind.schema().clone();
    let mut ctx = ImportCtx {
        call: service.call(),
        id: request.id,
        identity: identity::decode(kind.handler.as_ref(), request.identity.as_ref())?,
        empty: compiled.0.empty_value(),
        private: Private::default(),
    };
    let given = ctx.identity.is_some();
    let (cancel, handler) = (ctx.cancel.clone(), kind.handler.clone());
    let run = service.run(&cancel, "Import", async move {
        let result = handler.import(&mut ctx).await;
        (ctx, result)
    });
    let (ctx, result) = run.await?;
    out.extend(ctx.call.diagnostics);
    let state = result?;
    if state.is_null() {
        let detail = "An import returns a stub of the object. This is a defect of the provider.";
        return Err(Diagnostic::error("Import returned nothing", detail).into());
    }
    let identity = if given {
        request.identity
    } else {
        identity::of_state(kind.handler.as_ref(), &state)?
    };
    Ok(pb::import_resource_state::ImportedResource {
        type_name: request.type_name,
        state: Some(settle(state, &compiled, "the import")?),
        private: ctx.private.to_bytes(),
        identity,
    })
}

/// Takes over the state of another resource type.
pub(crate) async fn relocate(
    service: &Service,
    request: pb::move_resource_state::Request,
) -> pb::move_resource_state::Response {
    let mut out = Diagnostics::new();
    let moved = keep(attempt_move(service, request, &mut out).await, &mut out);
    let mut response = moved.unwrap_or_default();
    response.diagnostics = out.to_proto();
    response
}

async fn attempt_move(
    service: &Service,
    request: pb::move_resource_state::Request,
    out: &mut Diagnostics,
) -> Result<pb::move_resource_state::Response, Diagnostics> {
    let kind = service.registry().resource(&request.target_type_name)?;
    let compiled = kind.schema().clone();
    let (source, target) = (request.source_type_name, request.target_type_name);
    let mut ctx = MoveCtx {
        call: service.call(),
        source_provider: request.source_provider_address,
        source_type: source.clone(),
        source_version: request.source_schema_version,
        state: stored_json(request.source_state)?,
        private: Private::from_bytes(&request.source_private),
        schema: compiled.clone(),
    };
    let (cancel, handler) = (ctx.cancel.clone(), kind.handler.clone());
    let run = service.run(&cancel, "Moving the state", async move {
        let result = handler.move_from(&mut ctx).await;
        (ctx, result)
    });
    let (ctx, result) = run.await?;
    out.extend(ctx.call.diagnostics);
    let Some(state) = result? else {
        let detail = format!(
            "A {source} of {} cannot become a {target}.",
            ctx.source_provider
        );
        return Err(Diagnostic::error("Move is not supported", detail).into());
    };
    let target_identity = identity::of_state(kind.handler.as_ref(), &state)?;
    Ok(pb::move_resource_state::Response {
        target_state: Some(settle(state, &compiled, "the move")?),
        target_private: ctx.private.to_bytes(),
        target_identity,
        diagnostics: Vec::new(),
    })
}
