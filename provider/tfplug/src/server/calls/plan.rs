//! Planning a change.

use super::{decode, encode, keep};
use crate::diag::Diagnostics;
use crate::path::Path;
use crate::plan;
use crate::private::Private;
use crate::proto::tfplugin6 as pb;
use crate::resource::PlanCtx;
use crate::schema::Timeouts;
use crate::server::registry::Compiled;
use crate::server::service::Service;
use crate::value::Value;

type Request = pb::plan_resource_change::Request;
type Response = pb::plan_resource_change::Response;

/// The planned state; on failure the prior one with the problems.
pub(crate) async fn plan(service: &Service, request: Request) -> Response {
    let mut out = Diagnostics::new();
    let planned = keep(attempt(service, &request, &mut out).await, &mut out);
    let mut response = planned.unwrap_or_else(|| Response {
        planned_state: request.prior_state,
        planned_private: request.prior_private,
        ..Response::default()
    });
    response.planned_identity = request.prior_identity;
    response.diagnostics = out.to_proto();
    response
}

async fn attempt(
    service: &Service,
    request: &Request,
    out: &mut Diagnostics,
) -> Result<Response, Diagnostics> {
    let kind = service.registry().resource(&request.type_name)?;
    let compiled = kind.schema().clone();
    let ctx = prepare(service, request, &compiled)?;
    let destroys = ctx.planned.is_null();
    let cancel = ctx.cancel.clone();
    let handler = kind.handler.clone();
    let mut ctx = ctx;
    let outcome = service.run(&cancel, "Planning", async move {
        let result = if destroys {
            handler.plan_destroy(&mut ctx).await
        } else {
            handler.plan(&mut ctx).await
        };
        (ctx, result)
    });
    let (mut ctx, result) = outcome.await?;
    out.extend(std::mem::take(&mut ctx.call.diagnostics));
    result?;
    if destroys {
        ctx.planned = Value::Null;
        ctx.replace.clear();
    }
    finish(ctx, &compiled)
}

fn prepare(
    service: &Service,
    request: &Request,
    compiled: &Compiled,
) -> Result<PlanCtx, Diagnostics> {
    let (schema, ty) = compiled.as_ref();
    let config = decode(request.config.as_ref(), ty)?;
    let prior = decode(request.prior_state.as_ref(), ty)?;
    let proposed = decode(request.proposed_new_state.as_ref(), ty)?;
    let planned = if proposed.is_null() {
        Value::Null
    } else {
        plan::propose(schema, &config, &prior, proposed)
    };
    let mut call = service.call();
    let current = if planned.is_null() { &prior } else { &planned };
    call.timeouts = Timeouts::of(current, schema.timeout_defaults());
    let private = Private::from_bytes(&request.prior_private);
    Ok(PlanCtx {
        call,
        config,
        prior,
        planned,
        private,
        replace: Vec::new(),
    })
}

fn finish(mut ctx: PlanCtx, compiled: &Compiled) -> Result<Response, Diagnostics> {
    let (schema, ty) = compiled.as_ref();
    plan::null_write_only(
        schema.attribute_list(),
        schema.block_list(),
        &mut ctx.planned,
    );
    let mut replace = if ctx.planned.is_null() {
        Vec::new()
    } else {
        plan::replacements(schema, &ctx.config, &ctx.prior, &ctx.planned)
    };
    for path in ctx.replace {
        if !replace.contains(&path) {
            replace.push(path);
        }
    }
    Ok(Response {
        planned_state: Some(encode(&ctx.planned, ty)?),
        requires_replace: replace.iter().map(Path::to_proto).collect(),
        planned_private: ctx.private.to_bytes(),
        ..Response::default()
    })
}
