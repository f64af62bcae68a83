//! Where a job fits: the fullest node that still has room, and on it the best-ranked devices.

use crate::ledger::{Ledger, NodeRoom, Room};
use crate::select::{Constraints, Weights, rank};
use crate::snapshot::{NodeView, Waiting};
use gpuloom_fleet::{Bytes, DeviceGrant, GpuRequest, MilliGpu};

/// What fits on a node, if the job may run there.
pub(crate) fn fit(
    job: &Waiting,
    room: &NodeRoom<'_>,
    weights: &Weights,
) -> Option<Vec<DeviceGrant>> {
    if !may_run_on(job, room.node) {
        return None;
    }
    let wanted = usize::try_from(job.request.devices()).ok()?;
    let share = job.request.gpus_or_one().min(MilliGpu::ONE);
    let mut fitting: Vec<usize> = (0..room.devices.len())
        .filter(|i| fits_device(&job.request, room, *i).is_some())
        .collect();
    if fitting.len() < wanted {
        return None;
    }
    order(&mut fitting, room, share, weights);
    fitting.truncate(wanted);
    fitting.sort_unstable();
    let grants = fitting.into_iter().filter_map(|i| {
        let device = &room.node.devices[i];
        Some(DeviceGrant {
            device: device.id.clone(),
            share,
            memory: fits_device(&job.request, room, i)?,
        })
    });
    Some(grants.collect())
}

/// How many devices of a node the job fits on now.
pub(crate) fn fitting_devices(job: &Waiting, room: &NodeRoom<'_>) -> u64 {
    if !may_run_on(job, room.node) {
        return 0;
    }
    (0..room.devices.len())
        .filter(|i| fits_device(&job.request, room, *i).is_some())
        .count() as u64
}

/// Whether pool and state let the job run on the node.
pub(crate) fn may_run_on(job: &Waiting, node: &NodeView) -> bool {
    node.schedulable && job.pool.as_ref().is_none_or(|p| *p == node.pool)
}

/// The memory granted on device `i`, if the request fits there.
fn fits_device(request: &GpuRequest, room: &NodeRoom<'_>, i: usize) -> Option<Bytes> {
    let device = &room.node.devices[i];
    let Room { share, memory } = room.devices[i]?;
    if request.model.as_ref().is_some_and(|m| *m != device.model) {
        return None;
    }
    let wanted = request.gpus_or_one().min(MilliGpu::ONE);
    // A whole device is granted all the memory that is left, so that nobody shares it.
    let free_for_jobs = device.memory.saturating_sub(device.foreign_memory);
    let need = request.memory_on(free_for_jobs);
    (share >= wanted && memory >= need && need.0 > 0).then_some(need)
}

/// Shares go to the fullest device first, so that whole ones stay whole; equals, and whole
/// devices, by rank.
fn order(fitting: &mut [usize], room: &NodeRoom<'_>, share: MilliGpu, weights: &Weights) {
    let scores = rank(&room.node.devices, weights, &Constraints::default());
    let place = |i: &usize| {
        let id = &room.node.devices[*i].id;
        scores
            .iter()
            .position(|s| s.device == *id)
            .unwrap_or(usize::MAX)
    };
    fitting.sort_by_cached_key(|i| {
        let left = room.devices[*i].map_or(MilliGpu(0), |r| r.share);
        let fullness = if share < MilliGpu::ONE {
            left
        } else {
            MilliGpu(0)
        };
        (fullness, place(i), *i)
    });
}

/// The node whose free devices the job would use up most, i.e. best fit; ties by id.
pub(crate) fn best(
    job: &Waiting,
    ledger: &Ledger<'_>,
    allowed: impl Fn(&NodeView) -> bool,
    weights: &Weights,
) -> Option<(usize, Vec<DeviceGrant>)> {
    ledger
        .nodes
        .iter()
        .enumerate()
        .filter_map(|(i, room)| {
            let grants = allowed(room.node).then(|| fit(job, room, weights))??;
            Some(((free_share(room), &room.node.id), i, grants))
        })
        .min_by(|a, b| a.0.cmp(&b.0))
        .map(|(_, i, grants)| (i, grants))
}

fn free_share(room: &NodeRoom<'_>) -> MilliGpu {
    room.devices.iter().flatten().map(|r| r.share).sum()
}
