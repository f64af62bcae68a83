//! The node's GPUs as last seen: whose processes are on them, and whether they take jobs.

use super::attempt::Held;
use super::watch::{Use, memory_use};
use gpuloom_fleet::{AttemptId, Bytes, Device, DeviceHealth, DeviceId, Millis};
use gpuloom_gpu::Discovery;
use gpuloom_watch::{HealthRules, Reading, Symptoms, XidEvent, judge};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tokio::time::Instant;

/// Xids remembered for each device.
const MAX_XIDS: usize = 100;
/// Memory in use beyond the first reading's that no process accounts for, and is no leak yet:
/// what drivers keep for contexts and page tables.
const SLACK: Bytes = Bytes::mib(512);

#[derive(Debug)]
pub(crate) struct Gpus {
    pub(crate) devices: Vec<Device>,
    pub(crate) readings: BTreeMap<DeviceId, Reading>,
    /// Why the driver does not answer, and since when.
    pub(crate) trouble: Option<(String, Instant)>,
    missing: BTreeMap<DeviceId, String>,
    xids: BTreeMap<DeviceId, VecDeque<XidEvent>>,
    known_since: Millis,
    pids: BTreeMap<u32, AttemptId>,
    /// Memory without a process at the first reading of each device.
    baseline: BTreeMap<DeviceId, Bytes>,
    /// Devices whose memory did not come back from these ended attempts.
    stuck: BTreeMap<DeviceId, AttemptId>,
    rules: HealthRules,
}

/// Memory in use that no listed process accounts for; `None` when the driver does not tell.
fn unaccounted(reading: &Reading) -> Option<Bytes> {
    let processes = reading.processes.as_ref()?;
    let known: Option<Vec<Bytes>> = processes.iter().map(|p| p.memory).collect();
    let known: Bytes = known?.into_iter().sum();
    Some(reading.memory_used?.saturating_sub(known))
}

// === impl Gpus ===

impl Gpus {
    pub(crate) fn new(now: Millis) -> Self {
        let opening = gpuloom_gpu::OPENING.to_owned();
        Self {
            devices: Vec::new(),
            readings: BTreeMap::new(),
            trouble: Some((opening, Instant::now())),
            missing: BTreeMap::new(),
            xids: BTreeMap::new(),
            known_since: now,
            pids: BTreeMap::new(),
            baseline: BTreeMap::new(),
            stuck: BTreeMap::new(),
            rules: HealthRules::default(),
        }
    }

    pub(crate) fn discovered(&mut self, discovery: Discovery, now: Millis) {
        self.known_since = now;
        self.missing = discovery.missing;
        // A device that fell off the bus stays known, so that its health is told.
        for device in discovery.devices {
            match self.devices.iter_mut().find(|d| d.id == device.id) {
                Some(known) => *known = device,
                None => self.devices.push(device),
            }
        }
        self.devices.sort_by_key(|d| d.index);
        self.trouble = None;
    }

    pub(crate) fn troubled(&mut self, why: String) {
        let since = self.trouble.as_ref().map_or_else(Instant::now, |(_, s)| *s);
        self.trouble = Some((why, since));
    }

    pub(crate) fn xid(&mut self, xid: XidEvent) {
        let all = self.xids.entry(xid.device.clone()).or_default();
        if all.len() == MAX_XIDS {
            all.pop_front();
        }
        all.push_back(xid);
    }

    /// Takes in readings. `find` tells whose process a pid is while that lives; ended ones that
    /// the driver still lists are remembered. Returns the memory in use by attempt, when listed.
    pub(crate) fn read(
        &mut self,
        readings: Vec<Reading>,
        find: impl Fn(u32) -> Option<AttemptId>,
    ) -> Option<Use> {
        self.trouble = None;
        let mut pids = BTreeMap::new();
        let used = memory_use(&readings, |pid| {
            let attempt = find(pid).or_else(|| self.pids.get(&pid).copied())?;
            pids.insert(pid, attempt);
            Some(attempt)
        });
        if used.is_some() {
            self.pids = pids;
        }
        for reading in readings {
            if let Some(none) = unaccounted(&reading) {
                let least = self.baseline.entry(reading.device.clone()).or_insert(none);
                *least = none.min(*least);
            }
            self.readings.insert(reading.device.clone(), reading);
        }
        used
    }

    pub(crate) fn attempt_of(&self, pid: u32) -> Option<AttemptId> {
        self.pids.get(&pid).copied()
    }

    fn leaking(&self) -> BTreeSet<DeviceId> {
        let leaks = |reading: &&Reading| {
            let least = self.baseline.get(&reading.device).copied();
            let now = unaccounted(reading);
            now.zip(least)
                .is_some_and(|(now, least)| now > least + SLACK)
        };
        let leaking = self.readings.values().filter(leaks);
        leaking.map(|r| r.device.clone()).collect()
    }

    /// What ended attempts wait for.
    pub(crate) fn held(&mut self, asked: Instant) -> Held {
        let held = Held {
            asked: Some(asked),
            listed: self.pids.values().copied().collect(),
            leaking: self.leaking(),
        };
        let gone = |id: &AttemptId, device: &DeviceId| {
            !held.listed.contains(id) && !held.leaking.contains(device)
        };
        self.stuck.retain(|device, id| !gone(id, device));
        held
    }

    pub(crate) fn stuck(&mut self, attempt: AttemptId, devices: Vec<DeviceId>) {
        self.stuck.extend(devices.into_iter().map(|d| (d, attempt)));
    }

    /// Health of each device with its reason; empty when healthy.
    pub(crate) fn health(&self, now: Millis) -> Vec<(DeviceId, DeviceHealth, String)> {
        let known = self.devices.iter().map(|d| &d.id);
        let unseen = self
            .missing
            .keys()
            .filter(|id| !known.clone().any(|k| k == *id));
        known
            .clone()
            .chain(unseen)
            .map(|id| {
                let (health, why) = self.judge(id, now);
                (id.clone(), health, why)
            })
            .collect()
    }

    fn judge(&self, id: &DeviceId, now: Millis) -> (DeviceHealth, String) {
        if let Some(why) = self.missing.get(id) {
            return (DeviceHealth::Failed, why.clone());
        }
        if let Some(attempt) = self.stuck.get(id) {
            let why = format!(
                "memory of ended attempt {attempt} has not come back; reset the GPU when it is idle"
            );
            return (DeviceHealth::Failed, why);
        }
        let xids: Vec<_> = self.xids.get(id).into_iter().flatten().cloned().collect();
        let reading = self.readings.get(id);
        let symptoms = Symptoms {
            newest: reading,
            xids: &xids,
            known_since: self.known_since,
        };
        let verdict = judge(&symptoms, &self.rules, now);
        let mut reasons = verdict.reasons;
        let mut health = verdict.health;
        if let Some(foreign) = reading.and_then(|r| self.foreign(r)) {
            reasons.push(foreign);
            if health == DeviceHealth::Healthy {
                health = DeviceHealth::Degraded;
            }
        }
        (health, reasons.join("; "))
    }

    fn foreign(&self, reading: &Reading) -> Option<String> {
        let all = reading.processes.iter().flatten();
        let mut foreign = all.filter(|p| self.attempt_of(p.pid).is_none());
        let first = foreign.next()?;
        let more = match foreign.count() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        Some(format!(
            "process {}{more} of none of its jobs uses it",
            first.pid
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_watch::ProcessUse;

    fn reading(used_gib: u64, processes: &[(u32, u64)]) -> Reading {
        let one = |(pid, gib): &(u32, u64)| ProcessUse {
            pid: *pid,
            memory: Some(Bytes::gib(*gib)),
        };
        Reading {
            memory_used: Some(Bytes::gib(used_gib)),
            processes: Some(processes.iter().map(one).collect()),
            ..Reading::unanswered(DeviceId::new("g0").expect("an id"), Millis(1))
        }
    }

    fn id() -> AttemptId {
        "1#1".parse().expect("an id")
    }

    #[test]
    fn an_ended_process_that_the_driver_still_lists_is_still_its_attempts() {
        let mut gpus = Gpus::new(Millis(0));
        let g0 = DeviceId::new("g0").expect("an id");
        gpus.read(vec![reading(2, &[(7, 2)])], |_| Some(id()));
        let used = gpus
            .read(vec![reading(2, &[(7, 2)])], |_| None)
            .expect("listed");
        assert_eq!(used[&id()][&g0], Bytes::gib(2));
        assert!(gpus.held(Instant::now()).listed.contains(&id()));
        // Once it is gone from the list, a later process with its pid is another's.
        gpus.read(vec![reading(0, &[])], |_| None);
        let used = gpus
            .read(vec![reading(2, &[(7, 2)])], |_| None)
            .expect("listed");
        assert!(used.is_empty() && gpus.held(Instant::now()).listed.is_empty());
        assert!(gpus.foreign(&reading(2, &[(7, 2), (8, 0)])).is_some());
    }

    #[test]
    fn memory_that_nobody_holds_fails_the_device_until_it_is_back() {
        let mut gpus = Gpus::new(Millis(0));
        let g0 = DeviceId::new("g0").expect("an id");
        gpus.read(vec![reading(1, &[])], |_| None);
        gpus.read(vec![reading(9, &[(7, 8)])], |_| Some(id()));
        assert!(gpus.held(Instant::now()).leaking.is_empty());
        gpus.read(vec![reading(9, &[])], |_| None);
        assert!(gpus.held(Instant::now()).leaking.contains(&g0));
        gpus.stuck(id(), vec![g0.clone()]);
        assert_eq!(gpus.judge(&g0, Millis(1)).0, DeviceHealth::Failed);
        gpus.read(vec![reading(1, &[])], |_| None);
        gpus.held(Instant::now());
        assert_eq!(gpus.judge(&g0, Millis(1)).0, DeviceHealth::Healthy);
    }
}
