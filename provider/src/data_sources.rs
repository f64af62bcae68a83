//! What a fleet has and does: the fleet itself, its nodes, their devices, its queue.

mod fleet;
mod offerings;

use gpuloom_api::proto::NodeView;
use gpuloom_fleet::{PoolName, TenantName};
use tfplug::{
    Attribute, DataCtx, DataSource, Diagnostic, Diagnostics, Schema, Type, Value, async_trait,
    validators,
};

use crate::configure::Settings;
use crate::convert::{self, Connection};
use crate::lead::Lead;
use crate::resources::fleet_attribute;
use crate::say;

/// The most jobs that `gpuloom_queue` shows; the counts are of all.
const MAX_JOBS: u64 = 1_000;

/// Every data source.
pub(crate) fn all() -> Vec<Box<dyn DataSource>> {
    vec![
        Box::new(fleet::Fleet),
        Box::new(Nodes),
        Box::new(Devices),
        Box::new(Queue),
        Box::new(offerings::Offerings),
    ]
}

struct Nodes;
struct Devices;
struct Queue;

async fn lead(ctx: &DataCtx) -> Result<Lead, Diagnostics> {
    let settings = ctx.data::<Settings>()?;
    let connection = Connection::read(&ctx.config.view().attr("fleet"))?;
    settings.lead(&connection).await
}

async fn nodes(ctx: &DataCtx) -> Result<Vec<NodeView>, Diagnostics> {
    let pool = name::<PoolName>(ctx, "pool")?;
    let lead = lead(ctx).await?;
    let mut nodes = lead
        .client()
        .nodes(pool.as_ref())
        .await
        .map_err(|e| say::failed("Cannot list the fleet's nodes", &e, None))?;
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(nodes)
}

fn name<T: std::str::FromStr<Err = gpuloom_fleet::ParseIdError>>(
    ctx: &DataCtx,
    attribute: &str,
) -> Result<Option<T>, Diagnostics> {
    let text = ctx.config.view().attr(attribute);
    let parsed = text.opt_str()?.map(str::parse).transpose();
    parsed.map_err(|e: gpuloom_fleet::ParseIdError| {
        text.error(format!("Invalid {attribute}"), e.to_string())
            .into()
    })
}

fn filter<T: std::str::FromStr<Err = gpuloom_fleet::ParseIdError> + 'static>(
    attribute: &str,
    text: &str,
) -> Attribute {
    Attribute::string(attribute)
        .optional()
        .description(text)
        .validate(validators::parses(
            format!("a {attribute}'s name"),
            |s: &str| s.parse::<T>(),
        ))
}

fn texts<const N: usize>(attributes: [(&str, &str); N]) -> impl Iterator<Item = Attribute> {
    attributes
        .map(|(name, text)| Attribute::string(name).computed().description(text))
        .into_iter()
}

fn numbers<const N: usize>(attributes: [(&str, &str); N]) -> impl Iterator<Item = Attribute> {
    attributes
        .map(|(name, text)| Attribute::number(name).computed().description(text))
        .into_iter()
}

#[async_trait]
impl DataSource for Nodes {
    fn name(&self) -> &str {
        "nodes"
    }

    fn schema(&self) -> Schema {
        let one = texts([
            ("id", "The node's id."),
            ("pool", "Its pool."),
            (
                "state",
                "`joining`, `ready`, `cordoned`, `draining`, `suspect` or `driver_unresponsive`.",
            ),
            ("reason", "Why it is not ready; null when it is."),
            ("endpoint", "`host:port` of its own server."),
            (
                "backend",
                "Where its readings come from: `nvml`, or `simulated` (no GPU is touched).",
            ),
            ("agent_version", "The version of its agent."),
        ])
        .chain(numbers([("gpus", "How many GPUs it has.")]))
        .chain([Attribute::map("capabilities", Type::String)
            .computed()
            .description("What the host can enforce, and what it cannot, with why.")]);
        Schema::new(0)
            .description("The nodes of a fleet, ordered by id.")
            .attribute(fleet_attribute())
            .attribute(filter::<PoolName>("pool", "Only nodes of this pool."))
            .attribute(
                Attribute::nested_list("nodes", one)
                    .computed()
                    .description("The nodes."),
            )
    }

    async fn read(&self, ctx: &mut DataCtx) -> Result<Value, Diagnostics> {
        let nodes = nodes(ctx).await?;
        Ok(ctx
            .config
            .clone()
            .with("nodes", Value::list(nodes.iter().map(convert::node_value))))
    }
}

#[async_trait]
impl DataSource for Devices {
    fn name(&self) -> &str {
        "devices"
    }

    fn schema(&self) -> Schema {
        let one = texts([
            ("id", "The UUID that the driver gives it."),
            ("node", "Its node."),
            ("pool", "Its node's pool."),
            ("model", "The model in short, such as `A100-80G`."),
            ("product", "The driver's own name for it."),
            (
                "compute_capability",
                "CUDA compute capability, such as `8.0`.",
            ),
            (
                "health",
                "`healthy`, `degraded` (takes jobs) or `failed` (takes none).",
            ),
            ("health_reason", "Why it is not healthy; null when it is."),
        ])
        .chain(numbers([
            ("index", "Its index on the machine."),
            ("memory_gib", "Its memory in GiB."),
            ("gpus_held", "Which part of it is granted to jobs, 0 to 1."),
            ("memory_held_gib", "Memory granted to jobs, in GiB."),
            (
                "utilization",
                "Share of the last interval in which it worked, 0 to 1; null when not read.",
            ),
            (
                "memory_used_gib",
                "Memory in use, in GiB with two decimals; null when not read.",
            ),
            (
                "temperature_c",
                "Temperature in degrees Celsius; null when not read.",
            ),
            ("power_w", "Power draw in watts; null when not read."),
            (
                "power_limit_w",
                "The limit of its power draw in watts; null when not read.",
            ),
        ]))
        .chain([Attribute::list("attempts", Type::String)
            .computed()
            .description("The jobs' attempts that hold it, such as `17#1`.")]);
        Schema::new(0)
            .description(
                "The GPUs of a fleet with their latest readings, ordered by node and index.",
            )
            .attribute(fleet_attribute())
            .attribute(filter::<PoolName>(
                "pool",
                "Only devices of this pool's nodes.",
            ))
            .attribute(
                Attribute::nested_list("devices", one)
                    .computed()
                    .description("The devices."),
            )
    }

    async fn read(&self, ctx: &mut DataCtx) -> Result<Value, Diagnostics> {
        let nodes = nodes(ctx).await?;
        let mut devices = Vec::new();
        for node in &nodes {
            let mut of_node: Vec<_> = node.devices.iter().collect();
            of_node.sort_by_key(|d| d.device.as_ref().map(|d| d.index));
            devices.extend(
                of_node
                    .into_iter()
                    .map(|device| convert::device_value(node, device)),
            );
        }
        Ok(ctx.config.clone().with("devices", Value::List(devices)))
    }
}

#[async_trait]
impl DataSource for Queue {
    fn name(&self) -> &str {
        "queue"
    }

    fn schema(&self) -> Schema {
        let one = texts([
            ("id", "The job's id, such as `17` or `17.3`."),
            ("name", "Its name; null when it has none."),
            ("tenant", "Whose job it is."),
            ("pool", "The pool it asks for; null for any."),
            ("priority_class", "Its priority class; null for `normal`."),
            ("state", "`pending` or `active`."),
        ])
        .chain(numbers([
            ("priority", "Its class's value; larger is more urgent."),
            ("gpus", "GPUs it asks for; null when it states none."),
            (
                "position",
                "Its place in the queue, from 1; null when it runs.",
            ),
        ]))
        .chain([Attribute::list("why", Type::String)
            .computed()
            .description("Why it waits and what would unblock it, most telling first.")]);
        Schema::new(0)
            .description(format!(
                "The jobs that wait or run, the first {MAX_JOBS} of them in the order of the queue."
            ))
            .attribute(fleet_attribute())
            .attribute(filter::<TenantName>("tenant", "Only this tenant's jobs."))
            .attributes(numbers([
                ("pending", "How many jobs wait."),
                ("active", "How many jobs run."),
            ]))
            .attribute(
                Attribute::nested_list("jobs", one)
                    .computed()
                    .description("The jobs."),
            )
    }

    async fn read(&self, ctx: &mut DataCtx) -> Result<Value, Diagnostics> {
        let tenant = name::<TenantName>(ctx, "tenant")?;
        let lead = lead(ctx).await?;
        let reply = lead.client().queue(tenant.as_ref(), MAX_JOBS).await;
        let reply = reply.map_err(|e| say::failed("Cannot list the fleet's queue", &e, None))?;
        Ok(ctx
            .config
            .clone()
            .with("pending", reply.pending)
            .with("active", reply.active)
            .with(
                "jobs",
                Value::list(reply.jobs.iter().map(convert::job_value)),
            ))
    }
}

/// A fleet that has to be named one way or the other.
fn missing(text: &str) -> Diagnostics {
    Diagnostic::error("Cannot find the fleet", text).into()
}
