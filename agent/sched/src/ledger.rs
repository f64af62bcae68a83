//! What every device has left: now, and once those told to stop have stopped.

use crate::snapshot::{DeviceView, Held, NodeView, Snapshot};
use gpuloom_fleet::{Bytes, DeviceGrant, DeviceId, MilliGpu, NodeId};
use std::collections::BTreeMap;

/// Room on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) share: MilliGpu,
    pub(crate) memory: Bytes,
}

/// Room on every device of every node that takes jobs.
#[derive(Debug, Clone)]
pub(crate) struct Ledger<'a> {
    pub(crate) nodes: Vec<NodeRoom<'a>>,
    index: BTreeMap<&'a NodeId, usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct NodeRoom<'a> {
    pub(crate) node: &'a NodeView,
    /// One per device, in the node's order; `None`: takes no jobs.
    pub(crate) devices: Vec<Option<Room>>,
    index: BTreeMap<&'a DeviceId, usize>,
}

// === impl Ledger ===

impl<'a> Ledger<'a> {
    /// Room when everything `counted` by the filter is taken off.
    pub(crate) fn new(snapshot: &'a Snapshot, counted: impl Fn(&Held) -> bool) -> Self {
        let nodes: Vec<_> = snapshot.nodes.iter().map(NodeRoom::new).collect();
        let index = nodes
            .iter()
            .enumerate()
            .map(|(i, n)| (&n.node.id, i))
            .collect();
        let mut ledger = Self { nodes, index };
        for held in snapshot.held.iter().filter(|h| counted(h)) {
            ledger.take(&held.node, &held.grants);
        }
        ledger
    }

    /// Takes grants off; what a node does not have (a device that vanished) is ignored.
    pub(crate) fn take(&mut self, node: &NodeId, grants: &[DeviceGrant]) {
        if let Some(room) = self.index.get(node).and_then(|i| self.nodes.get_mut(*i)) {
            room.each(grants, |r, g| {
                r.share = r.share.saturating_sub(g.share);
                r.memory = r.memory.saturating_sub(g.memory);
            });
        }
    }
}

// === impl NodeRoom ===

impl<'a> NodeRoom<'a> {
    fn new(node: &'a NodeView) -> Self {
        let room = |d: &DeviceView| {
            (node.schedulable && d.healthy).then(|| Room {
                share: MilliGpu::ONE,
                memory: d.memory.saturating_sub(d.foreign_memory),
            })
        };
        Self {
            node,
            devices: node.devices.iter().map(room).collect(),
            index: node
                .devices
                .iter()
                .enumerate()
                .map(|(i, d)| (&d.id, i))
                .collect(),
        }
    }

    /// Puts grants back.
    pub(crate) fn give(&mut self, grants: &[DeviceGrant]) {
        self.each(grants, |r, g| {
            r.share += g.share;
            r.memory += g.memory;
        });
    }

    fn each(&mut self, grants: &[DeviceGrant], change: impl Fn(&mut Room, &DeviceGrant)) {
        for g in grants {
            let room = self
                .index
                .get(&g.device)
                .and_then(|i| self.devices.get_mut(*i));
            if let Some(Some(room)) = room {
                change(room, g);
            }
        }
    }
}
