//! The fleet at a glance, once or live.

use super::devices::{HEADS, row, watts};
use super::{jobs, usage};
use crate::output::{Style, Table, Tone, cut, gpus, or_dash, percent, size};
use gpuloom_api::proto::Top;

/// The picture: totals, GPUs, tenants. Cut to `rows` lines and `columns` characters when given.
pub(crate) fn frame(top: &Top, style: Style, screen: Option<(u16, u16)>) -> String {
    let mut text = head(top, style);
    text.push('\n');
    let mut table = Table::new(&HEADS).right(&[1, 4, 5, 6, 7, 8]);
    for node in &top.nodes {
        if node.devices.is_empty() {
            let state = (node.state.clone(), jobs::tone(&node.state));
            table.row(vec![
                (node.id.clone(), Tone::Plain),
                ("-".into(), Tone::Plain),
                ("-".into(), Tone::Plain),
                state,
            ]);
        }
        for device in &node.devices {
            let mut cells = row(node, device);
            if node.state != "ready" {
                cells[3] = (node.state.clone(), jobs::tone(&node.state));
            }
            table.row(cells);
        }
    }
    text += &table.show_or(style, "no nodes");
    if !top.usage.is_empty() {
        text.push('\n');
        text += &usage::usage(&top.usage, style);
    }
    match screen {
        Some((columns, rows)) => fit(&text, usize::from(columns), usize::from(rows)),
        None => text,
    }
}

fn head(top: &Top, style: Style) -> String {
    let fleet = style.paint(&top.fleet, Tone::Head);
    let utilization = or_dash(top.utilization_mean_milli, percent);
    let hottest = or_dash(top.temperature_max_c, |c| format!("{c}C"));
    let power = or_dash(top.power_total_mw, watts);
    let used = or_dash(top.memory_used_bytes, size);
    let simulated = if top.nodes.iter().any(|n| n.backend == "simulated") {
        style.paint("  simulated GPUs", Tone::Waiting)
    } else {
        String::new()
    };
    format!(
        "fleet {fleet}  nodes {}  jobs {} active, {} pending{simulated}\n\
         GPUs {}/{} held  load {utilization}  memory {}/{} held, {used} used  hottest {hottest}  \
         power {power}\n",
        top.nodes.len(),
        top.jobs_active,
        top.jobs_pending,
        gpus(top.gpus_held_milli),
        top.gpus_total,
        size(top.memory_held_bytes),
        size(top.memory_total_bytes),
    )
}

/// At most `rows` lines of `columns` characters; the last says how many lines are left out.
fn fit(text: &str, columns: usize, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let room = if lines.len() > rows {
        rows.saturating_sub(1)
    } else {
        lines.len()
    };
    let mut shown: Vec<String> = lines[..room]
        .iter()
        .map(|l| cut_painted(l, columns))
        .collect();
    if lines.len() > rows && rows > 0 {
        let more = format!("... {} more lines", lines.len() - room);
        shown.push(cut(&more, columns));
    }
    shown.join("\n")
}

/// Cuts a line to `columns` visible characters; colour codes count for nothing and are closed.
fn cut_painted(line: &str, columns: usize) -> String {
    let (mut text, mut seen, mut in_code, mut painted) = (String::new(), 0, false, false);
    for c in line.chars() {
        if c == '\x1b' {
            in_code = true;
            painted = true;
        }
        if in_code {
            text.push(c);
            in_code = c != 'm';
        } else if seen < columns {
            text.push(c);
            seen += 1;
        }
    }
    if painted {
        text += "\x1b[0m";
    }
    text
}
