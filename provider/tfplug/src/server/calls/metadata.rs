//! What the provider offers.

use crate::proto::tfplugin6 as pb;
use crate::schema::schema_to_proto;
use crate::server::service::Service;

fn capabilities() -> pb::ServerCapabilities {
    pb::ServerCapabilities {
        plan_destroy: true,
        get_provider_schema_optional: true,
        move_resource_state: true,
        generate_resource_config: false,
    }
}

pub(crate) fn metadata(service: &Service) -> pb::get_metadata::Response {
    use pb::get_metadata::{
        DataSourceMetadata, EphemeralResourceMetadata, FunctionMetadata, ResourceMetadata,
    };
    let all = service.registry();
    let resource = |name: &String| ResourceMetadata {
        type_name: name.clone(),
    };
    let data_source = |name: &String| DataSourceMetadata {
        type_name: name.clone(),
    };
    let ephemeral = |name: &String| EphemeralResourceMetadata {
        type_name: name.clone(),
    };
    let function = |name: &String| FunctionMetadata { name: name.clone() };
    pb::get_metadata::Response {
        server_capabilities: Some(capabilities()),
        resources: all.resources.keys().map(resource).collect(),
        data_sources: all.data_sources.keys().map(data_source).collect(),
        ephemeral_resources: all.ephemerals.keys().map(ephemeral).collect(),
        functions: all.functions.keys().map(function).collect(),
        ..pb::get_metadata::Response::default()
    }
}

pub(crate) fn provider_schema(service: &Service) -> pb::get_provider_schema::Response {
    let all = service.registry();
    let resources = all
        .resources
        .iter()
        .map(|(n, k)| (n.clone(), schema_to_proto(&k.schema().0)));
    let data_sources = all
        .data_sources
        .iter()
        .map(|(n, k)| (n.clone(), schema_to_proto(&k.schema().0)));
    let ephemerals = all
        .ephemerals
        .iter()
        .map(|(n, k)| (n.clone(), schema_to_proto(&k.schema().0)));
    pb::get_provider_schema::Response {
        provider: Some(schema_to_proto(&all.provider_schema().0)),
        resource_schemas: resources.collect(),
        data_source_schemas: data_sources.collect(),
        ephemeral_resource_schemas: ephemerals.collect(),
        functions: functions(service).functions,
        diagnostics: all.check().to_proto(),
        server_capabilities: Some(capabilities()),
        ..pb::get_provider_schema::Response::default()
    }
}

pub(crate) fn functions(service: &Service) -> pb::get_functions::Response {
    let all = service.registry().functions.iter();
    let functions = all.map(|(name, (function, signature))| {
        (
            name.clone(),
            signature.get_or_init(|| function.signature()).to_proto(),
        )
    });
    pb::get_functions::Response {
        functions: functions.collect(),
        diagnostics: Vec::new(),
    }
}

pub(crate) fn identity_schemas(service: &Service) -> pb::get_resource_identity_schemas::Response {
    let all = service.registry().resources.iter();
    let schemas = all.filter_map(|(name, kind)| {
        Some((name.clone(), kind.handler.identity_schema()?.to_proto()))
    });
    pb::get_resource_identity_schemas::Response {
        identity_schemas: schemas.collect(),
        diagnostics: Vec::new(),
    }
}
