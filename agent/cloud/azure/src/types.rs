//! What Resource Manager says of the things we use: the fields we read, all optional as it has them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A reference to another resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct SubResource {
    pub(crate) id: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct VirtualMachine {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) properties: VmProperties,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct VmProperties {
    pub(crate) provisioning_state: String,
    pub(crate) vm_id: Option<String>,
    pub(crate) time_created: Option<String>,
    pub(crate) virtual_machine_scale_set: Option<SubResource>,
    pub(crate) network_profile: NetworkProfile,
    pub(crate) storage_profile: StorageProfile,
    pub(crate) instance_view: Option<InstanceView>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NetworkProfile {
    pub(crate) network_interfaces: Vec<SubResource>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct StorageProfile {
    pub(crate) os_disk: Named,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Named {
    pub(crate) name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct InstanceView {
    pub(crate) statuses: Vec<Status>,
}

/// E.g. `PowerState/running`, `ProvisioningState/failed/AllocationFailed`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) code: String,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NetworkInterface {
    pub(crate) id: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) properties: NicProperties,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NicProperties {
    pub(crate) virtual_machine: Option<SubResource>,
    pub(crate) ip_configurations: Vec<IpConfiguration>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct IpConfiguration {
    pub(crate) properties: IpProperties,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct IpProperties {
    #[serde(rename = "privateIPAddress")]
    pub(crate) private_address: Option<String>,
    #[serde(rename = "publicIPAddress")]
    pub(crate) public_address: Option<SubResource>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PublicAddress {
    pub(crate) id: String,
    pub(crate) properties: PublicAddressProperties,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PublicAddressProperties {
    pub(crate) ip_address: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Disk {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) zones: Vec<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) managed_by: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ScaleSet {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) zones: Vec<String>,
    pub(crate) tags: BTreeMap<String, String>,
}

/// A size of machine, where it is sold and to whom not.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Sku {
    pub(crate) resource_type: String,
    pub(crate) name: String,
    pub(crate) family: String,
    pub(crate) location_info: Vec<LocationInfo>,
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) restrictions: Vec<Restriction>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LocationInfo {
    pub(crate) location: String,
    pub(crate) zones: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Capability {
    pub(crate) name: String,
    pub(crate) value: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Restriction {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) reason_code: String,
    pub(crate) restriction_info: RestrictionInfo,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RestrictionInfo {
    pub(crate) zones: Vec<String>,
}

/// How much of a quota is used.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Usage {
    pub(crate) name: UsageName,
    pub(crate) current_value: i64,
    pub(crate) limit: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct UsageName {
    pub(crate) value: String,
}

// === impl VirtualMachine ===

impl VirtualMachine {
    /// The power state's last word, e.g. `running`, `deallocated`; `None` when it was not asked for or there is none.
    pub(crate) fn power(&self) -> Option<&str> {
        let view = self.properties.instance_view.as_ref()?;
        let mut codes = view.statuses.iter().map(|s| s.code.as_str());
        codes.find_map(|c| c.strip_prefix("PowerState/"))
    }

    /// Why it failed: code and text; `None` when the view does not say.
    pub(crate) fn failure(&self) -> Option<(&str, &str)> {
        let view = self.properties.instance_view.as_ref()?;
        view.statuses.iter().find_map(|s| {
            let code = s.code.strip_prefix("ProvisioningState/failed/")?;
            Some((code, s.message.as_str()))
        })
    }

    pub(crate) fn is(&self, state: &str) -> bool {
        self.properties
            .provisioning_state
            .eq_ignore_ascii_case(state)
    }
}

// === impl Sku ===

impl Sku {
    /// A capability's value.
    pub(crate) fn capability(&self, name: &str) -> Option<&str> {
        let mut of_name = self.capabilities.iter().filter(|c| c.name == name);
        of_name.next().map(|c| c.value.as_str())
    }

    /// The zones of `location` that sell it to us, ascending; none where it has no zones.
    pub(crate) fn zones(&self, location: &str) -> Vec<&str> {
        let refused = |zone: &str| {
            let mut zonal = self.restrictions.iter().filter(|r| r.kind == "Zone");
            zonal.any(|r| r.restriction_info.zones.iter().any(|z| z == zone))
        };
        let here = self.location_info.iter();
        let mut zones: Vec<&str> = here
            .filter(|l| l.location.eq_ignore_ascii_case(location))
            .flat_map(|l| l.zones.iter().map(String::as_str))
            .filter(|z| !refused(z))
            .collect();
        zones.sort_unstable();
        zones
    }

    /// Why the whole location does not sell it to us, e.g. `NotAvailableForSubscription`.
    pub(crate) fn refused(&self) -> Option<&str> {
        let mut whole = self.restrictions.iter().filter(|r| r.kind == "Location");
        whole.next().map(|r| r.reason_code.as_str())
    }
}
