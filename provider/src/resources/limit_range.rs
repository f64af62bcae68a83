//! `gpuloom_limit_range`: defaults and bounds of single jobs.

use gpuloom_fleet::Kind;
use tfplug::{Attribute, Schema};

use super::attributes::amounts;
use super::declared::Declared;

pub(super) fn resource() -> Declared {
    Declared::new(Kind::LimitRange, schema)
}

fn schema() -> Schema {
    let walltime = |what: &str| {
        let text = format!("{what}, such as `12h`.");
        Some(Attribute::string("walltime").optional().description(text))
    };
    Schema::new(0)
        .description(
            "Defaults and bounds of single jobs, for one tenant or pool or for all. At least one of `default`, `min` \
             and `max` is stated, and each is at most the next (min, default, max).",
        )
        .attribute(
            Attribute::string("tenant")
                .optional()
                .requires_replace()
                .description("For this tenant's jobs; left out, for every tenant's. A change replaces the limit range."),
        )
        .attribute(
            Attribute::string("pool")
                .optional()
                .requires_replace()
                .description("For jobs that name this pool; left out, for all. A change replaces the limit range."),
        )
        .attribute(
            amounts("default", walltime("How long jobs that state nothing may run"))
                .description("For jobs that state nothing."),
        )
        .attribute(amounts("min", None).description("Smaller requests are refused at submission."))
        .attribute(
            amounts("max", walltime("Longer jobs, and jobs without a walltime, are refused at submission"))
                .description("Larger requests are refused at submission."),
        )
}
