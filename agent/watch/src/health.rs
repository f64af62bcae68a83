//! Whether a device should take jobs.
//!
//! ```text
//!            worth a look                    must not be used
//! Healthy ----------------> Degraded  ----------------------> Failed
//!    ^  (warm, ECC, watched Xid)  |   (lost, silent, hot, Xid that asks for a reset)
//!    +------------------------------------------------------------+
//!      when the symptom is gone; an Xid that asks for a reset, when it is cleared
//! ```

use gpuloom_fleet::{DeviceHealth, Millis, Seconds};
use serde::{Deserialize, Serialize};

use crate::reading::{Reading, XidEvent};
use crate::xid::{XidEffect, xid_effect, xid_entry};

/// Where the lines are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRules {
    /// At or above this temperature a device is degraded.
    pub warm_c: i32,
    /// At or above this temperature a device has failed: it is about to shut itself down.
    pub hot_c: i32,
    /// A device without a reading for longer than this has failed.
    pub silent_after: Seconds,
    /// How long a watched Xid keeps a device degraded.
    pub watched_xid_for: Seconds,
}

/// What is known of one device.
#[derive(Debug, Clone, Copy)]
pub struct Symptoms<'a> {
    /// Its newest reading; `None` when it was never read.
    pub newest: Option<&'a Reading>,
    /// Its Xids since it was last reset or cleared.
    pub xids: &'a [XidEvent],
    /// When the device was first expected to report: the time it has to send its first reading
    /// counts from here.
    pub known_since: Millis,
}

/// A judgement and every reason for it; no reasons when healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The worst that any reason asks for.
    pub health: DeviceHealth,
    /// Why, the worst first, for people.
    pub reasons: Vec<String>,
}

/// Judges one device.
#[must_use]
pub fn judge(symptoms: &Symptoms<'_>, rules: &HealthRules, now: Millis) -> Verdict {
    let mut found: Vec<(DeviceHealth, String)> = Vec::new();
    heartbeat(symptoms, rules, now, &mut found);
    if let Some(reading) = symptoms.newest {
        condition(reading, rules, &mut found);
    }
    for event in symptoms.xids {
        xid(event, rules, now, &mut found);
    }
    found.sort_by_key(|(health, _)| std::cmp::Reverse(rank(*health)));
    Verdict {
        health: found
            .first()
            .map_or(DeviceHealth::Healthy, |(health, _)| *health),
        reasons: found.into_iter().map(|(_, reason)| reason).collect(),
    }
}

type Found = Vec<(DeviceHealth, String)>;

fn heartbeat(symptoms: &Symptoms<'_>, rules: &HealthRules, now: Millis, found: &mut Found) {
    let since = symptoms.newest.map_or(symptoms.known_since, |r| r.at);
    let silent_s = now.since_ms(since) / 1000;
    if now.since_ms(since) > rules.silent_after.0.saturating_mul(1000) {
        let allowed = rules.silent_after;
        let what = format!("no reading for {silent_s}s (allowed: {allowed})");
        found.push((DeviceHealth::Failed, what));
    }
}

fn condition(reading: &Reading, rules: &HealthRules, found: &mut Found) {
    if reading.lost {
        found.push((
            DeviceHealth::Failed,
            "the GPU has fallen off the bus".to_owned(),
        ));
    }
    match reading.temperature_c {
        Some(c) if c >= rules.hot_c => {
            let what = format!("{c} C, at or above the limit of {} C", rules.hot_c);
            found.push((DeviceHealth::Failed, what));
        }
        Some(c) if c >= rules.warm_c => {
            let what = format!("{c} C, at or above {} C", rules.warm_c);
            found.push((DeviceHealth::Degraded, what));
        }
        _ => {}
    }
    if let Some(errors) = reading.ecc_uncorrected.filter(|n| *n > 0) {
        found.push((
            DeviceHealth::Degraded,
            format!("{errors} uncorrected ECC errors"),
        ));
    }
}

fn xid(event: &XidEvent, rules: &HealthRules, now: Millis, found: &mut Found) {
    let name = match event.xid {
        Some(n) => match xid_entry(n) {
            Some(row) => format!("Xid {n} ({})", row.meaning),
            None => format!("Xid {n}"),
        },
        None => "an Xid without a number".to_owned(),
    };
    let recent = now.since_ms(event.at) <= rules.watched_xid_for.0.saturating_mul(1000);
    match xid_effect(event.xid) {
        XidEffect::Reset => {
            found.push((
                DeviceHealth::Failed,
                format!("{name}: needs a reset of the GPU"),
            ));
        }
        XidEffect::Reboot => {
            found.push((
                DeviceHealth::Failed,
                format!("{name}: needs a restart of the machine"),
            ));
        }
        XidEffect::Watch if recent => found.push((DeviceHealth::Degraded, name)),
        XidEffect::Watch | XidEffect::Job => {}
    }
}

fn rank(health: DeviceHealth) -> u8 {
    match health {
        DeviceHealth::Healthy => 0,
        DeviceHealth::Degraded => 1,
        DeviceHealth::Failed => 2,
    }
}

// === impl HealthRules ===

impl Default for HealthRules {
    /// 85 °C and 95 °C suit data centre GPUs, which slow down near 90 °C; 10 s is ten readings.
    fn default() -> Self {
        Self {
            warm_c: 85,
            hot_c: 95,
            silent_after: Seconds(10),
            watched_xid_for: Seconds(600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DeviceHealth::{Degraded, Failed, Healthy};
    use gpuloom_fleet::DeviceId;

    const NOW: Millis = Millis(1_000_000);

    fn id() -> DeviceId {
        DeviceId::new("GPU-1").expect("id")
    }

    fn fresh() -> Reading {
        Reading::unanswered(id(), Millis(NOW.0 - 1_000))
    }

    fn at_temperature(c: i32) -> Reading {
        Reading {
            temperature_c: Some(c),
            ..fresh()
        }
    }

    #[track_caller]
    fn check(newest: Option<Reading>, xids: &[(u64, u64)], health: DeviceHealth, reason: &str) {
        let event = |(xid, age_s): &(u64, u64)| XidEvent {
            device: id(),
            at: Millis(NOW.0 - age_s * 1000),
            xid: Some(*xid),
        };
        let xids: Vec<_> = xids.iter().map(event).collect();
        let known_since = Millis(NOW.0 - 60_000);
        let symptoms = Symptoms {
            newest: newest.as_ref(),
            xids: &xids,
            known_since,
        };
        let verdict = judge(&symptoms, &HealthRules::default(), NOW);
        assert_eq!(verdict.health, health, "{verdict:?}");
        let first = verdict.reasons.first().map_or("", String::as_str);
        assert!(first.contains(reason), "{verdict:?}");
        assert_eq!(verdict.reasons.is_empty(), health == Healthy);
    }

    #[test]
    fn a_device_that_reports_and_is_well_is_healthy() {
        check(Some(fresh()), &[], Healthy, "");
        check(Some(at_temperature(84)), &[(13, 1), (31, 1)], Healthy, "");
    }

    #[test]
    fn each_symptom_has_its_verdict() {
        check(Some(at_temperature(85)), &[], Degraded, "85 C");
        check(Some(at_temperature(95)), &[], Failed, "95 C");
        check(
            Some(Reading {
                ecc_uncorrected: Some(2),
                ..fresh()
            }),
            &[],
            Degraded,
            "2 uncorrected",
        );
        check(
            Some(Reading {
                lost: true,
                ..fresh()
            }),
            &[],
            Failed,
            "fallen off",
        );
        check(Some(fresh()), &[(63, 600)], Degraded, "Xid 63");
        check(Some(fresh()), &[(63, 601)], Healthy, "");
        check(
            Some(fresh()),
            &[(48, 100_000 / 1000)],
            Failed,
            "needs a reset",
        );
        check(Some(fresh()), &[(79, 1)], Failed, "restart of the machine");
        check(Some(fresh()), &[(4_711, 1)], Degraded, "Xid 4711");
    }

    #[test]
    fn silence_is_a_failure_only_after_its_time() {
        let aged = |ms| Some(Reading::unanswered(id(), Millis(NOW.0 - ms)));
        check(aged(10_000), &[], Healthy, "");
        check(
            aged(10_001),
            &[],
            Failed,
            "no reading for 10s (allowed: 10s)",
        );
        check(None, &[], Failed, "no reading for 60s");
    }

    #[test]
    fn the_worst_reason_stands_first() {
        check(
            Some(at_temperature(86)),
            &[(63, 1), (95, 1)],
            Failed,
            "Xid 95",
        );
    }
}
