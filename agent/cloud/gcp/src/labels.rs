//! Tags as labels and metadata, attributes as labels, and the names that follow from a token.
//!
//! Labels find an instance again, but take lower-case letters, digits, `-` and `_` alone, 63 of them; so the tags
//! stand a second time, exactly, in the metadata item [`TAGS_ITEM`].

use std::collections::{BTreeMap, HashMap};

use gpuloom_cloud::{LaunchRequest, Tags, Token};
use sha2::{Digest, Sha256};

/// The metadata item with all tags as a JSON object.
pub(crate) const TAGS_ITEM: &str = "gpuloom-tags";
/// Longest label key or value.
const MAX_LABEL: usize = 63;
/// Longest instance name that Google takes is 63; its disks and records add to it.
const MAX_NAME: usize = 61;
/// Labels that carry attributes begin so.
const ATTRIBUTE: &str = "gpuloom-attr-";
/// An attribute may take so many labels, so at most 252 bytes of letters and digits.
const MAX_PARTS: usize = 4;
/// Longest key of an attribute, so that its labels' keys stay below [`MAX_LABEL`].
const MAX_ATTRIBUTE_KEY: usize = 40;

/// The key of a tag as a label's: `gpuloom:fleet` is `gpuloom-fleet`.
pub(crate) fn key(tag: &str) -> String {
    word(tag)
}

/// The value of a tag as a label's: lower case, everything else replaced by `-`, 63 bytes.
pub(crate) fn value(text: &str) -> String {
    word(text)
}

fn word(text: &str) -> String {
    plain(text).chars().take(MAX_LABEL).collect()
}

fn plain(text: &str) -> String {
    let plain = |c: char| {
        let c = c.to_ascii_lowercase();
        let good = c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if good { c } else { '-' }
    };
    text.chars().map(plain).collect()
}

/// The labels of an instance: its place's own, then its tags, which the place's cannot replace.
pub(crate) fn of_tags(tags: &Tags, own: &BTreeMap<String, String>) -> HashMap<String, String> {
    let own = own.iter().map(|(k, v)| (k.clone(), v.clone()));
    let tags = tags.0.iter().map(|(k, v)| (key(k), value(v)));
    own.chain(tags).collect()
}

/// The filter of a listing: everything that has these tags; without tags everything of any fleet.
pub(crate) fn filter(tags: &Tags) -> String {
    if tags.0.is_empty() {
        return format!("labels.{}:*", key(Tags::FLEET));
    }
    let one = |(k, v): (&String, &String)| format!("labels.{} = \"{}\"", key(k), value(v));
    tags.0.iter().map(one).collect::<Vec<_>>().join(" AND ")
}

/// `<fleet>-<pool or "lead">-<8 hex digits>`, cut in the front where it is too long: the same for the same token.
pub(crate) fn instance_name(request: &LaunchRequest) -> String {
    let member = match &request.pool {
        Some(pool) => pool.as_str(),
        None => "lead",
    };
    let hash = hash(&request.token);
    name(request.fleet.as_str(), &format!("{member}-{}", &hash[..8]))
}

/// The retained disk of a fleet: the same for each of its leads.
pub(crate) fn disk_name(request: &LaunchRequest) -> String {
    let of = format!("{}/{}", request.fleet, request.fleet_id);
    let hash = hex::encode(Sha256::digest(of));
    name(request.fleet.as_str(), &format!("data-{}", &hash[..8]))
}

/// A request id (a UUID) of a token's `n`th insert: Google answers the same id with the same operation.
pub(crate) fn request_id(token: &Token, n: usize) -> String {
    let mut bytes = Sha256::digest(format!("{token}/{n}"));
    // Version 8 (own scheme), variant 1. Source: RFC 9562, section 5.8.
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let h = hex::encode(&bytes[..16]);
    let (a, b, c, d, e) = (&h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..]);
    format!("{a}-{b}-{c}-{d}-{e}")
}

fn hash(token: &Token) -> String {
    hex::encode(Sha256::digest(token.as_str()))
}

/// `front-tail` as a name: a letter first, lower case, at most [`MAX_NAME`] bytes, of which the tail's last are kept.
fn name(front: &str, tail: &str) -> String {
    let clean = |text: &str| plain(text).replace('_', "-");
    let whole = format!("{}-{}", clean(front), clean(tail));
    let whole = whole.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    if whole.len() <= MAX_NAME {
        return whole.to_owned();
    }
    // The hash at the end tells two launches apart.
    let (kept, hash) = (&whole[..MAX_NAME - 9], &whole[whole.len() - 9..]);
    format!("{}{hash}", kept.trim_end_matches('-'))
}

/// The labels of attribute `key` = `value`: what labels do not take is written `_hh`, cut into parts of 63.
///
/// # Errors
/// A sentence when the key does not read or the value is too long.
pub(crate) fn write_attribute(key: &str, value: &str) -> Result<Vec<(String, String)>, String> {
    check_attribute_key(key)?;
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("_{byte:02x}"));
        }
    }
    let parts: Vec<&str> = match text.is_empty() {
        true => vec![""],
        false => (0..text.len())
            .step_by(MAX_LABEL)
            .map(|at| &text[at..text.len().min(at + MAX_LABEL)])
            .collect(),
    };
    if parts.len() > MAX_PARTS {
        return Err(format!(
            "the attribute {key:?} has {} bytes as labels, of {} that fit: leave a shorter value",
            text.len(),
            MAX_PARTS * MAX_LABEL
        ));
    }
    let label = |(n, part): (usize, &&str)| (format!("{ATTRIBUTE}{key}-{n}"), (*part).to_owned());
    Ok(parts.iter().enumerate().map(label).collect())
}

/// The attribute `key` among `labels`; `None` when it is not there.
///
/// # Errors
/// A sentence when what stands there was not written by [`write_attribute`].
pub(crate) fn read_attribute(
    labels: &HashMap<String, String>,
    key: &str,
) -> Result<Option<String>, String> {
    check_attribute_key(key)?;
    let part = |n: usize| labels.get(&format!("{ATTRIBUTE}{key}-{n}"));
    if part(0).is_none() {
        return Ok(None);
    }
    let text: String = (0..MAX_PARTS).map_while(part).map(String::as_str).collect();
    let broken = || {
        format!("the labels of the attribute {key:?} hold {text:?}, which gpuloom did not write")
    };
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'_' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let escape = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        let byte = escape.and_then(|h| u8::from_str_radix(h, 16).ok());
        bytes.push(byte.ok_or_else(broken)?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map(Some).map_err(|_| broken())
}

/// True for a label that carries a part of the attribute `key`.
pub(crate) fn is_of_attribute(label: &str, key: &str) -> bool {
    let rest = label
        .strip_prefix(ATTRIBUTE)
        .and_then(|l| l.strip_prefix(key));
    let number = rest.and_then(|r| r.strip_prefix('-'));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn check_attribute_key(key: &str) -> Result<(), String> {
    let good = !key.is_empty()
        && key.len() <= MAX_ATTRIBUTE_KEY
        && key
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    match good {
        true => Ok(()),
        false => Err(format!(
            "{key:?} is not an attribute's key: use 1 to {MAX_ATTRIBUTE_KEY} lower-case letters, digits and hyphens"
        )),
    }
}

#[cfg(test)]
#[path = "labels_tests.rs"]
mod tests;
