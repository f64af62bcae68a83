//! What a lead's instance is asked for, and what its agent starts with.

use std::fmt::Write as _;
use std::path::Path;

use gpuloom_cloud::boot::Boot;
use gpuloom_cloud::{DataDisk, LaunchRequest, Offering, Role, UserData};
use gpuloom_fleet::{FleetName, PoolPlace};
use sha2::{Digest, Sha256};
use tfplug::{Diagnostic, Diagnostics, OrDiag};

use super::note::Note;
use crate::configure::Settings;
use crate::convert::{CloudSite, LocalSite, Site};
use crate::lead_instance::LEAD_PORT;

/// Where a lead on a cloud keeps its store: on the disk that outlives its instance.
const DATA_DIR: &str = "/var/lib/gpuloom";

/// The request of a note's current try for these offerings, best first.
pub(super) fn request(
    settings: &Settings,
    note: &Note,
    fleet: &FleetName,
    offerings: Vec<Offering>,
) -> Result<LaunchRequest, Diagnostics> {
    let (fleet_id, revision, data_disk, user_data) = match &note.site {
        Site::Local(site) => {
            let config =
                local_config(site, fleet, &note.admin_public_key, &settings.local.root()?)?;
            let user_data = UserData {
                config,
                ..UserData::default()
            };
            (String::new(), String::new(), None, user_data)
        }
        Site::Cloud(site) => {
            let boot = Boot {
                role: Role::Lead,
                config: cloud_config(site, fleet, &note.admin_public_key),
                agent: site.place.agent().clone(),
                data_disk: true,
            };
            let script = boot
                .script()
                .or_diag(format!("Cannot launch the lead of fleet {fleet}"))?;
            let user_data = UserData {
                script,
                ..UserData::default()
            };
            let disk = DataDisk {
                size_gib: site.data_disk_gib,
            };
            (
                settings.lead_tag()?,
                revision(&site.place),
                Some(disk),
                user_data,
            )
        }
    };
    Ok(LaunchRequest {
        token: note.token(),
        fleet: fleet.clone(),
        fleet_id,
        pool: None,
        role: Role::Lead,
        offerings,
        place: note.site.place().clone(),
        gpu: None,
        labels: note.labels.clone(),
        revision,
        data_disk,
        user_data,
    })
}

/// What a lead's instance is made of, as 12 hexadecimal digits: one that carries another is replaced. The endpoint
/// is a road and no part of it.
pub(super) fn revision(place: &PoolPlace) -> String {
    // A place always serializes: text keys, no floats.
    let text = serde_json::to_vec(&place.without_endpoint()).unwrap_or_default();
    hex::encode(Sha256::digest(text))[..12].to_owned()
}

/// A JSON string of what is in a configuration is a TOML string, too.
fn text(s: &str) -> String {
    serde_json::Value::from(s).to_string()
}

fn local_config(
    site: &LocalSite,
    fleet: &FleetName,
    admin_public_key: &str,
    root: &Path,
) -> Result<String, Diagnostics> {
    let root = root.to_str().ok_or_else(|| {
        Diagnostic::error("The local root is not UTF-8", root.display().to_string())
    })?;
    let simulate = site
        .simulate
        .as_deref()
        .map(|s| format!("simulate = {}\n", text(s)));
    let listen = site.listen.as_deref().unwrap_or_default();
    Ok(format!(
        "instance_id = {{{{instance_id}}}}\ndata_dir = {{{{data_dir}}}}\nlisten = {}\n\n[fleet]\nname = {}\n\n\
         [lead]\nadmin_public_key = {}\n{}local_root = {}\n",
        text(listen),
        text(fleet.as_str()),
        text(admin_public_key),
        simulate.unwrap_or_default(),
        text(root),
    ))
}

/// No secret in it: everybody on the instance, and who may read its user data, reads it.
fn cloud_config(site: &CloudSite, fleet: &FleetName, admin_public_key: &str) -> String {
    let mut config = format!(
        "data_dir = {}\nlisten = {}\n\n[instance]\ncloud = {}\n",
        text(DATA_DIR),
        text(&format!("private:{LEAD_PORT}")),
        text(site.place.kind()),
    );
    // The lead leaves there what tells who it is.
    if let Some(endpoint) = site.place.endpoint() {
        let _ = writeln!(config, "endpoint = {}", text(endpoint));
    }
    if let PoolPlace::Azure(place) = &site.place {
        let _ = writeln!(config, "resource_group = {}", text(&place.resource_group));
    }
    // Writing to a String does not fail.
    let _ = write!(
        config,
        "\n[fleet]\nname = {}\n\n[lead]\nadmin_public_key = {}\nlocal_root = {}\n",
        text(fleet.as_str()),
        text(admin_public_key),
        text(&format!("{DATA_DIR}/local")),
    );
    config
}

/// A text setting of the configuration we wrote: `key = "value"` on a line of its own.
pub(super) fn setting(config: &str, key: &str) -> Option<String> {
    let value = config
        .lines()
        .find_map(|l| l.strip_prefix(key)?.trim_start().strip_prefix('='))?;
    serde_json::from_str(value.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_fleet::{AwsPlace, AzurePlace};

    #[test]
    fn what_a_lead_here_is_told_reads_back() {
        let fleet = FleetName::new("ml").expect("a name");
        let site = LocalSite {
            listen: Some("127.0.0.1:4000".to_owned()),
            simulate: Some("8xT4".to_owned()),
        };
        let config = local_config(&site, &fleet, "key", Path::new("/r \"q\"")).expect("UTF-8");
        let assigned = "instance_id = {{instance_id}}\ndata_dir = {{data_dir}}\n";
        assert!(config.starts_with(assigned), "{config}");
        assert_eq!(
            setting(&config, "listen").as_deref(),
            Some("127.0.0.1:4000")
        );
        assert_eq!(setting(&config, "simulate").as_deref(), Some("8xT4"));
        assert_eq!(setting(&config, "local_root").as_deref(), Some("/r \"q\""));
        assert_eq!(setting(&config, "name").as_deref(), Some("ml"));
    }

    #[test]
    fn a_lead_on_a_cloud_takes_its_own_address_and_keeps_its_store_on_the_disk() {
        let fleet = FleetName::new("ml").expect("a name");
        let place = PoolPlace::Aws(Box::default());
        let Site::Cloud(site) = Site::of_place(place) else {
            panic!("a cloud");
        };
        let config = cloud_config(&site, &fleet, "public half");
        assert_eq!(setting(&config, "listen").as_deref(), Some("private:7443"));
        assert_eq!(
            setting(&config, "data_dir").as_deref(),
            Some("/var/lib/gpuloom")
        );
        assert_eq!(setting(&config, "cloud").as_deref(), Some("aws"));
        assert_eq!(
            setting(&config, "admin_public_key").as_deref(),
            Some("public half")
        );
        assert_eq!(setting(&config, "instance_id"), None, "the instance knows");
        let place = AzurePlace {
            resource_group: "g".to_owned(),
            endpoint: Some("https://10.0.0.5".to_owned()),
            ..AzurePlace::default()
        };
        let Site::Cloud(site) = Site::of_place(PoolPlace::Azure(Box::new(place))) else {
            panic!("a cloud");
        };
        let config = cloud_config(&site, &fleet, "public half");
        assert_eq!(setting(&config, "resource_group").as_deref(), Some("g"));
        assert_eq!(
            setting(&config, "endpoint").as_deref(),
            Some("https://10.0.0.5")
        );
    }

    #[test]
    fn another_road_to_the_cloud_makes_no_other_instance() {
        let of = |image: &str, endpoint: Option<&str>| {
            revision(&PoolPlace::Aws(Box::new(AwsPlace {
                image: image.to_owned(),
                endpoint: endpoint.map(str::to_owned),
                ..AwsPlace::default()
            })))
        };
        assert_eq!(of("ami-1", None), of("ami-1", Some("https://10.0.0.5")));
        assert_ne!(of("ami-1", None), of("ami-2", None));
        assert_eq!(of("ami-1", None).len(), 12);
    }
}
