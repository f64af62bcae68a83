//! Ephemeral resources.

use std::time::SystemTime;

use super::{decode, encode, keep, refuse_unknown};
use crate::diag::Diagnostics;
use crate::ephemeral::{EphemeralCtx, OpenCtx};
use crate::plan;
use crate::private::Private;
use crate::proto::tfplugin6 as pb;
use crate::schema::Timeouts;
use crate::server::service::Service;

fn timestamp(at: Option<SystemTime>) -> Option<prost_types::Timestamp> {
    at.map(Into::into)
}

fn remembered(private: &Private) -> Option<Vec<u8>> {
    (!private.is_empty()).then(|| private.to_bytes())
}

pub(crate) async fn open(
    service: &Service,
    request: pb::open_ephemeral_resource::Request,
) -> pb::open_ephemeral_resource::Response {
    let mut out = Diagnostics::new();
    let mut response =
        keep(attempt_open(service, &request, &mut out).await, &mut out).unwrap_or_default();
    response.diagnostics = out.to_proto();
    response
}

async fn attempt_open(
    service: &Service,
    request: &pb::open_ephemeral_resource::Request,
    out: &mut Diagnostics,
) -> Result<pb::open_ephemeral_resource::Response, Diagnostics> {
    let kind = service.registry().ephemeral(&request.type_name)?;
    let (schema, ty) = kind.schema().as_ref();
    let written = decode(request.config.as_ref(), ty)?;
    let mut config = written.clone();
    plan::apply_defaults(schema, &written, &mut config);
    let mut call = service.call();
    call.timeouts = Timeouts::of(&config, schema.timeout_defaults());
    let (cancel, handler) = (call.cancel.clone(), kind.handler.clone());
    let mut ctx = OpenCtx {
        call,
        config,
        private: Private::default(),
    };
    let run = service.run(&cancel, "Opening the ephemeral resource", async move {
        let result = handler.open(&mut ctx).await;
        (ctx, result)
    });
    let (ctx, result) = run.await?;
    out.extend(ctx.call.diagnostics);
    let mut opened = result?;
    plan::fill_blocks(&mut opened.result, schema.block_list());
    refuse_unknown(&opened.result, "the ephemeral resource was opened")?;
    Ok(pb::open_ephemeral_resource::Response {
        result: Some(encode(&opened.result, ty)?),
        renew_at: timestamp(opened.renew_at),
        private: remembered(&ctx.private),
        ..pb::open_ephemeral_resource::Response::default()
    })
}

pub(crate) async fn renew(
    service: &Service,
    request: pb::renew_ephemeral_resource::Request,
) -> pb::renew_ephemeral_resource::Response {
    let mut out = Diagnostics::new();
    let mut response = pb::renew_ephemeral_resource::Response {
        private: request.private.clone(),
        ..Default::default()
    };
    if let Some(kind) = keep(service.registry().ephemeral(&request.type_name), &mut out) {
        let handler = kind.handler.clone();
        let private = Private::from_bytes(&request.private.unwrap_or_default());
        let mut ctx = EphemeralCtx {
            call: service.call(),
            private,
        };
        let cancel = ctx.cancel.clone();
        let run = service.run(&cancel, "Renewing the ephemeral resource", async move {
            let result = handler.renew(&mut ctx).await;
            (ctx, result)
        });
        if let Some((ctx, result)) = keep(run.await, &mut out) {
            out.extend(ctx.call.diagnostics);
            if let Some(renew_at) = keep(result, &mut out) {
                response.renew_at = timestamp(renew_at);
                response.private = remembered(&ctx.private);
            }
        }
    }
    response.diagnostics = out.to_proto();
    response
}

pub(crate) async fn close(
    service: &Service,
    request: pb::close_ephemeral_resource::Request,
) -> pb::close_ephemeral_resource::Response {
    let mut out = Diagnostics::new();
    if let Some(kind) = keep(service.registry().ephemeral(&request.type_name), &mut out) {
        let handler = kind.handler.clone();
        let private = Private::from_bytes(&request.private.unwrap_or_default());
        let mut ctx = EphemeralCtx {
            call: service.call(),
            private,
        };
        let cancel = ctx.cancel.clone();
        let run = service.run(&cancel, "Closing the ephemeral resource", async move {
            let result = handler.close(&mut ctx).await;
            (ctx.call.diagnostics, result)
        });
        if let Some((told, result)) = keep(run.await, &mut out) {
            out.extend(told);
            keep(result, &mut out);
        }
    }
    pb::close_ephemeral_resource::Response {
        diagnostics: out.to_proto(),
    }
}
