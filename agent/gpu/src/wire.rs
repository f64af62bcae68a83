//! What the agent and its probe say to each other: one JSON document a line.

use gpuloom_fleet::{Backend, Millis};
use gpuloom_watch::{Reading, XidEvent};
use serde::{Deserialize, Serialize};

use crate::driver::{Discovery, Driver};
use crate::error::GpuError;

/// Longest line, either way: 64 devices with every process a line holds stay far below.
pub(crate) const MAX_LINE: usize = 4 << 20;

/// A line to the probe.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ToProbe {
    /// Repeated in the answer.
    pub(crate) id: u64,
    pub(crate) request: Request,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Discover,
    Read { at: Millis, processes: bool },
}

/// A line from the probe; each says which driver it comes from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FromProbe {
    pub(crate) backend: Backend,
    pub(crate) message: Message,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    /// The driver is open.
    Hello(Driver),
    /// The driver cannot be opened; the probe ends.
    Refused(GpuError),
    /// Nothing to say, and alive.
    Beat,
    /// An answer.
    Answer { id: u64, answer: Answer },
    /// A request that the driver refused.
    Refusal { id: u64, error: GpuError },
    /// A device reported an error.
    Xid(XidEvent),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Discovery(Box<Discovery>),
    Readings(Vec<Reading>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back_and_name_their_backend() {
        let line = serde_json::to_string(&FromProbe {
            backend: Backend::Simulated,
            message: Message::Answer {
                id: 7,
                answer: Answer::Readings(Vec::new()),
            },
        });
        let line = line.expect("json");
        assert!(
            line.starts_with(r#"{"backend":"simulated""#) && !line.contains('\n'),
            "{line}"
        );
        let back: FromProbe = serde_json::from_str(&line).expect("back");
        assert!(matches!(back.message, Message::Answer { id: 7, .. }));
        let request = r#"{"id":1,"request":{"read":{"at":5,"processes":true}}}"#;
        let request: ToProbe = serde_json::from_str(request).expect("request");
        assert!(matches!(
            request.request,
            Request::Read {
                at: Millis(5),
                processes: true
            }
        ));
    }
}
