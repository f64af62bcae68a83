//! What may be written of a fleet.

use std::time::Duration;

use tfplug::{Attribute, Block, Op, Schema, Type, exactly_one_of};

use super::super::connection_attributes;
use super::super::places::{self, Of};

/// How long the lead may take to come up: a process does in seconds, an instance that installs its agent in minutes.
const START: Duration = Duration::from_secs(600);
/// How long its end may take.
const END: Duration = Duration::from_secs(300);

pub(super) fn schema() -> Schema {
    let kept = |name: &str, text: &str| {
        Attribute::string(name)
            .computed()
            .use_state_for_unknown()
            .description(text)
    };
    let schema = Schema::new(0)
        .description(
            "A fleet: its lead keeps the queue and the policies, schedules jobs and launches the nodes of pools. Every \
             other resource takes its `connection`. A lead that has stopped is started again by the next apply; one \
             whose instance is gone is launched anew on a cloud, with its data disk; a changed agent restarts it. The \
             connection's id and `ca_pin` stay the same.",
        )
        .attribute(
            Attribute::string("name")
                .required()
                .requires_replace()
                .description(
                    "The fleet's name, unique on this machine, and in a cloud's region for one admin key: 1 to 63 lower-case letters, digits and hyphens, first a \
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
                .description(
                    "What every other resource takes as `fleet`. `id` and `ca_pin` stay the same for the fleet's life; \
                     `endpoints` change with a lead's instance.",
                ),
        )
        .attribute(kept(
            "status",
            "`running`, `stopped` (the next apply starts it), `lost` (its instance is gone: the next apply launches another \
             with its data disk), `unreachable`, or `terminating` (its destruction was interrupted, or its data disk is \
             gone: the next apply ends it and makes it anew).",
        ))
        .attribute(kept("instance_id", "The instance that the lead runs on, as its place names it."))
        .attribute(kept("offering", "What that instance is: on a cloud `cloud/region/zone/instance type/market`."))
        .attribute(kept("agent_binary", "The program its lead runs; null on a cloud."))
        .attribute(kept("agent_sha256", "The SHA-256 of that program when it was started, or of the package on a cloud, in hexadecimal digits; null when the \
             agent came with the image."))
        .attribute(kept("agent_version", "The version its lead tells."))
        .attribute(kept("data_dir", "Where its lead keeps its store, on its own machine."))
        .attribute(kept("metrics_endpoint", "`host:port` of its lead's `/healthz` and `/metrics`, where it tells."))
        .attribute(kept("backend", "`nvml`, or `simulated`: no GPU is touched."))
        .block(local());
    let schema = places::blocks(Of::Lead)
        .into_iter()
        .fold(schema, Schema::block);
    schema
        .validate(exactly_one_of(["local", "aws", "gcp", "azure"]))
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
    .description("The lead is a process of this machine, detached from Terraform.")
}
