//! Reading data sources.

use super::{decode, encode, keep, refuse_unknown};
use crate::data_source::DataCtx;
use crate::diag::{Diagnostic, Diagnostics};
use crate::plan;
use crate::proto::tfplugin6 as pb;
use crate::schema::Timeouts;
use crate::server::service::Service;

type Request = pb::read_data_source::Request;
type Response = pb::read_data_source::Response;

/// The configuration with everything computed filled in.
pub(crate) async fn read(service: &Service, request: Request) -> Response {
    let mut out = Diagnostics::new();
    let state = keep(attempt(service, &request, &mut out).await, &mut out);
    Response {
        state,
        diagnostics: out.to_proto(),
        deferred: None,
    }
}

async fn attempt(
    service: &Service,
    request: &Request,
    out: &mut Diagnostics,
) -> Result<pb::DynamicValue, Diagnostics> {
    let kind = service.registry().data_source(&request.type_name)?;
    let (schema, ty) = kind.schema().as_ref();
    let written = decode(request.config.as_ref(), ty)?;
    let mut config = written.clone();
    plan::apply_defaults(schema, &written, &mut config);
    let mut call = service.call();
    call.timeouts = Timeouts::of(&config, schema.timeout_defaults());
    let (cancel, handler) = (call.cancel.clone(), kind.handler.clone());
    let mut ctx = DataCtx { call, config };
    let run = service.run(&cancel, "Reading the data source", async move {
        let result = handler.read(&mut ctx).await;
        (ctx.call.diagnostics, result)
    });
    let (told, result) = run.await?;
    out.extend(told);
    let mut state = result?;
    if state.is_null() {
        let detail = "A data source has no null result. This is a defect of the provider.";
        return Err(Diagnostic::error("The data source returned nothing", detail).into());
    }
    plan::fill_blocks(&mut state, schema.block_list());
    refuse_unknown(&state, "the read")?;
    encode(&state, ty)
}
