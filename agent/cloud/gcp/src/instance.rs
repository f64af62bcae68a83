//! An instance as Compute Engine shows it, as ours.

use std::collections::{BTreeMap, HashMap};

use google_cloud_compute_v1::model::{self, instance::Status, scheduling::ProvisioningModel};
use gpuloom_cloud::{Instance, InstanceState, Offering, Role, Tags, Token};
use gpuloom_fleet::{InstanceId, Market, Millis, PoolName};

use crate::errors::short;
use crate::labels::TAGS_ITEM;

/// The instance; an error says why it is none that gpuloom launched.
pub(crate) fn read(found: &model::Instance, region: &str) -> Result<Instance, String> {
    let name = found.name.clone().unwrap_or_default();
    let mut tags = tags(found);
    let offering = offering(found, region);
    tags.0.insert(Tags::OFFERING.to_owned(), offering.0.clone());
    let tag = |key: &str| {
        tags.get(key)
            .ok_or_else(|| format!("{name} has no tag {key}"))
    };
    let token = Token::new(tag(Tags::TOKEN)?)?;
    let role: Role = tag(Tags::ROLE)?.parse()?;
    let pool = match tags.get(Tags::POOL) {
        Some(pool) => Some(PoolName::new(pool).map_err(|e| e.to_string())?),
        None => None,
    };
    let nic = found.network_interfaces.first();
    let public = nic.and_then(|n| n.access_configs.first());
    Ok(Instance {
        id: InstanceId::new(name).map_err(|e| e.to_string())?,
        token,
        offering,
        state: state(found.status.as_ref()),
        launched_at: found
            .creation_timestamp
            .as_deref()
            .map_or(Millis(0), millis),
        pool,
        role,
        private_address: nic.and_then(|n| n.network_ip.clone()),
        public_address: public
            .and_then(|a| a.nat_ip.clone())
            .filter(|a| !a.is_empty()),
        tags,
    })
}

/// The tags as they were given; from the labels where the metadata item is gone.
fn tags(found: &model::Instance) -> Tags {
    let items = found.metadata.as_ref().map(|m| m.items.as_slice());
    let item = items
        .unwrap_or_default()
        .iter()
        .find(|i| i.key.as_deref() == Some(TAGS_ITEM));
    let text = item.and_then(|i| i.value.as_deref());
    let exact = text.and_then(|t| serde_json::from_str::<BTreeMap<String, String>>(t).ok());
    Tags(exact.unwrap_or_else(|| of_labels(&found.labels)))
}

fn of_labels(labels: &HashMap<String, String>) -> BTreeMap<String, String> {
    let tag = |(k, v): (&String, &String)| {
        let key = match k.strip_prefix("gpuloom-") {
            Some(rest) => format!("gpuloom:{rest}"),
            None => k.clone(),
        };
        (key, v.clone())
    };
    labels.iter().map(tag).collect()
}

fn offering(found: &model::Instance, region: &str) -> Offering {
    let model = found
        .scheduling
        .as_ref()
        .and_then(|s| s.provisioning_model.as_ref());
    let market = match model {
        Some(ProvisioningModel::Spot) => Market::Spot,
        _ => Market::OnDemand,
    };
    let last = |path: &Option<String>| short(path.as_deref().unwrap_or_default()).to_owned();
    Offering::new(
        "gcp",
        region,
        &last(&found.zone),
        &last(&found.machine_type),
        market,
    )
}

fn state(status: Option<&Status>) -> InstanceState {
    match status {
        Some(Status::Running) => InstanceState::Running,
        Some(Status::Terminated | Status::Stopped | Status::Suspended) => InstanceState::Stopped,
        // Being stopped is how being deleted begins.
        Some(
            Status::Stopping | Status::Suspending | Status::Deprovisioning | Status::PendingStop,
        ) => InstanceState::Terminating,
        // Provisioning, staging, repairing, and what is not known yet.
        _ => InstanceState::Launching,
    }
}

fn millis(text: &str) -> Millis {
    let parsed: Option<jiff::Timestamp> = text.parse().ok();
    let millis = parsed.and_then(|t| u64::try_from(t.as_millisecond()).ok());
    Millis(millis.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(status: Status) -> model::Instance {
        let labels = [
            ("gpuloom-fleet", "ml"),
            ("gpuloom-role", "node"),
            ("gpuloom-pool", "t4"),
            ("gpuloom-token", "s-1-1"),
        ];
        model::Instance::new()
            .set_name("ml-t4-01234567")
            .set_zone("https://compute.googleapis.com/compute/v1/projects/p/zones/us-central1-b")
            .set_machine_type("https://compute.googleapis.com/compute/v1/projects/p/zones/us-central1-b/machineTypes/g2-standard-4")
            .set_scheduling(model::Scheduling::new().set_provisioning_model(ProvisioningModel::Spot))
            .set_creation_timestamp("2026-11-22T05:00:00.250-08:00")
            .set_status(status)
            .set_labels(labels)
    }

    #[test]
    fn an_instance_reads_from_its_labels_when_the_metadata_is_gone() {
        let read = read(&instance(Status::Running), "us-central1").expect("reads");
        assert_eq!(
            read.offering.0,
            "gcp/us-central1/us-central1-b/g2-standard-4/spot"
        );
        assert_eq!((read.token.as_str(), read.role), ("s-1-1", Role::Node));
        assert_eq!(read.pool.expect("a pool").as_str(), "t4");
        assert_eq!(read.launched_at, Millis(1_795_352_400_250));
        assert_eq!(read.tags.get(Tags::FLEET), Some("ml"));
    }

    #[test]
    fn exact_tags_win_over_labels() {
        let tags = r#"{"gpuloom:role":"lead","gpuloom:token":"AB-1","team":"Vision & Co"}"#;
        let item = model::metadata::Items::new()
            .set_key(TAGS_ITEM)
            .set_value(tags);
        let found =
            instance(Status::Running).set_metadata(model::Metadata::new().set_items([item]));
        let read = read(&found, "us-central1").expect("reads");
        assert_eq!((read.token.as_str(), read.role), ("AB-1", Role::Lead));
        assert_eq!(read.tags.get("team"), Some("Vision & Co"));
    }

    #[test]
    fn what_has_no_token_is_not_ours() {
        let found = model::Instance::new().set_name("someone-elses");
        let error = read(&found, "us-central1").expect_err("no tags");
        assert!(
            error.contains("someone-elses") && error.contains("gpuloom:token"),
            "{error}"
        );
    }

    #[test]
    fn states_are_ours() {
        for (status, ours) in [
            (Status::Provisioning, InstanceState::Launching),
            (Status::Staging, InstanceState::Launching),
            (Status::Running, InstanceState::Running),
            (Status::Stopping, InstanceState::Terminating),
            (Status::Terminated, InstanceState::Stopped),
        ] {
            assert_eq!(state(Some(&status)), ours, "{status:?}");
        }
    }
}
