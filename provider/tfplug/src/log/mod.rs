//! Logs as Terraform reads them from a plugin's stderr: hclog's JSON, one object a line.

mod layer;

use std::env;
use std::io;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;

use layer::Hclog;

/// Sends the process's `tracing` events and panics to stderr if Terraform wants logs at all.
/// Does nothing when a subscriber is installed already.
pub(crate) fn init(provider: &str) {
    let level = level(|name| env::var(name).ok());
    if level == LevelFilter::OFF {
        return;
    }
    let subscriber = tracing_subscriber::registry().with(Hclog::new(provider, level, io::stderr));
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let at = panic
                .location()
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::error!(%at, "panic: {}", panic.payload_as_str().unwrap_or("no message"));
        }));
    }
}

/// The level that `TF_LOG_PROVIDER` or else `TF_LOG` asks for; off without them.
fn level(var: impl Fn(&str) -> Option<String>) -> LevelFilter {
    let wanted = ["TF_LOG_PROVIDER", "TF_LOG"]
        .iter()
        .find_map(|name| var(name).filter(|v| !v.is_empty()));
    match wanted.unwrap_or_default().to_ascii_uppercase().as_str() {
        "" | "OFF" => LevelFilter::OFF,
        "ERROR" => LevelFilter::ERROR,
        "WARN" => LevelFilter::WARN,
        "INFO" => LevelFilter::INFO,
        "DEBUG" => LevelFilter::DEBUG,
        // JSON is TRACE in another format, and Terraform takes anything else for TRACE, too.
        _ => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_providers_own_level_comes_first() {
        let of = |provider: &'static str, all: &'static str| {
            level(move |name| Some(if name == "TF_LOG" { all } else { provider }.to_owned()))
        };
        assert_eq!(of("", ""), LevelFilter::OFF);
        assert_eq!(of("", "warn"), LevelFilter::WARN);
        assert_eq!(of("DEBUG", "ERROR"), LevelFilter::DEBUG);
        assert_eq!(of("off", "TRACE"), LevelFilter::OFF);
        assert_eq!(of("", "JSON"), LevelFilter::TRACE);
    }
}
