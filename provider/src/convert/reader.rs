//! Reads attributes into fleet's types; what does not read becomes a problem, and reading goes on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use gpuloom_fleet::{Bytes, MilliGpu, ParseIdError, Problem, Problems, Resources, Seconds};
use tfplug::Value;

use super::quantity::{bytes_from_gib, milli_from_number};

/// What stands in for a value that is not known yet, or did not read.
///
/// A check that fails with both the lowest and the highest stand-in fails whatever the value turns
/// out to be; one that fails with only one of them cannot be judged yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StandIn {
    /// The lowest value, false, or nothing.
    Lowest,
    /// The highest value, or true.
    Highest,
}

/// An object being read.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    value: &'a Value,
    /// Dotted path of `value`, empty at the root.
    prefix: String,
    stand_in: StandIn,
    /// Unknown values are problems, too: at apply everything has to be known.
    strict: bool,
    problems: &'a RefCell<Vec<Problem>>,
}

/// The largest amounts that stand in; below the types' limits, so that sums do not overflow.
const MOST: u64 = u64::MAX / 1_000_000;

// === impl Reader ===

impl<'a> Reader<'a> {
    pub(crate) fn new(
        value: &'a Value,
        stand_in: StandIn,
        strict: bool,
        problems: &'a RefCell<Vec<Problem>>,
    ) -> Self {
        Self {
            value,
            prefix: String::new(),
            stand_in,
            strict,
            problems,
        }
    }

    /// The nested object or block; its attributes are null when it is.
    pub(crate) fn nested(&self, name: &str) -> Reader<'a> {
        Reader {
            value: self.value.get(name),
            prefix: self.field(name),
            stand_in: self.stand_in,
            strict: self.strict,
            problems: self.problems,
        }
    }

    /// True when the attribute or block is there, known or not.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.value.get(name).is_null()
    }

    /// Adds a problem of `name`.
    pub(crate) fn problem(&self, name: &str, value: impl Display, message: &str, fix: &str) {
        let problem = Problem::new(self.field(name), value, message, fix);
        self.problems.borrow_mut().push(problem);
    }

    fn field(&self, name: &str) -> String {
        match (self.prefix.is_empty(), name.is_empty()) {
            (true, _) => name.to_owned(),
            (false, true) => self.prefix.clone(),
            (false, false) => format!("{}.{name}", self.prefix),
        }
    }

    fn pick<T>(&self, lowest: T, highest: T) -> T {
        match self.stand_in {
            StandIn::Lowest => lowest,
            StandIn::Highest => highest,
        }
    }

    /// `None` for null; a problem or a stand-in where it does not read or is unknown.
    fn opt<T>(
        &self,
        name: &str,
        stand_in: impl FnOnce() -> Option<T>,
        read: impl FnOnce(&'a Value) -> Result<T, (String, String)>,
    ) -> Option<T> {
        let value = self.value.get(name);
        if value.is_null() {
            return None;
        }
        if value.is_unknown() {
            if self.strict {
                self.problem(name, "", "is not known", "this is a defect of the provider");
            }
            return stand_in();
        }
        match read(value) {
            Ok(read) => Some(read),
            Err((message, fix)) => {
                self.problem(name, plain(value), &message, &fix);
                stand_in()
            }
        }
    }

    /// A name; a stand-in differs from every other stand-in, so that no two seem the same.
    pub(crate) fn opt_id<T: FromStr<Err = ParseIdError>>(&self, name: &str) -> Option<T> {
        let stand_in = || self.id_stand_in(name);
        self.opt(name, stand_in, |value| {
            let text = value.as_str().unwrap_or_default();
            text.parse::<T>()
                .map_err(|e| (format!("is not {}", e.expected), String::new()))
        })
    }

    fn id_stand_in<T: FromStr<Err = ParseIdError>>(&self, name: &str) -> Option<T> {
        let side = self.pick("low", "high");
        let field = self.field(name).replace(['.', '_'], "-");
        format!("{side}-{field}").parse().ok()
    }

    /// A required name; null is a problem.
    pub(crate) fn id<T: FromStr<Err = ParseIdError>>(&self, name: &str) -> Option<T> {
        self.opt_id(name).or_else(|| {
            self.problem(name, "", "is missing", "state it");
            self.id_stand_in(name)
        })
    }

    /// One of a few words, each with its meaning; null means the first.
    pub(crate) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let first = words.first().map(|(_, meaning)| *meaning);
        let read = |value: &Value| {
            let text = value.as_str().unwrap_or_default();
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, meaning)| *meaning).ok_or_else(|| {
                let all: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
                (
                    "is not one of its values".into(),
                    format!("use {}", all.join(", ")),
                )
            })
        };
        self.opt(name, || first, read).or(first)
    }

    /// A flag; null is `default`.
    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        let stand_in = || Some(self.pick(false, true));
        self.opt(name, stand_in, |v| Ok(v.as_bool().unwrap_or(default)))
            .unwrap_or(default)
    }

    /// A count; null is `None`.
    pub(crate) fn opt_count(&self, name: &str) -> Option<u32> {
        let stand_in = || self.pick(None, Some(u32::MAX));
        self.opt(name, stand_in, |value| {
            let count = value.as_u64().and_then(|n| u32::try_from(n).ok());
            count.ok_or_else(|| whole(0, i64::from(u32::MAX)))
        })
    }

    /// A count; null is `default`.
    pub(crate) fn count(&self, name: &str, default: u32) -> u32 {
        let lowest = if self.judged(name) { default } else { 0 };
        self.opt_count(name).unwrap_or(lowest)
    }

    /// False while the value is there but unknown or unreadable.
    fn judged(&self, name: &str) -> bool {
        self.value.get(name).is_null()
    }

    /// False while the value is not wholly known: nothing can be said of it yet.
    pub(crate) fn is_known(&self, name: &str) -> bool {
        self.value.get(name).is_wholly_known()
    }

    /// Adds problems found elsewhere, whose fields are whole paths.
    pub(crate) fn add(&self, problems: gpuloom_fleet::Problems) {
        self.problems.borrow_mut().extend(problems.0);
    }

    /// A whole number that may be negative.
    pub(crate) fn int(&self, name: &str, default: i32) -> i32 {
        let stand_in = || Some(self.pick(i32::MIN, i32::MAX));
        let read = |value: &Value| {
            let int = value.as_i64().and_then(|n| i32::try_from(n).ok());
            int.ok_or_else(|| whole(i64::from(i32::MIN), i64::from(i32::MAX)))
        };
        self.opt(name, stand_in, read).unwrap_or(default)
    }

    /// A number with at most three decimals, in thousandths; null is `default`.
    pub(crate) fn milli(&self, name: &str, default: u32) -> u32 {
        let stand_in = || Some(self.pick(0, u32::MAX));
        let read = |value: &Value| {
            let milli = value.as_number().and_then(milli_from_number);
            milli.and_then(|m| u32::try_from(m.0).ok()).ok_or_else(|| {
                let fix = "use a number of at least 0 with at most three decimals";
                ("does not read".to_owned(), fix.to_owned())
            })
        };
        self.opt(name, stand_in, read).unwrap_or(default)
    }

    /// A duration such as `"10m"`; null is `None`.
    pub(crate) fn opt_duration(&self, name: &str) -> Option<Seconds> {
        let stand_in = || self.pick(None, Some(Seconds(MOST)));
        self.opt(name, stand_in, |value| {
            let text = value.as_str().unwrap_or_default();
            text.parse::<Seconds>()
                .map_err(|e| (format!("is not {}", e.expected), String::new()))
        })
    }

    /// A duration; null is `default`.
    pub(crate) fn duration(&self, name: &str, default: Seconds) -> Seconds {
        let lowest = if self.judged(name) {
            default
        } else {
            Seconds(0)
        };
        self.opt_duration(name).unwrap_or(lowest)
    }

    /// `{ gpus, gpu_memory_gib }`; null is "nothing stated".
    pub(crate) fn resources(&self, name: &str) -> Resources {
        let nested = self.nested(name);
        if nested.value.is_unknown() {
            let most = Resources {
                gpus: Some(MilliGpu(MOST)),
                gpu_memory: Some(Bytes(MOST)),
            };
            return self.pick(Resources::default(), most);
        }
        let gpus = || self.pick(None, Some(MilliGpu(MOST)));
        let memory = || self.pick(None, Some(Bytes(MOST)));
        Resources {
            gpus: nested.opt("gpus", gpus, |value| {
                value
                    .as_number()
                    .and_then(milli_from_number)
                    .ok_or_else(|| {
                        let fix = "use a number such as 2 or 0.25, with at most three decimals";
                        ("is not a number of GPUs".to_owned(), fix.to_owned())
                    })
            }),
            gpu_memory: nested.opt("gpu_memory_gib", memory, |value| {
                value.as_number().and_then(bytes_from_gib).ok_or_else(|| {
                    let fix = "use a number of GiB of at least 0 that is a whole number of bytes";
                    ("is not an amount of memory".to_owned(), fix.to_owned())
                })
            }),
        }
    }

    /// A text; null is `None`. What stands in differs from every other text.
    pub(crate) fn opt_text(&self, name: &str) -> Option<String> {
        let stand_in = || Some(self.text_stand_in(name));
        self.opt(name, stand_in, |value| {
            Ok(value.as_str().unwrap_or_default().to_owned())
        })
    }

    /// A required text; null, which Terraform itself refuses, stands as unknown.
    pub(crate) fn text(&self, name: &str) -> String {
        self.opt_text(name)
            .unwrap_or_else(|| self.text_stand_in(name))
    }

    /// A list of texts; null is empty, and unknown is none or one.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let value = self.value.get(name);
        if value.is_unknown() {
            if self.strict {
                self.problem(name, "", "is not known", "this is a defect of the provider");
            }
            return self.pick(Vec::new(), vec![self.text_stand_in(name)]);
        }
        let mut texts = Vec::new();
        for (i, element) in value.elements().iter().enumerate() {
            let field = format!("{name}[{i}]");
            match element {
                Value::String(text) => texts.push(text.clone()),
                Value::Null => {
                    self.problem(&field, "", "is null", "give it a value or leave it out");
                }
                _ => {
                    if self.strict {
                        let fix = "this is a defect of the provider";
                        self.problem(&field, "", "is not known", fix);
                    }
                    texts.push(self.text_stand_in(&field));
                }
            }
        }
        texts
    }

    fn text_stand_in(&self, name: &str) -> String {
        format!("{}-{}", self.pick("low", "high"), self.field(name))
    }

    /// Texts by name; null is empty.
    pub(crate) fn labels(&self, name: &str) -> BTreeMap<String, String> {
        let Some(members) = self.value.get(name).members() else {
            return BTreeMap::new();
        };
        let mut labels = BTreeMap::new();
        for (key, value) in members {
            match value {
                Value::String(text) => {
                    labels.insert(key.clone(), text.clone());
                }
                Value::Null => {
                    let field = format!("{name}[{key:?}]");
                    self.problem(&field, "", "is null", "give it a value or leave it out");
                }
                _ => {}
            }
        }
        labels
    }
}

/// What a person would have typed.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn whole(low: i64, high: i64) -> (String, String) {
    let fix = format!("use a whole number from {low} to {high}");
    ("does not read".to_owned(), fix)
}

/// The problems that are in both lists, in the order of the first.
pub(crate) fn in_both(first: Vec<Problem>, second: &[Problem]) -> Problems {
    Problems(first.into_iter().filter(|p| second.contains(p)).collect())
}
