//! One request from its arrival to its answer.

use super::path::{Asked, Kind, Target};
use super::{Arm, CLIENT, GROUP, LOCATION, SECRET, SUBNET, SUBSCRIPTION, TENANT, sizes, wire};
use crate::control::Call;
use crate::http::{Answer, Handler, Request, Response};
use serde_json::json;
use std::sync::Arc;

/// Query parameters that calls may have beside `api-version`.
const PARAMETERS: [&str; 4] = ["$filter", "$expand", "$skiptoken", "forceDeletion"];
/// How long a token is good for, in seconds.
const TOKEN_LIFE: u32 = 3600;

impl Handler for Arm {
    async fn handle(self: Arc<Self>, request: Request) -> Answer {
        if let Some(response) = self.control.serve(&request, &*self).await {
            return response.into();
        }
        let asked = Asked::of(&request);
        let action = asked.action(&request.method);
        let token = matches!(asked.target, Target::Secret | Target::Identity);
        let call = Call {
            action: &action,
            mutating: request.method != "GET" && !token,
            request: &request,
        };
        let zonal = request.json().is_ok_and(|b| b["zones"].is_array());
        let carry_out = || async {
            let response = self.carry_out(&request, &asked);
            self.settle();
            response
        };
        self.control
            .answer(call, |effect| wire::refuse(effect, zonal), carry_out)
            .await
    }
}

impl Arm {
    fn carry_out(&self, request: &Request, asked: &Asked) -> Response {
        match asked.target {
            Target::Secret => return self.by_secret(request),
            Target::Identity => return self.by_identity(request),
            _ => {}
        }
        if let Some(refused) = self.refused(request, asked) {
            return refused;
        }
        match (request.method.as_str(), &asked.target) {
            ("GET", Target::Skus) => {
                let filter = request.parameter("$filter").unwrap_or_default();
                wire::page(
                    request,
                    sizes::skus(&self.options, &filter),
                    self.options.page,
                )
            }
            ("GET", Target::Usages(location)) => {
                let rows = match location.as_str() {
                    LOCATION => sizes::usages(&self.options, &self.state()),
                    _ => Vec::new(),
                };
                wire::page(request, rows, self.options.page)
            }
            ("GET", Target::Operation(id)) => self.operation(*id),
            ("GET", Target::One(Kind::Subnet, name)) => subnet(request, name),
            ("GET", Target::Collection(kind)) => self.list(request, *kind),
            ("GET", Target::One(kind, name)) => self.get(request, *kind, name),
            ("PUT", Target::One(Kind::Machine, name)) => self.put_machine(request, name),
            ("PUT", Target::One(kind, name)) if *kind != Kind::Subnet => {
                self.put_resource(request, *kind, name)
            }
            ("PATCH", Target::One(kind, name)) if *kind != Kind::Subnet => {
                self.patch(request, *kind, name)
            }
            ("DELETE", Target::One(kind, name)) if *kind != Kind::Subnet => {
                self.delete(request, *kind, name)
            }
            ("POST", Target::Action(Kind::Machine, name, action)) if action == "start" => {
                self.start_machine(request, name)
            }
            _ => {
                let what = format!("{} {}: no such call", request.method, request.path);
                self.control.violated(&what);
                wire::error(404, "InvalidResourceType", &what)
            }
        }
    }

    /// What every call must have: a token, the right version, known parameters, a subscription and group that exist.
    fn refused(&self, request: &Request, asked: &Asked) -> Option<Response> {
        let bearer = request
            .header("authorization")
            .and_then(|h| h.strip_prefix("Bearer "));
        if !bearer.is_some_and(|token| self.tokens().contains(token)) {
            let text = "The access token is missing, invalid or expired.";
            return Some(wire::error(401, "InvalidAuthenticationToken", text));
        }
        let line = format!("{} {}", request.method, request.path);
        let version = request.parameter("api-version").unwrap_or_default();
        if let Some(known) = asked.version()
            && version != known
        {
            let text = format!("{line}: api-version {version:?}, not {known:?}");
            self.control.violated(&text);
            return Some(wire::error(400, "InvalidApiVersionParameter", &text));
        }
        let mut names = request.parameters().into_iter().map(|(name, _)| name);
        if let Some(unknown) =
            names.find(|n| n != "api-version" && !PARAMETERS.contains(&n.as_str()))
        {
            let text = format!("{line}: unknown parameter {unknown}");
            self.control.violated(&text);
            return Some(wire::error(400, "InvalidQueryParameter", &text));
        }
        if asked.subscription != SUBSCRIPTION && asked.target != Target::Unknown {
            let text = format!(
                "The subscription '{}' could not be found.",
                asked.subscription
            );
            return Some(wire::error(404, "SubscriptionNotFound", &text));
        }
        if !asked.group.is_empty() && asked.group != GROUP {
            let text = format!("Resource group '{}' could not be found.", asked.group);
            return Some(wire::error(404, "ResourceGroupNotFound", &text));
        }
        self.wrong_body(request, asked, &line)
    }

    fn wrong_body(&self, request: &Request, asked: &Asked, line: &str) -> Option<Response> {
        let writes = matches!(request.method.as_str(), "PUT" | "PATCH");
        let wrong = match (&asked.target, request.json()) {
            (_, Err(e)) => vec![format!("the body is no JSON: {e}")],
            (Target::One(kind, _), Ok(body)) if writes => {
                self.contract.body(*kind, &body, request.method == "PUT")
            }
            (_, Ok(body)) if !body.is_null() => vec!["has a body".to_owned()],
            _ => Vec::new(),
        };
        if wrong.is_empty() {
            return None;
        }
        let text = format!("{line}: {}", wrong.join("; "));
        self.control.violated(&text);
        Some(wire::error(400, "InvalidRequestContent", &text))
    }

    fn operation(&self, id: u64) -> Response {
        let mut state = self.state();
        state.look(id);
        let Some(operation) = state.operations.get(&id) else {
            return wire::missing(&format!("operations/{id}"));
        };
        let mut body = json!({ "name": id.to_string(), "status": "InProgress" });
        if operation.ended {
            body["status"] = json!("Succeeded");
            if let Some((code, message)) = &operation.error {
                body["status"] = json!("Failed");
                body["error"] = json!({ "code": code, "message": message });
            }
        }
        Response::json(200, &body).with("Retry-After", "0")
    }

    fn by_secret(&self, request: &Request) -> Response {
        let form = request.form();
        let field = |name: &str| {
            let found = form.iter().find(|(k, _)| k == name);
            found.map_or("", |(_, v)| v.as_str())
        };
        let good = request.method == "POST"
            && request.path.trim_start_matches('/').starts_with(TENANT)
            && field("grant_type") == "client_credentials"
            && field("client_id") == CLIENT
            && field("client_secret") == SECRET
            && field("scope").ends_with("/.default");
        if !good {
            let body = json!({
                "error": "invalid_client",
                "error_description": "AADSTS7000215: Invalid client secret provided.",
                "error_codes": [7000215],
            });
            return Response::json(401, &body);
        }
        let body = json!({
            "token_type": "Bearer",
            "access_token": self.token(),
            "expires_in": TOKEN_LIFE,
            "ext_expires_in": TOKEN_LIFE,
        });
        Response::json(200, &body)
    }

    /// As the metadata service gives it on a machine with an identity.
    fn by_identity(&self, request: &Request) -> Response {
        let resource = request.parameter("resource").unwrap_or_default();
        if request.header("metadata") != Some("true") || resource.is_empty() {
            let body = json!({ "error": "invalid_request", "error_description": "Required metadata header not specified" });
            return Response::json(400, &body);
        }
        let expires = self.control.clock.now_ms() / 1000 + u64::from(TOKEN_LIFE);
        let body = json!({
            "access_token": self.token(),
            "expires_in": TOKEN_LIFE.to_string(),
            "expires_on": expires.to_string(),
            "resource": resource,
            "token_type": "Bearer",
        });
        Response::json(200, &body)
    }

    fn token(&self) -> String {
        let number = self.state().number();
        let token = format!("azure-double-token-{number}");
        self.tokens().insert(token.clone());
        token
    }
}

fn subnet(request: &Request, name: &str) -> Response {
    if request.path.eq_ignore_ascii_case(SUBNET) {
        return Response::json(
            200,
            &json!({ "id": SUBNET, "name": name, "properties": {} }),
        );
    }
    wire::missing(name)
}
