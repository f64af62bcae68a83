//! What a request is about: its path taken apart.

use crate::http::Request;

/// A kind of resource that has a collection in a resource group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Machine,
    ScaleSet,
    Disk,
    Interface,
    Address,
    Subnet,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A token for a client's secret.
    Secret,
    /// A token for the machine itself.
    Identity,
    /// All resources of a kind in a group.
    Collection(Kind),
    /// One resource.
    One(Kind, String),
    /// Something done to one resource.
    Action(Kind, String, String),
    /// Every size of machine.
    Skus,
    /// The quotas of a location.
    Usages(String),
    /// Something that takes its time.
    Operation(u64),
    Unknown,
}

/// A request's path with what stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) subscription: String,
    /// Empty when the path names none.
    pub(super) group: String,
    pub(super) target: Target,
}

const KINDS: [(Kind, &str, &str); 6] = [
    (
        Kind::Machine,
        "Microsoft.Compute/virtualMachines",
        "2026-04-01",
    ),
    (
        Kind::ScaleSet,
        "Microsoft.Compute/virtualMachineScaleSets",
        "2026-04-01",
    ),
    (Kind::Disk, "Microsoft.Compute/disks", "2025-01-02"),
    (
        Kind::Interface,
        "Microsoft.Network/networkInterfaces",
        "2025-09-01",
    ),
    (
        Kind::Address,
        "Microsoft.Network/publicIPAddresses",
        "2025-09-01",
    ),
    (
        Kind::Subnet,
        "Microsoft.Network/virtualNetworks/subnets",
        "2025-09-01",
    ),
];

// === impl Kind ===

impl Kind {
    /// `Microsoft.Compute/virtualMachines`.
    pub(super) fn provider(self) -> &'static str {
        self.row().1
    }

    /// The version its calls must state.
    pub(super) fn version(self) -> &'static str {
        self.row().2
    }

    /// `virtualMachines`.
    pub(super) fn word(self) -> &'static str {
        self.provider().rsplit('/').next().unwrap_or_default()
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        let found = KINDS.iter().find(|(kind, ..)| *kind == self);
        found.unwrap_or(&KINDS[0])
    }

    fn of(namespace: &str, word: &str) -> Option<Self> {
        let name = format!("{namespace}/{word}");
        let mut rows = KINDS.iter();
        let row = rows.find(|(_, provider, _)| provider.eq_ignore_ascii_case(&name));
        row.map(|(kind, ..)| *kind)
    }
}

// === impl Asked ===

impl Asked {
    pub(super) fn of(request: &Request) -> Self {
        let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        let lower: Vec<String> = parts.iter().map(|p| p.to_ascii_lowercase()).collect();
        let words: Vec<&str> = lower.iter().map(String::as_str).collect();
        let made = |group: &str, target| Self {
            subscription: parts.get(1).copied().unwrap_or_default().to_owned(),
            group: group.to_owned(),
            target,
        };
        match words.as_slice() {
            ["metadata", "identity", "oauth2", "token"] => made("", Target::Identity),
            [_, "oauth2", "v2.0", "token"] => made("", Target::Secret),
            ["subscriptions", _, "providers", "microsoft.compute", "skus"] => {
                made("", Target::Skus)
            }
            [
                "subscriptions",
                _,
                "providers",
                "microsoft.compute",
                "locations",
                location,
                "usages",
            ] => made("", Target::Usages((*location).to_owned())),
            [
                "subscriptions",
                _,
                "providers",
                _,
                "locations",
                _,
                "operations",
                id,
            ] => match id.parse() {
                Ok(id) => made("", Target::Operation(id)),
                Err(_) => made("", Target::Unknown),
            },
            [
                "subscriptions",
                _,
                "resourcegroups",
                group,
                "providers",
                rest @ ..,
            ] => made(group, in_group(rest, &parts[5..])),
            _ => made("", Target::Unknown),
        }
    }

    /// What a fault rule and the log call it: `virtualMachines.put`, `skus.list`, `token`.
    pub(super) fn action(&self, method: &str) -> String {
        let method = method.to_ascii_lowercase();
        match &self.target {
            Target::Secret | Target::Identity => "token".to_owned(),
            Target::Collection(kind) if method == "get" => format!("{}.list", kind.word()),
            Target::Collection(kind) | Target::One(kind, _) => format!("{}.{method}", kind.word()),
            Target::Action(kind, _, action) => format!("{}.{action}", kind.word()),
            Target::Skus => "skus.list".to_owned(),
            Target::Usages(_) => "usages.list".to_owned(),
            Target::Operation(_) => "operations.get".to_owned(),
            Target::Unknown => "unknown".to_owned(),
        }
    }

    /// The version the call must state; none for tokens.
    pub(super) fn version(&self) -> Option<&'static str> {
        match &self.target {
            Target::Collection(kind) | Target::One(kind, _) | Target::Action(kind, ..) => {
                Some(kind.version())
            }
            Target::Skus => Some("2021-07-01"),
            Target::Usages(_) => Some("2026-04-01"),
            Target::Secret | Target::Identity | Target::Operation(_) | Target::Unknown => None,
        }
    }
}

/// `words` in lower case, `parts` as sent; both from the provider's namespace on.
fn in_group(words: &[&str], parts: &[&str]) -> Target {
    let name = |i: usize| parts.get(i).copied().unwrap_or_default().to_owned();
    match words {
        ["microsoft.network", "virtualnetworks", _, "subnets", _] => {
            Target::One(Kind::Subnet, name(4))
        }
        [namespace, word] => match Kind::of(namespace, word) {
            Some(kind) => Target::Collection(kind),
            None => Target::Unknown,
        },
        [namespace, word, _] => match Kind::of(namespace, word) {
            Some(kind) => Target::One(kind, name(2)),
            None => Target::Unknown,
        },
        [namespace, word, _, action] => match Kind::of(namespace, word) {
            Some(kind) => Target::Action(kind, name(2), (*action).to_owned()),
            None => Target::Unknown,
        },
        _ => Target::Unknown,
    }
}
