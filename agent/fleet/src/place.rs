//! Where a pool's nodes come from: this machine, machines that exist, or one of three clouds.

use crate::limits::{MAX_DISK_GIB, MAX_PLACE_CHOICES, MAX_PLACE_TEXT_BYTES, MIN_DISK_GIB};
use crate::pool::check_labels_at;
use crate::problem::Problems;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a pool's nodes come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum PoolPlace {
    /// Agents on the lead's own machine, each with a share of its GPUs.
    #[default]
    Local,
    /// Machines that exist already and join with a token; the lead launches nothing.
    Existing,
    /// EC2 instances of one region.
    Aws(Box<AwsPlace>),
    /// Compute Engine instances of one region.
    Gcp(Box<GcpPlace>),
    /// Azure virtual machines of one location.
    Azure(Box<AzurePlace>),
}

/// Instances of one AWS region.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwsPlace {
    /// E.g. `us-east-1`.
    pub region: String,
    /// `subnet-...`, in the order they are tried; each is one zone. At least one.
    pub subnets: Vec<String>,
    /// In the order they are tried; empty: any that has the pool's GPUs, cheapest first.
    pub instance_types: Vec<String>,
    /// `ami-...`.
    pub image: String,
    /// The instance profile's name or ARN; `None`: the instance may call nothing.
    pub instance_profile: Option<String>,
    /// `sg-...`; empty: the VPC's default group.
    pub security_groups: Vec<String>,
    /// A public IPv4 address, too.
    pub public_address: bool,
    /// The root disk, 8 to 16384 GiB.
    pub root_disk_gib: u32,
    /// Tags beside gpuloom's own.
    pub tags: BTreeMap<String, String>,
    /// A private endpoint for all of EC2's calls; `None`: the region's public one.
    pub endpoint: Option<String>,
    /// Where the agent comes from.
    #[serde(default)]
    pub agent: AgentSource,
}

/// Instances of one Google Cloud region.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcpPlace {
    /// The project's id.
    pub project: String,
    /// E.g. `us-central1`.
    pub region: String,
    /// In the order they are tried; empty: any of the region that has the machine.
    pub zones: Vec<String>,
    /// In the order they are tried; empty: any that has the pool's GPUs, cheapest first.
    pub machine_types: Vec<String>,
    /// `projects/P/global/images/I` or `projects/P/global/images/family/F`.
    pub image: String,
    /// The network's name or path; `None`: that of the subnetwork, or `default`.
    pub network: Option<String>,
    /// The subnetwork's name or path.
    pub subnetwork: Option<String>,
    /// The service account's e-mail address; `None`: the instance may call nothing.
    pub service_account: Option<String>,
    /// An external IPv4 address, too.
    pub public_address: bool,
    /// The boot disk, 8 to 16384 GiB.
    pub boot_disk_gib: u32,
    /// Labels beside gpuloom's own.
    pub labels: BTreeMap<String, String>,
    /// A private endpoint for all of Compute Engine's calls.
    pub endpoint: Option<String>,
    /// Where the agent comes from.
    #[serde(default)]
    pub agent: AgentSource,
}

/// Virtual machines of one Azure location.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AzurePlace {
    /// The subscription's id (a UUID).
    pub subscription: String,
    /// Holds everything that is made.
    pub resource_group: String,
    /// E.g. `eastus`.
    pub location: String,
    /// `1`, `2`, `3` in the order they are tried; empty: regional, no zone pinned.
    pub zones: Vec<String>,
    /// In the order they are tried; empty: any that has the pool's GPUs, cheapest first.
    pub vm_sizes: Vec<String>,
    /// An image's ARM id, or `publisher:offer:sku:version`.
    pub image: String,
    /// The subnet's ARM id.
    pub subnet_id: String,
    /// The user-assigned identity's ARM id; `None`: the machine may call nothing.
    pub identity: Option<String>,
    /// Azure refuses Linux machines without one.
    pub ssh_public_key: String,
    /// A public IPv4 address, too.
    pub public_address: bool,
    /// The OS disk, 8 to 16384 GiB.
    pub os_disk_gib: u32,
    /// Tags beside gpuloom's own.
    pub tags: BTreeMap<String, String>,
    /// A private endpoint for all of Resource Manager's calls.
    pub endpoint: Option<String>,
    /// Where the agent comes from.
    #[serde(default)]
    pub agent: AgentSource,
}

/// Where an instance's agent comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum AgentSource {
    /// Baked into the image.
    #[default]
    Image,
    /// Downloaded at the first boot, and refused when its checksum differs.
    Package {
        /// `https://...`; plain `http` only for addresses of the private network.
        url: String,
        /// 64 lower-case hex digits.
        sha256: String,
    },
}

// === impl PoolPlace ===

impl PoolPlace {
    /// `local`, `existing`, `aws`, `gcp` or `azure`: the block's name in HCL, the first part of its offerings.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Existing => "existing",
            Self::Aws(_) => "aws",
            Self::Gcp(_) => "gcp",
            Self::Azure(_) => "azure",
        }
    }

    /// True for one of the three clouds.
    pub fn is_cloud(&self) -> bool {
        matches!(self, Self::Aws(_) | Self::Gcp(_) | Self::Azure(_))
    }

    /// The region or location; `None` for this machine and existing ones.
    pub fn region(&self) -> Option<&str> {
        match self {
            Self::Local | Self::Existing => None,
            Self::Aws(p) => Some(&p.region),
            Self::Gcp(p) => Some(&p.region),
            Self::Azure(p) => Some(&p.location),
        }
    }

    /// The instance types stated, in their order; empty: any that fits.
    pub fn instance_types(&self) -> &[String] {
        match self {
            Self::Local | Self::Existing => &[],
            Self::Aws(p) => &p.instance_types,
            Self::Gcp(p) => &p.machine_types,
            Self::Azure(p) => &p.vm_sizes,
        }
    }

    /// The subnets (AWS) or zones stated, in their order; empty: any.
    pub fn zones(&self) -> &[String] {
        match self {
            Self::Local | Self::Existing => &[],
            Self::Aws(p) => &p.subnets,
            Self::Gcp(p) => &p.zones,
            Self::Azure(p) => &p.zones,
        }
    }

    /// The account it belongs to as stated: project (Google Cloud) or subscription (Azure).
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::Local | Self::Existing | Self::Aws(_) => None,
            Self::Gcp(p) => Some(&p.project),
            Self::Azure(p) => Some(&p.subscription),
        }
    }

    /// What holds its instances: kind, account, resource group and region; what of these it has not is empty. A pool
    /// whose home changes would leave its nodes behind.
    pub fn home(&self) -> [&str; 4] {
        let group = match self {
            Self::Azure(p) => p.resource_group.as_str(),
            _ => "",
        };
        let account = self.account().unwrap_or_default();
        [
            self.kind(),
            account,
            group,
            self.region().unwrap_or_default(),
        ]
    }

    /// The private endpoint, if one is stated.
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Self::Local | Self::Existing => None,
            Self::Aws(p) => p.endpoint.as_deref(),
            Self::Gcp(p) => p.endpoint.as_deref(),
            Self::Azure(p) => p.endpoint.as_deref(),
        }
    }

    /// Where the agent comes from; that of this machine and of existing ones is there already.
    pub fn agent(&self) -> &AgentSource {
        match self {
            Self::Local | Self::Existing => &AgentSource::Image,
            Self::Aws(p) => &p.agent,
            Self::Gcp(p) => &p.agent,
            Self::Azure(p) => &p.agent,
        }
    }

    /// The tags or labels stated for its instances.
    pub fn tags(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Self::Local | Self::Existing => None,
            Self::Aws(p) => Some(&p.tags),
            Self::Gcp(p) => Some(&p.labels),
            Self::Azure(p) => Some(&p.tags),
        }
    }

    /// The same place without its endpoint: which road leads there says nothing about what is made.
    #[must_use]
    pub fn without_endpoint(&self) -> Self {
        let mut place = self.clone();
        match &mut place {
            Self::Local | Self::Existing => {}
            Self::Aws(p) => p.endpoint = None,
            Self::Gcp(p) => p.endpoint = None,
            Self::Azure(p) => p.endpoint = None,
        }
        place
    }

    /// Adds what is wrong with the place; fields are named `aws.region`, `gcp.zones[1]` and so on.
    pub fn check(&self, p: &mut Problems) {
        match self {
            Self::Local | Self::Existing => {}
            Self::Aws(place) => place.check(p),
            Self::Gcp(place) => place.check(p),
            Self::Azure(place) => place.check(p),
        }
    }
}

// === impl AwsPlace, GcpPlace, AzurePlace ===

impl AwsPlace {
    fn check(&self, p: &mut Problems) {
        region("aws.region", &self.region, "us-east-1", p);
        let fix = "name at least one subnet, e.g. [\"subnet-0a1b\"]; each is one zone to try";
        p.require(
            !self.subnets.is_empty(),
            "aws.subnets",
            "[]",
            "is empty",
            fix,
        );
        prefixed_each("aws.subnets", &self.subnets, "subnet-", p);
        types("aws.instance_types", &self.instance_types, "g4dn.xlarge", p);
        prefixed("aws.image", &self.image, "ami-", p);
        prefixed_each("aws.security_groups", &self.security_groups, "sg-", p);
        optional("aws.instance_profile", self.instance_profile.as_deref(), p);
        disk("aws.root_disk_gib", self.root_disk_gib, p);
        tags("aws.tags", &self.tags, p);
        endpoint("aws.endpoint", self.endpoint.as_deref(), p);
        self.agent.check("aws.agent", p);
    }
}

impl GcpPlace {
    fn check(&self, p: &mut Problems) {
        let good = (6..=30).contains(&self.project.len()) && is_word(&self.project, b"-:.");
        let fix = "give the project's id (not its number or name), e.g. \"my-project-1\"";
        p.require(
            good,
            "gcp.project",
            &self.project,
            "is not a project id",
            fix,
        );
        region("gcp.region", &self.region, "us-central1", p);
        choices("gcp.zones", &self.zones, p);
        // In no region there are no zones: one problem is enough.
        let sound = p.0.iter().all(|p| p.field != "gcp.region");
        for (i, zone) in self.zones.iter().enumerate().filter(|_| sound) {
            let inside = zone
                .strip_prefix(self.region.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.starts_with('-'));
            let message = format!("is not a zone of gcp.region ({})", self.region);
            let fix = format!("use e.g. \"{}-a\"", self.region);
            p.require(inside, &format!("gcp.zones[{i}]"), zone, &message, &fix);
        }
        types("gcp.machine_types", &self.machine_types, "g2-standard-4", p);
        let good = self.image.contains("/images/") && is_word(&self.image, b"-_./:");
        let fix = "use \"projects/P/global/images/I\" or \"projects/P/global/images/family/F\"";
        p.require(good, "gcp.image", &self.image, "is not an image", fix);
        optional("gcp.network", self.network.as_deref(), p);
        optional("gcp.subnetwork", self.subnetwork.as_deref(), p);
        let account = self.service_account.as_deref();
        optional("gcp.service_account", account, p);
        if let Some(account) = account.filter(|a| !a.is_empty() && !a.contains('@')) {
            let fix =
                "give its e-mail address, e.g. \"nodes@my-project-1.iam.gserviceaccount.com\"";
            p.add("gcp.service_account", account, "is not an address", fix);
        }
        disk("gcp.boot_disk_gib", self.boot_disk_gib, p);
        for (key, value) in &self.labels {
            let word = |s: &str| {
                s.len() <= 63
                    && s.bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
            };
            let good =
                word(key) && word(value) && key.starts_with(|c: char| c.is_ascii_lowercase());
            let fix = "Google Cloud takes lower-case letters, digits, '-' and '_' only, at most 63, a letter first";
            let field = format!("gcp.labels[{key:?}]");
            p.require(good, &field, value, "is not a label", fix);
        }
        tags("gcp.labels", &self.labels, p);
        endpoint("gcp.endpoint", self.endpoint.as_deref(), p);
        self.agent.check("gcp.agent", p);
    }
}

impl AzurePlace {
    fn check(&self, p: &mut Problems) {
        let uuid = self.subscription.len() == 36
            && self.subscription.bytes().enumerate().all(|(i, b)| {
                if matches!(i, 8 | 13 | 18 | 23) {
                    b == b'-'
                } else {
                    b.is_ascii_hexdigit()
                }
            });
        let fix = "give the subscription's id, e.g. \"00000000-0000-0000-0000-000000000000\"";
        let message = "is not a subscription id";
        p.require(uuid, "azure.subscription", &self.subscription, message, fix);
        let group = &self.resource_group;
        let good =
            (1..=90).contains(&group.len()) && is_word(group, b"-_.()") && !group.ends_with('.');
        let fix = "use 1 to 90 letters, digits, '-', '_', '.', '(' and ')', the last not a dot";
        let message = "is not a resource group's name";
        p.require(good, "azure.resource_group", group, message, fix);
        region("azure.location", &self.location, "eastus", p);
        choices("azure.zones", &self.zones, p);
        for (i, zone) in self.zones.iter().enumerate() {
            let good = matches!(zone.as_str(), "1" | "2" | "3");
            let field = format!("azure.zones[{i}]");
            p.require(
                good,
                &field,
                zone,
                "is not a zone",
                "use \"1\", \"2\" or \"3\"",
            );
        }
        types("azure.vm_sizes", &self.vm_sizes, "Standard_NC4as_T4_v3", p);
        let urn = self
            .image
            .split(':')
            .filter(|part| !part.is_empty())
            .count()
            == 4;
        let good = (urn
            || self.image.starts_with("/subscriptions/")
            || self.image.starts_with("/CommunityGalleries/")
            || self.image.starts_with("/SharedGalleries/"))
            && is_word(&self.image, b"-_./:");
        let fix = "use the image's ARM id or \"publisher:offer:sku:version\"";
        p.require(good, "azure.image", &self.image, "is not an image", fix);
        arm("azure.subnet_id", Some(&self.subnet_id), "/subnets/", p);
        let identities = "/userAssignedIdentities/";
        arm("azure.identity", self.identity.as_deref(), identities, p);
        let key = &self.ssh_public_key;
        let good = key.starts_with("ssh-") && key.split_whitespace().count() >= 2;
        let fix =
            "give one line as in ~/.ssh/id_rsa.pub; Azure refuses Linux machines without a key";
        p.require(
            good,
            "azure.ssh_public_key",
            key,
            "is not an SSH public key",
            fix,
        );
        disk("azure.os_disk_gib", self.os_disk_gib, p);
        tags("azure.tags", &self.tags, p);
        endpoint("azure.endpoint", self.endpoint.as_deref(), p);
        self.agent.check("azure.agent", p);
    }
}

// === impl AgentSource ===

impl AgentSource {
    fn check(&self, field: &str, p: &mut Problems) {
        let Self::Package { url, sha256 } = self else {
            return;
        };
        let good = url.starts_with("https://") || url.starts_with("http://");
        // It stands in a shell script: no quotes, blanks or control characters.
        let plain = url.len() <= MAX_PLACE_TEXT_BYTES
            && url
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"'\"\\`$".contains(&b));
        let fix = "use an https:// address without quotes, blanks, '$' and backslashes";
        p.require(
            good && plain,
            &format!("{field}.url"),
            url,
            "is not an address",
            fix,
        );
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let good = sha256.len() == 64 && sha256.bytes().all(hex);
        let fix = "give the package's checksum, 64 lower-case hex digits: sha256sum <package>";
        p.require(
            good,
            &format!("{field}.sha256"),
            sha256,
            "is not a SHA-256",
            fix,
        );
    }
}

// === functions ===

fn is_word(text: &str, also: &[u8]) -> bool {
    !text.is_empty()
        && text.len() <= MAX_PLACE_TEXT_BYTES
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
}

fn region(field: &str, value: &str, example: &str, p: &mut Problems) {
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let good = is_word(value, b"-") && value.bytes().all(lower);
    let fix = format!("use the cloud's own word, e.g. {example:?}");
    p.require(good, field, value, "is not a region", &fix);
}

fn choices(field: &str, values: &[String], p: &mut Problems) {
    p.range(field, values.len(), 0, MAX_PLACE_CHOICES);
    for (i, value) in values.iter().enumerate() {
        let again = values[..i].contains(value);
        let fix = "name each once";
        p.require(!again, &format!("{field}[{i}]"), value, "stands twice", fix);
    }
}

fn types(field: &str, values: &[String], example: &str, p: &mut Problems) {
    choices(field, values, p);
    for (i, value) in values.iter().enumerate() {
        let good = is_word(value, b"-_.");
        let fix = format!("use the cloud's own word, e.g. {example:?}");
        let field = format!("{field}[{i}]");
        p.require(good, &field, value, "is not an instance type", &fix);
    }
}

fn prefixed(field: &str, value: &str, prefix: &str, p: &mut Problems) {
    let good = value.starts_with(prefix) && value.len() > prefix.len() && is_word(value, b"-");
    let message = format!("does not begin with {prefix:?}");
    let fix = format!("give its id, e.g. \"{prefix}0a1b2c3d\"");
    p.require(good, field, value, &message, &fix);
}

fn prefixed_each(field: &str, values: &[String], prefix: &str, p: &mut Problems) {
    choices(field, values, p);
    for (i, value) in values.iter().enumerate() {
        prefixed(&format!("{field}[{i}]"), value, prefix, p);
    }
}

fn optional(field: &str, value: Option<&str>, p: &mut Problems) {
    if let Some(value) = value {
        let good = is_word(value, b"-_./:@+=,");
        p.require(
            good,
            field,
            value,
            "does not read",
            "leave it out or name one",
        );
    }
}

fn arm(field: &str, value: Option<&str>, part: &str, p: &mut Problems) {
    if let Some(value) = value {
        let good = value.starts_with("/subscriptions/")
            && value.contains(part)
            && is_word(value, b"-_./()");
        let fix = format!("use \"/subscriptions/.../resourceGroups/...{part}<name>\"");
        p.require(good, field, value, "is not such an ARM id", &fix);
    }
}

fn disk(field: &str, gib: u32, p: &mut Problems) {
    p.range(field, gib, MIN_DISK_GIB, MAX_DISK_GIB);
}

fn tags(field: &str, tags: &BTreeMap<String, String>, p: &mut Problems) {
    check_labels_at(field, tags, p);
    for (key, value) in tags {
        let ours = key.to_ascii_lowercase().starts_with("gpuloom");
        let fix = "choose another key: these find the fleet's instances again";
        let field = format!("{field}[{key:?}]");
        p.require(!ours, &field, value, "is one of gpuloom's own keys", fix);
    }
}

fn endpoint(field: &str, value: Option<&str>, p: &mut Problems) {
    if let Some(value) = value {
        let rest = value
            .strip_prefix("https://")
            .or_else(|| value.strip_prefix("http://"));
        let good = rest.is_some_and(|r| is_word(r, b"-_./:[]"));
        let fix = "use e.g. \"https://vpce-0a1b.ec2.us-east-1.vpce.amazonaws.com\"";
        p.require(good, field, value, "is not an address", fix);
    }
}

#[cfg(test)]
mod tests;
