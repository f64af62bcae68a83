//! What goes wrong: three of ten calls.

use gpuloom_doubles::faults::{Effect, FaultRule, Faults};

/// The share of all calls that something is done to. The rules below are tried in turn, each with its own chance.
pub(crate) const SHARE: f64 = 0.3;

/// Adds the rules; `creates` is the pattern of the calls that make an instance.
pub(crate) fn inject(faults: &Faults, creates: &str, seed: u64) -> Result<(), String> {
    // 1 - 0.88 * 0.94 * 0.92 * 0.94 * 0.96 = 0.31
    let rules = [
        (Effect::DropAfter, 0.12),
        (Effect::DropBefore, 0.06),
        (Effect::ServerError, 0.08),
        (Effect::Throttle, 0.06),
        (Effect::Delay { ms: 20 }, 0.04),
    ];
    for (n, (effect, chance)) in (0_u64..).zip(rules) {
        faults.add(FaultRule::new("*", effect).chance(chance, seed.wrapping_mul(31) + n))?;
    }
    // Beside those: a cloud that has none left says so in the launch alone.
    let full = FaultRule::new(creates, Effect::Capacity);
    faults.add(full.chance(0.03, seed.wrapping_mul(31) + 9))?;
    Ok(())
}
