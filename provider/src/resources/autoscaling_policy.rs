//! `gpuloom_autoscaling_policy`: how a pool's size follows its load.

use gpuloom_fleet::Kind;
use tfplug::{Attribute, Schema};

use super::declared::Declared;
use crate::convert::{DEFAULTS, number_from_milli};

pub(super) fn resource() -> Declared {
    Declared::new(Kind::AutoscalingPolicy, schema)
}

fn schema() -> Schema {
    let duration = |name: &str, default: gpuloom_fleet::Seconds, text: &str| {
        Attribute::string(name)
            .optional()
            .default(default.to_string())
            .description(text)
    };
    Schema::new(0)
        .description(
            "How a pool's size follows its load, between the bounds of its `autoscaling` block: target tracking on \
             GPU utilization and queue length. At most one policy a pool; a pool without one keeps its size.",
        )
        .attribute(
            Attribute::string("pool")
                .required()
                .requires_replace()
                .description("The pool it moves. A change replaces the policy."),
        )
        .attribute(
            Attribute::number("target_utilization")
                .optional()
                .default(number_from_milli(DEFAULTS.target_utilization_milli.into()))
                .description("The mean GPU utilization aimed at, 0.05 to 1 with at most three decimals."),
        )
        .attribute(
            Attribute::number("queue_per_node")
                .optional()
                .default(DEFAULTS.queue_per_node)
                .description("How many jobs waiting for this pool justify one more node, 1 to 10,000."),
        )
        .attribute(duration(
            "window",
            DEFAULTS.window,
            "Readings older than this do not count, `10s` to `1d`.",
        ))
        .attribute(duration(
            "grow_cooldown",
            DEFAULTS.grow_cooldown,
            "The shortest time between two growths.",
        ))
        .attribute(duration(
            "shrink_cooldown",
            DEFAULTS.shrink_cooldown,
            "The shortest time from any change to a shrink.",
        ))
}
