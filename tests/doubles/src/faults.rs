//! What goes wrong on demand: rules that a request is held against before it is answered.

use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most rules at one time.
pub const MAX_RULES: usize = 1_000;

/// A rule: which requests it meets, what it does to them and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// A pattern of the action's name with `*` for any text: `RunInstances`, `*Fleet`, `*`.
    pub action: String,
    /// Text that the request's parameters have to hold; without it any request of the action is met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// What happens.
    pub effect: Effect,
    /// How often at most; without it there is no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// The share of the requests it meets that it is done to: 0.0 to 1.0.
    #[serde(default = "always")]
    pub probability: f64,
    /// Where the rule's own chance begins: the same seed and requests give the same faults.
    #[serde(default)]
    pub seed: u64,
}

/// What is done to a request. What a word becomes on the wire is each cloud's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// This status with this body.
    Status {
        /// The HTTP status.
        code: u16,
        /// The whole body.
        body: String,
    },
    /// The cloud has none left.
    Capacity,
    /// The account may have no more.
    Quota,
    /// Too many calls.
    Throttle,
    /// An error of the cloud itself (HTTP 500 or 503); nothing was done.
    ServerError,
    /// The request is carried out, and then the connection closes without an answer.
    DropAfter,
    /// The connection closes and nothing was done.
    DropBefore,
    /// The answer comes this much later.
    Delay {
        /// Milliseconds of real time.
        ms: u64,
    },
}

/// The rules of one double; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Rules>>);

/// A rule with how often it was applied.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// Its number, for [`Faults::remove`].
    pub id: u64,
    /// How many requests it met, whether chance spared them or not.
    pub met: u64,
    /// How many it was done to.
    pub applied: u32,
    /// The rule.
    pub rule: FaultRule,
}

#[derive(Debug, Default)]
struct Rules {
    last: u64,
    rules: Vec<(Standing, Chance)>,
}

/// SplitMix64. Source: Steele, Lea, Flood, OOPSLA 2014, figure 17.
#[derive(Debug, Clone)]
pub struct Chance(u64);

fn always() -> f64 {
    1.0
}

// === impl FaultRule ===

impl FaultRule {
    /// A rule that is always done to every request of `action`.
    #[must_use]
    pub fn new(action: &str, effect: Effect) -> Self {
        Self {
            action: action.to_owned(),
            matches: None,
            effect,
            times: None,
            probability: 1.0,
            seed: 0,
        }
    }

    /// Only requests whose parameters hold `text`.
    #[must_use]
    pub fn matching(mut self, text: &str) -> Self {
        self.matches = Some(text.to_owned());
        self
    }

    /// At most so many times.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Only by chance.
    #[must_use]
    pub fn chance(mut self, probability: f64, seed: u64) -> Self {
        (self.probability, self.seed) = (probability, seed);
        self
    }

    fn meets(&self, action: &str, parameters: &str) -> bool {
        glob(&self.action, action)
            && self
                .matches
                .as_deref()
                .is_none_or(|text| parameters.contains(text))
    }
}

// === impl Faults ===

impl Faults {
    /// Adds a rule; its number. Of several rules that meet a request the first added is done.
    ///
    /// # Errors
    /// A probability outside of 0 to 1, or more than [`MAX_RULES`] rules.
    pub fn add(&self, rule: FaultRule) -> Result<u64, String> {
        if !(0.0..=1.0).contains(&rule.probability) {
            return Err(format!(
                "probability = {}: use 0.0 to 1.0",
                rule.probability
            ));
        }
        let mut rules = self.lock();
        if rules.rules.len() >= MAX_RULES {
            return Err(format!("there are {MAX_RULES} rules: remove some first"));
        }
        rules.last += 1;
        let (id, chance) = (rules.last, Chance::new(rule.seed));
        let standing = Standing {
            id,
            met: 0,
            applied: 0,
            rule,
        };
        rules.rules.push((standing, chance));
        Ok(id)
    }

    /// Ends a rule; one that is gone is fine.
    pub fn remove(&self, id: u64) {
        self.lock().rules.retain(|(standing, _)| standing.id != id);
    }

    /// Ends all rules.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// All rules with how often they were applied.
    #[must_use]
    pub fn rules(&self) -> Vec<Standing> {
        self.lock().rules.iter().map(|(s, _)| s.clone()).collect()
    }

    /// What is done to this request: of the rules that meet it the first that is not used up and whose chance
    /// falls. Each call counts as a request.
    #[must_use]
    pub fn hit(&self, action: &str, parameters: &str) -> Option<Effect> {
        for (standing, chance) in &mut self.lock().rules {
            let rule = &standing.rule;
            if !rule.meets(action, parameters) {
                continue;
            }
            standing.met += 1;
            let used_up = rule.times.is_some_and(|times| standing.applied >= times);
            if !used_up && chance.falls(rule.probability) {
                standing.applied += 1;
                return Some(rule.effect.clone());
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Rules> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Chance ===

impl Chance {
    /// A sequence that the seed alone decides.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True with this probability.
    pub fn falls(&mut self, probability: f64) -> bool {
        // 53 bits: every value is an f64 of its own, below 1.
        let at = (self.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        at < probability
    }
}

/// Whether `text` is as `pattern` has it, where `*` stands for any text, none too.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(head) else {
        return false;
    };
    let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    ends.into_iter().any(|at| glob(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("*", "RunInstances", true),
            ("Run*", "RunInstances", true),
            ("*Fleet", "CreateFleet", true),
            ("*Fleet", "CreateFleets", false),
            ("C*e*t", "CreateFleet", true),
            ("RunInstances", "RunInstance", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_rule_is_done_to_what_it_meets_as_often_as_it_says_and_in_the_order_of_its_adding() {
        let faults = Faults::default();
        let first = FaultRule::new("Create*", Effect::Capacity)
            .matching("zone-a")
            .times(2);
        faults.add(first).expect("a rule");
        faults
            .add(FaultRule::new("*", Effect::Throttle).times(1))
            .expect("a rule");
        let hits: Vec<_> = ["zone-a", "zone-b", "zone-a", "zone-a"]
            .iter()
            .map(|zone| faults.hit("CreateFleet", zone))
            .collect();
        assert_eq!(
            hits,
            [
                Some(Effect::Capacity),
                Some(Effect::Throttle),
                Some(Effect::Capacity),
                None
            ]
        );
        let rules = faults.rules();
        assert_eq!((rules[0].met, rules[0].applied), (3, 2));
        faults.remove(rules[0].id);
        assert_eq!(faults.rules().len(), 1);
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_at_about_the_stated_rate() {
        let run = |seed| {
            let faults = Faults::default();
            let rule = FaultRule::new("*", Effect::DropAfter).chance(0.3, seed);
            faults.add(rule).expect("a rule");
            (0..10_000)
                .map(|_| faults.hit("X", "").is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let hits = run(7).iter().filter(|hit| **hit).count();
        assert!((2_800..3_200).contains(&hits), "{hits} of 10,000");
    }

    #[test]
    fn a_probability_that_is_none_is_refused() {
        let rule = FaultRule::new("*", Effect::Quota).chance(1.5, 0);
        let refused = Faults::default().add(rule).expect_err("1.5");
        assert!(refused.contains("1.5"), "{refused}");
    }

    #[test]
    fn a_rule_reads_from_the_json_the_control_endpoint_takes() {
        let text = r#"{"action": "instances.*", "effect": {"status": {"code": 409, "body": "no"}}, "times": 1}"#;
        let rule: FaultRule = serde_json::from_str(text).expect("reads");
        assert_eq!(rule.probability.to_bits(), 1.0_f64.to_bits());
        let text = r#"{"action": "*", "effect": "drop_after"}"#;
        let rule: FaultRule = serde_json::from_str(text).expect("reads");
        assert_eq!(rule.effect, Effect::DropAfter);
    }
}
