//! The node's key and certificate: made here, signed by the lead for a join token.

use super::config::NodeConfig;
use super::error::NodeError;
use super::session::Backoff;
use base64::Engine as _;
use gpuloom_api::tls::{KeyAndCertificate, SecretKey};
use gpuloom_api::{Admittance, BearerToken, CallError};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const KEY: &str = "key.pem";
const CERTIFICATE: &str = "cert.pem";
const CA: &str = "ca.pem";

fn on<T>(what: &'static str, path: &Path, result: io::Result<T>) -> Result<T, NodeError> {
    result.map_err(|source| NodeError::File {
        what,
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path) -> Result<Option<String>, NodeError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => on("read", path, Err(e)),
    }
}

/// Writes a file that only the agent reads, whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), NodeError> {
    let temporary = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent()
            .map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
    };
    on("write", path, write())
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (n, c) in text.chars().enumerate() {
        if n > 0 && n % 64 == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out + "\n-----END CERTIFICATE-----\n"
}

/// The node's identity: that of its directory, or a new one for its join token, asked for until
/// the lead answers. The token is removed once it is used.
pub(crate) async fn load_or_join(config: &NodeConfig) -> Result<KeyAndCertificate, NodeError> {
    let dir = config.data_dir.join("identity");
    if let Some(identity) = load(&dir)? {
        return Ok(identity);
    }
    let path = config.data_dir.join("join-token");
    let no_token = || NodeError::NoToken { path: path.clone() };
    let token = read(&path)?.ok_or_else(no_token)?;
    let token: BearerToken = token.trim().parse().map_err(|_| no_token())?;
    let by = Admittance::Token(token);
    let key = key(&dir)?;
    let mut backoff = Backoff::default();
    let joined = loop {
        let endpoints = config.endpoints()?;
        let pin = config.pin()?;
        let asked = gpuloom_api::join(endpoints, pin, &by, &config.instance_id, key.clone());
        match asked.await {
            Ok(joined) => break joined,
            Err(error) if is_final(&error) => return Err(NodeError::NotJoined { source: error }),
            Err(error) => {
                tracing::warn!(%error, "cannot join the fleet yet, trying again");
                backoff.wait().await;
            }
        }
    };
    write(&dir.join(CA), &pem(&joined.identity.ca))?;
    write(&dir.join(CERTIFICATE), &pem(&joined.identity.certificate))?;
    on("remove the used", &path, fs::remove_file(&path))?;
    tracing::info!(fleet = joined.fleet_id, "joined");
    Ok(joined.identity)
}

/// True when trying again with the same token cannot help.
fn is_final(error: &CallError) -> bool {
    match error {
        CallError::Refused(refusal) => {
            use gpuloom_api::RefusalCode as Code;
            !matches!(
                refusal.code,
                Code::Unavailable | Code::NotLead | Code::Limit
            )
        }
        CallError::WrongCa { .. } | CallError::Credential { .. } => true,
        _ => false,
    }
}

fn load(dir: &Path) -> Result<Option<KeyAndCertificate>, NodeError> {
    let parts = [KEY, CERTIFICATE, CA].map(|name| read(&dir.join(name)));
    let [key, certificate, ca] = parts;
    let (Some(key), Some(certificate), Some(ca)) = (key?, certificate?, ca?) else {
        return Ok(None);
    };
    let identity = KeyAndCertificate::from_pem(&key, &certificate, &ca);
    identity.map(Some).map_err(bad(dir))
}

fn bad(dir: &Path) -> impl Fn(gpuloom_api::tls::TlsError) -> NodeError {
    let path: PathBuf = dir.to_owned();
    move |source| NodeError::Identity {
        path: path.clone(),
        source,
    }
}

/// The node's key: kept before it is used, so that a repeated request is of the same key.
fn key(dir: &Path) -> Result<SecretKey, NodeError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    on("make", dir, made)?;
    let path = dir.join(KEY);
    if let Some(text) = read(&path)? {
        return SecretKey::from_pem(&text).map_err(bad(dir));
    }
    let key = SecretKey::generate().map_err(bad(dir))?;
    write(&path, &key.to_pem())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_api::tls::Ca;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn an_identity_is_whole_or_not_there_and_its_key_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("identity");
        assert!(load(&dir).expect("loads").is_none());
        let first = key(&dir).expect("makes a key");
        assert!(load(&dir).expect("loads").is_none());
        assert_eq!(
            key(&dir).expect("keeps it").public_key(),
            first.public_key()
        );
        let mode = fs::metadata(dir.join(KEY))
            .expect("is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let fleet = "ml".parse().expect("a name");
        let ca = Ca::create(&fleet, std::time::SystemTime::now()).expect("a CA");
        write(&dir.join(CA), &pem(ca.certificate())).expect("writes");
        write(&dir.join(CERTIFICATE), &pem(ca.certificate())).expect("writes");
        let identity = load(&dir).expect("loads").expect("is whole");
        assert_eq!(&identity.ca, ca.certificate());
        fs::write(dir.join(CA), "nonsense").expect("writes");
        assert!(matches!(load(&dir), Err(NodeError::Identity { .. })));
    }
}
