//! `gpuloom_tenant`: who submits jobs and is accounted for.

use gpuloom_fleet::Kind;
use tfplug::{Attribute, Schema};

use super::declared::Declared;
use crate::convert::DEFAULTS;

pub(super) fn resource() -> Declared {
    Declared::new(Kind::Tenant, schema)
}

fn schema() -> Schema {
    Schema::new(0)
        .description(
            "A tenant: a team or project that submits jobs, perhaps part of another. Tenants share a fleet by \
             their weights, within their quotas.",
        )
        .attribute(Attribute::string("parent").optional().description(
            "The tenant this one is part of. Quotas of a parent bound the sum over its children; at most 8 levels.",
        ))
        .attribute(
            Attribute::number("weight")
                .optional()
                .default(DEFAULTS.weight)
                .description("The share among siblings that all want more, 1 to 10,000."),
        )
        .attribute(
            Attribute::string("on_destroy")
                .optional()
                .default(DEFAULTS.on_tenant_destroy)
                .description(
                    "What happens to its live jobs when it is destroyed. `cancel`: waiting jobs are cancelled and \
                     running ones stopped with their grace. `refuse`: it is not destroyed while it has live jobs.",
                ),
        )
}
