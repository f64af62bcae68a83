//! Request traces as published: Azure's CSV and Mooncake's JSON lines.

use crate::table::{MAX_ROWS, Table, TraceError};
use serde::Deserialize;

/// One request of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Microseconds from the trace's first request.
    pub arrival_us: u64,
    /// Prompt in tokens, at least 1.
    pub prompt: u32,
    /// Generated tokens, at least 1.
    pub output: u32,
    /// Hashes of the prompt's blocks of [`BLOCK`] tokens, where the trace has them.
    pub prefix: Vec<u64>,
}

/// Tokens of one block of `hash_ids`.
pub const BLOCK: u32 = 512;

const TABLE: &str = "requests";

#[derive(Deserialize)]
struct Line {
    /// Milliseconds.
    timestamp: f64,
    input_length: u32,
    output_length: u32,
    #[serde(default)]
    hash_ids: Vec<u64>,
}

/// Reads a trace in either layout: `TIMESTAMP,ContextTokens,GeneratedTokens`, or one JSON object a line
/// with `timestamp` (milliseconds), `input_length`, `output_length` and maybe `hash_ids`. A length of 0
/// counts as 1.
///
/// # Errors
/// [`TraceError`] names the column or the line that does not read.
pub fn read(text: &str) -> Result<Vec<Row>, TraceError> {
    let mut rows = if text.trim_start().starts_with('{') {
        read_lines(text)?
    } else {
        read_table(text)?
    };
    rows.sort_by_key(|r| r.arrival_us);
    let first = rows.first().map_or(0, |r| r.arrival_us);
    for row in &mut rows {
        row.arrival_us -= first;
    }
    Ok(rows)
}

fn read_lines(text: &str) -> Result<Vec<Row>, TraceError> {
    let mut rows = Vec::new();
    for (at, text) in text
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty())
    {
        let wrong = |expected| TraceError::Value {
            table: TABLE,
            line: at + 1,
            column: "object",
            value: text.chars().take(60).collect(),
            expected,
        };
        let line: Line = serde_json::from_str(text)
            .map_err(|_| wrong("JSON with timestamp, input_length and output_length"))?;
        if !(0.0..1e15).contains(&line.timestamp) {
            return Err(wrong("a timestamp in milliseconds from 0"));
        }
        if rows.len() >= MAX_ROWS {
            return Err(TraceError::Size {
                table: TABLE,
                rows: rows.len() + 1,
            });
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked just above"
        )]
        let arrival_us = (line.timestamp * 1000.0) as u64;
        rows.push(Row {
            arrival_us,
            prompt: line.input_length.max(1),
            output: line.output_length.max(1),
            prefix: line.hash_ids,
        });
    }
    Ok(rows)
}

fn read_table(text: &str) -> Result<Vec<Row>, TraceError> {
    let table = Table::read(TABLE, text)?;
    let time = table.column("TIMESTAMP")?;
    let prompt = table.column("ContextTokens")?;
    let output = table.column("GeneratedTokens")?;
    (0..table.rows.len())
        .map(|row| {
            let stamp = table.text(row, time);
            let arrival_us = microseconds(stamp).ok_or_else(|| TraceError::Value {
                table: TABLE,
                line: row + 2,
                column: "TIMESTAMP",
                value: stamp.to_owned(),
                expected: "a time like 2023-11-16 18:17:03.9799600",
            })?;
            Ok(Row {
                arrival_us,
                prompt: table.number::<u32>(row, prompt, "ContextTokens")?.max(1),
                output: table.number::<u32>(row, output, "GeneratedTokens")?.max(1),
                prefix: Vec::new(),
            })
        })
        .collect()
}

/// `YYYY-MM-DD hh:mm:ss[.fraction][zone]` in microseconds from the year 0; a zone is not looked at, as
/// a trace has only one.
fn microseconds(stamp: &str) -> Option<u64> {
    let (date, time) = stamp.split_once([' ', 'T'])?;
    let time = time.split(['Z', '+', '-']).next()?;
    let number = |text: &str| text.parse::<u64>().ok();
    let date: Vec<u64> = date.split('-').map(number).collect::<Option<_>>()?;
    let [year, month @ 1..=12, day @ 1..=31] = date[..] else {
        return None;
    };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let clock: Vec<u64> = clock.split(':').map(number).collect::<Option<_>>()?;
    let [hour @ 0..=23, minute @ 0..=59, second @ 0..=60] = clock[..] else {
        return None;
    };
    if year > 9999 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let padded: String = fraction.chars().chain("000000".chars()).take(6).collect();
    // Days from civil, with years that begin in March (Howard Hinnant's algorithm).
    let y = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let shifted = (month + 9) % 12;
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (153 * shifted + 2) / 5 + day;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1_000_000 + number(&padded)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_read_and_start_at_zero() {
        let csv = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
            2023-12-31 23:59:59.9799600,4808,10\n2024-01-01 00:00:00.0319600+00:00,0,8\n";
        let rows = read(csv).expect("reads");
        assert_eq!(rows[1].arrival_us, 52_000);
        assert_eq!((rows[0].prompt, rows[1].prompt), (4_808, 1));
        let json = "{\"timestamp\": 3000, \"input_length\": 6758, \"output_length\": 500, \"hash_ids\": [0, 1]}\n\
            {\"timestamp\": 27, \"input_length\": 10, \"output_length\": 1}\n";
        let rows = read(json).expect("reads");
        assert_eq!((rows[0].prompt, rows[0].arrival_us), (10, 0));
        assert_eq!(
            (rows[1].arrival_us, &rows[1].prefix[..]),
            (2_973_000, &[0, 1][..])
        );
        // A leap day.
        let day = |d: &str| microseconds(&format!("{d} 00:00:00")).expect("reads");
        assert_eq!(day("2024-03-01") - day("2024-02-28"), 2 * 86_400_000_000);
        assert_eq!(day("2023-03-01") - day("2023-02-28"), 86_400_000_000);
    }

    #[test]
    fn what_does_not_read_is_named_by_line() {
        let wrong = read("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,1\n");
        let text = wrong.expect_err("is refused").to_string();
        assert!(
            text.starts_with("line 2 of the requests: TIMESTAMP = \"yesterday\""),
            "{text}"
        );
        let wrong = read("{\"timestamp\": 1, \"input_length\": 5}\n");
        let text = wrong.expect_err("is refused").to_string();
        assert!(
            text.contains("line 1") && text.contains("output_length"),
            "{text}"
        );
        assert!(read("time,ContextTokens,GeneratedTokens\n1,1,1\n").is_err());
    }
}
