//! The dates of three clouds: RFC 3339, RFC 2822 with and without its weekday.

use gpuloom_fleet::Millis;
use jiff::fmt::rfc2822;

/// `2026-11-22T08:22:00Z`, `Thu, 22 Jul 2021 04:50:17 GMT` or `21 Jan 2019 09:00:43 GMT`; `None`
/// for anything else and for times before 1970.
pub(crate) fn parse(text: &str) -> Option<Millis> {
    let text = text.trim();
    let parsed: Option<jiff::Timestamp> = text.parse().ok();
    let parsed = parsed.or_else(|| {
        // A single digit of a day is padded by nobody.
        rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
    })?;
    u64::try_from(parsed.as_millisecond()).ok().map(Millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cloud_writes_the_same_moment_its_own_way() {
        for (text, seconds) in [
            ("2026-11-22T08:22:00Z", 1_795_335_720),
            ("2026-11-22T08:22:00.000Z", 1_795_335_720),
            ("2026-11-22T09:22:00+01:00", 1_795_335_720),
            ("Sun, 22 Nov 2026 08:22:00 GMT", 1_795_335_720),
            ("22 Nov 2026 08:22:00 GMT", 1_795_335_720),
            ("21 Jan 2019 09:00:43 GMT", 1_548_061_243),
            ("1 Jan 2026 00:00:00 GMT", 1_767_225_600),
        ] {
            assert_eq!(parse(text), Some(Millis(seconds * 1000)), "{text}");
        }
        for text in [
            "",
            "soon",
            "22/11/2026",
            "2026-11-22",
            "1 Jan 1960 00:00:00 GMT",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
