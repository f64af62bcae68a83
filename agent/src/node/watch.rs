//! Which attempts use more device memory than they hold.

use gpuloom_fleet::{AttemptId, Bytes, DeviceGrant, DeviceId, StopCause};
use gpuloom_watch::Reading;
use std::collections::BTreeMap;

/// Device memory in use by attempt and device. A process whose memory the driver does not tell
/// counts as nothing here: unknown use is no proof of excess.
pub(crate) type Use = BTreeMap<AttemptId, BTreeMap<DeviceId, Bytes>>;

/// Sums `readings` by the attempts `of` tells for each pid. `None` when no process was listed.
pub(crate) fn memory_use(
    readings: &[Reading],
    mut of: impl FnMut(u32) -> Option<AttemptId>,
) -> Option<Use> {
    let mut out = None;
    for reading in readings {
        let Some(processes) = &reading.processes else {
            continue;
        };
        let used: &mut Use = out.get_or_insert_default();
        for process in processes {
            if let Some(attempt) = of(process.pid) {
                let device = used.entry(attempt).or_default();
                *device.entry(reading.device.clone()).or_default() +=
                    process.memory.unwrap_or_default();
            }
        }
    }
    out
}

/// The first device on which an attempt uses more than `grants` give it. On a device it does not
/// hold, any use is too much.
pub(crate) fn excess(
    grants: &[DeviceGrant],
    used: &BTreeMap<DeviceId, Bytes>,
) -> Option<StopCause> {
    used.iter().find_map(|(device, used)| {
        let mine = grants.iter().filter(|g| g.device == *device);
        let limit: Bytes = mine.map(|g| g.memory).sum();
        (*used > limit).then(|| StopCause::MemoryExceeded {
            device: device.clone(),
            used: *used,
            limit,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_fleet::{MilliGpu, Millis};
    use gpuloom_watch::ProcessUse;

    fn id(text: &str) -> DeviceId {
        DeviceId::new(text).expect("an id")
    }

    fn reading(device: &str, processes: Option<&[(u32, Option<u64>)]>) -> Reading {
        let one = |(pid, gib): &(u32, Option<u64>)| ProcessUse {
            pid: *pid,
            memory: gib.map(Bytes::gib),
        };
        Reading {
            processes: processes.map(|p| p.iter().map(one).collect()),
            ..Reading::unanswered(id(device), Millis(1))
        }
    }

    fn attempt(n: u32) -> Option<AttemptId> {
        format!("{}#1", n / 10).parse().ok()
    }

    #[test]
    fn processes_of_an_attempt_are_summed_on_each_device() {
        let readings = [
            reading(
                "g0",
                Some(&[(10, Some(3)), (11, Some(4)), (20, Some(1)), (5, Some(9))]),
            ),
            reading("g1", Some(&[(10, Some(2)), (12, None)])),
            reading("g2", None),
        ];
        let used = memory_use(&readings, attempt).expect("listed");
        let of = |n| {
            used.get(&attempt(n).expect("an id"))
                .cloned()
                .unwrap_or_default()
        };
        let both = BTreeMap::from([(id("g0"), Bytes::gib(7)), (id("g1"), Bytes::gib(2))]);
        assert_eq!(of(10), both);
        assert_eq!(of(20), BTreeMap::from([(id("g0"), Bytes::gib(1))]));
        assert_eq!(memory_use(&[reading("g0", None)], attempt), None);
    }

    #[test]
    fn the_limit_itself_is_not_exceeded_and_a_device_not_held_may_not_be_used() {
        let grant = DeviceGrant {
            device: id("g0"),
            share: MilliGpu(500),
            memory: Bytes::gib(8),
        };
        let told = |device: &str, used: Bytes| {
            excess(
                std::slice::from_ref(&grant),
                &BTreeMap::from([(id(device), used)]),
            )
        };
        assert_eq!(told("g0", Bytes::gib(8)), None);
        let over = told("g0", Bytes(Bytes::gib(8).0 + 1));
        assert!(
            matches!(over, Some(StopCause::MemoryExceeded { limit, .. }) if limit == grant.memory)
        );
        assert_eq!(told("g1", Bytes(0)), None);
        assert!(matches!(
            told("g1", Bytes(1)),
            Some(StopCause::MemoryExceeded {
                limit: Bytes(0),
                ..
            })
        ));
    }
}
