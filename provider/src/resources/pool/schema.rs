//! What may be written of a pool.

use std::time::Duration;

use tfplug::{Attribute, Block, Op, Schema, exactly_one_of};

use super::super::attributes::{fleet_attribute, generation_attribute, name_attribute};
use super::super::places::{self, Of};
use crate::convert::{POOL_DEFAULTS, number_from_milli};

/// How long creation and destruction may take unless `timeouts` says so.
const TIMEOUT: Duration = Duration::from_secs(20 * 60);

pub(super) fn schema() -> Schema {
    let size = |name: &str, text: &str| Attribute::number(name).computed().description(text);
    let schema = Schema::new(0)
        .description(
            "A pool: like nodes of one place, whose number follows its load within declared bounds. The pool is \
             declared to the fleet's lead, which launches its nodes and keeps restoring `min`; Terraform waits and \
             reports. The autoscaler moves `size` without a difference in the plan.",
        )
        .attribute(fleet_attribute())
        .attribute(name_attribute("pool"))
        .attribute(gpu())
        .attribute(Attribute::number("initial_size").optional().description(
            "How many nodes are wanted when the pool is created, within the bounds; left out, `autoscaling.min`. \
             Without effect afterwards.",
        ))
        .attribute(Attribute::string("on_destroy").optional().default(POOL_DEFAULTS.on_destroy).description(
            "What happens to running jobs when the pool is destroyed. `drain`: nothing new starts and nodes end when \
             their jobs have. `kill`: jobs are stopped with their grace and wait for another pool. `refuse`: the \
             pool is not destroyed while jobs run.",
        ))
        .attribute(
            Attribute::map("labels", tfplug::Type::String)
                .optional()
                .description("Seen on nodes and metrics: at most 64, values up to 128 bytes."),
        )
        .attribute(size("size", "How many nodes are wanted now; the autoscaler moves it between the bounds."))
        .attribute(size("provisioned_size", "How many instances exist."))
        .attribute(size("ready_size", "How many nodes have joined and take jobs."))
        .attribute(
            Attribute::string("status")
                .computed()
                .description("`provisioning`, `ready`, `degraded` (fewer nodes than wanted; the lead keeps trying) or `draining`."),
        )
        .attribute(
            Attribute::string("shortfall")
                .computed()
                .description("Why there are fewer nodes than wanted, and what would help; empty when there are enough."),
        )
        .attribute(
            Attribute::number("estimated_hourly_usd")
                .computed()
                .description(
                    "US dollars for an hour of the pool at its size, from the provider's own catalog of prices; null                      where a price is not known, and for pools that are not on a cloud. Discounts and commitments of                      the account are not in it.",
                ),
        )
        .attribute(generation_attribute())
        .block(Block::single("local", []).description(
            "Nodes are agents on the lead's own machine, each with its own share of the machine's GPUs. A change of \
             the kind of place replaces the pool.",
        ))
        .block(Block::single("existing", []).description(
            "Nodes are machines that exist already and join with a token (`gpuloom_join_token`); the lead launches nothing.",
        ))
        .block(autoscaling())
        .block(capacity())
        .block(update());
    let schema = places::blocks(Of::Pool)
        .into_iter()
        .fold(schema, Schema::block);
    schema
        .validate(exactly_one_of(["local", "existing", "aws", "gcp", "azure"]))
        .timeouts([
            (Op::Create, TIMEOUT),
            (Op::Update, TIMEOUT),
            (Op::Delete, TIMEOUT),
        ])
}

fn gpu() -> Attribute {
    Attribute::object(
        "gpu",
        [
            Attribute::string("model")
                .required()
                .description(
                    "The model in short: `T4`, `A100-80G`, `H100`. A change replaces the pool.",
                )
                .requires_replace(),
            Attribute::number("per_node")
                .optional()
                .default(POOL_DEFAULTS.per_node)
                .description("GPUs on each node, 1 to 64. A change replaces the pool.")
                .requires_replace(),
        ],
    )
    .required()
    .description("The GPUs of each node.")
}

fn autoscaling() -> Block {
    Block::single(
        "autoscaling",
        [
            Attribute::number("min")
                .required()
                .description("Fewest nodes; the lead keeps restoring them."),
            Attribute::number("max")
                .required()
                .description("Most nodes, 1 to 1,000."),
        ],
    )
    .min(1)
    .description("The bounds of the pool's size.")
}

fn capacity() -> Block {
    Block::single(
        "capacity",
        [
            Attribute::string("on_shortfall").optional().default(POOL_DEFAULTS.on_shortfall).description(
                "What to do when fewer nodes can be had. `fail`: creation ends with an error and leaves nothing. \
                 `degrade`: it succeeds with a warning, and the lead keeps trying.",
            ),
            Attribute::string("max_wait")
                .optional()
                .default(POOL_DEFAULTS.max_wait.to_string())
                .description("How long creation waits for the first size, such as `10m`."),
            Attribute::number("spot_ratio")
                .optional()
                .default(number_from_milli(POOL_DEFAULTS.spot_ratio_milli.into()))
                .description(
                    "Of the nodes above `on_demand_base`, which part is bought as spot, from 0 to 1 with at most three \
                     decimals, rounded down. While no spot can be had, on-demand nodes stand in. For clouds only.",
                ),
            Attribute::number("on_demand_base")
                .optional()
                .default(POOL_DEFAULTS.on_demand_base)
                .description("So many nodes are on-demand before spot begins."),
        ],
    )
    .description("What to do when fewer nodes than wanted can be had.")
}

fn update() -> Block {
    Block::single(
        "update",
        [Attribute::number("max_unavailable")
            .optional()
            .default(POOL_DEFAULTS.max_unavailable)
            .description("Most nodes that are away at a time, 1 to 1,000.")],
    )
    .description(
        "How nodes are replaced when what they are made of changes (image, instance types, network, agent, labels): \
         each is drained, ended and launched anew.",
    )
}
