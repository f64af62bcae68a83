//! Words, numbers and columns as people read them.

use crate::exit::CliError;
use std::io::{IsTerminal, Write};

/// How text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) colour: bool,
    /// Now, in milliseconds since the Unix epoch: times are told relative to it.
    pub(crate) now_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Waiting,
    Busy,
    Bad,
    Faint,
    Head,
}

/// Columns that line up; the last is not padded.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<(String, Tone)>>,
    /// Columns whose cells end where the column ends.
    right: Vec<usize>,
}

// === impl Style ===

impl Style {
    /// Colours on a terminal unless NO_COLOR is set.
    pub(crate) fn of_stdout() -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self {
            colour: std::io::stdout().is_terminal() && !no_colour,
            now_ms: now_ms(),
        }
    }

    pub(crate) fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Waiting => "33",
            Tone::Busy => "36",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Head => "1",
        };
        if self.colour && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// `3m ago`; `now` within a second; `in 3m` for a moment to come.
    pub(crate) fn ago(self, at_ms: u64) -> String {
        if at_ms > self.now_ms {
            return format!("in {}", span(at_ms - self.now_ms));
        }
        match self.now_ms - at_ms {
            0..1000 => "now".to_owned(),
            ms => format!("{} ago", span(ms)),
        }
    }
}

pub(crate) fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// A moment for programs and logs: RFC 3339, UTC, milliseconds.
pub(crate) fn instant(at_ms: u64) -> String {
    i64::try_from(at_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "-".to_owned(), |t| format!("{t:.3}"))
}

/// A span in its largest unit, two when small: `45s`, `3m`, `1h20m`, `5d`.
pub(crate) fn span(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m", s / 60),
        3600..36_000 if !(s / 60).is_multiple_of(60) => format!("{}h{}m", s / 3600, s / 60 % 60),
        3600..172_800 => format!("{}h", s / 3600),
        _ => format!("{}d", s / 86_400),
    }
}

/// Bytes with three digits or so: `512MiB`, `15.8GiB`, `80GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    for (name, unit) in UNITS {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return match (tenths / 10, tenths % 10) {
                (whole, 0) => format!("{whole}{name}"),
                (whole, _) if whole >= 100 => format!("{whole}{name}"),
                (whole, tenth) => format!("{whole}.{tenth}{name}"),
            };
        }
    }
    format!("{bytes}B")
}

/// Thousandths as GPUs: `2`, `0.25`.
pub(crate) fn gpus(milli: u64) -> String {
    gpuloom_fleet::MilliGpu(milli).to_string()
}

/// Thousandths as percent, rounded: `63%`.
pub(crate) fn percent(milli: u32) -> String {
    format!("{}%", milli.saturating_add(5) / 10)
}

/// What is known, or a dash: unknown is not zero.
pub(crate) fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

/// The text, or a dash when it is empty.
pub(crate) fn dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// At most `most` characters, the last three dots when cut.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(3)).collect();
    format!("{kept}...")
}

/// Writes to stdout.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    print_bytes(text.as_bytes())
}

pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(CliError::io("cannot write to stdout"))
}

/// Writes a JSON document to stdout.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), CliError> {
    print(&format!("{value:#}\n"))
}

/// Says something to the person at the terminal, apart from the output.
pub(crate) fn note(text: &str) {
    // With stderr gone there is nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

// === impl Table ===

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Self {
        let heads = heads.iter().map(|h| ((*h).to_owned(), Tone::Head));
        Self {
            rows: vec![heads.collect()],
            right: Vec::new(),
        }
    }

    /// Numbers line up at their last digit in these columns, from 0.
    pub(crate) fn right(mut self, columns: &[usize]) -> Self {
        self.right = columns.to_vec();
        self
    }

    pub(crate) fn row(&mut self, cells: Vec<(String, Tone)>) {
        self.rows.push(cells);
    }

    /// The table, or `nothing` when it has no rows.
    pub(crate) fn show_or(&self, style: Style, nothing: &str) -> String {
        if self.rows.len() == 1 {
            return format!("{nothing}\n");
        }
        self.show(style)
    }

    pub(crate) fn show(&self, style: Style) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| {
            let cells = self.rows.iter().filter_map(|r| r.get(c));
            cells.map(|(t, _)| t.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (c, (cell, tone)) in row.iter().enumerate() {
                let pad = " ".repeat(widths[c] - cell.chars().count());
                let painted = style.paint(cell, *tone);
                let gap = if c > 0 { "  " } else { "" };
                if self.right.contains(&c) {
                    line += &format!("{gap}{pad}{painted}");
                } else {
                    line += &format!("{gap}{painted}{pad}");
                }
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

/// A plain cell.
pub(crate) fn plain(text: impl Into<String>) -> (String, Tone) {
    (text.into(), Tone::Plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Style = Style {
        colour: false,
        now_ms: 1_000_000_000,
    };

    #[test]
    fn spans_and_sizes_are_short() {
        for (ms, text) in [
            (999, "0s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (3_600_000, "1h"),
            (4_800_000, "1h20m"),
            (36_000_000 + 60_000, "10h"),
            (172_800_000, "2d"),
        ] {
            assert_eq!(span(ms), text, "{ms}");
        }
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (16 << 30, "16GiB"),
            ((15 << 30) + (820 << 20), "15.8GiB"),
            (1536 << 10, "1.5MiB"),
            ((1 << 40) - 1, "1023GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(STYLE.ago(1_000_000_000 - 180_000), "3m ago");
        assert_eq!(STYLE.ago(1_000_000_000 - 999), "now");
        assert_eq!(STYLE.ago(1_000_000_000 + 5_000), "in 5s");
        assert_eq!(instant(1_795_000_000_123), "2026-11-18T11:06:40.123Z");
        assert_eq!(percent(625), "63%");
        assert_eq!(cut("abcdef", 5), "ab...");
    }

    #[test]
    fn columns_line_up_whatever_the_colours() {
        let mut table = Table::new(&["NAME", "N"]).right(&[1]);
        table.row(vec![("é".into(), Tone::Good), plain("10")]);
        table.row(vec![plain("longer"), plain("9")]);
        assert_eq!(table.show(STYLE), "NAME     N\né       10\nlonger   9\n");
        let coloured = Style {
            colour: true,
            ..STYLE
        };
        let text = table.show(coloured);
        assert!(text.contains("\x1b[32mé\x1b[0m       10"), "{text:?}");
        assert_eq!(Table::new(&["A"]).show_or(STYLE, "no jobs"), "no jobs\n");
    }
}
