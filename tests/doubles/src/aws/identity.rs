//! STS: who signed a request. No signature is verified: an access key alone says whose it is.

use super::ACCOUNT;
use super::state::State;
use super::wire;
use crate::http::{Request, Response};

/// `GetCallerIdentity`: the identity that was set for the access key, that of the living instance whose it is, or,
/// for a key that is no role's, the account's user. A role's key that nobody has is refused.
pub(super) fn answer(state: &State, request: &Request) -> Response {
    let signed = request.header("authorization").unwrap_or_default();
    let key = signed.split_once("Credential=").map(|(_, scope)| scope);
    let key = key
        .and_then(|scope| scope.split('/').next())
        .unwrap_or_default();
    let known = state.identity(key);
    let [account, arn, user] = match known {
        Some(identity) => identity,
        None if key.starts_with("AKIA") || key == "test" => [
            ACCOUNT.to_owned(),
            format!("arn:aws:iam::{ACCOUNT}:user/person"),
            "AIDADOUBLE".to_owned(),
        ],
        None => {
            return Response::xml(
                403,
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                 <Code>InvalidClientTokenId</Code><Message>The security token included in the request is invalid.\
                 </Message></Error><RequestId>00000000-double</RequestId></ErrorResponse>",
            );
        }
    };
    if request
        .header("accept")
        .is_some_and(|a| a.contains("application/json"))
    {
        return json(&account, &arn, &user);
    }
    let (arn, user) = (wire::escape(&arn), wire::escape(&user));
    Response::xml(
        200,
        format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <GetCallerIdentityResult><Arn>{arn}</Arn><UserId>{user}</UserId><Account>{account}</Account>\
             </GetCallerIdentityResult><ResponseMetadata><RequestId>00000000-double</RequestId>\
             </ResponseMetadata></GetCallerIdentityResponse>"
        ),
    )
}

fn json(account: &str, arn: &str, user: &str) -> Response {
    let result = serde_json::json!({ "Account": account, "Arn": arn, "UserId": user });
    let body = serde_json::json!({ "GetCallerIdentityResponse": {
        "GetCallerIdentityResult": result,
        "ResponseMetadata": { "RequestId": "00000000-double" },
    }});
    Response::json(200, &body)
}
