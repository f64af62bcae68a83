//! The host against a provider made with `tfplug`: transport, state safety, rules, and the real terraform.

mod life;
mod rules;
mod terraform;
mod transport;
mod traps;

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use tfplug_host::{Host, SpawnOptions};

/// The provider under test.
fn fixture() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tfplug-host-fixture"))
}

/// Options for a provider that keeps its objects in `dir` and misbehaves in one way, or not at all.
fn options(dir: &TempDir, mode: &str) -> SpawnOptions {
    SpawnOptions::default()
        .env("FIXTURE_DIR", dir.path())
        .env("FIXTURE_MODE", mode)
}

/// A configured provider and the directory of its objects.
async fn host(mode: &str) -> (Host, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut host = Host::spawn(fixture(), options(&dir, mode))
        .await
        .expect("the provider starts");
    host.configure(&json!({}))
        .await
        .expect("the provider is configured");
    (host, dir)
}
