//! The bodies of what we create.

use std::collections::BTreeMap;

use base64::Engine;
use gpuloom_cloud::{FailureClass, LaunchError, LaunchRequest, Offering, Tags};
use gpuloom_fleet::{AzurePlace, Market};
use serde_json::{Value, json};

use crate::names;

/// Who may log in with the place's key.
const ADMIN: &str = "gpuloom";
/// The newest version in which a machine is created together with its network interface.
const NIC_VERSION: &str = "2022-11-01";
/// Bytes of custom data that Azure takes, before base64. Source: "Custom data and cloud-init", 2026-11.
const MAX_CUSTOM_DATA: usize = 65_535;

/// What a virtual machine is made of, everything found already.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) name: &'a str,
    pub(crate) place: &'a AzurePlace,
    pub(crate) offering: &'a Offering,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) scale_set: Option<String>,
    pub(crate) data_disk: Option<String>,
    pub(crate) script: &'a str,
}

/// The tags of what `request` makes of `offering`: the place's, the request's, the offering.
pub(crate) fn tags(
    request: &LaunchRequest,
    place: &AzurePlace,
    offering: &Offering,
) -> Result<BTreeMap<String, String>, LaunchError> {
    let mut tags = Tags(place.tags.clone());
    tags.0.extend(request.tags().0);
    tags.0
        .insert(Tags::OFFERING.to_owned(), offering.to_string());
    let invalid = |message: String| Err(LaunchError::new(FailureClass::Invalid, message));
    // One more on the network interface.
    if tags.0.len() >= names::MAX_TAGS {
        return invalid(format!(
            "{} tags and labels: Azure takes {} on a resource, remove some labels or azure.tags",
            tags.0.len() + 1,
            names::MAX_TAGS
        ));
    }
    if let Some((k, v)) = tags
        .0
        .iter()
        .find(|(_, v)| v.chars().count() > names::MAX_TAG_VALUE)
    {
        return invalid(format!(
            "tag {k:?} has {} characters: Azure takes {}",
            v.chars().count(),
            names::MAX_TAG_VALUE
        ));
    }
    Ok(names::to_azure(&tags))
}

/// A virtual machine together with its network interface and OS disk, which end with it.
pub(crate) fn machine(m: &Machine<'_>) -> Result<Value, LaunchError> {
    if m.script.len() > MAX_CUSTOM_DATA {
        let message = format!(
            "user data of {} bytes: Azure takes {MAX_CUSTOM_DATA}",
            m.script.len()
        );
        return Err(LaunchError::new(FailureClass::Invalid, message));
    }
    let mut properties = json!({
        "hardwareProfile": { "vmSize": m.offering.instance_type() },
        "storageProfile": storage(m),
        "osProfile": {
            "computerName": m.name,
            "adminUsername": ADMIN,
            "customData": base64::engine::general_purpose::STANDARD.encode(m.script),
            "linuxConfiguration": {
                "disablePasswordAuthentication": true,
                "ssh": { "publicKeys": [{
                    "path": format!("/home/{ADMIN}/.ssh/authorized_keys"),
                    "keyData": m.place.ssh_public_key,
                }]},
            },
        },
        "networkProfile": {
            "networkApiVersion": NIC_VERSION,
            "networkInterfaceConfigurations": [nic(m)],
        },
    });
    match m.offering.market() {
        Market::Spot => {
            properties["priority"] = json!("Spot");
            properties["evictionPolicy"] = json!("Delete");
            // -1: up to the on-demand price, never evicted for the price alone.
            properties["billingProfile"] = json!({ "maxPrice": -1 });
        }
        Market::OnDemand => properties["priority"] = json!("Regular"),
    }
    if let Some(id) = &m.scale_set {
        properties["virtualMachineScaleSet"] = json!({ "id": id });
    }
    let mut body = json!({
        "location": m.place.location,
        "tags": m.tags,
        "properties": properties,
    });
    if let Some(zone) = zone(m.offering) {
        body["zones"] = json!([zone]);
    }
    if let Some(identity) = &m.place.identity {
        let mut identities = serde_json::Map::new();
        identities.insert(identity.clone(), json!({}));
        body["identity"] = json!({ "type": "UserAssigned", "userAssignedIdentities": identities });
    }
    Ok(body)
}

fn storage(m: &Machine<'_>) -> Value {
    let mut storage = json!({
        "imageReference": image(&m.place.image),
        "osDisk": {
            "name": names::os_disk(m.name),
            "createOption": "FromImage",
            "deleteOption": "Delete",
            "diskSizeGB": m.place.os_disk_gib,
            "managedDisk": { "storageAccountType": "StandardSSD_LRS" },
        },
    });
    if let Some(id) = &m.data_disk {
        storage["dataDisks"] = json!([{
            "lun": 0,
            "createOption": "Attach",
            "deleteOption": "Detach",
            "managedDisk": { "id": id },
        }]);
    }
    storage
}

fn nic(m: &Machine<'_>) -> Value {
    let mut tags = m.tags.clone();
    tags.insert(names::INSTANCE.to_owned(), m.name.to_owned());
    let mut address = json!({ "subnet": { "id": m.place.subnet_id }, "primary": true });
    if m.place.public_address {
        address["publicIPAddressConfiguration"] = json!({
            "name": names::public_address(m.name),
            "sku": { "name": "Standard", "tier": "Regional" },
            "properties": { "deleteOption": "Delete", "publicIPAllocationMethod": "Static" },
        });
    }
    json!({
        "name": names::nic(m.name),
        "properties": {
            "primary": true,
            "deleteOption": "Delete",
            "ipConfigurations": [{ "name": "primary", "properties": address }],
        },
        "tags": tags,
    })
}

/// An empty scale set that holds what is put into it and makes nothing itself.
pub(crate) fn scale_set(
    location: &str,
    zones: &[String],
    tags: &BTreeMap<String, String>,
) -> Value {
    let mut body = json!({
        "location": location,
        "tags": tags,
        "properties": { "orchestrationMode": "Flexible", "platformFaultDomainCount": 1 },
    });
    if !zones.is_empty() {
        body["zones"] = json!(zones);
    }
    body
}

/// An empty disk.
pub(crate) fn disk(
    location: &str,
    zone: Option<&str>,
    size_gib: u32,
    tags: &BTreeMap<String, String>,
) -> Value {
    let mut body = json!({
        "location": location,
        "tags": tags,
        "sku": { "name": "StandardSSD_LRS" },
        "properties": { "creationData": { "createOption": "Empty" }, "diskSizeGB": size_gib },
    });
    if let Some(zone) = zone {
        body["zones"] = json!([zone]);
    }
    body
}

/// The offering's zone; `None` when Azure chooses.
pub(crate) fn zone(offering: &Offering) -> Option<&str> {
    Some(offering.zone()).filter(|z| *z != "-" && !z.is_empty())
}

/// `publisher:offer:sku:version`, an ARM id, or an id in a shared or community gallery.
fn image(text: &str) -> Value {
    let parts: Vec<&str> = text.split(':').collect();
    let lower = text.to_ascii_lowercase();
    match parts.as_slice() {
        [publisher, offer, sku, version] => json!({
            "publisher": publisher, "offer": offer, "sku": sku, "version": version,
        }),
        _ if lower.starts_with("/communitygalleries/") => {
            json!({ "communityGalleryImageId": text })
        }
        _ if lower.starts_with("/sharedgalleries/") => json!({ "sharedGalleryImageId": text }),
        _ => json!({ "id": text }),
    }
}
