//! Instances as EC2 lists them.

use aws_sdk_ec2::types::{Filter, InstanceLifecycleType, InstanceStateName, Tag};
use aws_sdk_ec2::types::{Instance as Ec2Instance, InstanceState as Ec2State};
use gpuloom_cloud::{Instance, InstanceState, Offering, Role, Tags, Token};
use gpuloom_fleet::{InstanceId, Market, Millis, PoolName};

use crate::client::AwsCloud;
use crate::failure::Failure;

/// Most instances of one page (EC2's limit).
const PAGE: i32 = 1_000;

/// Under which the account is told.
const ACCOUNT: &str = "gpuloom:account";

/// The states in which an instance exists and costs.
const LIVING: [&str; 4] = ["pending", "running", "stopping", "stopped"];

/// An instance with what the trait does not show.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) instance: Instance,
    /// It is being ended, or has.
    pub(crate) ended: bool,
    /// EC2 takes disks from it or gives them to it.
    pub(crate) running: bool,
    pub(crate) zone: String,
}

// === impl AwsCloud ===

impl AwsCloud {
    /// The living instances of these tags, ordered by id; without any tag, all that gpuloom ever launched.
    pub(crate) async fn living(&self, tags: &Tags) -> Result<Vec<Listed>, Failure> {
        let mut filters = tag_filters(tags);
        let states = LIVING.map(str::to_owned).to_vec();
        filters.push(filter("instance-state-name", states));
        let mut found = self.listed(filters).await?;
        found.sort_by(|a, b| a.instance.id.cmp(&b.instance.id));
        Ok(found)
    }

    /// All instances under these filters, the ended ones too as long as EC2 shows them.
    pub(crate) async fn listed(&self, filters: Vec<Filter>) -> Result<Vec<Listed>, Failure> {
        let pages = self.ec2.describe_instances().set_filters(Some(filters));
        let mut pages = pages.max_results(PAGE).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let tried = format!("list the instances of {}", self.region);
            let page = page.map_err(|e| Failure::new(&tried, &e))?;
            let all = page.reservations().iter().flat_map(|r| r.instances());
            found.extend(all.filter_map(|i| self.listed_as(i)));
        }
        Ok(found)
    }

    /// One instance; `None` when EC2 knows none of this id, or one that is not gpuloom's.
    pub(crate) async fn described(&self, id: &InstanceId) -> Result<Option<Listed>, Failure> {
        let asked = self.ec2.describe_instances().instance_ids(id.as_str());
        let answer = match asked.send().await {
            Ok(answer) => answer,
            Err(e) => {
                let failure = Failure::new(&format!("look at instance {id}"), &e);
                return if failure.is_not_found() {
                    Ok(None)
                } else {
                    Err(failure)
                };
            }
        };
        let mut all = answer.reservations().iter().flat_map(|r| r.instances());
        Ok(all.find_map(|i| self.listed_as(i)))
    }

    /// `None` for an instance without our token: a person's, whatever its other tags say.
    fn listed_as(&self, found: &Ec2Instance) -> Option<Listed> {
        let mut tags = tags_of(found.tags());
        tell_account(&mut tags, found);
        let token = Token::new(tags.get(Tags::TOKEN)?).ok()?;
        let (state, ended) = state_of(found.state());
        let market = match found.instance_lifecycle() {
            Some(InstanceLifecycleType::Spot) => Market::Spot,
            _ => Market::OnDemand,
        };
        let kind = found.instance_type().map_or("-", |kind| kind.as_str());
        let subnet = found.subnet_id().unwrap_or("-");
        let launched = found.launch_time().and_then(|at| at.to_millis().ok());
        let launched = launched.and_then(|ms| u64::try_from(ms).ok());
        let zone = found.placement().and_then(|p| p.availability_zone());
        let role = tags.get(Tags::ROLE).and_then(|role| role.parse().ok());
        let instance = Instance {
            id: InstanceId::new(found.instance_id()?).ok()?,
            token,
            offering: Offering::new("aws", &self.region, subnet, kind, market),
            state,
            launched_at: Millis(launched.unwrap_or_default()),
            pool: tags.get(Tags::POOL).and_then(|p| PoolName::new(p).ok()),
            role: role.unwrap_or(Role::Node),
            private_address: address(found.private_ip_address()),
            public_address: address(found.public_ip_address()),
            tags,
        };
        Some(Listed {
            running: state == InstanceState::Running,
            instance,
            ended,
            zone: zone.unwrap_or_default().to_owned(),
        })
    }
}

// === functions ===

/// Tells the account of an instance, by which its proof of identity is judged: EC2's word, never a tag's.
fn tell_account(tags: &mut Tags, found: &Ec2Instance) {
    tags.0.remove(ACCOUNT);
    let interface = found.network_interfaces().first();
    if let Some(owner) = interface.and_then(|i| i.owner_id()) {
        tags.0.insert(ACCOUNT.to_owned(), owner.to_owned());
    }
}

/// Where an instance stands, and whether it has come to its end.
fn state_of(state: Option<&Ec2State>) -> (InstanceState, bool) {
    match state.and_then(Ec2State::name) {
        Some(InstanceStateName::Running) => (InstanceState::Running, false),
        Some(InstanceStateName::Stopping | InstanceStateName::Stopped) => {
            (InstanceState::Stopped, false)
        }
        Some(InstanceStateName::ShuttingDown | InstanceStateName::Terminated) => {
            (InstanceState::Terminating, true)
        }
        _ => (InstanceState::Launching, false),
    }
}

/// EC2 shows no address as an empty one, or as none.
fn address(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A filter of these values: any of them.
pub(crate) fn filter(name: &str, values: Vec<String>) -> Filter {
    Filter::builder()
        .name(name)
        .set_values(Some(values))
        .build()
}

/// A filter for each tag; without tags, one for everything that has a token.
pub(crate) fn tag_filters(tags: &Tags) -> Vec<Filter> {
    if tags.0.is_empty() {
        return vec![filter("tag-key", vec![Tags::TOKEN.to_owned()])];
    }
    let of = |(key, value): (&String, &String)| filter(&format!("tag:{key}"), vec![literal(value)]);
    tags.0.iter().map(of).collect()
}

/// EC2's filters take `*` and `?` for patterns.
fn literal(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if ['*', '?', '\\'].contains(&c) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// EC2's tags as ours; its own (`aws:...`) are left out.
pub(crate) fn tags_of(tags: &[Tag]) -> Tags {
    let pair = |tag: &Tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()));
    let own = |(key, _): &(String, String)| !key.starts_with("aws:");
    Tags(tags.iter().filter_map(pair).filter(own).collect())
}

/// Our tags as EC2's.
pub(crate) fn ec2_tags(tags: &Tags) -> Vec<Tag> {
    let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build();
    tags.0.iter().map(tag).collect()
}
