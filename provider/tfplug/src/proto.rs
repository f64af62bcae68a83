//! The messages, clients and servers of the wire, generated from `proto/`.
#![expect(missing_docs, reason = "the .proto files say what there is to say")]
#![expect(clippy::allow_attributes, reason = "the generators write allow")]

/// Terraform plugin protocol 6.11.
pub mod tfplugin6 {
    tonic::include_proto!("tfplugin6");
}

/// go-plugin's broker, stdio and controller services.
pub mod go_plugin {
    tonic::include_proto!("plugin");
}

/// The standard gRPC health service.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}
