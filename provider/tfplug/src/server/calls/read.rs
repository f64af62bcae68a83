//! Refreshing an object. Only a handler that is sure says that it is gone.

use super::identity;
use super::{decode, encode, keep, refuse_unknown};
use crate::diag::{Diagnostic, Diagnostics};
use crate::plan;
use crate::private::Private;
use crate::proto::tfplugin6 as pb;
use crate::resource::{ReadCtx, ReadOutcome};
use crate::schema::Timeouts;
use crate::server::service::Service;
use crate::value::Value;

type Request = pb::read_resource::Request;
type Response = pb::read_resource::Response;

/// The object as it is; on failure the stored state with the problems.
pub(crate) async fn read(service: &Service, request: Request) -> Response {
    let mut out = Diagnostics::new();
    let answer = keep(attempt(service, &request, &mut out).await, &mut out);
    let mut response = answer.unwrap_or_else(|| Response {
        new_state: request.current_state,
        private: request.private,
        new_identity: request.current_identity,
        ..Response::default()
    });
    response.diagnostics = out.to_proto();
    response
}

async fn attempt(
    service: &Service,
    request: &Request,
    out: &mut Diagnostics,
) -> Result<Response, Diagnostics> {
    let kind = service.registry().resource(&request.type_name)?;
    let (schema, ty) = kind.schema().as_ref();
    let state = decode(request.current_state.as_ref(), ty)?;
    let mut call = service.call();
    call.timeouts = Timeouts::of(&state, schema.timeout_defaults());
    let identity = identity::decode(kind.handler.as_ref(), request.current_identity.as_ref())?;
    let known_identity = identity.is_some();
    let mut ctx = ReadCtx {
        call,
        state,
        private: Private::from_bytes(&request.private),
        identity,
    };
    let (cancel, handler) = (ctx.cancel.clone(), kind.handler.clone());
    let run = service.run(&cancel, "Read", async move {
        let result = handler.read(&mut ctx).await;
        (ctx, result)
    });
    let (ctx, result) = run.await?;
    out.extend(ctx.call.diagnostics);
    let mut state = match result? {
        ReadOutcome::Gone if out.has_errors() => return Err(Diagnostics::new()),
        ReadOutcome::Gone => {
            return Ok(Response {
                new_state: Some(encode(&Value::Null, ty)?),
                ..Response::default()
            });
        }
        ReadOutcome::State(Value::Null) => {
            let detail = "A read has to say that the object is gone, not return null. This is a defect of the provider.";
            return Err(Diagnostic::error("Read returned nothing", detail).into());
        }
        ReadOutcome::State(state) => state,
    };
    plan::null_write_only(schema.attribute_list(), schema.block_list(), &mut state);
    plan::fill_blocks(&mut state, schema.block_list());
    refuse_unknown(&state, "the read")?;
    let new_identity = if known_identity {
        request.current_identity.clone()
    } else {
        identity::of_state(kind.handler.as_ref(), &state)?
    };
    let new_state = Some(encode(&state, ty)?);
    Ok(Response {
        new_state,
        private: ctx.private.to_bytes(),
        new_identity,
        ..Response::default()
    })
}
