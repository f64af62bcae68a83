//! What moving a block costs: how long its owner stands still.

use super::terms::Ways;

/// Chunks at most in which a block is copied onto a place that overlaps its own.
pub const MAX_CHUNKS: u64 = 4096;

/// How a block is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Its pages are unmapped and mapped elsewhere; nothing is copied.
    Remap,
    /// It is copied on the device after its owner acknowledged a pause.
    Copy,
    /// It is checkpointed to the host and restored at its new place.
    Evict,
    /// Its job leaves for another device.
    Migrate,
}

/// What each way takes on a device. The defaults are for an A100 of 80 GB on PCIe 4.0 x16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// Bytes of a page that can be mapped: 2 MiB on every device with virtual memory management.
    pub page: u64,
    /// Nanoseconds to unmap and map one page.
    pub remap_page_ns: u64,
    /// Bytes copied in a second on the device; a copy reads and writes, so about 40% of its bandwidth.
    pub copy_bytes_per_s: u64,
    /// Nanoseconds to launch one copy.
    pub launch_ns: u64,
    /// Nanoseconds until an owner acknowledges the pause; once an owner and cycle.
    pub acknowledge_ns: u64,
    /// Bytes a second to the host, and as many back.
    pub host_bytes_per_s: u64,
    /// Nanoseconds to checkpoint and restore a process, apart from its bytes.
    pub checkpoint_ns: u64,
    /// Bytes a second to another device.
    pub network_bytes_per_s: u64,
    /// Nanoseconds to start a job elsewhere, apart from its bytes.
    pub restart_ns: u64,
}

/// What one cycle of moves may take. Every limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Moves at most.
    pub moves: usize,
    /// Bytes moved at most.
    pub bytes: u64,
    /// Nanoseconds of pause at most, by [`Costs`].
    pub pause_ns: u64,
}

// === impl Costs ===

impl Default for Costs {
    fn default() -> Self {
        Self {
            page: 2 << 20,
            remap_page_ns: 20_000,
            copy_bytes_per_s: 800_000_000_000,
            launch_ns: 10_000,
            acknowledge_ns: 1_000_000,
            host_bytes_per_s: 25_000_000_000,
            checkpoint_ns: 500_000_000,
            network_bytes_per_s: 10_000_000_000,
            restart_ns: 10_000_000_000,
        }
    }
}

fn spent(bytes: u64, per_s: u64) -> u64 {
    let ns = u128::from(bytes) * 1_000_000_000 / u128::from(per_s.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

impl Costs {
    /// Nanoseconds that a move takes; `None`: this way cannot make it. `to` is `None` for a block
    /// that leaves.
    #[must_use]
    pub fn pause_ns(&self, way: Way, from: u64, to: Option<u64>, bytes: u64) -> Option<u64> {
        match (way, to) {
            (Way::Migrate, None) => Some(
                self.restart_ns
                    .saturating_add(spent(bytes, self.network_bytes_per_s)),
            ),
            (Way::Migrate, Some(_)) | (_, None) => None,
            (Way::Remap, Some(to)) => {
                let whole = [from, to, bytes].iter().all(|x| x % self.page.max(1) == 0);
                whole.then(|| (bytes / self.page.max(1)).saturating_mul(self.remap_page_ns))
            }
            (Way::Copy, Some(to)) => {
                let chunks = match from.abs_diff(to) {
                    0 => return None,
                    apart if apart < bytes => bytes.div_ceil(apart),
                    _ => 1,
                };
                let copied = spent(bytes, self.copy_bytes_per_s);
                (chunks <= MAX_CHUNKS).then(|| copied.saturating_add(chunks * self.launch_ns))
            }
            (Way::Evict, Some(_)) => {
                let bytes_ns = spent(bytes, self.host_bytes_per_s).saturating_mul(2);
                Some(self.checkpoint_ns.saturating_add(bytes_ns))
            }
        }
    }

    /// The cheapest of a block's ways for a move, with its nanoseconds.
    #[must_use]
    pub fn cheapest(
        &self,
        ways: Ways,
        from: u64,
        to: Option<u64>,
        bytes: u64,
    ) -> Option<(Way, u64)> {
        [
            (Ways::REMAP, Way::Remap),
            (Ways::COPY, Way::Copy),
            (Ways::EVICT, Way::Evict),
            (Ways::MIGRATE, Way::Migrate),
        ]
        .into_iter()
        .filter(|(bit, _)| ways.has(*bit))
        .filter_map(|(_, way)| Some((way, self.pause_ns(way, from, to, bytes)?)))
        .min_by_key(|(_, ns)| *ns)
    }
}

// === impl Budget ===

impl Budget {
    /// No limit.
    pub const UNBOUNDED: Self = Self {
        moves: usize::MAX,
        bytes: u64::MAX,
        pause_ns: u64::MAX,
    };
}

impl Default for Budget {
    /// 256 moves, 8 GiB and 100 ms.
    fn default() -> Self {
        Self {
            moves: 256,
            bytes: 8 << 30,
            pause_ns: 100_000_000,
        }
    }
}
