//! IMDSv2. Source: the EC2 user guide, "Instance metadata" and "Spot Instance interruption notices".

use crate::date;
use crate::dialect::{Dialect, Facts};
use crate::error::{MetadataError, unreadable};
use crate::metadata::{Answer, CALL_TIMEOUT, Metadata, Troubles, refused, tell};
use crate::notice::{Notice, NoticeKind};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch as channel;

/// How long a session lasts: the longest there is.
const SESSION_S: u64 = 21_600;
/// AWS's own advice for spot notices.
const POLL: Duration = Duration::from_secs(5);
/// Scheduled events are days ahead: looked at on every so many polls.
const EVENTS_EVERY: u32 = 12;
const SESSION: &str = "/latest/api/token";
const DOCUMENT: &str = "/latest/dynamic/instance-identity/document";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
const SPOT: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE: &str = "/latest/meta-data/events/recommendations/rebalance";
const EVENTS: &str = "/latest/meta-data/events/maintenance/scheduled";
/// The header a challenge is signed in.
const CHALLENGE: &str = "x-gpuloom-challenge";
const CALL: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// A session token and when it was given.
pub(crate) struct Session {
    token: String,
    since: Instant,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    instance_id: String,
    account_id: String,
    region: String,
    availability_zone: Option<String>,
    instance_type: String,
    private_ip: IpAddr,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleCredentials {
    access_key_id: String,
    secret_access_key: String,
    token: String,
}

#[derive(Deserialize)]
struct SpotAction {
    action: String,
    time: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Scheduled {
    not_before: String,
    code: String,
    event_id: String,
    #[serde(default)]
    state: String,
}

async fn session(metadata: &Metadata) -> Result<String, MetadataError> {
    let mut held = metadata.session.lock().await;
    let half = Duration::from_secs(SESSION_S / 2);
    if let Some(session) = held.as_ref().filter(|s| s.since.elapsed() < half) {
        return Ok(session.token.clone());
    }
    let request = metadata
        .request(Method::PUT, SESSION)
        .header("X-aws-ec2-metadata-token-ttl-seconds", SESSION_S);
    let answer = metadata.send(SESSION, request, CALL_TIMEOUT).await?;
    if answer.status != StatusCode::OK {
        return Err(refused(SESSION, answer.status, Dialect::Aws));
    }
    *held = Some(Session {
        token: answer.text.clone(),
        since: Instant::now(),
    });
    Ok(answer.text)
}

/// Asks within a session; a session that has ended before its time (401) is opened anew once.
pub(crate) async fn get(metadata: &Metadata, path: &str) -> Result<Answer, MetadataError> {
    let mut again = true;
    loop {
        let token = session(metadata).await?;
        let request = metadata.request(Method::GET, path);
        let request = request.header("X-aws-ec2-metadata-token", &token);
        let answer = metadata.send(path, request, CALL_TIMEOUT).await?;
        if answer.status != StatusCode::UNAUTHORIZED || !again {
            return Ok(answer);
        }
        again = false;
        let mut held = metadata.session.lock().await;
        if held.as_ref().is_some_and(|s| s.token == token) {
            *held = None;
        }
    }
}

pub(crate) async fn facts(metadata: &Metadata) -> Result<Facts, MetadataError> {
    let document: Document = metadata.json(DOCUMENT).await?;
    let public = metadata.get("/latest/meta-data/public-ipv4").await?;
    Ok(Facts {
        id: document.instance_id,
        vm_id: None,
        account: document.account_id,
        region: document.region,
        zone: document.availability_zone,
        instance_type: document.instance_type,
        private_address: document.private_ip,
        public_address: public.and_then(|p| p.trim().parse().ok()),
    })
}

/// The region's STS, in the region's own partition.
fn sts_of(region: &str) -> String {
    let domain = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    format!("https://sts.{region}.{domain}/")
}

/// A signed GetCallerIdentity that holds the challenge: `{url, body, headers}` as JSON.
pub(crate) async fn proof(
    metadata: &Metadata,
    challenge: &str,
    sts: Option<&str>,
) -> Result<String, MetadataError> {
    let document: Document = metadata.json(DOCUMENT).await?;
    let role = metadata.get(ROLES).await?.unwrap_or_default();
    let role = role.lines().next().unwrap_or_default().trim();
    if role.is_empty() {
        let fix = "give the pool's instances an instance profile (`instance_profile`); its role needs no permission";
        return Err(MetadataError::NoIdentity { fix });
    }
    let keys: RoleCredentials = metadata.json(&format!("{ROLES}{role}")).await?;
    let url = sts.map_or_else(|| sts_of(&document.region), str::to_owned);
    signed(&url, &document.region, keys, challenge, SystemTime::now())
}

fn signed(
    url: &str,
    region: &str,
    keys: RoleCredentials,
    challenge: &str,
    now: SystemTime,
) -> Result<String, MetadataError> {
    let failed = |why: String| unreadable(ROLES, format!("nothing can be signed with it: {why}"));
    let credentials = Credentials::new(
        keys.access_key_id,
        keys.secret_access_key,
        Some(keys.token),
        None,
        "instance role",
    );
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|e| failed(e.to_string()))?
        .into();
    let mut headers = BTreeMap::from([
        (CHALLENGE.to_owned(), challenge.to_owned()),
        (
            "content-type".to_owned(),
            "application/x-www-form-urlencoded; charset=utf-8".to_owned(),
        ),
    ]);
    let named = headers.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let body = SignableBody::Bytes(CALL.as_bytes());
    let request =
        SignableRequest::new("POST", url, named, body).map_err(|e| failed(e.to_string()))?;
    let signed = sign(request, &parameters).map_err(|e| failed(e.to_string()))?;
    let added = signed.output().headers();
    let added: Vec<_> = added.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    headers.extend(added);
    let proof = serde_json::json!({ "url": url, "body": CALL, "headers": headers });
    Ok(proof.to_string())
}

/// Looks at spot notices every [`POLL`], at scheduled events every [`EVENTS_EVERY`] polls.
pub(crate) async fn watch(metadata: &Metadata, told: &channel::Sender<Arc<Vec<Notice>>>) {
    let mut troubles = Troubles::default();
    let (mut soon, mut later) = (Vec::new(), Vec::new());
    for turn in 0u32.. {
        let mut well = true;
        match spot(metadata).await {
            Ok(new) => soon = new,
            Err(error) => {
                well = false;
                troubles.some(&error);
            }
        }
        if turn % EVENTS_EVERY == 0 {
            match scheduled(metadata).await {
                Ok(new) => later = new,
                Err(error) => {
                    well = false;
                    troubles.some(&error);
                }
            }
        }
        if well {
            troubles.none();
        }
        tell(told, soon.iter().chain(&later).cloned().collect());
        tokio::time::sleep(POLL).await;
    }
}

async fn spot(metadata: &Metadata) -> Result<Vec<Notice>, MetadataError> {
    let mut notices = Vec::new();
    if let Some(text) = metadata.get(SPOT).await? {
        notices.push(spot_action(&text)?);
    }
    // It carries when the notice was given, not when the instance ends: nobody knows whether it does.
    if metadata.get(REBALANCE).await?.is_some() {
        notices.push(Notice {
            kind: NoticeKind::Rebalance,
            at: None,
            id: String::new(),
            source: "aws rebalance recommendation",
        });
    }
    Ok(notices)
}

fn spot_action(text: &str) -> Result<Notice, MetadataError> {
    let action: SpotAction = serde_json::from_str(text).map_err(|e| unreadable(SPOT, e))?;
    let at = date::parse(&action.time).ok_or_else(|| unreadable(SPOT, "`time` is no date"))?;
    let kind = match action.action.as_str() {
        // Hibernation begins at once: its `time` is now.
        "stop" | "hibernate" => NoticeKind::Stop,
        _ => NoticeKind::Preempt,
    };
    Ok(Notice {
        kind,
        at: Some(at),
        id: String::new(),
        source: "aws spot instance action",
    })
}

async fn scheduled(metadata: &Metadata) -> Result<Vec<Notice>, MetadataError> {
    let text = metadata.get(EVENTS).await?;
    text.map_or(Ok(Vec::new()), |text| scheduled_events(&text))
}

fn scheduled_events(text: &str) -> Result<Vec<Notice>, MetadataError> {
    let events: Vec<Scheduled> = serde_json::from_str(text).map_err(|e| unreadable(EVENTS, e))?;
    let open = events
        .into_iter()
        .filter(|e| !matches!(e.state.as_str(), "completed" | "canceled"));
    open.map(|event| {
        let at = date::parse(&event.not_before);
        let at = at.ok_or_else(|| unreadable(EVENTS, "`NotBefore` is no date"))?;
        Ok(Notice {
            kind: match event.code.as_str() {
                "instance-reboot" | "system-reboot" => NoticeKind::Reboot,
                "instance-stop" => NoticeKind::Stop,
                "instance-retirement" => NoticeKind::Terminate,
                _ => NoticeKind::Maintenance,
            },
            at: Some(at),
            id: event.event_id,
            source: "aws scheduled event",
        })
    })
    .collect()
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_fleet::Millis;

    #[test]
    fn the_spot_notice_says_what_and_when() {
        let of = |action: &str| {
            let text = format!(r#"{{"action":"{action}","time":"2026-11-22T08:22:00Z"}}"#);
            let notice = spot_action(&text).expect("reads");
            assert_eq!(notice.at, Some(Millis(1_795_335_720_000)));
            notice.kind
        };
        assert_eq!(of("terminate"), NoticeKind::Preempt);
        assert_eq!(of("stop"), NoticeKind::Stop);
        assert_eq!(of("hibernate"), NoticeKind::Stop);
        assert!(spot_action(r#"{"action":"terminate","time":"soon"}"#).is_err());
    }

    #[test]
    fn scheduled_events_read_their_own_dates_and_leave_out_what_is_over() {
        let event = |code: &str, state: &str| {
            format!(
                r#"{{"NotBefore":"21 Jan 2019 09:00:43 GMT","NotAfter":"21 Jan 2019 09:17:23 GMT","Code":"{code}",
                "Description":"scheduled","EventId":"instance-event-0d59937288b749b32","State":"{state}"}}"#
            )
        };
        let kinds = |text: &str| -> Vec<NoticeKind> {
            let all = scheduled_events(text).expect("reads");
            all.into_iter().map(|n| n.kind).collect()
        };
        assert_eq!(kinds("[]"), []);
        let many = [
            "system-reboot",
            "instance-retirement",
            "instance-stop",
            "system-maintenance",
        ];
        let many: Vec<_> = many.iter().map(|code| event(code, "active")).collect();
        use NoticeKind::{Maintenance, Reboot, Stop, Terminate};
        let text = format!("[{}]", many.join(","));
        assert_eq!(kinds(&text), [Reboot, Terminate, Stop, Maintenance]);
        assert_eq!(
            kinds(&format!("[{}]", event("instance-stop", "completed"))),
            []
        );
        let one =
            scheduled_events(&format!("[{}]", event("instance-stop", "active"))).expect("reads");
        assert_eq!(one[0].at, Some(Millis(1_548_061_243_000)));
        assert_eq!(one[0].id, "instance-event-0d59937288b749b32");
    }

    #[test]
    fn the_challenge_is_signed_and_no_secret_is_told() {
        let keys = RoleCredentials {
            access_key_id: "ASIAEXAMPLE".to_owned(),
            secret_access_key: "the-secret-key".to_owned(),
            token: "session".to_owned(),
        };
        let url = sts_of("eu-central-1");
        let proof = signed(&url, "eu-central-1", keys, "abc", SystemTime::now()).expect("signs");
        let proof: serde_json::Value = serde_json::from_str(&proof).expect("JSON");
        assert_eq!(proof["url"], "https://sts.eu-central-1.amazonaws.com/");
        assert_eq!(proof["headers"][CHALLENGE], "abc");
        let authorization = proof["headers"]["authorization"].as_str().expect("signed");
        assert!(
            authorization.contains("x-gpuloom-challenge"),
            "{authorization}"
        );
        assert!(authorization.contains("host;"), "{authorization}");
        assert!(!proof.to_string().contains("the-secret-key"));
        assert_eq!(
            sts_of("cn-north-1"),
            "https://sts.cn-north-1.amazonaws.com.cn/"
        );
    }
}
