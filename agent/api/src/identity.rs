//! Who calls, and which calls that opens.

use crate::refusal::Refusal;
use gpuloom_fleet::{NodeId, TenantName};
use std::fmt;

/// Who calls, as proven by TLS and the call's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The fleet's admin key.
    Admin,
    /// A node's certificate. Whether the node still belongs to the fleet is the lead's to check.
    Node(NodeId),
    /// The lead's certificate.
    Lead,
    /// A token of this tenant.
    Tenant(TenantName),
    /// Nothing.
    Anonymous,
}

const FLEET: &str = "/gpuloom.v1.Fleet/";
const OPEN: [&str; 2] = ["Hello", "Join"];
const TENANTS: [&str; 12] = [
    "Submit",
    "ListJobs",
    "GetJob",
    "WatchJob",
    "Cancel",
    "ReadLogs",
    "ListNodes",
    "ListQueue",
    "ListUsage",
    "GetTop",
    "GetHistory",
    "ListObjects",
];

// === impl Identity ===

impl Identity {
    /// The caller of a request that came through [`crate::serve`]; `Anonymous` for any other.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let found = request.extensions().get::<Self>().cloned();
        found.unwrap_or(Self::Anonymous)
    }

    /// Refuses everyone but the admin.
    pub fn require_admin(&self) -> Result<(), Refusal> {
        match self {
            Self::Admin => Ok(()),
            other => Err(refuse(other, "this needs the fleet's admin key")),
        }
    }

    /// Refuses everyone but the admin and `tenant` itself.
    pub fn require_tenant(&self, tenant: &TenantName) -> Result<(), Refusal> {
        match self {
            Self::Admin => Ok(()),
            Self::Tenant(own) if own == tenant => Ok(()),
            Self::Tenant(own) => {
                let message = format!("the token is tenant {own}'s, this belongs to {tenant}");
                let fix = format!("use a token of tenant {tenant} or the admin key");
                Err(Refusal::denied(message, fix))
            }
            other => Err(refuse(
                other,
                "this needs a tenant's token or the admin key",
            )),
        }
    }

    /// The tenant a token limits the caller to; `None` for the admin, who reaches all.
    pub fn tenant(&self) -> Option<&TenantName> {
        match self {
            Self::Tenant(tenant) => Some(tenant),
            _ => None,
        }
    }

    /// Whether this caller may make the call at `path` at all, `/<service>/<method>`. What of it
    /// a tenant reaches is for the handler.
    pub(crate) fn may_call(&self, path: &str) -> Result<(), Refusal> {
        if let Some(method) = path.strip_prefix(FLEET) {
            return match self {
                _ if OPEN.contains(&method) => Ok(()),
                Self::Admin => Ok(()),
                Self::Tenant(_) if TENANTS.contains(&method) => Ok(()),
                _ if TENANTS.contains(&method) => {
                    Err(refuse(self, "this needs a tenant's token or the admin key"))
                }
                _ => Err(refuse(self, "this needs the fleet's admin key")),
            };
        }
        match (self, path) {
            (_, "/gpuloom.v1.Membership/JoinChallenge")
            | (Self::Node(_), "/gpuloom.v1.Node/Session" | "/gpuloom.v1.Membership/Renew")
            | (Self::Lead, "/gpuloom.v1.NodeLogs/ReadLog") => Ok(()),
            _ => Err(refuse(self, "this is between the lead and its nodes")),
        }
    }
}

fn refuse(who: &Identity, needs: &str) -> Refusal {
    let fix = match who {
        Identity::Anonymous => {
            "set GPULOOM_ADMIN_KEY (--admin-key) or GPULOOM_TOKEN (--token, from `gpuloom token \
             create`)"
        }
        Identity::Tenant(_) => "use the admin key: GPULOOM_ADMIN_KEY or --admin-key",
        _ => "",
    };
    Refusal::denied(format!("{needs}; the caller is {who}"), fix)
}

impl fmt::Display for Identity {
    /// `admin`, `node:<id>`, `lead`, `tenant:<name>` or `anonymous`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Node(id) => write!(f, "node:{id}"),
            Self::Lead => f.write_str("lead"),
            Self::Tenant(name) => write!(f, "tenant:{name}"),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_reaches_its_own_calls_and_no_others() {
        let tenant = TenantName::new("a").expect("a name");
        let node = NodeId::new("n1").expect("an id");
        let callers = [
            Identity::Admin,
            Identity::Tenant(tenant),
            Identity::Node(node),
            Identity::Lead,
            Identity::Anonymous,
        ];
        for (path, allowed) in [
            ("/gpuloom.v1.Fleet/Hello", [true, true, true, true, true]),
            ("/gpuloom.v1.Fleet/Join", [true, true, true, true, true]),
            (
                "/gpuloom.v1.Fleet/Submit",
                [true, true, false, false, false],
            ),
            (
                "/gpuloom.v1.Fleet/GetTop",
                [true, true, false, false, false],
            ),
            (
                "/gpuloom.v1.Fleet/Declare",
                [true, false, false, false, false],
            ),
            (
                "/gpuloom.v1.Fleet/ListEvents",
                [true, false, false, false, false],
            ),
            (
                "/gpuloom.v1.Fleet/CreateToken",
                [true, false, false, false, false],
            ),
            (
                "/gpuloom.v1.Fleet/NoSuchCall",
                [true, false, false, false, false],
            ),
            (
                "/gpuloom.v1.Node/Session",
                [false, false, true, false, false],
            ),
            (
                "/gpuloom.v1.NodeLogs/ReadLog",
                [false, false, false, true, false],
            ),
            (
                "/gpuloom.v1.Membership/JoinChallenge",
                [true, true, true, true, true],
            ),
            (
                "/gpuloom.v1.Membership/Renew",
                [false, false, true, false, false],
            ),
            ("/other/Call", [false, false, false, false, false]),
        ] {
            let found = callers.each_ref().map(|c| c.may_call(path).is_ok());
            assert_eq!(found, allowed, "{path}");
        }
    }

    #[test]
    fn a_tenant_is_told_whose_token_it_needs() {
        let name = |n: &str| TenantName::new(n).expect("a name");
        let a = Identity::Tenant(name("a"));
        assert_eq!(a.require_tenant(&name("a")), Ok(()));
        assert_eq!(Identity::Admin.require_tenant(&name("b")), Ok(()));
        assert!(Identity::Anonymous.require_tenant(&name("a")).is_err());
        assert!(a.require_admin().is_err());
        let refusal = a.require_tenant(&name("b")).expect_err("another's");
        assert_eq!(
            refusal.to_string(),
            "the token is tenant a's, this belongs to b; use a token of tenant b or the admin key"
        );
    }
}
