//! How things are named and tagged in a resource group.

use std::collections::BTreeMap;

use gpuloom_cloud::{LaunchRequest, Tags};
use sha2::{Digest, Sha256};

/// On a network interface or disk: the instance it is of.
pub(crate) const INSTANCE: &str = "gpuloom:instance";
/// On a disk that outlives its instance: what it holds.
pub(crate) const DISK: &str = "gpuloom:disk";
/// [`DISK`]'s value for a lead's store.
pub(crate) const DATA: &str = "data";
/// Before the key of an attribute that an agent leaves.
const ATTRIBUTE: &str = "gpuloom-";
/// Tags a resource may have. Source: "Use tags to organize your Azure resources", limits, 2026-11.
pub(crate) const MAX_TAGS: usize = 50;
/// Characters of a tag's value.
pub(crate) const MAX_TAG_VALUE: usize = 256;
/// Characters of an instance's name that its fleet and its pool may each take: with the token's 8 and two hyphens
/// at most 61, and so a Linux host name too.
const PART: usize = 25;

/// The instance's name, the same for the same token.
pub(crate) fn instance(request: &LaunchRequest) -> String {
    let of = request.pool.as_ref().map_or("lead", |p| p.as_str());
    format!(
        "{}-{}-{}",
        cut(request.fleet.as_str()),
        cut(of),
        short(request.token.as_str())
    )
}

/// The scale set of the request's pool; zonal and regional machines cannot share one.
pub(crate) fn scale_set(request: &LaunchRequest, zonal: bool) -> Option<String> {
    let pool = request.pool.as_ref()?;
    let unique = short(&format!("{}/{}/{pool}", request.fleet_id, request.fleet));
    let kind = if zonal { "z" } else { "r" };
    let (fleet, pool) = (cut(request.fleet.as_str()), cut(pool.as_str()));
    Some(format!("{fleet}-{pool}-{unique}-{kind}"))
}

/// The lead's retained disk.
pub(crate) fn data_disk(request: &LaunchRequest) -> String {
    let unique = short(&format!("{}/{}", request.fleet_id, request.fleet));
    format!("{}-data-{unique}", cut(request.fleet.as_str()))
}

pub(crate) fn nic(instance: &str) -> String {
    format!("{instance}-nic")
}

pub(crate) fn public_address(instance: &str) -> String {
    format!("{instance}-ip")
}

pub(crate) fn os_disk(instance: &str) -> String {
    format!("{instance}-os")
}

/// `text` can be a virtual machine's name: 1 to 64 letters, digits, `-`, `_` and `.`.
pub(crate) fn is_instance(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// The tag under which an attribute is kept.
pub(crate) fn attribute(key: &str) -> String {
    format!("{ATTRIBUTE}{key}")
}

/// Tags as Azure takes them: a name may not hold `/`, which a label may; `|` stands in for it.
pub(crate) fn to_azure(tags: &Tags) -> BTreeMap<String, String> {
    let mapped = tags.0.iter().map(|(k, v)| (k.replace('/', "|"), v.clone()));
    mapped.collect()
}

/// Tags as they were given.
pub(crate) fn from_azure(tags: &BTreeMap<String, String>) -> Tags {
    let mapped = tags.iter().map(|(k, v)| (k.replace('|', "/"), v.clone()));
    Tags(mapped.collect())
}

/// The last part of an ARM id.
pub(crate) fn last(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or_default()
}

fn short(text: &str) -> String {
    let digest = hex::encode(Sha256::digest(text.as_bytes()));
    digest[..8].to_owned()
}

/// Names are ASCII: a cut never splits a character.
fn cut(name: &str) -> &str {
    let end = name.len().min(PART);
    name[..end].trim_end_matches('-')
}
