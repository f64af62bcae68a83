//! Terraform plugin protocol 6: handshake, mutual TLS, value codec, schema, diagnostics, plan helpers. Knows no GPU.

pub mod proto;
