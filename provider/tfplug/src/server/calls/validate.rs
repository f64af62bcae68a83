//! Checks of configurations.

use std::future::Future;

use super::{decode, keep};
use crate::call::ValidateCtx;
use crate::diag::Diagnostics;
use crate::plan;
use crate::proto::tfplugin6 as pb;
use crate::server::registry::Compiled;
use crate::server::service::Service;

/// The schema's checks and, when they find no error, the handler's.
async fn check<F>(
    service: &Service,
    schema: &Compiled,
    config: Option<&pb::DynamicValue>,
    write_only_allowed: bool,
    handler: impl FnOnce(ValidateCtx) -> F,
) -> Diagnostics
where
    F: Future<Output = (ValidateCtx, Result<(), Diagnostics>)> + Send + 'static,
{
    let mut out = Diagnostics::new();
    let Some(config) = keep(decode(config, &schema.1), &mut out) else {
        return out;
    };
    if config.is_null() || config.is_unknown() {
        return out;
    }
    out.extend(plan::validate(&schema.0, &config));
    if !write_only_allowed {
        out.extend(plan::validate_write_only(&schema.0, &config));
    }
    if out.has_errors() {
        return out;
    }
    let ctx = ValidateCtx {
        call: service.call(),
        config,
    };
    let cancel = ctx.cancel.clone();
    if let Some((ctx, result)) = keep(
        service.run(&cancel, "Validation", handler(ctx)).await,
        &mut out,
    ) {
        out.extend(ctx.call.diagnostics);
        keep(result, &mut out);
    }
    out
}

pub(crate) async fn provider(
    service: &Service,
    request: pb::validate_provider_config::Request,
) -> pb::validate_provider_config::Response {
    let handler = service.registry().provider.clone();
    let schema = service.registry().provider_schema();
    let out = check(
        service,
        schema,
        request.config.as_ref(),
        true,
        |mut ctx| async move {
            let result = handler.validate(&mut ctx).await;
            (ctx, result)
        },
    );
    pb::validate_provider_config::Response {
        diagnostics: out.await.to_proto(),
    }
}

pub(crate) async fn resource(
    service: &Service,
    request: pb::validate_resource_config::Request,
) -> pb::validate_resource_config::Response {
    let out = match service.registry().resource(&request.type_name) {
        Err(problem) => problem,
        Ok(kind) => {
            let handler = kind.handler.clone();
            let allowed = request
                .client_capabilities
                .is_some_and(|c| c.write_only_attributes_allowed);
            check(
                service,
                kind.schema(),
                request.config.as_ref(),
                allowed,
                |mut ctx| async move {
                    let result = handler.validate(&mut ctx).await;
                    (ctx, result)
                },
            )
            .await
        }
    };
    pb::validate_resource_config::Response {
        diagnostics: out.to_proto(),
    }
}

pub(crate) async fn data_source(
    service: &Service,
    request: pb::validate_data_resource_config::Request,
) -> pb::validate_data_resource_config::Response {
    let out = match service.registry().data_source(&request.type_name) {
        Err(problem) => problem,
        Ok(kind) => {
            let handler = kind.handler.clone();
            check(
                service,
                kind.schema(),
                request.config.as_ref(),
                true,
                |mut ctx| async move {
                    let result = handler.validate(&mut ctx).await;
                    (ctx, result)
                },
            )
            .await
        }
    };
    pb::validate_data_resource_config::Response {
        diagnostics: out.to_proto(),
    }
}

pub(crate) async fn ephemeral(
    service: &Service,
    request: pb::validate_ephemeral_resource_config::Request,
) -> pb::validate_ephemeral_resource_config::Response {
    let out = match service.registry().ephemeral(&request.type_name) {
        Err(problem) => problem,
        Ok(kind) => {
            let handler = kind.handler.clone();
            check(
                service,
                kind.schema(),
                request.config.as_ref(),
                true,
                |mut ctx| async move {
                    let result = handler.validate(&mut ctx).await;
                    (ctx, result)
                },
            )
            .await
        }
    };
    pb::validate_ephemeral_resource_config::Response {
        diagnostics: out.to_proto(),
    }
}
