//! Compute Engine's metadata server. Source: its guide "About VM metadata", "Preemptible VM instances"
//! and "Host maintenance events". Values are waited for: a call answers when the value's ETag is another.

use crate::date;
use crate::dialect::{Dialect, Facts};
use crate::error::{MetadataError, unreadable};
use crate::metadata::{CALL_TIMEOUT, Metadata, Troubles, refused, tell};
use crate::notice::{Clock, Notice, NoticeKind};
use gpuloom_fleet::{Millis, Seconds};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch as channel;

const INSTANCE: &str = "/computeMetadata/v1/instance/";
const PROJECT: &str = "/computeMetadata/v1/project/project-id";
const IDENTITY: &str = "/computeMetadata/v1/instance/service-accounts/default/identity";
const PREEMPTED: &str = "/computeMetadata/v1/instance/preempted";
const MAINTENANCE: &str = "/computeMetadata/v1/instance/maintenance-event";
const UPCOMING: &str = "/computeMetadata/v1/instance/upcoming-maintenance";
/// How long the server holds a call when nothing changes.
const WAIT_S: u64 = 60;
/// What a call that waits may take in all.
const WAIT_TIMEOUT: Duration = Duration::from_secs(WAIT_S + 15);
/// Between two tries of what failed, or is not there.
const AGAIN: Duration = Duration::from_secs(1);
const NOT_THERE: Duration = Duration::from_secs(WAIT_S);
/// From `preempted` to the power button held down, at least.
const PREEMPTED_WITHIN: Seconds = Seconds(30);
/// From the maintenance event to the stop of a machine with GPUs.
const MAINTENANCE_WITHIN: Seconds = Seconds(3_600);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Instance {
    name: String,
    zone: String,
    machine_type: String,
    #[serde(default)]
    network_interfaces: Vec<Interface>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    ip: IpAddr,
    #[serde(default)]
    access_configs: Vec<AccessConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccessConfig {
    #[serde(default)]
    external_ip: String,
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

pub(crate) async fn facts(metadata: &Metadata) -> Result<Facts, MetadataError> {
    let path = format!("{INSTANCE}?recursive=true");
    let instance: Instance = metadata.json(&path).await?;
    let project = metadata.get(PROJECT).await?;
    let project = project.ok_or_else(|| refused(PROJECT, StatusCode::NOT_FOUND, Dialect::Gcp))?;
    let zone = last(&instance.zone).to_owned();
    let first = instance.network_interfaces.first();
    let first =
        first.ok_or_else(|| unreadable(INSTANCE, "the instance has no network interface"))?;
    let public = first.access_configs.iter();
    Ok(Facts {
        id: instance.name,
        vm_id: None,
        account: project.trim().to_owned(),
        region: zone
            .rsplit_once('-')
            .map_or("", |(region, _)| region)
            .to_owned(),
        zone: Some(zone),
        instance_type: last(&instance.machine_type).to_owned(),
        private_address: first.ip,
        public_address: public.filter_map(|c| c.external_ip.parse().ok()).next(),
    })
}

/// The identity token for `audience`, with what it says of the instance.
pub(crate) async fn proof(metadata: &Metadata, audience: &str) -> Result<String, MetadataError> {
    let request = metadata
        .request(Method::GET, IDENTITY)
        .query(&[("audience", audience), ("format", "full")]);
    let answer = metadata.send(IDENTITY, request, CALL_TIMEOUT).await?;
    match answer.status {
        StatusCode::OK => Ok(answer.text.trim().to_owned()),
        StatusCode::NOT_FOUND => {
            let fix =
                "give the pool's instances a service account (`service_account`); it needs no role";
            Err(MetadataError::NoIdentity { fix })
        }
        status => Err(refused(IDENTITY, status, Dialect::Gcp)),
    }
}

/// A value that is waited for.
struct Waiting<'a> {
    metadata: &'a Metadata,
    path: &'static str,
    etag: Option<String>,
    troubles: Troubles,
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    fn new(metadata: &'a Metadata, path: &'static str) -> Self {
        Self {
            metadata,
            path,
            etag: None,
            troubles: Troubles::default(),
        }
    }

    /// The value, once it is another than it was; `None` where there is none.
    async fn next(&mut self) -> Option<String> {
        loop {
            match self.ask().await {
                Ok(answer) => {
                    self.troubles.none();
                    return answer;
                }
                Err(error) => {
                    self.troubles.some(&error);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn ask(&mut self) -> Result<Option<String>, MetadataError> {
        let mut request = self.metadata.request(Method::GET, self.path);
        request = request.query(&[(
            "alt",
            if self.path == UPCOMING {
                "json"
            } else {
                "text"
            },
        )]);
        let mut timeout = CALL_TIMEOUT;
        if let Some(etag) = &self.etag {
            let wait = WAIT_S.to_string();
            request = request.query(&[
                ("wait_for_change", "true"),
                ("timeout_sec", &wait),
                ("last_etag", etag),
            ]);
            timeout = WAIT_TIMEOUT;
        }
        let answer = self.metadata.send(self.path, request, timeout).await?;
        match answer.status {
            StatusCode::OK if answer.etag.is_some() => {
                self.etag = answer.etag;
                Ok(Some(answer.text))
            }
            // Without an ETag there is nothing to wait for: it is asked again in a while.
            StatusCode::OK => Ok(Some(answer.text)),
            StatusCode::NOT_FOUND => {
                self.etag = None;
                Ok(None)
            }
            status => Err(refused(self.path, status, Dialect::Gcp)),
        }
    }
}

/// Waits for each of the three values, and tells them together.
pub(crate) async fn watch(
    metadata: &Metadata,
    clock: &Clock,
    told: &channel::Sender<Arc<Vec<Notice>>>,
) {
    let found: std::sync::Mutex<[Option<Notice>; 3]> = std::sync::Mutex::default();
    let found = &found;
    let put = |place: usize, notice: Option<Notice>| {
        let mut all = found
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // What was announced keeps its time: the value does not say it, the first sight does.
        match (&all[place], &notice) {
            (Some(old), Some(new)) if old.kind == new.kind && old.source != UPCOMING_SOURCE => {}
            _ => all[place] = notice,
        }
        tell(told, all.iter().flatten().cloned().collect());
    };
    let one = async |place: usize, path, read: fn(&str, Millis) -> Option<Notice>| {
        let mut waiting = Waiting::new(metadata, path);
        loop {
            let value = waiting.next().await;
            put(place, value.as_deref().and_then(|v| read(v, clock())));
            if waiting.etag.is_none() {
                tokio::time::sleep(NOT_THERE).await;
            }
        }
    };
    tokio::join!(
        one(0, PREEMPTED, preempted),
        one(1, MAINTENANCE, maintenance),
        one(2, UPCOMING, upcoming),
    );
}

const UPCOMING_SOURCE: &str = "gcp upcoming maintenance";

fn preempted(value: &str, now: Millis) -> Option<Notice> {
    (value.trim() == "TRUE").then(|| Notice {
        kind: NoticeKind::Preempt,
        at: Some(now.plus(PREEMPTED_WITHIN)),
        id: String::new(),
        source: "gcp preempted",
    })
}

fn maintenance(value: &str, now: Millis) -> Option<Notice> {
    let (kind, at) = match value.trim() {
        "TERMINATE_ON_HOST_MAINTENANCE" => {
            (NoticeKind::Maintenance, Some(now.plus(MAINTENANCE_WITHIN)))
        }
        "MIGRATE_ON_HOST_MAINTENANCE" => (NoticeKind::Freeze, None),
        _ => return None,
    };
    Some(Notice {
        kind,
        at,
        id: String::new(),
        source: "gcp maintenance event",
    })
}

/// The window's first moment; keys in camel case or in snake case, both are said to be used.
fn upcoming(value: &str, now: Millis) -> Option<Notice> {
    let value: Value = serde_json::from_str(value).ok()?;
    let field = |camel: &str, snake: &str| {
        let found = value.get(camel).or_else(|| value.get(snake));
        found.and_then(Value::as_str).map(str::to_owned)
    };
    let status = field("maintenanceStatus", "maintenance_status")?;
    let at = field("windowStartTime", "window_start_time");
    let at = at.as_deref().and_then(date::parse);
    let at = match status.as_str() {
        "PENDING" => at,
        "ONGOING" => Some(at.unwrap_or(now)),
        _ => return None,
    };
    Some(Notice {
        kind: NoticeKind::Maintenance,
        at,
        id: String::new(),
        source: UPCOMING_SOURCE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_say_what_is_announced() {
        let now = Millis(1_000);
        assert_eq!(preempted("FALSE", now), None);
        let soon = preempted("TRUE\n", now).expect("a notice");
        assert_eq!(
            (soon.kind, soon.at),
            (NoticeKind::Preempt, Some(Millis(31_000)))
        );
        assert_eq!(maintenance("NONE", now), None);
        let stop = maintenance("TERMINATE_ON_HOST_MAINTENANCE", now).expect("a notice");
        assert_eq!(stop.at, Some(Millis(3_601_000)));
        let moved = maintenance("MIGRATE_ON_HOST_MAINTENANCE", now).expect("a notice");
        assert_eq!(moved.kind, NoticeKind::Freeze);
    }

    #[test]
    fn an_upcoming_maintenance_reads_in_both_spellings() {
        let camel = r#"{"type":"SCHEDULED","maintenanceStatus":"PENDING","windowStartTime":"2026-11-22T08:22:00Z"}"#;
        let snake = r#"{"type":"SCHEDULED","maintenance_status":"PENDING","window_start_time":"2026-11-22T08:22:00Z"}"#;
        for text in [camel, snake] {
            let notice = upcoming(text, Millis(5)).expect("a notice");
            assert_eq!(notice.at, Some(Millis(1_795_335_720_000)), "{text}");
        }
        assert_eq!(upcoming(r#"{"error":"none"}"#, Millis(5)), None);
        let ongoing = upcoming(r#"{"maintenanceStatus":"ONGOING"}"#, Millis(5));
        assert_eq!(ongoing.expect("a notice").at, Some(Millis(5)));
    }
}
