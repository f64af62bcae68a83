//! A signed GetCallerIdentity: read, checked, and what STS answers to it. Source: the AWS STS API
//! reference, "GetCallerIdentity", and the AWS general reference, "Signature Version 4".

use crate::challenge::Cloud;
use crate::judge::{Claims, Subject};
use crate::refusal::Refusal;
use gpuloom_fleet::Millis;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The header that holds the challenge.
pub(crate) const CHALLENGE: &str = "x-gpuloom-challenge";
const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
/// All that is passed on: nothing else reaches STS.
const HEADERS: [&str; 6] = [
    "authorization",
    "content-type",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    CHALLENGE,
];
/// What the signature has to cover.
const SIGNED: [&str; 3] = ["host", "x-amz-date", CHALLENGE];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    url: String,
    body: String,
    headers: BTreeMap<String, String>,
}

/// A request that may be passed on to STS.
pub(crate) struct Signed {
    pub(crate) url: String,
    pub(crate) body: &'static str,
    pub(crate) headers: BTreeMap<String, String>,
    challenge: String,
    at: Millis,
}

fn bad(why: impl Into<String>) -> Refusal {
    Refusal::BadProof {
        cloud: "aws",
        why: why.into(),
    }
}

/// A regional or the global STS, over TLS, and nothing else.
fn is_sts(url: &str) -> bool {
    let Some(host) = url.strip_prefix("https://") else {
        return false;
    };
    let host = host.strip_suffix('/').unwrap_or(host);
    let domains = [".amazonaws.com", ".amazonaws.com.cn"];
    let Some(name) = domains.iter().find_map(|d| host.strip_suffix(d)) else {
        return false;
    };
    let region = match name.split_once('.') {
        None => return name == "sts",
        Some(("sts" | "sts-fips", region)) => region,
        Some(_) => return false,
    };
    !region.is_empty()
        && region
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// `20261122T082200Z`.
fn date(text: &str) -> Option<Millis> {
    let format = "%Y%m%dT%H%M%SZ";
    let read = jiff::civil::DateTime::strptime(format, text).ok()?;
    let at = read.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    u64::try_from(at.as_millisecond()).ok().map(Millis)
}

// === impl Signed ===

impl Signed {
    /// Reads a proof. Refused: another host than STS's (or than `endpoint`, where that is stated),
    /// another call, or a signature that does not cover the challenge.
    pub(crate) fn read(document: &str, endpoint: Option<&str>) -> Result<Self, Refusal> {
        let document: Document = serde_json::from_str(document).map_err(|e| bad(e.to_string()))?;
        let plain = |url: &str| url.trim_end_matches('/').to_owned();
        let allowed = match endpoint {
            Some(endpoint) => plain(endpoint) == plain(&document.url),
            None => is_sts(&document.url),
        };
        if !allowed {
            return Err(bad("it is signed for another host than AWS's STS"));
        }
        if document.body != BODY {
            return Err(bad("it is another call than GetCallerIdentity"));
        }
        let mut headers = BTreeMap::new();
        for (name, value) in document.headers {
            let name = name.to_ascii_lowercase();
            if name == "host" {
                continue;
            }
            if !HEADERS.contains(&name.as_str()) || headers.insert(name, value).is_some() {
                return Err(bad("it has headers that the call does not need"));
            }
        }
        let get = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
        let signed = get("authorization").split("SignedHeaders=").nth(1);
        let signed: Vec<&str> = signed
            .and_then(|s| s.split(',').next())
            .unwrap_or_default()
            .split(';')
            .collect();
        if let Some(missing) = SIGNED.iter().find(|name| !signed.contains(name)) {
            return Err(bad(format!(
                "its signature does not cover the header {missing}"
            )));
        }
        let at = date(get("x-amz-date")).ok_or_else(|| bad("its x-amz-date is no date"))?;
        Ok(Self {
            url: document.url,
            body: BODY,
            challenge: get(CHALLENGE).to_owned(),
            headers,
            at,
        })
    }

    /// What STS's answer says of the caller. Only a role's session on an instance proves one.
    pub(crate) fn claims(&self, status: u16, answer: &str) -> Result<Claims, Refusal> {
        if status != 200 {
            let message = tag(answer, "Message").unwrap_or_default();
            let clock =
                message.contains("Signature expired") || message.contains("not yet current");
            if clock {
                return Err(bad(format!(
                    "STS takes its signature for too old or too new; set the node's clock by NTP: {message}"
                )));
            }
            let code = tag(answer, "Code").unwrap_or("no reason");
            return Err(bad(format!("STS answers {status}: {code}")));
        }
        let missing = || bad("STS's answer names nobody");
        let arn = tag(answer, "Arn").ok_or_else(missing)?;
        let account = tag(answer, "Account").ok_or_else(missing)?;
        let session = arn
            .split(':')
            .nth(5)
            .and_then(|r| r.strip_prefix("assumed-role/"));
        let instance = session.and_then(|s| s.rsplit('/').next());
        let instance = instance.filter(|i| i.starts_with("i-")).ok_or_else(|| {
            bad(format!(
                "{arn} is no instance's role; give the pool an `instance_profile`"
            ))
        })?;
        Ok(Claims {
            cloud: Cloud::Aws,
            account: account.to_owned(),
            subject: Subject::Instance(instance.to_owned()),
            challenge: self.challenge.clone(),
            issued_at: self.at,
            expires_at: None,
        })
    }
}

fn tag<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    Some(value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STS: &str = "https://sts.us-east-1.amazonaws.com/";

    fn document(url: &str, body: &str, signed: &str, extra: &str) -> String {
        format!(
            r#"{{"url":"{url}","body":"{body}","headers":{{"X-Amz-Date":"20261122T082200Z","x-gpuloom-challenge":"abc",
            "authorization":"AWS4-HMAC-SHA256 Credential=A/20261122/us-east-1/sts/aws4_request, SignedHeaders={signed}, Signature=0"{extra}}}}}"#
        )
    }

    const ALL: &str = "content-type;host;x-amz-date;x-gpuloom-challenge";

    #[test]
    fn only_the_one_call_to_sts_is_passed_on() {
        let read = Signed::read(&document(STS, BODY, ALL, ""), None).expect("reads");
        assert_eq!(read.at, Millis(1_795_335_720_000));
        let cases = [
            document(
                "https://sts.us-east-1.amazonaws.com.evil.example/",
                BODY,
                ALL,
                "",
            ),
            document("https://evil.example/sts.amazonaws.com", BODY, ALL, ""),
            document("https://s3.us-east-1.amazonaws.com/", BODY, ALL, ""),
            document("https://sts.us-east-1.amazonaws.com:444/", BODY, ALL, ""),
            document("https://sts.us-east-1.amazonaws.com/x", BODY, ALL, ""),
            document("https://a@sts.us-east-1.amazonaws.com/", BODY, ALL, ""),
            document("http://sts.us-east-1.amazonaws.com/", BODY, ALL, ""),
            document(STS, "Action=AssumeRole", ALL, ""),
            document(STS, BODY, "host;x-amz-date", ""),
            document(STS, BODY, "x-amz-date;x-gpuloom-challenge", ""),
            document(STS, BODY, ALL, r#","x-forwarded-host":"evil""#),
            document(STS, BODY, ALL, r#","X-GPULOOM-CHALLENGE":"other""#),
            "{}".to_owned(),
        ];
        for case in cases {
            assert!(Signed::read(&case, None).is_err(), "{case}");
        }
        for url in [
            "https://sts.amazonaws.com",
            "https://sts-fips.us-gov-west-1.amazonaws.com/",
            "https://sts.cn-north-1.amazonaws.com.cn/",
        ] {
            assert!(
                Signed::read(&document(url, BODY, ALL, ""), None).is_ok(),
                "{url}"
            );
        }
        // A private endpoint stands in STS's place, not beside it.
        let private = Some("https://vpce-1.sts.us-east-1.vpce.amazonaws.com");
        assert!(Signed::read(&document(STS, BODY, ALL, ""), private).is_err());
        let url = "https://vpce-1.sts.us-east-1.vpce.amazonaws.com/";
        assert!(Signed::read(&document(url, BODY, ALL, ""), private).is_ok());
    }

    #[test]
    fn only_an_instances_role_is_an_instance() {
        let read = Signed::read(&document(STS, BODY, ALL, ""), None).expect("reads");
        let answer = |arn: &str| {
            format!(
                "<GetCallerIdentityResult><Arn>{arn}</Arn><UserId>A:i-0abc</UserId><Account>123456789012</Account></GetCallerIdentityResult>"
            )
        };
        let claims = read.claims(
            200,
            &answer("arn:aws:sts::123456789012:assumed-role/gpu-nodes/i-0abc"),
        );
        let claims = claims.expect("an instance");
        assert_eq!(claims.subject, Subject::Instance("i-0abc".to_owned()));
        assert_eq!(
            (claims.account.as_str(), claims.challenge.as_str()),
            ("123456789012", "abc")
        );
        for arn in [
            "arn:aws:iam::123456789012:user/i-0abc",
            "arn:aws:sts::123456789012:assumed-role/admin/alice",
            "arn:aws:sts::123456789012:federated-user/i-0abc",
        ] {
            assert!(read.claims(200, &answer(arn)).is_err(), "{arn}");
        }
        let late = "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code><Message>Signature expired: 2026</Message></Error></ErrorResponse>";
        let refusal = read.claims(403, late).expect_err("is refused").to_string();
        assert!(refusal.contains("clock"), "{refusal}");
        let refusal = read
            .claims(403, "<Code>ExpiredToken</Code>")
            .expect_err("is refused");
        assert!(refusal.to_string().contains("ExpiredToken"));
    }
}
