//! What only the admin does: nodes out of service, tokens, keys.

use super::Session;
use crate::args::{OutputFormat, TokenCommand};
use crate::exit::{CliError, Exit};
use crate::output::{instant, note, print, print_json};
use gpuloom_api::proto::create_token_request::Purpose;
use gpuloom_api::proto::{CreateTokenRequest, SetNodeSchedulableRequest};
use gpuloom_api::tls::SecretKey;
use gpuloom_fleet::NodeId;
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub(super) async fn cordon(
    s: &Session,
    node: NodeId,
    reason: String,
    drain: bool,
) -> Result<Exit, CliError> {
    let request = SetNodeSchedulableRequest {
        node: node.to_string(),
        schedulable: false,
        reason,
        drain,
    };
    let state = if drain { "draining" } else { "cordoned" };
    set(s, request, state).await
}

pub(super) async fn uncordon(s: &Session, node: NodeId) -> Result<Exit, CliError> {
    let request = SetNodeSchedulableRequest {
        node: node.to_string(),
        schedulable: true,
        ..Default::default()
    };
    set(s, request, "schedulable").await
}

async fn set(
    s: &Session,
    request: SetNodeSchedulableRequest,
    state: &str,
) -> Result<Exit, CliError> {
    let node = request.node.clone();
    let changed = s.client.set_schedulable(request).await?;
    let was = if changed { "is" } else { "was already" };
    s.show(
        |_| format!("node {node} {was} {state}\n"),
        || json!({ "node": node, "state": state, "changed": changed }),
    )
}

pub(super) async fn token(s: &Session, command: TokenCommand) -> Result<Exit, CliError> {
    match command {
        TokenCommand::Create {
            tenant,
            pool,
            ttl,
            label,
        } => {
            let purpose = if pool.is_some() {
                Purpose::Join
            } else {
                Purpose::Submit
            };
            let request = CreateTokenRequest {
                purpose: purpose.into(),
                tenant: tenant.map(|t| t.to_string()).unwrap_or_default(),
                pool: pool.map(|p| p.to_string()).unwrap_or_default(),
                ttl_s: ttl.0,
                label,
            };
            let made = s.client.create_token(request).await?;
            let expires = instant(made.expires_at_ms);
            if s.output == OutputFormat::Table {
                let id = &made.id;
                note(&format!(
                    "good until {expires}; `gpuloom token revoke {id}` ends it; it is not shown again"
                ));
            }
            s.show(
                |_| format!("{}\n", made.token),
                || {
                    json!({
                        "token": made.token,
                        "id": made.id,
                        "expires_at_ms": made.expires_at_ms,
                    })
                },
            )
        }
        TokenCommand::Revoke { id } => {
            if !s.client.revoke_token(&id).await? {
                return Err(CliError::NotFound(format!("there is no token {id:?}")));
            }
            s.show(
                |_| format!("token {id} revoked\n"),
                || json!({ "revoked": id }),
            )
        }
    }
}

/// Makes an admin key. The private half goes to `out` (0600, never over an existing file) or to
/// stdout.
pub(super) fn keygen(out: Option<&Path>, output: OutputFormat) -> Result<Exit, CliError> {
    let key = SecretKey::generate().map_err(|e| CliError::Failed(e.to_string()))?;
    let public = key.public_key().to_string();
    if let Some(path) = out {
        write_secret(path, &key.to_pem())?;
    }
    match (output, out) {
        (OutputFormat::Json, None) => {
            print_json(&json!({ "public_key": public, "private_key_pem": key.to_pem() }))?;
        }
        (OutputFormat::Json, Some(path)) => {
            print_json(&json!({ "public_key": public, "private_key_file": path }))?;
        }
        (OutputFormat::Table, None) => {
            print(&key.to_pem())?;
            note(&format!(
                "the public half, for the fleet's admin_public_key:\n{public}"
            ));
        }
        (OutputFormat::Table, Some(path)) => {
            print(&format!("{public}\n"))?;
            let path = path.display();
            note(&format!(
                "the private half is in {path}: GPULOOM_ADMIN_KEY={path}"
            ));
        }
    }
    Ok(Exit::OK)
}

fn write_secret(path: &Path, text: &str) -> Result<(), CliError> {
    let what = || {
        let taken = if path.exists() {
            " (a key is never replaced: state another file, or remove this one)"
        } else {
            ""
        };
        format!("cannot write the key to {}{taken}", path.display())
    };
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(CliError::io(what()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(CliError::io(what()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_written_for_its_owner_alone_and_never_over_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("admin.pem");
        assert_eq!(keygen(Some(&path), OutputFormat::Json).ok(), Some(Exit::OK));
        let mode = std::fs::metadata(&path)
            .expect("written")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).expect("reads");
        assert!(SecretKey::from_pem(&text).is_ok());
        let again = keygen(Some(&path), OutputFormat::Json).expect_err("it exists");
        assert!(
            again.to_string().contains("cannot write the key"),
            "{again}"
        );
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), text);
    }
}
