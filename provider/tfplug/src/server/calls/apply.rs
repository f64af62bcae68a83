//! Making a change. Whatever goes wrong, what exists is reported: a gRPC error here would orphan it.

use super::identity;
use super::{decode, encode, keep, refuse_unknown};
use crate::diag::{Diagnostic, Diagnostics};
use crate::plan;
use crate::private::Private;
use crate::proto::tfplugin6 as pb;
use crate::resource::{ApplyCtx, Resource, Saved, SavedState};
use crate::schema::Timeouts;
use crate::server::registry::Compiled;
use crate::server::service::Service;
use crate::value::Value;

type Request = pb::apply_resource_change::Request;
type Response = pb::apply_resource_change::Response;

/// What an apply is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Create,
    Update,
    Delete,
}

/// Everything that a change starts from.
struct Start {
    change: Change,
    compiled: Compiled,
    prior: Value,
    planned: Value,
    config: Value,
    identity: Option<Value>,
}

/// The new state, as much of it as there is, with the problems.
pub(crate) async fn apply(service: &Service, request: Request) -> Response {
    let mut out = Diagnostics::new();
    let kind = keep(service.registry().resource(&request.type_name), &mut out);
    let start = kind.and_then(|kind| {
        keep(
            prepare(kind.schema(), kind.handler.as_ref(), &request),
            &mut out,
        )
    });
    let (Some(kind), Some(start)) = (kind, start) else {
        // Nothing was touched: the state stays as it is.
        return Response {
            new_state: request.prior_state,
            private: request.planned_private,
            new_identity: request.planned_identity,
            diagnostics: out.to_proto(),
            ..Response::default()
        };
    };
    let saved = Saved::new(Private::from_bytes(&request.planned_private));
    let ok = carry_out(service, kind.handler.clone(), &start, &saved, &mut out).await;
    let saved = saved.with(|saved| saved.clone());
    let private = saved.private.to_bytes();
    let state = outcome(&start, saved, ok, &mut out);
    finish(
        kind.handler.as_ref(),
        &start,
        state,
        private,
        request.planned_identity,
        out,
    )
}

fn prepare(
    compiled: &Compiled,
    handler: &dyn Resource,
    request: &Request,
) -> Result<Start, Diagnostics> {
    let ty = &compiled.1;
    let prior = decode(request.prior_state.as_ref(), ty)?;
    let planned = decode(request.planned_state.as_ref(), ty)?;
    let config = decode(request.config.as_ref(), ty)?;
    let identity = identity::decode(handler, request.planned_identity.as_ref())?;
    let change = match (prior.is_null(), planned.is_null()) {
        (_, true) => Change::Delete,
        (true, false) => Change::Create,
        (false, false) => Change::Update,
    };
    Ok(Start {
        change,
        compiled: compiled.clone(),
        prior,
        planned,
        config,
        identity,
    })
}

/// Runs the handler; true when it succeeded.
async fn carry_out(
    service: &Service,
    handler: std::sync::Arc<dyn Resource>,
    start: &Start,
    saved: &Saved,
    out: &mut Diagnostics,
) -> bool {
    let mut call = service.call();
    let current = if start.change == Change::Delete {
        &start.prior
    } else {
        &start.planned
    };
    call.timeouts = Timeouts::of(current, start.compiled.0.timeout_defaults());
    let cancel = call.cancel.clone();
    let mut ctx = ApplyCtx {
        call,
        config: start.config.clone(),
        prior: start.prior.clone(),
        planned: start.planned.clone(),
        identity: start.identity.clone(),
        saved: saved.clone(),
    };
    let change = start.change;
    let what = match change {
        Change::Create => "Create",
        Change::Update => "Update",
        Change::Delete => "Delete",
    };
    let run = service.run(&cancel, what, async move {
        let result = match change {
            Change::Create => handler.create(&mut ctx).await,
            Change::Update => handler.update(&mut ctx).await,
            Change::Delete => handler.delete(&mut ctx).await,
        };
        (ctx.call.diagnostics, result)
    });
    let Some((told, result)) = keep(run.await, out) else {
        return false;
    };
    let told_errors = told.has_errors();
    out.extend(told);
    keep(result, out).is_some() && !told_errors
}

/// The state that a change leaves behind.
fn outcome(start: &Start, saved: SavedState, ok: bool, out: &mut Diagnostics) -> Value {
    let mut state = match (start.change, ok, saved.state) {
        (Change::Delete, true, _) => return Value::Null,
        (_, _, Some(saved)) => saved,
        (Change::Delete | Change::Update, false, None) => start.prior.clone(),
        (Change::Create, false, None) => return Value::Null,
        (_, true, None) if start.planned.is_wholly_known() => start.planned.clone(),
        (change, true, None) => {
            let detail = "The handler succeeded without saving a state, and the plan has unknown parts. \
                          This is a defect of the provider.";
            out.push(Diagnostic::error("No state was saved", detail));
            return if change == Change::Create {
                Value::Null
            } else {
                start.prior.clone()
            };
        }
    };
    let (schema, ty) = start.compiled.as_ref();
    plan::null_write_only(schema.attribute_list(), schema.block_list(), &mut state);
    plan::fill_blocks(&mut state, schema.block_list());
    if ok {
        keep(refuse_unknown(&state, "apply"), out);
    }
    state = state.unknown_as_null();
    if keep(encode(&state, ty), out).is_none() {
        state = plan::conform(state, ty);
    }
    state
}

fn finish(
    handler: &dyn Resource,
    start: &Start,
    state: Value,
    private: Vec<u8>,
    planned_identity: Option<pb::ResourceIdentityData>,
    mut out: Diagnostics,
) -> Response {
    let new_identity = match (&state, planned_identity) {
        (Value::Null, _) => None,
        // An identity never changes while the object lives.
        (_, Some(known)) if start.identity.is_some() => Some(known),
        (state, _) => keep(identity::of_state(handler, state), &mut out).flatten(),
    };
    let new_state = keep(encode(&state, &start.compiled.1), &mut out);
    Response {
        new_state,
        private,
        new_identity,
        diagnostics: out.to_proto(),
        ..Response::default()
    }
}
