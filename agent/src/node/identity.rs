//! The node's key and certificate: made here, signed by the lead for a join token or for a cloud's proof
//! of which instance it is, and renewed at half its life.

use super::config::NodeConfig;
use super::error::NodeError;
use super::session::Backoff;
use crate::config::JoinBy;
use base64::Engine as _;
use gpuloom_api::proto;
use gpuloom_api::tls::{KeyAndCertificate, NODE_LIFETIME, SecretKey, not_after};
use gpuloom_api::{Admittance, BearerToken, CallError, Joined};
use gpuloom_cloud_attest::{Challenge, Cloud};
use gpuloom_cloud_imds::Dialect;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::sleep;

/// How much longer than its lifetime a certificate may seem to live on a clock that is behind.
const SLACK: Duration = Duration::from_secs(3_600);
/// Least time between two renewals.
const BETWEEN_RENEWALS: Duration = Duration::from_secs(3_600);
/// First and longest wait before a renewal that failed is tried again.
const RENEW_AGAIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

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

/// The node's identity: that of its directory, or a new one, asked for until the lead answers. A
/// token is removed once it is used; a proof is made for each try.
pub(crate) async fn load_or_join(config: &NodeConfig) -> Result<KeyAndCertificate, NodeError> {
    let dir = config.data_dir.join("identity");
    match load(&dir)? {
        Some(identity) if !has_ended(&identity) => Ok(identity),
        Some(_) => {
            tracing::warn!("the node's certificate has ended while nobody could renew it");
            join(config, true).await
        }
        None => join(config, false).await,
    }
}

fn has_ended(identity: &KeyAndCertificate) -> bool {
    not_after(&identity.certificate).is_none_or(|end| end <= SystemTime::now())
}

/// Joins; `member`: it was one before, so that its key alone may do.
async fn join(config: &NodeConfig, member: bool) -> Result<KeyAndCertificate, NodeError> {
    let dir = config.data_dir.join("identity");
    let path = config.data_dir.join("join-token");
    let no_token = || NodeError::NoToken { path: path.clone() };
    let token = match (config.join, read(&path)?) {
        (JoinBy::Instance, _) => None,
        (JoinBy::Token, None) if member => None,
        (JoinBy::Token, None) => return Err(no_token()),
        (JoinBy::Token, Some(text)) => {
            let token: Result<BearerToken, _> = text.trim().parse();
            Some(token.map_err(|_| no_token())?)
        }
    };
    let key = key(&dir)?;
    let mut backoff = Backoff::default();
    let joined = loop {
        match ask(config, token.as_ref(), &key).await {
            Ok(joined) => break joined,
            Err(NodeError::NotJoined { source }) if !is_final(&source) => {
                tracing::warn!(error = %source, "cannot join the fleet yet, trying again");
            }
            Err(NodeError::Proof(error)) if error.is_transient() => {
                tracing::warn!(%error, "cannot prove which instance this is yet, trying again");
            }
            Err(error) => return Err(error),
        }
        backoff.wait().await;
    };
    keep(&dir, &joined)?;
    if token.is_some() {
        on("remove the used", &path, fs::remove_file(&path))?;
    }
    tracing::info!(fleet = joined.fleet_id, "joined");
    Ok(joined.identity)
}

async fn ask(
    config: &NodeConfig,
    token: Option<&BearerToken>,
    key: &SecretKey,
) -> Result<Joined, NodeError> {
    let (endpoints, pin) = (config.endpoints()?, config.pin()?);
    let refused = |source| NodeError::NotJoined { source };
    let by = match (token, &config.instance) {
        (Some(token), _) => Admittance::Token(token.clone()),
        (None, Some(instance)) if config.join == JoinBy::Instance => {
            let asked = gpuloom_api::join_challenge(endpoints.clone(), pin).await;
            let asked = asked.map_err(refused)?;
            let public = key.public_key();
            let challenge = Challenge::new(&asked.fleet_id, &asked.nonce, public.spki_der());
            let cloud = match instance.dialect {
                Dialect::Aws => Cloud::Aws,
                Dialect::Gcp => Cloud::Gcp,
                Dialect::Azure => Cloud::Azure,
            };
            let text = challenge.text(cloud);
            let sts = asked.aws_sts_endpoint.as_deref();
            let proof = instance.service()?.proof(&text, sts).await?;
            Admittance::Proof {
                proof: proto::Proof {
                    cloud: cloud.to_string(),
                    nonce: asked.nonce,
                    document: proof.document,
                },
                pool: config.pool.clone(),
            }
        }
        (None, _) => Admittance::Member,
    };
    let asked = gpuloom_api::join(endpoints, pin, &by, &config.instance_id, key.clone());
    asked.await.map_err(refused)
}

/// Puts what the lead signed on disk; the key is there already.
fn keep(dir: &Path, joined: &Joined) -> Result<(), NodeError> {
    write(&dir.join(CA), &pem(&joined.identity.ca))?;
    write(&dir.join(CERTIFICATE), &pem(&joined.identity.certificate))
}

/// How long until a certificate that has `left` to live is renewed: at half its life, and at once when
/// it is one of those that were given for ten years.
fn renew_in(left: Duration) -> Duration {
    if left > NODE_LIFETIME + SLACK {
        return Duration::ZERO;
    }
    left.saturating_sub(NODE_LIFETIME / 2)
}

/// Renews the certificate again and again, and tells everybody who presents it. A certificate that
/// ended, or that the lead takes no more, is replaced by joining anew. Ends never.
pub(crate) async fn renew(config: &NodeConfig, identity: &watch::Sender<KeyAndCertificate>) {
    let mut failures = 0;
    loop {
        let present = identity.borrow().clone();
        let left = not_after(&present.certificate)
            .and_then(|end| end.duration_since(SystemTime::now()).ok())
            .unwrap_or_default();
        let due = match failures {
            0 => renew_in(left),
            n => renew_again_in(n),
        };
        sleep(due).await;
        match renew_once(config, &present).await {
            Ok(new) => {
                tracing::info!("the node's certificate was renewed");
                identity.send_replace(new);
                failures = 0;
                // Clocks that differ much must not make a loop of this.
                sleep(BETWEEN_RENEWALS).await;
            }
            Err(error) => {
                failures += 1;
                let error = super::attempt::chain(&error);
                tracing::warn!(error, "the node's certificate is not renewed yet");
            }
        }
    }
}

/// Ten seconds, doubled each time, up to ten minutes.
fn renew_again_in(failures: u32) -> Duration {
    let doubled = RENEW_AGAIN.0 * 2u32.saturating_pow(failures.saturating_sub(1).min(10));
    doubled.min(RENEW_AGAIN.1)
}

async fn renew_once(
    config: &NodeConfig,
    present: &KeyAndCertificate,
) -> Result<KeyAndCertificate, NodeError> {
    if has_ended(present) {
        return join(config, true).await;
    }
    match gpuloom_api::renew(config.endpoints()?, config.pin()?, present).await {
        Ok(joined) => {
            keep(&config.data_dir.join("identity"), &joined)?;
            Ok(joined.identity)
        }
        // It was renewed before, and the answer was lost: the one we have counts no more.
        Err(error) if is_final(&error) => join(config, true).await,
        Err(source) => Err(NodeError::NotJoined { source }),
    }
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

    #[test]
    fn a_certificate_is_renewed_at_half_its_life_and_one_of_ten_years_at_once() {
        let hours = |n: u64| Duration::from_secs(n * 3_600);
        assert_eq!(renew_in(hours(24)), hours(12));
        assert_eq!(renew_in(hours(13)), hours(1));
        assert_eq!(renew_in(hours(12)), Duration::ZERO);
        assert_eq!(renew_in(hours(1)), Duration::ZERO);
        assert_eq!(renew_in(hours(10 * 365 * 24)), Duration::ZERO);
        let waits: Vec<_> = (1..9).map(|n| renew_again_in(n).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600]);
    }
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
