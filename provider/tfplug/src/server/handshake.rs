//! go-plugin's handshake: what Terraform says in the environment and the one line that answers.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rustls_pki_types::CertificateDer;

/// The environment variable by which a plugin knows that Terraform started it.
pub const COOKIE_KEY: &str = "TF_PLUGIN_MAGIC_COOKIE";
/// Its value.
pub const COOKIE_VALUE: &str = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";

/// The only protocol version spoken here.
const PROTOCOL: &str = "6";

/// Why this process is no plugin of anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Started by hand.
    #[error(
        "This is a Terraform provider: Terraform starts it, people do not. Put it where your Terraform looks for \
         providers, name it in `required_providers` and run `terraform init`."
    )]
    NotAPlugin,
    /// A Terraform of another age.
    #[error(
        "This provider speaks plugin protocol 6; this Terraform offers {0}. Terraform 1.0 or later is needed."
    )]
    Protocol(String),
}

/// What Terraform says in the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    cookie: Option<String>,
    versions: Option<String>,
    /// PEM; absent when TLS is off.
    pub(crate) client_cert: Option<String>,
    /// Where the socket's directory is to be made.
    pub(crate) socket_base: PathBuf,
}

// === impl Environment ===

impl Environment {
    /// The variables of this process.
    pub(crate) fn of_process() -> Self {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            cookie: set(COOKIE_KEY),
            versions: set("PLUGIN_PROTOCOL_VERSIONS"),
            client_cert: set("PLUGIN_CLIENT_CERT"),
            socket_base: set("PLUGIN_UNIX_SOCKET_DIR").map_or_else(env::temp_dir, PathBuf::from),
        }
    }

    /// Agrees on a protocol. Versions come in any order; none at all means a very old go-plugin.
    pub(crate) fn check(&self) -> Result<(), HandshakeError> {
        if self.cookie.as_deref() != Some(COOKIE_VALUE) {
            return Err(HandshakeError::NotAPlugin);
        }
        let versions = self.versions.as_deref().unwrap_or_default();
        if versions.split(',').any(|v| v.trim() == PROTOCOL) {
            Ok(())
        } else {
            let offered = if versions.is_empty() {
                "none"
            } else {
                versions
            };
            Err(HandshakeError::Protocol(offered.to_owned()))
        }
    }
}

/// The answer: `1|6|unix|/path|grpc|certificate`, the certificate without padding and empty without TLS.
pub(crate) fn line(socket: &Path, certificate: Option<&CertificateDer<'_>>) -> String {
    let mut line = format!("1|{PROTOCOL}|unix|{}|grpc|", socket.display());
    if let Some(der) = certificate {
        line.push_str(&STANDARD_NO_PAD.encode(der));
    }
    // Writing to a String cannot fail.
    let _ = writeln!(line);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(cookie: &str, versions: &str) -> Result<(), HandshakeError> {
        let (cookie, versions) = (Some(cookie.to_owned()), Some(versions.to_owned()));
        Environment {
            cookie,
            versions,
            ..Environment::default()
        }
        .check()
    }

    #[test]
    fn versions_come_in_any_order() {
        for versions in ["6", "5,6", "6,5", "5, 6"] {
            assert_eq!(offered(COOKIE_VALUE, versions), Ok(()), "{versions}");
        }
        assert_eq!(
            offered(COOKIE_VALUE, "5"),
            Err(HandshakeError::Protocol("5".to_owned()))
        );
        assert_eq!(
            offered(COOKIE_VALUE, ""),
            Err(HandshakeError::Protocol("none".to_owned()))
        );
        assert_eq!(
            offered("something else", "6"),
            Err(HandshakeError::NotAPlugin)
        );
        assert_eq!(
            Environment::default().check(),
            Err(HandshakeError::NotAPlugin)
        );
    }

    #[test]
    fn the_certificate_has_no_padding() {
        let der = CertificateDer::from(vec![1_u8]);
        assert_eq!(line(Path::new("/s"), Some(&der)), "1|6|unix|/s|grpc|AQ\n");
        assert_eq!(line(Path::new("/s"), None), "1|6|unix|/s|grpc|\n");
    }
}
