//! `gpuloom_priority_class`: how urgent jobs are.

use gpuloom_fleet::Kind;
use tfplug::{Attribute, Schema};

use super::declared::Declared;
use crate::convert::{DEFAULTS, number_from_milli};

pub(super) fn resource() -> Declared {
    Declared::new(Kind::PriorityClass, schema)
}

fn schema() -> Schema {
    Schema::new(0)
        .description(
            "How urgent the jobs of a class are. The classes `urgent` (1000, preempts), `normal` (0) and \
             `background` (-1000) exist without being declared; declaring one overrides it, destroying it restores it. Jobs of any other \
             class that is destroyed go on as jobs of value 0, like those of `normal`: waiting ones keep their \
             place among those, running ones keep their GPUs.",
        )
        .attribute(
            Attribute::number("value")
                .required()
                .description("Larger is more urgent; -1,000,000 to 1,000,000."),
        )
        .attribute(
            Attribute::bool("preempts")
                .optional()
                .default(false)
                .description("Whether jobs of this class may preempt those of a lower value."),
        )
        .attribute(
            Attribute::number("cost_multiplier")
                .optional()
                .default(number_from_milli(DEFAULTS.cost_multiplier_milli.into()))
                .description("What a GPU-hour costs relative to the rate, 0 to 1,000 with at most three decimals."),
        )
        .attribute(Attribute::string("grace").optional().default(DEFAULTS.grace.to_string()).description(
            "How long a job of this class may take to stop when it is preempted, such as `30s`.",
        ))
}
