//! The one line a provider may write to stdout, taken apart byte by byte.

use std::path::PathBuf;

use crate::HostError;
use crate::cert::decode_server_certificate;

/// go-plugin's core protocol version, the first field.
const CORE_PROTOCOL: &str = "1";

/// What a provider answers when it is ready to be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The plugin protocol it chose out of `PLUGIN_PROTOCOL_VERSIONS`; 6 for every provider here.
    pub protocol: u32,
    /// The unix socket it listens on.
    pub socket: PathBuf,
    /// The DER of the certificate it will present; empty only where TLS was not asked for.
    pub server_certificate: Vec<u8>,
}

// === impl Handshake ===

impl Handshake {
    /// Parses `line`, which must include its final newline, exactly as `1|6|unix|/path|grpc|<certificate>\n`.
    ///
    /// Stricter than Terraform where Terraform's tolerance hides a mistake: no spaces, no `\r`, six fields, an absolute
    /// path. `tls` says whether the provider was given a client certificate.
    ///
    /// # Errors
    /// [`HostError::Handshake`] with the offending field and what belongs there.
    pub fn parse(line: &[u8], tls: bool) -> Result<Self, HostError> {
        let shown = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
        let wrong = |what: String| HostError::Handshake(format!("{what}; the line is {shown:?}"));
        let text = std::str::from_utf8(line).map_err(|_| wrong("not UTF-8".to_owned()))?;
        let Some(text) = text.strip_suffix('\n') else {
            return Err(wrong("the line does not end in a newline".to_owned()));
        };
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(wrong("white space inside the line".to_owned()));
        }
        let fields: Vec<&str> = text.split('|').collect();
        let [core, app, network, address, transport, certificate] = fields[..] else {
            return Err(wrong(format!(
                "Unrecognized remote plugin message: {} fields instead of 6, is something else written to stdout?",
                fields.len()
            )));
        };
        if core != CORE_PROTOCOL {
            return Err(wrong(format!(
                "field 1 (core protocol) is {core:?}, expected \"1\""
            )));
        }
        if app != "6" {
            return Err(wrong(format!(
                "field 2 (plugin protocol) is {app:?}, expected \"6\""
            )));
        }
        if network != "unix" {
            return Err(wrong(format!(
                "field 3 (network) is {network:?}, expected \"unix\""
            )));
        }
        if !address.starts_with('/') {
            return Err(wrong(format!(
                "field 4 (address) is {address:?}, expected an absolute path"
            )));
        }
        if transport != "grpc" {
            return Err(wrong(format!(
                "field 5 (transport) is {transport:?}, expected \"grpc\""
            )));
        }
        let server_certificate = match (tls, certificate.is_empty()) {
            (true, true) => {
                return Err(wrong(
                    "field 6 (server certificate) is empty though TLS was asked for".to_owned(),
                ));
            }
            (false, true) => Vec::new(),
            (_, false) => decode_server_certificate(certificate)?,
        };
        Ok(Self {
            protocol: 6,
            socket: PathBuf::from(address),
            server_certificate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> String {
        Handshake::parse(line.as_bytes(), true)
            .expect_err(line)
            .to_string()
    }

    #[test]
    fn each_field_of_the_handshake_line_is_checked() {
        for (line, word) in [
            ("hello\n1|6|unix|/s|grpc|AA\n", "white space"),
            ("listening...\n", "Unrecognized"),
            ("1|6|unix|/s|grpc\n", "5 fields"),
            ("1|6|unix|/s|grpc|AA|true\n", "7 fields"),
            ("2|6|unix|/s|grpc|AA\n", "field 1"),
            ("1|5|unix|/s|grpc|AA\n", "field 2"),
            ("1|6|tcp|127.0.0.1:1|grpc|AA\n", "field 3"),
            ("1|6|unix|s|grpc|AA\n", "field 4"),
            ("1|6|unix|/s|netrpc|AA\n", "field 5"),
            ("1|6|unix|/s|grpc|\n", "empty"),
            ("1|6|unix|/s|grpc|A=\n", "base64"),
            ("1|6|unix|/s|grpc|AAAA\n", "DER"),
            ("1|6|unix|/s|grpc|AA\r\n", "white space"),
            ("1|6|unix|/s|grpc|AA", "newline"),
        ] {
            let said = refusal(line);
            assert!(said.contains(word), "{line:?} -> {said}");
        }
    }

    #[test]
    fn an_empty_certificate_is_fine_without_tls() {
        let parsed = Handshake::parse(b"1|6|unix|/run/p.sock|grpc|\n", false).expect("plain text");
        assert_eq!(parsed.socket, PathBuf::from("/run/p.sock"));
        assert!(parsed.server_certificate.is_empty());
    }
}
