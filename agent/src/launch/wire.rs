//! What an agent without privileges asks of the holder: one request and one answer a connection,
//! each a length (4 bytes, big-endian) and that many bytes of JSON.

use super::cgroup::Hierarchy;
use super::process::Identity;
use gpuloom_fleet::{AttemptId, NodeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Bytes of one message; the longest names the attempts whose cgroups stay, some 30 bytes each.
pub const MAX_MESSAGE: usize = 1 << 20;
/// Requests carried out at the same time; further ones wait in the socket's queue.
pub const MAX_CONNECTIONS: usize = 64;
/// How long either side waits for a whole message to come or go.
pub(crate) const MESSAGE_WITHIN: Duration = Duration::from_secs(10);
/// How long an answer may take: removing what a job wrote takes as long as the disk does.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) node: NodeId,
    /// Holds a directory per attempt; below the holder's root.
    pub(crate) attempts: PathBuf,
    pub(crate) op: Op,
}

/// Nothing in it is a pid, a user or a path: what is done follows from the attempt alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Op {
    /// Makes the node's cgroups, gives present attempts their limits again.
    Open,
    /// Hands `work/` over, makes the cgroup, spawns the shim of a recorded attempt.
    Start {
        attempt: AttemptId,
        /// For the shim; debug builds only.
        failpoints: Option<String>,
    },
    /// SIGTERM to each process.
    Terminate { attempt: AttemptId },
    /// SIGKILL to all processes.
    Kill { attempt: AttemptId },
    /// SIGKILL to a shim that does not get on.
    KillShim { attempt: AttemptId },
    /// Removes the empty cgroup.
    RemoveCgroup { attempt: AttemptId },
    /// Removes the empty cgroup and what the job wrote.
    Remove { attempt: AttemptId },
    /// Removes the empty cgroups of all other attempts.
    RemoveUnused { keep: BTreeSet<String> },
    /// Removes the node's cgroups unless an attempt is in them.
    Release,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Done,
    Opened(Hierarchy),
    Started(Identity),
    /// Nothing was done, or not all of it.
    Refused {
        why: Why,
        message: String,
    },
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The message does not read or is too long.
    Malformed,
    /// Neither root nor the agent.
    NotAllowed,
    /// A directory is not below the holder's root, or a link leads there.
    OutsideRoot,
    /// The record asks for more than a job may have.
    Privileged,
    /// A limit is reached.
    Limit,
    /// The system's answer.
    Failed,
}

/// Sends one message.
pub(crate) fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len())
        .ok()
        .filter(|_| json.len() <= MAX_MESSAGE);
    let length = length.ok_or_else(|| {
        let text = format!("a message of {} bytes; at most {MAX_MESSAGE}", json.len());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(json);
    to.write_all(&bytes)
}

/// Reads one message; too long a one is refused before its bytes are read.
pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0u8; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE {
        let text = format!("a message of {length} bytes; at most {MAX_MESSAGE}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut json = vec![0; length];
    from.read_exact(&mut json)?;
    serde_json::from_slice(&json).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_and_a_long_or_torn_one_does_not() {
        let request = Request {
            node: NodeId::new("n-1").expect("an id"),
            attempts: "/d/attempts".into(),
            op: Op::Kill {
                attempt: "17.3#2".parse().expect("an id"),
            },
        };
        let mut bytes = Vec::new();
        send(&mut bytes, &request).expect("sends");
        let back: Request = receive(&mut bytes.as_slice()).expect("reads");
        assert!(matches!(back.op, Op::Kill { attempt } if attempt.to_string() == "17.3#2"));
        assert!(receive::<Request>(&mut &bytes[..bytes.len() - 1]).is_err());
        let long = (1u32 << 20) + 1;
        let error = receive::<Request>(&mut long.to_be_bytes().as_slice()).expect_err("long");
        assert!(error.to_string().contains("at most 1048576"), "{error}");
        let long = "x".repeat(MAX_MESSAGE);
        assert!(send(&mut Vec::new(), &long).is_err());
    }
}
