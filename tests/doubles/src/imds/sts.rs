//! STS's GetCallerIdentity with a signature that is checked. Source: the AWS general reference,
//! "Create a signed AWS API request".

use super::authority::Caller;
use crate::http::{Request, Response};
use aws_lc_rs::hmac;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// How far a request's date may be from ours.
const MAX_SKEW_MS: u64 = 15 * 60 * 1_000;

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn refused(code: &str, message: &str) -> Response {
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>{message}</Message></Error><RequestId>0</RequestId></ErrorResponse>"
    );
    Response::xml(403, body)
}

pub(super) fn answer(
    callers: &BTreeMap<String, Caller>,
    request: &Request,
    now_ms: u64,
) -> Response {
    match caller(callers, request, now_ms) {
        Ok(caller) => {
            let id = caller.arn.rsplit('/').next().unwrap_or_default();
            Response::xml(
                200,
                format!(
                    "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
                     <Arn>{}</Arn><UserId>AROADOUBLE:{id}</UserId><Account>{}</Account></GetCallerIdentityResult>\
                     </GetCallerIdentityResponse>",
                    caller.arn, caller.account
                ),
            )
        }
        Err((code, message)) => refused(code, &message),
    }
}

type Refused = (&'static str, String);

fn caller<'a>(
    callers: &'a BTreeMap<String, Caller>,
    request: &Request,
    now_ms: u64,
) -> Result<&'a Caller, Refused> {
    let incomplete = || {
        (
            "IncompleteSignature",
            "the Authorization header does not read".to_owned(),
        )
    };
    let authorization = request.header("authorization").unwrap_or_default();
    let rest = authorization
        .strip_prefix("AWS4-HMAC-SHA256 ")
        .ok_or_else(incomplete)?;
    let field = |name: &str| {
        let found = rest
            .split(',')
            .find_map(|p| p.trim().strip_prefix(name)?.strip_prefix('='));
        found.ok_or_else(incomplete)
    };
    let (credential, signed, signature) = (
        field("Credential")?,
        field("SignedHeaders")?,
        field("Signature")?,
    );
    let mut scope = credential.split('/');
    let (Some(id), Some(day), Some(region), Some("sts"), Some("aws4_request")) = (
        scope.next(),
        scope.next(),
        scope.next(),
        scope.next(),
        scope.next(),
    ) else {
        return Err(incomplete());
    };
    let unknown = || {
        (
            "InvalidClientTokenId",
            "The security token included in the request is invalid".to_owned(),
        )
    };
    let caller = callers.get(id).ok_or_else(unknown)?;
    if request.header("x-amz-security-token") != Some(&caller.token) {
        return Err(unknown());
    }
    let date = request.header("x-amz-date").unwrap_or_default();
    check_date(date, now_ms)?;
    let mut canonical = format!("POST\n{}\n{}\n", request.path, request.query);
    for name in signed.split(';') {
        let value = request.header(name).ok_or_else(incomplete)?;
        canonical.push_str(&format!("{name}:{}\n", value.trim()));
    }
    let body = hex::encode(Sha256::digest(&request.body));
    canonical.push_str(&format!("\n{signed}\n{body}"));
    let digest = hex::encode(Sha256::digest(&canonical));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{day}/{region}/sts/aws4_request\n{digest}");
    let first = mac(format!("AWS4{}", caller.secret).as_bytes(), day);
    let key = ["sts", "aws4_request"]
        .iter()
        .fold(mac(&first, region), |key, part| mac(&key, part));
    if hex::encode(mac(&key, &text)) == signature {
        Ok(caller)
    } else {
        let message =
            "The request signature we calculated does not match the signature you provided.";
        Err(("SignatureDoesNotMatch", message.to_owned()))
    }
}

fn check_date(date: &str, now_ms: u64) -> Result<(), Refused> {
    let read = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok();
    let at = read.and_then(|d| d.to_zoned(jiff::tz::TimeZone::UTC).ok());
    let at = at.and_then(|z| u64::try_from(z.timestamp().as_millisecond()).ok());
    let at = at.ok_or(("IncompleteSignature", "X-Amz-Date is no date".to_owned()))?;
    if now_ms.saturating_sub(at) > MAX_SKEW_MS {
        let message = format!("Signature expired: {date} is now earlier than 15 min. ago");
        return Err(("SignatureDoesNotMatch", message));
    }
    if at.saturating_sub(now_ms) > MAX_SKEW_MS {
        let message =
            format!("Signature not yet current: {date} is still later than 15 min. ahead");
        return Err(("SignatureDoesNotMatch", message));
    }
    Ok(())
}
