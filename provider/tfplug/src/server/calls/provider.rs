//! The provider block.

use super::{decode, keep};
use crate::diag::Diagnostics;
use crate::proto::tfplugin6 as pb;
use crate::provider::ConfigureCtx;
use crate::server::service::Service;

pub(crate) async fn configure(
    service: &Service,
    request: pb::configure_provider::Request,
) -> pb::configure_provider::Response {
    let mut out = Diagnostics::new();
    let schema = service.registry().provider_schema();
    if let Some(config) = keep(decode(request.config.as_ref(), &schema.1), &mut out) {
        let terraform_version = request.terraform_version;
        let mut ctx = ConfigureCtx {
            call: service.call(),
            config,
            terraform_version,
        };
        let cancel = ctx.cancel.clone();
        let provider = service.registry().provider.clone();
        let outcome = service.run(&cancel, "Configuring the provider", async move {
            let result = provider.configure(&mut ctx).await;
            (ctx.call.diagnostics, result)
        });
        if let Some((told, result)) = keep(outcome.await, &mut out) {
            out.extend(told);
            if let Some(data) = keep(result, &mut out) {
                service.configured(data);
            }
        }
    }
    pb::configure_provider::Response {
        diagnostics: out.to_proto(),
    }
}
