//! Azure's instance metadata service. Source: its reference, "Scheduled Events" and "Attested data".

use crate::date;
use crate::dialect::{Dialect, Facts};
use crate::error::{MetadataError, unreadable};
use crate::metadata::{CALL_TIMEOUT, FIRST_EVENTS_TIMEOUT, Metadata, Troubles, refused, tell};
use crate::notice::{Clock, Notice, NoticeKind};
use gpuloom_fleet::Millis;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch as channel;

const INSTANCE: &str = "/metadata/instance?api-version=2021-02-01";
const ATTESTED: &str = "/metadata/attested/document";
const EVENTS: &str = "/metadata/scheduledevents?api-version=2020-07-01";
/// A preemption is told 30 seconds before: every second counts.
const POLL: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Instance {
    compute: Compute,
    network: Network,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Compute {
    name: String,
    vm_id: String,
    subscription_id: String,
    location: String,
    #[serde(default)]
    zone: String,
    vm_size: String,
}

#[derive(Deserialize)]
struct Network {
    interface: Vec<Interface>,
}

#[derive(Deserialize)]
struct Interface {
    ipv4: Ipv4,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ipv4 {
    ip_address: Vec<Address>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    private_ip_address: IpAddr,
    #[serde(default)]
    public_ip_address: String,
}

#[derive(Deserialize)]
struct Attested {
    encoding: String,
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    document_incarnation: i64,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    event_id: String,
    event_type: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    not_before: String,
}

pub(crate) async fn facts(metadata: &Metadata) -> Result<Facts, MetadataError> {
    let instance: Instance = metadata.json(INSTANCE).await?;
    let addresses = instance.network.interface.into_iter();
    let mut addresses = addresses.flat_map(|i| i.ipv4.ip_address);
    let address = addresses.next();
    let address = address.ok_or_else(|| unreadable("/metadata/instance", "it has no address"))?;
    let compute = instance.compute;
    Ok(Facts {
        id: compute.name,
        vm_id: Some(compute.vm_id),
        account: compute.subscription_id,
        region: compute.location,
        zone: Some(compute.zone).filter(|z| !z.is_empty()),
        instance_type: compute.vm_size,
        private_address: address.private_ip_address,
        public_address: address.public_ip_address.parse().ok(),
    })
}

/// The attested document with `nonce`, ten digits.
pub(crate) async fn proof(metadata: &Metadata, nonce: &str) -> Result<String, MetadataError> {
    let path = format!("{ATTESTED}?api-version=2020-09-01&nonce={nonce}");
    let attested: Attested = metadata.json(&path).await?;
    if attested.encoding != "pkcs7" {
        return Err(unreadable(ATTESTED, "its encoding is not pkcs7"));
    }
    Ok(attested.signature)
}

/// Looks every second; a document of the incarnation that was read last says nothing new.
pub(crate) async fn watch(
    metadata: &Metadata,
    clock: &Clock,
    told: &channel::Sender<Arc<Vec<Notice>>>,
) {
    let mut troubles = Troubles::default();
    let mut own = None;
    let mut seen = None;
    let mut timeout = FIRST_EVENTS_TIMEOUT;
    loop {
        let name = match &own {
            Some(name) => Ok(String::clone(name)),
            None => facts(metadata).await.map(|f| f.id),
        };
        let read = match name {
            Ok(name) => {
                own = Some(name.clone());
                look(metadata, &name, seen, timeout, clock()).await
            }
            Err(error) => Err(error),
        };
        match read {
            Ok(new) => {
                troubles.none();
                timeout = CALL_TIMEOUT;
                if let Some((incarnation, notices)) = new {
                    seen = Some(incarnation);
                    let before = told.borrow().clone();
                    tell(told, keep_times(&before, notices));
                }
            }
            Err(error) => troubles.some(&error),
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn look(
    metadata: &Metadata,
    own: &str,
    seen: Option<i64>,
    timeout: Duration,
    now: Millis,
) -> Result<Option<(i64, Vec<Notice>)>, MetadataError> {
    let request = metadata.request(Method::GET, EVENTS);
    let answer = metadata.send(EVENTS, request, timeout).await?;
    if answer.status != StatusCode::OK {
        return Err(refused(EVENTS, answer.status, Dialect::Azure));
    }
    let events = |e| unreadable("/metadata/scheduledevents", e);
    let document: Document = serde_json::from_str(&answer.text).map_err(events)?;
    let incarnation = document.document_incarnation;
    Ok((seen != Some(incarnation)).then(|| (incarnation, notices(document, own, now))))
}

/// Those of this machine: events of the whole scale set are told to each of its machines.
fn notices(document: Document, own: &str, now: Millis) -> Vec<Notice> {
    let events = document.events.into_iter();
    let mine = events.filter(|e| e.resources.iter().any(|r| r.eq_ignore_ascii_case(own)));
    mine.map(|event| Notice {
        kind: match event.event_type.as_str() {
            "Freeze" => NoticeKind::Freeze,
            "Reboot" => NoticeKind::Reboot,
            "Redeploy" => NoticeKind::Redeploy,
            "Preempt" => NoticeKind::Preempt,
            "Terminate" => NoticeKind::Terminate,
            _ => NoticeKind::Maintenance,
        },
        // Empty once it has started: it is now.
        at: Some(date::parse(&event.not_before).unwrap_or(now)),
        id: event.event_id,
        source: "azure scheduled event",
    })
    .collect()
}

/// An event that has started loses its date: it keeps the one it had.
fn keep_times(old: &[Notice], mut new: Vec<Notice>) -> Vec<Notice> {
    for notice in &mut new {
        if let Some(before) = old.iter().find(|o| o.id == notice.id) {
            notice.at = before.at.min(notice.at);
        }
    }
    new
}

pub(crate) async fn acknowledge(metadata: &Metadata, ids: &[String]) -> Result<(), MetadataError> {
    let start: Vec<_> = ids
        .iter()
        .map(|id| serde_json::json!({ "EventId": id }))
        .collect();
    let request = metadata
        .request(Method::POST, EVENTS)
        .json(&serde_json::json!({ "StartRequests": start }));
    let answer = metadata.send(EVENTS, request, CALL_TIMEOUT).await?;
    if answer.status.is_success() {
        return Ok(());
    }
    Err(refused(EVENTS, answer.status, Dialect::Azure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(events: &str) -> Vec<Notice> {
        let text = format!(r#"{{"DocumentIncarnation":2,"Events":[{events}]}}"#);
        let document = serde_json::from_str(&text).expect("reads");
        notices(document, "vm1", Millis(7))
    }

    fn event(kind: &str, vm: &str, not_before: &str) -> String {
        format!(
            r#"{{"EventId":"A","EventType":"{kind}","ResourceType":"VirtualMachine","Resources":["other","{vm}"],
            "EventStatus":"Scheduled","NotBefore":"{not_before}","Description":"","EventSource":"Platform","DurationInSeconds":-1}}"#
        )
    }

    #[test]
    fn only_events_of_this_machine_count() {
        let date = "Thu, 22 Jul 2021 04:50:17 GMT";
        assert_eq!(read(&event("Preempt", "vm2", date)), []);
        let mine = read(&event("Preempt", "VM1", date));
        assert_eq!(mine[0].kind, NoticeKind::Preempt);
        assert_eq!(mine[0].at, Some(Millis(1_626_929_417_000)));
        for (word, kind) in [
            ("Freeze", NoticeKind::Freeze),
            ("Reboot", NoticeKind::Reboot),
            ("Redeploy", NoticeKind::Redeploy),
            ("Terminate", NoticeKind::Terminate),
        ] {
            assert_eq!(read(&event(word, "vm1", date))[0].kind, kind, "{word}");
        }
    }

    #[test]
    fn an_event_that_has_started_is_now_and_keeps_its_time() {
        let started = read(&event("Preempt", "vm1", ""));
        assert_eq!(started[0].at, Some(Millis(7)));
        let before = [Notice {
            at: Some(Millis(5)),
            ..started[0].clone()
        }];
        assert_eq!(keep_times(&before, started)[0].at, Some(Millis(5)));
    }
}
