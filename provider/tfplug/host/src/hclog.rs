//! What Terraform expects of every line a provider writes to stderr.

use serde_json::Value as Json;

/// The longest line go-plugin reads in one piece, in bytes; longer ones are split and dumped as text.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];

/// One log line that passed [`parse`].
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The text a person reads.
    pub message: String,
    /// The logger's name; empty when the line has none.
    pub module: String,
    /// Every member of the line, the four above included.
    pub fields: serde_json::Map<String, Json>,
}

/// Parses one stderr line, without its newline, as hclog JSON.
///
/// # Errors
/// A sentence naming the member that Terraform would choke on: a `@message` that is no string panics Terraform, a
/// `@timestamp` of another shape turns the line into raw text (trap 10).
pub fn parse(line: &str) -> Result<LogLine, String> {
    if line.len() > MAX_LINE_BYTES {
        return Err(format!(
            "the line has {} bytes, at most {MAX_LINE_BYTES} are read in one piece",
            line.len()
        ));
    }
    let json: Json =
        serde_json::from_str(line).map_err(|source| format!("not JSON ({source}): {line:?}"))?;
    let Json::Object(fields) = json else {
        return Err(format!("not a JSON object: {line:?}"));
    };
    let text = |name: &str| match fields.get(name) {
        Some(Json::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("{name} is not a string but {other}")),
        None => Err(format!("{name} is missing: {line}")),
    };
    let level = text("@level")?;
    if !LEVELS.contains(&level.as_str()) {
        return Err(format!("@level is {level:?}, expected one of {LEVELS:?}"));
    }
    let message = text("@message")?;
    let timestamp = text("@timestamp")?;
    if !is_timestamp(&timestamp) {
        return Err(format!(
            "@timestamp is {timestamp:?}, expected 2006-01-02T15:04:05.000000Z or +07:00"
        ));
    }
    let module = match fields.get("@module") {
        None => String::new(),
        Some(Json::String(module)) => module.clone(),
        Some(other) => return Err(format!("@module is not a string but {other}")),
    };
    Ok(LogLine {
        level,
        message,
        module,
        fields,
    })
}

/// Go's layout `2006-01-02T15:04:05.000000Z07:00`: six digits of fraction, then `Z` or an offset.
fn is_timestamp(text: &str) -> bool {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd.dddddd";
    let bytes = text.as_bytes();
    if bytes.len() <= SHAPE.len() {
        return false;
    }
    let (head, zone) = bytes.split_at(SHAPE.len());
    let fits = |bytes: &[u8], shape: &[u8]| {
        bytes.len() == shape.len()
            && bytes.iter().zip(shape).all(|(byte, want)| match want {
                b'd' => byte.is_ascii_digit(),
                other => byte == other,
            })
    };
    fits(head, SHAPE) && (zone == b"Z" || fits(zone, b"+dd:dd") || fits(zone, b"-dd:dd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"@level":"info","@message":"listening","@timestamp":"2026-11-22T10:00:00.000001Z","@module":"provider","attempt":3}"#;

    #[test]
    fn a_good_line_keeps_its_fields() {
        let line = parse(GOOD).expect("good");
        assert_eq!(
            (line.level.as_str(), line.message.as_str()),
            ("info", "listening")
        );
        assert_eq!(
            line.fields.get("attempt").map(ToString::to_string),
            Some("3".to_owned())
        );
    }

    #[test]
    fn every_way_to_upset_terraform_is_named() {
        for (line, word) in [
            ("thread main panicked", "not JSON"),
            ("[1]", "not a JSON object"),
            (
                &GOOD.replace("\"listening\"", "{}"),
                "@message is not a string",
            ),
            (&GOOD.replace("\"info\"", "\"INFO\""), "@level"),
            (&GOOD.replace(".000001Z", "Z"), "@timestamp"),
            (&GOOD.replace(".000001Z", ".000001234Z"), "@timestamp"),
            (
                &GOOD.replace("@timestamp", "timestamp"),
                "@timestamp is missing",
            ),
            (&GOOD.replace("\"provider\"", "7"), "@module"),
            (
                &format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_LINE_BYTES)),
                "in one piece",
            ),
        ] {
            let said = parse(line).expect_err(line);
            assert!(said.contains(word), "{said}");
        }
        assert!(parse(&GOOD.replace(".000001Z", ".000001+07:00")).is_ok());
    }
}
