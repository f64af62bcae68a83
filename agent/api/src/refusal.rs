//! Why a call was not carried out, in terms its caller can act on.
//!
//! A refusal travels as a gRPC status whose details are the `Refusal` message, so that both sides
//! see the same code, problems and generations, and tools that know gRPC alone still see a message.

use crate::proto;
use gpuloom_fleet::{Problem, Problems};
use prost::Message;
use std::fmt;
use tonic::{Code, Status};

/// Most problems a refusal carries; the rest are counted in its message.
pub const MAX_PROBLEMS: usize = 8;
/// Longest text of one field of a refusal, in bytes; longer ones end in `...`. Together with
/// [`MAX_PROBLEMS`] it keeps a refusal within the 16 KiB of headers HTTP/2 peers accept.
pub const MAX_TEXT_BYTES: usize = 300;

/// What a caller can do about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// The input is wrong; the problems say what to change.
    Invalid,
    /// What was named does not exist.
    NotFound,
    /// Another owner declared an object of this kind and name.
    AlreadyExists,
    /// The same run declared this kind and name already.
    DeclaredTwice,
    /// The object changed since the caller last saw it; read it again.
    StaleGeneration,
    /// The caller may not do this.
    Denied,
    /// Something holds it; the message says what.
    InUse,
    /// This agent is not the lead; `fix` names the one to ask.
    NotLead,
    /// The protocol versions of both sides do not overlap.
    Version,
    /// A documented limit is reached.
    Limit,
    /// It may work later.
    Unavailable,
    /// What was stored does not read; a person is needed.
    Corrupt,
    /// None of the others: a fault of the server.
    Internal,
}

/// Why a call was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What a caller can do about it.
    pub code: RefusalCode,
    /// What was tried, on what, and why not. One sentence.
    pub message: String,
    /// What to do; empty when nothing can be said.
    pub fix: String,
    /// Each field that is wrong.
    pub problems: Problems,
    /// The generation the object has; 0 unless the code is `StaleGeneration`.
    pub have_generation: u64,
    /// The generation the caller expected; 0 unless the code is `StaleGeneration`.
    pub got_generation: u64,
}

// === impl RefusalCode ===

impl RefusalCode {
    /// Every code.
    pub const ALL: [Self; 13] = [
        Self::Invalid,
        Self::NotFound,
        Self::AlreadyExists,
        Self::DeclaredTwice,
        Self::StaleGeneration,
        Self::Denied,
        Self::InUse,
        Self::NotLead,
        Self::Version,
        Self::Limit,
        Self::Unavailable,
        Self::Corrupt,
        Self::Internal,
    ];

    /// The name in JSON output and logs: `not_found`, `stale_generation`, ...
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::DeclaredTwice => "declared_twice",
            Self::StaleGeneration => "stale_generation",
            Self::Denied => "denied",
            Self::InUse => "in_use",
            Self::NotLead => "not_lead",
            Self::Version => "version",
            Self::Limit => "limit",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
        }
    }

    const fn grpc(self) -> Code {
        match self {
            Self::Invalid => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::AlreadyExists | Self::DeclaredTwice => Code::AlreadyExists,
            Self::StaleGeneration => Code::Aborted,
            Self::Denied => Code::PermissionDenied,
            Self::InUse | Self::NotLead | Self::Version => Code::FailedPrecondition,
            Self::Limit => Code::ResourceExhausted,
            Self::Unavailable => Code::Unavailable,
            Self::Corrupt => Code::DataLoss,
            Self::Internal => Code::Internal,
        }
    }

    const fn wire(self) -> proto::refusal::Code {
        use proto::refusal::Code as Wire;
        match self {
            Self::Invalid => Wire::Invalid,
            Self::NotFound => Wire::NotFound,
            Self::AlreadyExists => Wire::AlreadyExists,
            Self::DeclaredTwice => Wire::DeclaredTwice,
            Self::StaleGeneration => Wire::StaleGeneration,
            Self::Denied => Wire::Denied,
            Self::InUse => Wire::InUse,
            Self::NotLead => Wire::NotLead,
            Self::Version => Wire::Version,
            Self::Limit => Wire::Limit,
            Self::Unavailable => Wire::Unavailable,
            Self::Corrupt => Wire::Corrupt,
            Self::Internal => Wire::Unspecified,
        }
    }

    fn from_wire(code: i32, grpc: Code) -> Self {
        Self::ALL
            .into_iter()
            .find(|c| *c != Self::Internal && i32::from(c.wire()) == code)
            .unwrap_or_else(|| Self::from_grpc(grpc))
    }

    const fn from_grpc(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::OutOfRange => Self::Invalid,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::Aborted => Self::StaleGeneration,
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied,
            Code::FailedPrecondition => Self::InUse,
            Code::Unimplemented => Self::Version,
            Code::ResourceExhausted => Self::Limit,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::Unavailable,
            Code::DataLoss => Self::Corrupt,
            Code::Ok | Code::Unknown | Code::Internal => Self::Internal,
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Refusal ===

impl Refusal {
    /// A refusal with a message and a fix; an empty fix is left out.
    pub fn new(code: RefusalCode, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            fix: fix.into(),
            problems: Problems::default(),
            have_generation: 0,
            got_generation: 0,
        }
    }

    /// The input is wrong. `what` names the input: `pool t4`, `the job`.
    pub fn invalid(what: &str, problems: Problems) -> Self {
        let mut refusal = Self::new(RefusalCode::Invalid, format!("{what} is not valid"), "");
        refusal.problems = problems;
        refusal
    }

    /// One field of the input is wrong.
    pub fn invalid_field(
        field: &str,
        value: impl fmt::Display,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let mut problems = Problems::default();
        problems.add(field, value, message, fix);
        Self::invalid("the request", problems)
    }

    /// There is no `kind` called `name`. `fix` says how to see or make one.
    pub fn not_found(
        kind: impl fmt::Display,
        name: impl fmt::Display,
        fix: impl Into<String>,
    ) -> Self {
        let message = format!("there is no {kind} {name:?}", name = name.to_string());
        Self::new(RefusalCode::NotFound, message, fix)
    }

    /// Another owner declared it; `fix` is the import command.
    pub fn already_exists(
        kind: impl fmt::Display,
        name: impl fmt::Display,
        owner: &str,
        fix: impl Into<String>,
    ) -> Self {
        let message = format!("{kind} {name} exists already, declared by {owner}");
        Self::new(RefusalCode::AlreadyExists, message, fix)
    }

    /// The same run declared it already.
    pub fn declared_twice(kind: impl fmt::Display, name: impl fmt::Display) -> Self {
        let message = format!("{kind} {name} is declared twice in this configuration");
        let fix = "keep one of the two, or give them different names";
        Self::new(RefusalCode::DeclaredTwice, message, fix)
    }

    /// It changed since the caller last saw it.
    pub fn stale_generation(
        kind: impl fmt::Display,
        name: impl fmt::Display,
        have: u64,
        got: u64,
    ) -> Self {
        let message = format!(
            "{kind} {name} was changed meanwhile: it is at generation {have}, the request expected {got}"
        );
        let fix = "read it again and repeat the change (terraform: run plan again)";
        Self {
            have_generation: have,
            got_generation: got,
            ..Self::new(RefusalCode::StaleGeneration, message, fix)
        }
    }

    /// The caller may not do this.
    pub fn denied(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(RefusalCode::Denied, message, fix)
    }

    /// Something holds it.
    pub fn in_use(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(RefusalCode::InUse, message, fix)
    }

    /// This agent is not the lead; `lead` is the endpoint to ask.
    pub fn not_lead(lead: &str) -> Self {
        let message = "this agent is not the fleet's lead";
        Self::new(RefusalCode::NotLead, message, format!("ask {lead}"))
    }

    /// The protocol versions do not overlap: this side speaks `ours`, the other `theirs`.
    pub fn version(ours: (u32, u32), theirs: (u32, u32)) -> Self {
        let span = |(low, high): (u32, u32)| {
            if low == high {
                format!("protocol {low}")
            } else {
                format!("protocols {low} to {high}")
            }
        };
        let message = format!(
            "the server speaks {}, the caller {}",
            span(ours),
            span(theirs)
        );
        let fix = if theirs.1 < ours.0 {
            "install a newer gpuloom on the caller's side"
        } else {
            "upgrade the fleet's agents, or use the gpuloom they were installed with"
        };
        Self::new(RefusalCode::Version, message, fix)
    }

    /// A documented limit is reached: `what` is at `limit`.
    pub fn limit(what: &str, limit: impl fmt::Display, fix: impl Into<String>) -> Self {
        let message = format!("{what} is limited to {limit}");
        Self::new(RefusalCode::Limit, message, fix)
    }

    /// It may work later.
    pub fn unavailable(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(RefusalCode::Unavailable, message, fix)
    }

    /// What was stored does not read.
    pub fn corrupt(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(RefusalCode::Corrupt, message, fix)
    }

    /// A fault of the server.
    pub fn internal(message: impl Into<String>) -> Self {
        let fix = "look at the lead's log; this should not happen";
        Self::new(RefusalCode::Internal, message, fix)
    }

    fn wire(&self) -> proto::Refusal {
        proto::Refusal {
            code: self.code.wire().into(),
            message: short(&self.message),
            fix: short(&self.fix),
            problems: self
                .problems
                .0
                .iter()
                .take(MAX_PROBLEMS)
                .map(|p| proto::Problem {
                    field: short(&p.field),
                    value: short(&p.value),
                    message: short(&p.message),
                    fix: short(&p.fix),
                })
                .collect(),
            have_generation: self.have_generation,
            got_generation: self.got_generation,
        }
    }
}

fn short(text: &str) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text.to_owned();
    }
    let mut end = MAX_TEXT_BYTES - 3;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &text[..end])
}

impl fmt::Display for Refusal {
    /// The message, each problem with its field, value and fix, then the fix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.problems.0.is_empty() {
            write!(f, ": {}", self.problems)?;
        }
        if !self.fix.is_empty() {
            write!(f, "; {}", self.fix)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut wire = refusal.wire();
        let left_out = refusal.problems.0.len().saturating_sub(MAX_PROBLEMS);
        if left_out > 0 {
            wire.message = short(&format!("{} ({left_out} more problems)", refusal.message));
        }
        let details = wire.encode_to_vec().into();
        Status::with_details(refusal.code.grpc(), wire.message, details)
    }
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        Self::invalid("the request", problems)
    }
}

impl From<&Status> for Refusal {
    /// The refusal in the status' details; for a status without one, its code and message.
    fn from(status: &Status) -> Self {
        let bare = || {
            Self::new(
                RefusalCode::from_grpc(status.code()),
                status.message().to_owned(),
                "",
            )
        };
        if status.details().is_empty() {
            return bare();
        }
        let Ok(wire) = proto::Refusal::decode(status.details()) else {
            return bare();
        };
        Self {
            code: RefusalCode::from_wire(wire.code, status.code()),
            message: wire.message,
            fix: wire.fix,
            problems: Problems(
                wire.problems
                    .into_iter()
                    .map(|p| Problem::new(p.field, p.value, p.message, p.fix))
                    .collect(),
            ),
            have_generation: wire.have_generation,
            got_generation: wire.got_generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_back_from_its_status_whatever_its_code() {
        for code in RefusalCode::ALL {
            let mut sent = Refusal::new(code, "what was tried", "what to do");
            sent.problems.add("gpus", "1.5", "is no share", "use 2");
            sent.have_generation = 7;
            let status = Status::from(sent.clone());
            assert_eq!(Refusal::from(&status), sent);
            assert_eq!(status.message(), "what was tried");
        }
    }

    #[test]
    fn a_status_without_details_keeps_its_message_and_the_nearest_code() {
        let refusal = Refusal::from(&Status::unauthenticated("who are you"));
        assert_eq!(refusal.code, RefusalCode::Denied);
        assert_eq!(refusal.to_string(), "who are you");
        let odd = Status::with_details(Code::NotFound, "gone", vec![0xff, 0xff].into());
        assert_eq!(Refusal::from(&odd).code, RefusalCode::NotFound);
    }

    #[test]
    fn what_people_read_names_the_field_the_value_and_the_fix() {
        let mut problems = Problems::default();
        problems.add("min", 3, "is above max (2)", "lower min");
        assert_eq!(
            Refusal::invalid("pool t4", problems).to_string(),
            "pool t4 is not valid: min = \"3\": is above max (2) (lower min)"
        );
        assert_eq!(
            Refusal::stale_generation("quota", "q", 4, 3).to_string(),
            "quota q was changed meanwhile: it is at generation 4, the request expected 3; \
             read it again and repeat the change (terraform: run plan again)"
        );
        assert_eq!(
            Refusal::version((2, 3), (1, 1)).to_string(),
            "the server speaks protocols 2 to 3, the caller protocol 1; \
             install a newer gpuloom on the caller's side"
        );
    }

    #[test]
    fn long_refusals_are_cut_so_that_they_fit_into_headers() {
        let mut problems = Problems::default();
        for i in 0..MAX_PROBLEMS + 2 {
            problems.add(format!("env[{i}]"), "ä".repeat(9_000), "is long", "cut it");
        }
        let status = Status::from(Refusal::invalid("the job", problems));
        assert!(status.details().len() < 12 * 1024);
        let read = Refusal::from(&status);
        assert_eq!(read.problems.0.len(), MAX_PROBLEMS);
        assert!(read.problems.0[0].value.ends_with("..."));
        assert_eq!(read.message, "the job is not valid (2 more problems)");
    }
}
