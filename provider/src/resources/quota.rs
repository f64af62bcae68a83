//! `gpuloom_quota`: what a tenant is guaranteed and limited to.

use gpuloom_fleet::Kind;
use tfplug::{Attribute, Schema};

use super::attributes::amounts;
use super::declared::Declared;
use crate::convert::DEFAULTS;

pub(super) fn resource() -> Declared {
    Declared::new(Kind::Quota, schema)
}

fn schema() -> Schema {
    Schema::new(0)
        .description(
            "What one tenant may use, over the whole fleet or in one pool; use by its child tenants counts, too. \
             At least one of `guaranteed`, `soft_limit` and `limit` is stated, and each is at most the next.",
        )
        .attribute(
            Attribute::string("tenant")
                .required()
                .requires_replace()
                .description("Whose quota it is. A change replaces the quota."),
        )
        .attribute(
            Attribute::string("pool")
                .optional()
                .requires_replace()
                .description("Only use in this pool counts; left out, the whole fleet does. A change replaces the quota."),
        )
        .attribute(amounts("guaranteed", None).description(
            "Kept for the tenant: taken back from tenants above their own guarantee, by preemption if need be.",
        ))
        .attribute(amounts("limit", None).description("Never exceeded."))
        .attribute(
            amounts("soft_limit", None)
                .description("Exceeded only while no other tenant waits for the resource."),
        )
        .attribute(Attribute::string("on_excess").optional().default(DEFAULTS.on_excess).description(
            "What happens when `limit` is set below present use. `keep`: running jobs stay, nothing new starts. \
             `drain`: as keep, and retries and preempted jobs wait, too. `preempt`: the youngest jobs of lowest \
             priority are stopped until use is within the limit.",
        ))
}
