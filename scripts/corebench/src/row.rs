//! One line of a benchmark's table.

use serde::Serialize;

/// What is measured, and what it has to be.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The benchmark, then what is measured.
    pub name: String,
    /// What was measured, in `unit`.
    pub figure: f64,
    /// The unit of `figure`, `goal` and `peer`.
    pub unit: &'static str,
    /// Bounds the figure, or the ratio to the peer where there is one; `None`: reported only.
    pub goal: Option<f64>,
    /// Which way the goal bounds.
    pub bound: Bound,
    /// What the same run measured of the peer, or what was published of it.
    pub peer: Option<f64>,
    /// Inputs and seed.
    pub inputs: String,
}

/// Which way a goal bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The goal is the largest that passes.
    #[default]
    AtMost,
    /// The goal is the smallest that passes.
    AtLeast,
}

// === impl Row ===

impl Row {
    /// A figure whose goal is the largest that passes.
    #[must_use]
    pub fn at_most(name: impl Into<String>, figure: f64, unit: &'static str, goal: f64) -> Self {
        Self {
            name: name.into(),
            figure,
            unit,
            goal: Some(goal),
            bound: Bound::AtMost,
            peer: None,
            inputs: String::new(),
        }
    }

    /// A figure whose goal is the smallest that passes.
    #[must_use]
    pub fn at_least(name: impl Into<String>, figure: f64, unit: &'static str, goal: f64) -> Self {
        Self {
            bound: Bound::AtLeast,
            ..Self::at_most(name, figure, unit, goal)
        }
    }

    /// A figure that is reported only.
    #[must_use]
    pub fn report(name: impl Into<String>, figure: f64, unit: &'static str) -> Self {
        Self {
            goal: None,
            ..Self::at_most(name, figure, unit, 0.0)
        }
    }

    /// With what it was measured.
    #[must_use]
    pub fn with(mut self, inputs: impl Into<String>) -> Self {
        self.inputs = inputs.into();
        self
    }

    /// Beside a peer's figure: the goal then bounds the ratio.
    #[must_use]
    pub fn beside(mut self, peer: f64) -> Self {
        self.peer = Some(peer);
        self
    }

    /// Figure by peer, where there is a peer.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        self.peer.filter(|p| *p > 0.0).map(|p| self.figure / p)
    }

    /// With a peer the goal bounds the ratio, else the figure; `None` without a goal.
    #[must_use]
    pub fn passes(&self) -> Option<bool> {
        let held = self.ratio().unwrap_or(self.figure);
        self.goal.map(|goal| match self.bound {
            Bound::AtMost => held <= goal,
            Bound::AtLeast => held >= goal,
        })
    }
}

/// Prints the rows for a person.
pub fn table(rows: &[Row]) {
    let number = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), |n| format!("{n:.2}"));
    println!(
        "{:<44} {:>10} {:<8} {:>9} {:>10} {:>7} {:<6} inputs",
        "name", "figure", "unit", "goal", "peer", "ratio", ""
    );
    for r in rows {
        let verdict = match r.passes() {
            Some(true) => "PASS",
            Some(false) => "SHORT",
            None => "-",
        };
        let goal = r.goal.map_or_else(
            || "-".to_owned(),
            |g| match r.bound {
                Bound::AtMost => format!("<={g:.2}"),
                Bound::AtLeast => format!(">={g:.2}"),
            },
        );
        println!(
            "{:<44} {:>10.2} {:<8} {:>9} {:>10} {:>7} {:<6} {}",
            r.name,
            r.figure,
            r.unit,
            goal,
            number(r.peer),
            number(r.ratio()),
            verdict,
            r.inputs
        );
    }
}

/// The middle of the values; `None` of an empty list.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
