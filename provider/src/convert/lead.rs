//! Fleets: where the lead runs, and how it is reached there.

use std::cell::RefCell;
use std::net::SocketAddr;

use gpuloom_fleet::{FleetName, PoolPlace, Problem, Problems, parse_layout};
use serde::{Deserialize, Serialize};
use tfplug::{Diagnostics, Value};

use super::place;
use super::problem::diagnostics;
use super::reader::{Reader, StandIn, in_both};

/// The lead's data disk, in GiB, unless the block says so.
pub(crate) const DATA_DISK_GIB: u32 = 20;
/// The smallest and the largest data disk, in GiB: what all three clouds make.
const DATA_DISKS: std::ops::RangeInclusive<u32> = 10..=16_384;
/// Where a lead runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "at")]
pub(crate) enum Site {
    /// A process of this machine.
    Local(LocalSite),
    /// An instance of a cloud.
    Cloud(Box<CloudSite>),
}

/// The `local` block as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LocalSite {
    /// `address:port`; `None`: any free port of the loopback.
    pub(crate) listen: Option<String>,
    /// The layout of simulated GPUs; `None`: the machine's own.
    pub(crate) simulate: Option<String>,
}

/// An `aws`, `gcp` or `azure` block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CloudSite {
    pub(crate) place: PoolPlace,
    /// The disk with the lead's store, which survives its instance, in GiB.
    pub(crate) data_disk_gib: u32,
    pub(crate) reachability: Reachability,
    /// Destroying the fleet leaves the disk.
    pub(crate) keep_disk: bool,
}

/// Which of a lead's addresses Terraform, people and nodes use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reachability {
    /// That of its own network.
    #[default]
    Private,
    /// That from everywhere.
    Public,
    /// A name that somebody points at it.
    Dns(String),
}

/// A [`Reachability`] without its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Private,
    Public,
    Dns,
}

const WORDS: [(&str, Word); 3] = [
    ("private", Word::Private),
    ("public", Word::Public),
    ("dns", Word::Dns),
];

// === impl Site ===

impl Site {
    /// The place for the drivers.
    pub(crate) fn place(&self) -> &PoolPlace {
        match self {
            Self::Local(_) => &PoolPlace::Local,
            Self::Cloud(site) => &site.place,
        }
    }

    /// The cloud's part; `None` on this machine.
    pub(crate) fn cloud(&self) -> Option<&CloudSite> {
        match self {
            Self::Local(_) => None,
            Self::Cloud(site) => Some(site),
        }
    }

    /// A site of the same cloud, account and region: what is needed to find a lead, and no more.
    pub(crate) fn of_place(place: PoolPlace) -> Self {
        match place {
            PoolPlace::Local | PoolPlace::Existing => Self::Local(LocalSite::default()),
            place => Self::Cloud(Box::new(CloudSite {
                place,
                data_disk_gib: DATA_DISK_GIB,
                reachability: Reachability::default(),
                keep_disk: false,
            })),
        }
    }
}

// === functions ===

/// What is wrong with a fleet's configuration whatever its unknown values turn out to be.
pub(crate) fn check_fleet(config: &Value) -> Problems {
    let judge = |stand_in| {
        let problems = RefCell::new(Vec::new());
        read_checked(&Reader::new(config, stand_in, false, &problems));
        problems.into_inner()
    };
    in_both(judge(StandIn::Lowest), &judge(StandIn::Highest))
}

/// Where the lead of a wholly known fleet runs.
///
/// # Errors
/// Every attribute that does not read or breaks a rule.
pub(crate) fn site(value: &Value) -> Result<Site, Diagnostics> {
    let problems = RefCell::new(Vec::new());
    let site = read_checked(&Reader::new(value, StandIn::Lowest, true, &problems));
    let problems: Vec<Problem> = problems.into_inner();
    if problems.is_empty() {
        return Ok(site);
    }
    Err(diagnostics(&Problems(problems)))
}

/// Where the lead of a stored fleet runs, as far as it is written: an imported one has nothing but its region.
pub(crate) fn stored_site(value: &Value) -> Site {
    let problems = RefCell::new(Vec::new());
    read_checked(&Reader::new(value, StandIn::Lowest, false, &problems))
}

/// A cloud's block with nothing but what names its account and region.
pub(crate) fn stub(place: &PoolPlace) -> Value {
    let block = place::block(place).unwrap_or(Value::Null);
    let names = [
        "region",
        "project",
        "subscription",
        "resource_group",
        "location",
        "endpoint",
    ];
    let members = block.members().into_iter().flatten();
    let kept = members.map(|(name, value)| match names.contains(&name.as_str()) {
        true => (name.clone(), value.clone()),
        false => (name.clone(), Value::Null),
    });
    let own = ["reachability", "dns_name", "data_disk_gib", "keep_disk"];
    let own = own.map(|name| (name.to_owned(), Value::Null));
    Value::object(kept.chain(own))
}

fn read_checked(r: &Reader<'_>) -> Site {
    let _: Option<FleetName> = r.id("name");
    let Some(mut place) = place::read(r) else {
        return Site::Local(local(&r.nested("local")));
    };
    let kind = place.kind();
    let block = r.nested(kind);
    let mut problems = Problems::default();
    place.check(&mut problems);
    if place.instance_types().is_empty() && block.is_known(types_of(kind)) {
        let field = format!("{kind}.{}", types_of(kind));
        let fix = "name the lead's instance type; it needs no GPU";
        problems.add(field, "[]", "is empty", fix);
    }
    let data_disk_gib = block.count("data_disk_gib", DATA_DISK_GIB);
    if !DATA_DISKS.contains(&data_disk_gib) {
        let fix = format!(
            "use a value from {} to {}",
            DATA_DISKS.start(),
            DATA_DISKS.end()
        );
        let field = format!("{kind}.data_disk_gib");
        problems.add(field, data_disk_gib, "is out of range", fix);
    }
    r.add(problems);
    let reachability = reachability(&block);
    if reachability == Reachability::Public {
        publish(&mut place);
    }
    Site::Cloud(Box::new(CloudSite {
        place,
        data_disk_gib,
        reachability,
        keep_disk: block.flag("keep_disk", false),
    }))
}

/// The attribute of a cloud's instance types.
pub(crate) fn types_of(kind: &str) -> &'static str {
    match kind {
        "gcp" => "machine_types",
        "azure" => "vm_sizes",
        _ => "instance_types",
    }
}

fn publish(place: &mut PoolPlace) {
    match place {
        PoolPlace::Local | PoolPlace::Existing => {}
        PoolPlace::Aws(p) => p.public_address = true,
        PoolPlace::Gcp(p) => p.public_address = true,
        PoolPlace::Azure(p) => p.public_address = true,
    }
}

fn reachability(r: &Reader<'_>) -> Reachability {
    let word = r.word("reachability", &WORDS).unwrap_or(Word::Private);
    let name = r.opt_text("dns_name");
    let written = r.opt_text("reachability");
    let reads = written.is_none_or(|w| WORDS.iter().any(|(word, _)| *word == w));
    if !r.is_known("reachability") || !reads {
        return Reachability::Private;
    }
    match (word, name) {
        (Word::Dns, Some(name)) => {
            let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
            let fits = (1..=253).contains(&name.len()) && name.bytes().all(letters);
            if !fits && r.is_known("dns_name") {
                let fix = "give the name alone, such as lead.example.com";
                r.problem("dns_name", &name, "is not a DNS name", fix);
            }
            Reachability::Dns(name)
        }
        (Word::Dns, None) => {
            let fix = "state the name that leads to the lead, or another reachability";
            r.problem("dns_name", "", "is missing", fix);
            Reachability::Private
        }
        (word, name) => {
            if let Some(name) = name {
                let fix = "set reachability to \"dns\", or leave the name out";
                r.problem("dns_name", name, "has no effect", fix);
            }
            match word {
                Word::Public => Reachability::Public,
                _ => Reachability::Private,
            }
        }
    }
}

fn local(r: &Reader<'_>) -> LocalSite {
    // Left out, it is known after apply: any free port.
    let listen = r.is_known("listen").then(|| r.opt_text("listen"));
    let site = LocalSite {
        listen: listen.flatten(),
        simulate: r.opt_text("simulate"),
    };
    if let Some(layout) = &site.simulate
        && r.is_known("simulate")
        && let Err(e) = parse_layout(layout)
    {
        r.problem("simulate", layout, &format!("is not {}", e.expected), "");
    }
    if let Some(listen) = &site.listen
        && listen.parse::<SocketAddr>().is_err()
    {
        let fix =
            "use an address and a port such as \"127.0.0.1:7443\", or port 0 for any free one";
        r.problem("listen", listen, "is not an address with a port", fix);
    }
    site
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws(own: Value) -> Value {
        let mut block = Value::object([
            ("region", Value::from("us-east-1")),
            ("subnets", Value::list(["subnet-0a"])),
            ("instance_types", Value::list(["m7i.large"])),
            ("image", "ami-0a".into()),
        ]);
        for (name, value) in own.members().into_iter().flatten() {
            let mut members = block.members().cloned().unwrap_or_default();
            members.insert(name.clone(), value.clone());
            block = Value::object(members);
        }
        Value::object([("name", Value::from("ml")), ("aws", block)])
    }

    fn none() -> Value {
        Value::Object(Default::default())
    }

    fn fields(config: &Value) -> Vec<String> {
        check_fleet(config).0.into_iter().map(|p| p.field).collect()
    }

    #[test]
    fn a_lead_on_a_cloud_reads_with_its_defaults() {
        let site = site(&aws(none())).expect("reads");
        let cloud = site.cloud().expect("a cloud");
        assert_eq!(cloud.place.region(), Some("us-east-1"));
        assert_eq!(cloud.place.instance_types(), ["m7i.large"]);
        assert_eq!(cloud.data_disk_gib, DATA_DISK_GIB);
        assert_eq!(cloud.reachability, Reachability::Private);
        assert!(!cloud.keep_disk);
    }

    #[test]
    fn a_lead_that_is_reached_from_everywhere_has_an_address_from_everywhere() {
        let public = aws(Value::object([("reachability", "public")]));
        match site(&public).expect("reads") {
            Site::Cloud(site) => match site.place {
                PoolPlace::Aws(place) => assert!(place.public_address),
                other => panic!("{other:?}"),
            },
            Site::Local(site) => panic!("{site:?}"),
        }
    }

    #[test]
    fn each_bad_value_is_told_at_its_attribute() {
        let with = |name: &'static str, value: Value| aws(Value::object([(name, value)]));
        for (config, field) in [
            (with("region", "US East".into()), "aws.region"),
            (with("instance_types", Value::Null), "aws.instance_types"),
            (with("image", "latest".into()), "aws.image"),
            (with("data_disk_gib", 9.into()), "aws.data_disk_gib"),
            (with("reachability", "vpn".into()), "aws.reachability"),
            (with("reachability", "dns".into()), "aws.dns_name"),
            (with("dns_name", "a.example".into()), "aws.dns_name"),
        ] {
            assert_eq!(fields(&config), [field], "{config}");
        }
        let spaced = Value::object([("reachability", "dns"), ("dns_name", "a b")]);
        assert_eq!(fields(&aws(spaced)), ["aws.dns_name"]);
        assert_eq!(fields(&aws(none())), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_known_yet_is_no_problem_yet() {
        for name in ["region", "subnets", "instance_types", "image", "dns_name"] {
            let mut own = Value::object([(name, Value::unknown())]);
            if name == "dns_name" {
                own = Value::object([(name, Value::unknown()), ("reachability", "dns".into())]);
            }
            assert_eq!(fields(&aws(own)), Vec::<String>::new(), "{name}");
        }
    }
}
