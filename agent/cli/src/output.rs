//! Words, numbers and columns as people read them.

use crate::exit::CliError;
use std::io::{IsTerminal, Write};

/// How text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) colour: bool,
    /// Now, in milliseconds since the Unix epoch: times are told relative to it.
    pub(crate) now_ms: u64,
    /// Characters a line has room for; `None` when the output is no terminal: nothing is cut then.
    pub(crate) columns: Option<usize>,
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
    /// Lines of their own: below which row, from 0, and what they say.
    below: Vec<(usize, String)>,
    /// Columns whose cells end where the column ends.
    right: Vec<usize>,
    last: Last,
}

/// What becomes of a last column that a terminal has no room for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// It stays whole: the terminal breaks the line.
    #[default]
    Whole,
    Cut,
    Wrap,
}

/// A last column is not made narrower than this.
const NARROWEST: usize = 16;

// === impl Style ===

impl Style {
    /// Colours on a terminal unless NO_COLOR is set; lines as wide as the terminal.
    pub(crate) fn of_stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let size = terminal
            .then(crossterm::terminal::size)
            .and_then(Result::ok);
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self {
            colour: terminal && !no_colour,
            now_ms: now_ms(),
            // A terminal that does not know its size says 0.
            columns: size
                .map(|(columns, _)| usize::from(columns))
                .filter(|c| *c > 0),
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
        // Less than a second ahead is a clock that is read later, or that goes a little before.
        if at_ms >= self.now_ms.saturating_add(1000) {
            return format!("in {}", span(at_ms - self.now_ms));
        }
        match self.now_ms.saturating_sub(at_ms) {
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

/// The text in lines of at most `most` characters, broken between words; a longer word is a line of its own.
pub(crate) fn wrap(text: &str, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > most {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += length;
        }
    }
    lines
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
            ..Self::default()
        }
    }

    /// On a terminal the last column ends with the line; dots tell that there is more.
    pub(crate) fn cut_last(mut self) -> Self {
        self.last = Last::Cut;
        self
    }

    /// On a terminal the last column goes on below itself.
    pub(crate) fn wrap_last(mut self) -> Self {
        self.last = Last::Wrap;
        self
    }

    /// Numbers line up at their last digit in these columns, from 0.
    pub(crate) fn right(mut self, columns: &[usize]) -> Self {
        self.right = columns.to_vec();
        self
    }

    pub(crate) fn row(&mut self, cells: Vec<(String, Tone)>) {
        self.rows.push(cells);
    }

    /// A line of its own below the newest row.
    pub(crate) fn below(&mut self, line: String) {
        self.below.push((self.rows.len() - 1, line));
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
        let last = columns.saturating_sub(1);
        let indent = widths[..last].iter().map(|w| w + 2).sum::<usize>();
        let room = style
            .columns
            .map(|c| c.saturating_sub(indent).max(NARROWEST));
        let mut text = String::new();
        for (r, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (c, (cell, tone)) in row.iter().enumerate() {
                let shown = match (room, self.last) {
                    (Some(room), Last::Cut) if c == last => cut(cell, room),
                    (Some(room), Last::Wrap) if c == last => {
                        wrap(cell, room).join(&format!("\n{}", " ".repeat(indent)))
                    }
                    _ => cell.clone(),
                };
                let pad = " ".repeat(widths[c].saturating_sub(shown.chars().count()));
                let painted = style.paint(&shown, *tone);
                let gap = if c > 0 { "  " } else { "" };
                if self.right.contains(&c) {
                    line += &format!("{gap}{pad}{painted}");
                } else {
                    line += &format!("{gap}{painted}{pad}");
                }
            }
            text += line.trim_end();
            text.push('\n');
            for (_, line) in self.below.iter().filter(|(row, _)| *row == r) {
                text += line;
                text.push('\n');
            }
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
        columns: None,
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
        assert_eq!(STYLE.ago(1_000_000_000 + 999), "now");
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

    #[test]
    fn a_terminal_cuts_or_wraps_the_last_column_and_a_pipe_gets_it_whole() {
        let narrow = Style {
            columns: Some(24),
            ..STYLE
        };
        let rows = |mut table: Table| {
            table.row(vec![plain("17"), plain("needs four free GPUs on one node")]);
            table
        };
        let table = || Table::new(&["JOB", "WHY"]);
        let whole = "JOB  WHY\n17   needs four free GPUs on one node\n";
        let cut = "JOB  WHY\n17   needs four free ...\n";
        let wrapped = "JOB  WHY\n17   needs four free\n     GPUs on one node\n";
        assert_eq!(rows(table()).show(narrow), whole);
        assert_eq!(rows(table().cut_last()).show(narrow), cut);
        assert_eq!(rows(table().cut_last()).show(STYLE), whole);
        assert_eq!(rows(table().wrap_last()).show(narrow), wrapped);
        assert_eq!(rows(table().wrap_last()).show(STYLE), whole);
        assert_eq!(wrap("a  bcdefgh i", 4), ["a ", "bcdefgh", "i"]);
    }
}
