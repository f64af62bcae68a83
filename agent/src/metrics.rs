//! What Prometheus reads: gauges of the present state, in base units, each with its help text.
//!
//! Labels are bounded: devices and nodes by the fleet's own limits, tenants by [`MAX_TENANTS`]; jobs
//! are never labels.

use gpuloom_api::proto;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

/// Tenants shown; the rest are left out.
pub const MAX_TENANTS: usize = 500;

type Figure = Family<Labels, Gauge<f64, AtomicU64>>;

type Labels = Vec<(&'static str, String)>;

/// One scrape's worth of figures.
#[derive(Debug)]
pub(crate) struct Figures {
    registry: Registry,
}

// === impl Figures ===

impl Figures {
    /// The figures every agent has.
    pub(crate) fn new(role: &'static str, backend: &str) -> Self {
        let mut registry = Registry::with_prefix("gpuloom");
        let build = Figure::default();
        registry.register(
            "build",
            "Version, role and GPU backend of this agent; always 1",
            build.clone(),
        );
        let labels = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("role", role.to_owned()),
            ("backend", backend.to_owned()),
        ];
        build.get_or_create(&labels).set(1.0);
        Self { registry }
    }

    fn family(&mut self, name: &str, help: &str, unit: Option<Unit>) -> Figure {
        let family = Figure::default();
        match unit {
            Some(unit) => self
                .registry
                .register_with_unit(name, help, unit, family.clone()),
            None => self.registry.register(name, help, family.clone()),
        }
        family
    }

    /// Jobs by state.
    pub(crate) fn jobs(&mut self, counts: &[(&'static str, u64)]) {
        let jobs = self.family("jobs", "Live jobs by state", None);
        for (state, n) in counts {
            let labels = vec![("state", (*state).to_owned())];
            jobs.get_or_create(&labels).set(float(*n));
        }
    }

    /// Nodes of each pool: wanted, provisioned, ready.
    pub(crate) fn pools(&mut self, pools: &[(String, [(&'static str, u32); 3])]) {
        let nodes = self.family(
            "pool_nodes",
            "Nodes of a pool: wanted, provisioned and ready",
            None,
        );
        for (pool, counts) in pools {
            for (state, n) in counts {
                let labels = vec![("pool", pool.clone()), ("state", (*state).to_owned())];
                nodes.get_or_create(&labels).set(f64::from(*n));
            }
        }
    }

    /// What each tenant holds.
    pub(crate) fn tenants(&mut self, usage: &[proto::Usage]) {
        let gpus = self.family("tenant_gpus", "GPUs a tenant and its children hold", None);
        let memory = self.family(
            "tenant_gpu_memory",
            "GPU memory a tenant and its children hold",
            Some(Unit::Bytes),
        );
        for u in usage.iter().filter(|u| u.pool.is_none()).take(MAX_TENANTS) {
            let labels = vec![("tenant", u.tenant.clone())];
            gpus.get_or_create(&labels)
                .set(float(u.gpus_milli) / 1000.0);
            memory.get_or_create(&labels).set(float(u.gpu_memory_bytes));
        }
    }

    /// Nodes by state, and their devices. A figure the driver did not give is left out.
    pub(crate) fn nodes(&mut self, nodes: &[proto::NodeView]) {
        let states = self.family("nodes", "Nodes by state", None);
        for node in nodes {
            let labels = vec![("state", node.state.clone())];
            states.get_or_create(&labels).inc();
        }
        let held = self.family(
            "gpu_held_ratio",
            "Share of the device that jobs hold, 0 to 1",
            None,
        );
        let held_memory = self.family(
            "gpu_memory_held",
            "Device memory that jobs hold",
            Some(Unit::Bytes),
        );
        for (node, view) in nodes
            .iter()
            .flat_map(|n| n.devices.iter().map(move |d| (n, d)))
        {
            let labels = device_labels(view.device.as_ref(), &node.id, &node.pool);
            held.get_or_create(&labels)
                .set(float(view.share_held_milli) / 1000.0);
            held_memory
                .get_or_create(&labels)
                .set(float(view.memory_held_bytes));
        }
        let readings = nodes.iter().flat_map(|n| {
            n.devices.iter().filter_map(move |d| {
                Some((
                    device_labels(d.device.as_ref(), &n.id, &n.pool),
                    d.reading.as_ref()?,
                ))
            })
        });
        self.readings(readings);
    }

    /// What a node's own devices say.
    pub(crate) fn own(&mut self, node: &str, pool: &str, report: &proto::NodeReport) {
        let attempts = self.family("attempts", "Attempts this node knows of, by state", None);
        for a in &report.attempts {
            let labels = vec![("state", a.state.clone())];
            attempts.get_or_create(&labels).inc();
        }
        let answers = self.family(
            "driver_answers",
            "1 when the GPU driver answers, else 0",
            None,
        );
        let well = report.driver_problem.is_empty();
        answers
            .get_or_create(&Labels::new())
            .set(if well { 1.0 } else { 0.0 });
        let readings = report.readings.iter().map(|r| {
            let device = report.devices.iter().find(|d| d.id == r.device);
            (device_labels(device, node, pool), r)
        });
        self.readings(readings);
    }

    fn readings<'a>(&mut self, readings: impl Iterator<Item = (Labels, &'a proto::Reading)>) {
        let busy = self.family(
            "gpu_utilization_ratio",
            "Share of time in which the device ran a kernel, 0 to 1",
            None,
        );
        let used = self.family("gpu_memory_used", "Device memory in use", Some(Unit::Bytes));
        let total = self.family("gpu_memory_total", "Device memory", Some(Unit::Bytes));
        let celsius = self.family("gpu_temperature", "Core temperature", Some(Unit::Celsius));
        let watts = self.family(
            "gpu_power",
            "Power drawn",
            Some(Unit::Other("watts".to_owned())),
        );
        let lost = self.family(
            "gpu_lost",
            "1 when the device has fallen off the bus, else 0",
            None,
        );
        for (labels, r) in readings {
            let set = |family: &Figure, value: Option<f64>| {
                if let Some(value) = value {
                    family.get_or_create(&labels).set(value);
                }
            };
            set(&busy, r.utilization_milli.map(|m| f64::from(m) / 1000.0));
            set(&used, r.memory_used_bytes.map(float));
            set(&total, r.memory_total_bytes.map(float));
            set(&celsius, r.temperature_c.map(f64::from));
            set(&watts, r.power_mw.map(|m| float(m) / 1000.0));
            set(&lost, Some(if r.lost { 1.0 } else { 0.0 }));
        }
    }

    /// OpenMetrics text.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn device_labels(device: Option<&proto::Device>, node: &str, pool: &str) -> Labels {
    let of = |read: fn(&proto::Device) -> &String| device.map(read).cloned().unwrap_or_default();
    vec![
        ("gpu", of(|d| &d.id)),
        ("model", of(|d| &d.model)),
        ("node", node.to_owned()),
        ("pool", pool.to_owned()),
    ]
}

/// Exact up to 2^53, which no byte count of a fleet reaches; beyond, to the nearest.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_prefix_unit_and_help_and_what_is_unknown_is_left_out() {
        let mut figures = Figures::new("node", "simulated");
        let report = proto::NodeReport {
            devices: vec![proto::Device {
                id: "GPU-1".into(),
                model: "T4".into(),
                ..Default::default()
            }],
            readings: vec![proto::Reading {
                device: "GPU-1".into(),
                utilization_milli: Some(250),
                memory_used_bytes: None,
                power_mw: Some(70_000),
                ..Default::default()
            }],
            ..Default::default()
        };
        figures.own("n1", "t4", &report);
        let text = figures.encode();
        for line in [
            "gpuloom_build{",
            "# HELP gpuloom_gpu_utilization_ratio Share of time",
            "gpuloom_gpu_power_watts{",
            "} 70.0",
            "gpuloom_driver_answers{} 1.0",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
        assert!(
            !text.contains("gpuloom_gpu_memory_used_bytes{"),
            "unknown is not zero:\n{text}"
        );
    }
}
