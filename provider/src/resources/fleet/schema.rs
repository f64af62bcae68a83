//! What may be written of a fleet.

use std::time::Duration;

use tfplug::{Attribute, Block, Op, Schema, Type};

use super::super::connection_attributes;

/// How long the lead may take to come up.
const START: Duration = Duration::from_secs(120);
/// How long its end may take.
const END: Duration = Duration::from_secs(300);

pub(super) fn schema() -> Schema {
    let kept = |name: &str, text: &str| {
        Attribute::string(name)
            .computed()
            .use_state_for_unknown()
            .description(text)
    };
    Schema::new(0)
        .description(
            "A fleet: its lead keeps the queue and the policies, schedules jobs and launches the nodes of pools. Every \
             other resource takes its `connection`. A lead that has stopped is started again by the next apply, and a \
             changed agent binary restarts it in place: the connection stays the same.",
        )
        .attribute(
            Attribute::string("name")
                .required()
                .requires_replace()
                .description(
                    "The fleet's name, unique on this machine: 1 to 63 lower-case letters, digits and hyphens, first a \
                     letter, last not a hyphen. A change replaces the fleet.",
                ),
        )
        .attribute(
            Attribute::map("labels", Type::String)
                .optional()
                .requires_replace()
                .description("Tags of the lead's instance, set once at its launch. A change replaces the fleet."),
        )
        .attribute(
            Attribute::object("connection", connection_attributes())
                .computed()
                .use_state_for_unknown()
                .description("What every other resource takes as `fleet`. It stays the same for the fleet's life."),
        )
        .attribute(kept(
            "status",
            "`running`, `stopped` (its process does not run: the next apply starts it), `unreachable` or `terminating` (its \
             destruction was interrupted: the next apply ends it and makes it anew).",
        ))
        .attribute(kept("agent_binary", "The program its lead runs."))
        .attribute(kept("agent_sha256", "The SHA-256 of that program when it was started, in hexadecimal digits."))
        .attribute(kept("agent_version", "The version its lead tells."))
        .attribute(kept("data_dir", "Where its lead keeps its store and its log."))
        .attribute(kept("metrics_endpoint", "`host:port` of its lead's `/healthz` and `/metrics`."))
        .attribute(kept("backend", "`nvml`, or `simulated`: no GPU is touched."))
        .block(local())
        .timeouts([(Op::Create, START), (Op::Update, START), (Op::Delete, END)])
}

fn local() -> Block {
    Block::single(
        "local",
        [
            Attribute::string("listen")
                .optional()
                .computed()
                .use_state_for_unknown()
                .requires_replace()
                .description(
                    "Where the lead answers. Port 0 takes any free port, which stays the same for the fleet's life. \
                     Default: `127.0.0.1:0`. A change replaces the fleet.",
                ),
            Attribute::string("simulate")
                .optional()
                .requires_replace()
                .description(
                    "GPUs to simulate, such as `8xA100-80G` or `4xT4,2xH100` (at most 64); simulation shows in every \
                     metric and listing. Left out, the machine's real GPUs are used, and having none is an error. A \
                     change replaces the fleet.",
                ),
        ],
    )
    .min(1)
    .description("The lead is a process of this machine, detached from Terraform.")
}
