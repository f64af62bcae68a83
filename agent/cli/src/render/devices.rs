//! Nodes, their GPUs, and one GPU's past.

use super::jobs::tone;
use crate::output::{Style, Table, dash, gpus, instant, or_dash, percent, plain, size};
use gpuloom_api::proto::{Device, DeviceView, GetHistoryReply, NodeView, Reading};

/// Nodes in rows.
pub(crate) fn nodes(nodes: &[NodeView], style: Style) -> String {
    let heads = [
        "NODE", "POOL", "STATE", "GPUS", "HELD", "BACKEND", "SEEN", "REASON",
    ];
    let mut table = Table::new(&heads).right(&[4]).cut_last();
    for node in nodes {
        let held: u64 = node.devices.iter().map(|d| d.share_held_milli).sum();
        table.row(vec![
            plain(&node.id),
            plain(&node.pool),
            (node.state.clone(), tone(&node.state)),
            plain(models(&node.devices)),
            plain(gpus(held)),
            plain(dash(&node.backend)),
            plain(or_dash(node.last_seen_ms, |ms| style.ago(ms))),
            plain(dash(&node.reason)),
        ]);
    }
    table.show_or(style, "no nodes")
}

/// `8 x A100-80G`, or `8 x A100-80G, 4 x T4`; a dash for none.
fn models(devices: &[DeviceView]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for device in devices.iter().filter_map(|d| d.device.as_ref()) {
        match counts.iter_mut().find(|(m, _)| *m == device.model) {
            Some((_, n)) => *n += 1,
            None => counts.push((&device.model, 1)),
        }
    }
    let parts: Vec<_> = counts.iter().map(|(m, n)| format!("{n} x {m}")).collect();
    dash(&parts.join(", "))
}

/// GPUs in rows.
pub(crate) fn devices(nodes: &[NodeView], style: Style) -> String {
    let mut table = Table::new(&HEADS).right(&[1, 4, 5, 6, 7, 8]);
    for node in nodes {
        for device in &node.devices {
            table.row(row(node, device));
        }
    }
    table.show_or(style, "no GPUs")
}

pub(crate) const HEADS: [&str; 11] = [
    "NODE", "#", "MODEL", "HEALTH", "HELD", "UTIL", "MEMORY", "TEMP", "POWER", "JOBS", "DEVICE",
];

/// One GPU's cells under [`HEADS`]. What was not answered is a dash.
pub(crate) fn row(node: &NodeView, view: &DeviceView) -> Vec<(String, crate::output::Tone)> {
    let unknown = Device::default();
    let device = view.device.as_ref().unwrap_or(&unknown);
    let silent = Reading::default();
    let reading = view.reading.as_ref().unwrap_or(&silent);
    let jobs: Vec<_> = view
        .attempts
        .iter()
        .map(|a| a.split('#').next().unwrap_or(a))
        .collect();
    let health = if view.health_reason.is_empty() {
        view.health.clone()
    } else {
        format!("{} ({})", view.health, view.health_reason)
    };
    vec![
        plain(&node.id),
        plain(device.index.to_string()),
        plain(&device.model),
        (health, tone(&view.health)),
        plain(gpus(view.share_held_milli)),
        plain(or_dash(reading.utilization_milli, percent)),
        plain(memory(reading, device.memory_bytes)),
        plain(or_dash(reading.temperature_c, |c| format!("{c}C"))),
        plain(or_dash(reading.power_mw, watts)),
        plain(dash(&jobs.join(","))),
        plain(&device.id),
    ]
}

fn memory(reading: &Reading, total: u64) -> String {
    let used = or_dash(reading.memory_used_bytes, size);
    format!(
        "{used}/{}",
        size(reading.memory_total_bytes.unwrap_or(total))
    )
}

pub(crate) fn watts(milliwatts: u64) -> String {
    format!("{}W", milliwatts.saturating_add(500) / 1000)
}

/// A GPU's readings in rows, oldest first.
pub(crate) fn history(reply: &GetHistoryReply, style: Style) -> String {
    let heads = ["AT", "UTIL", "MEMORY", "TEMP", "POWER", "CLOCK", "ECC"];
    let mut table = Table::new(&heads).right(&[1, 2, 3, 4, 5, 6]);
    for r in &reply.readings {
        table.row(vec![
            plain(instant(r.at_ms)),
            plain(or_dash(r.utilization_milli, percent)),
            plain(memory(r, 0)),
            plain(or_dash(r.temperature_c, |c| format!("{c}C"))),
            plain(or_dash(r.power_mw, watts)),
            plain(or_dash(r.sm_clock_mhz, |c| format!("{c}MHz"))),
            plain(or_dash(r.ecc_uncorrected, |e| e.to_string())),
        ]);
    }
    table.show_or(style, "no readings yet")
}
