//! What tenants use and may use.

use crate::output::{Style, Table, Tone, gpus, or_dash, plain, size};
use gpuloom_api::proto::{Resources, Usage};

const HEADS: [&str; 10] = [
    "TENANT",
    "POOL",
    "GPUS",
    "GUARANTEED",
    "SOFT",
    "LIMIT",
    "MEMORY",
    "MEMORY LIMIT",
    "ACTIVE",
    "PENDING",
];

/// Usage in rows; a tenant at its limit stands out.
pub(crate) fn usage(rows: &[Usage], style: Style) -> String {
    let mut table = Table::new(&HEADS).right(&[2, 3, 4, 5, 6, 7, 8, 9]);
    for u in rows {
        let limit = amounts(u.limit.as_ref());
        let of = |r: Option<&Resources>| or_dash(amounts(r).0, gpus);
        table.row(vec![
            plain(&u.tenant),
            plain(u.pool.as_deref().unwrap_or("all")),
            (gpus(u.gpus_milli), pressure(u.gpus_milli, limit.0)),
            plain(of(u.guaranteed.as_ref())),
            plain(of(u.soft_limit.as_ref())),
            plain(of(u.limit.as_ref())),
            (
                size(u.gpu_memory_bytes),
                pressure(u.gpu_memory_bytes, limit.1),
            ),
            plain(or_dash(limit.1, size)),
            plain(u.active.to_string()),
            plain(u.pending.to_string()),
        ]);
    }
    table.show_or(style, "no tenants")
}

fn amounts(r: Option<&Resources>) -> (Option<u64>, Option<u64>) {
    r.map_or((None, None), |r| (r.gpus_milli, r.gpu_memory_bytes))
}

fn pressure(used: u64, limit: Option<u64>) -> Tone {
    match limit {
        Some(limit) if used > limit => Tone::Bad,
        Some(limit) if used == limit => Tone::Waiting,
        _ => Tone::Plain,
    }
}
