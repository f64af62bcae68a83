//! The `tracing` layer that writes hclog's lines.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value as Json};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;

/// Longest line in bytes: Terraform splits lines of 64 KiB.
const MAX_LINE: usize = 60 * 1024;
/// Longest text of one field in bytes.
const MAX_TEXT: usize = 8 * 1024;
/// Libraries whose frames and handshakes would drown everything else.
const QUIET: &[&str] = &[
    "h2",
    "hyper",
    "hyper_util",
    "tonic",
    "tower",
    "rustls",
    "tokio_rustls",
    "tokio_util",
];

/// Writes events as hclog JSON: `@level`, `@message`, `@module`, `@timestamp` and the fields.
pub(super) struct Hclog<W> {
    provider: String,
    level: LevelFilter,
    writer: W,
}

struct Fields {
    members: Map<String, Json>,
    message: String,
}

// === impl Hclog ===

impl<W> Hclog<W> {
    pub(super) fn new(provider: &str, level: LevelFilter, writer: W) -> Self {
        Self {
            provider: provider.to_owned(),
            level,
            writer,
        }
    }

    fn line(&self, event: &Event<'_>) -> String {
        let meta = event.metadata();
        let mut fields = Fields {
            members: Map::new(),
            message: String::new(),
        };
        event.record(&mut fields);
        let mut members = fields.members;
        let module = format!("{}.{}", self.provider, meta.target().replace("::", "."));
        // Six digits, always: Terraform takes any other form for plain text.
        let now = Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
            .to_string();
        let ours = [
            ("@level", level_name(*meta.level())),
            ("@message", &fields.message),
            ("@module", &module),
            ("@timestamp", &now),
        ];
        for (key, text) in ours {
            members.insert(key.to_owned(), text.into());
        }
        let line = Json::Object(members.clone()).to_string();
        if line.len() <= MAX_LINE {
            return line;
        }
        members.retain(|key, _| key.starts_with('@'));
        members.insert("truncated".to_owned(), true.into());
        Json::Object(members).to_string()
    }
}

impl<S: Subscriber, W: for<'w> MakeWriter<'w> + 'static> Layer<S> for Hclog<W> {
    fn enabled(&self, meta: &tracing::Metadata<'_>, _ctx: Context<'_, S>) -> bool {
        let library = meta.target().split("::").next().unwrap_or_default();
        *meta.level() <= self.level && !QUIET.contains(&library)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_event(&self, event: &Event<'_>, _ctx: Context<'_, S>) {
        let mut line = self.line(event);
        line.push('\n');
        // Nowhere is left to complain to.
        let _ = self.writer.make_writer().write_all(line.as_bytes());
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

// === impl Fields ===

impl Fields {
    fn text(&mut self, field: &Field, mut text: String) {
        if text.len() > MAX_TEXT {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
            text.push_str("...");
        }
        if field.name() == "message" {
            self.message = text;
        } else {
            self.members.insert(field.name().to_owned(), text.into());
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a String fails only when the value's own Debug does.
        let _ = write!(text, "{value:?}");
        self.text(field, text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.members.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.members.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.members.insert(field.name().to_owned(), value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut next = value.source();
        while let Some(cause) = next {
            let _ = write!(text, ": {cause}");
            next = cause.source();
        }
        self.text(field, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt as _;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(log: impl FnOnce()) -> Vec<Json> {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = Hclog::new("demo", LevelFilter::DEBUG, move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = sink.0.lock().expect("not poisoned").clone();
        let text = String::from_utf8(bytes).expect("UTF-8");
        assert!(text.lines().all(|line| line.len() < 64 * 1024));
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    #[test]
    fn lines_have_the_shape_that_terraform_parses() {
        let lines = lines(|| {
            tracing::info!(pool = "a", size = 3, "launched {}", 2);
            tracing::trace!("too fine");
            tracing::error!(target: "h2::frame", "noise");
        });
        assert_eq!(lines.len(), 1);
        let line = &lines[0];
        assert_eq!(line["@level"], "info");
        assert_eq!(line["@message"], "launched 2");
        assert_eq!(line["pool"], "a");
        assert_eq!(line["size"], 3);
        let time = line["@timestamp"].as_str().expect("text");
        assert_eq!(time.len(), "2006-01-02T15:04:05.000000Z".len(), "{time}");
        assert!(time.ends_with('Z') && time.as_bytes()[19] == b'.', "{time}");
    }

    #[test]
    fn the_message_is_always_text_and_lines_stay_short() {
        let long = "\u{e9}".repeat(40_000);
        let lines = lines(|| {
            tracing::warn!(count = 1);
            tracing::warn!(a = %long, b = %long, c = %long, d = %long, e = %long, f = %long, g = %long, h = %long, "{long}");
        });
        assert_eq!(lines[0]["@message"], "");
        assert!(lines[1]["@message"].is_string());
        assert_eq!(lines[1]["truncated"], true);
    }
}
