//! Why somebody is not let in, with what to do about it.

/// A refusal. Its text says what was wrong; [`Refusal::fix`] what a person can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither a token nor a proof: what a copy of an instance's user data can offer.
    #[error("no proof of identity and no join token was given")]
    NoProof,
    /// The nonce is not this lead's.
    #[error("the challenge is not one of this lead's, which may have started anew meanwhile")]
    UnknownNonce,
    /// It was given too long ago.
    #[error("the challenge was given more than five minutes ago")]
    ExpiredNonce,
    /// It was used before, or the proof was made for another.
    #[error("the proof of identity was used before, or was made for another challenge")]
    Replay,
    /// Google: the token is for somebody else.
    #[error("the identity token is for the audience {audience:?}, not for this fleet")]
    WrongAudience {
        /// Whom it is for.
        audience: String,
    },
    /// Too many joins at once.
    #[error("too many instances have joined within the last five minutes")]
    Busy,
    /// It does not read, or its signature is not the cloud's.
    #[error("the proof of identity is not {cloud}'s word: {why}")]
    BadProof {
        /// Whose it is said to be.
        cloud: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The proof is of another cloud than the pool's.
    #[error("the proof is of {got}, the pool is on {want}")]
    WrongCloud {
        /// The proof's.
        got: String,
        /// The pool's.
        want: String,
    },
    /// Another account, project or subscription.
    #[error("the instance is of account {got}, the pool's instances are of {want}")]
    WrongAccount {
        /// The proof's.
        got: String,
        /// The pool's.
        want: String,
    },
    /// Whose proof it is says another name than the request.
    #[error("the proof is of instance {proven}, the request says {said}")]
    WrongInstance {
        /// What the cloud says.
        proven: String,
        /// What the request says.
        said: String,
    },
    /// The proof has ended.
    #[error("the proof of identity ended {seconds} s ago")]
    Expired {
        /// How long ago.
        seconds: u64,
    },
    /// The clocks differ too much to tell whether the proof is fresh.
    #[error("the proof of identity was made {seconds} s {side} by the lead's clock")]
    ClockSkew {
        /// How much.
        seconds: u64,
        /// `ago` or `in the future`.
        side: &'static str,
    },
    /// The instance is not in the lead's book.
    #[error("instance {instance} was not launched by this fleet's lead for the pool")]
    NotLaunched {
        /// Which.
        instance: String,
    },
    /// The lead cannot know yet.
    #[error("instance {instance} is not known yet")]
    NotKnownYet {
        /// Which.
        instance: String,
    },
    /// It was launched too long ago and never joined.
    #[error("instance {instance} was launched {minutes} minutes ago and has never joined")]
    LaunchTooOld {
        /// Which.
        instance: String,
        /// How long ago.
        minutes: u64,
    },
    /// It joined before, with another key.
    #[error("instance {instance} has joined already, with another key")]
    SecondJoin {
        /// Which.
        instance: String,
    },
    /// The cloud could not be asked.
    #[error("{what} cannot be asked whether the proof is true: {why}")]
    Unavailable {
        /// Who was asked.
        what: String,
        /// What happened.
        why: String,
    },
}

// === impl Refusal ===

impl Refusal {
    /// What a person, or the node itself, can do.
    #[must_use]
    pub fn fix(&self) -> &'static str {
        match self {
            Self::NoProof => {
                "an instance proves its identity (`[instance] cloud` and `[node] join = \"instance\"`); any other machine needs a join token"
            }
            Self::UnknownNonce | Self::ExpiredNonce => "ask for a new challenge",
            Self::Replay | Self::WrongAudience { .. } => {
                "each join needs a proof made for its own challenge; if nobody restarted the node, somebody copied its proof: look at the lead's log"
            }
            Self::Busy | Self::NotKnownYet { .. } | Self::Unavailable { .. } => {
                "try again in a moment"
            }
            Self::BadProof { .. } => {
                "check that `[instance] cloud` is right and that nothing on the way changes the request"
            }
            Self::WrongCloud { .. } => "check the node's pool and its `[instance] cloud`",
            Self::WrongAccount { .. } => {
                "launch the pool's instances in the account that the pool names, or that the lead is in"
            }
            Self::WrongInstance { .. } => {
                "leave `instance_id` out: it is read from the metadata service"
            }
            Self::Expired { .. } | Self::ClockSkew { .. } => {
                "set the clocks of the node and of the lead by NTP (chrony); they may differ by 5 minutes"
            }
            Self::NotLaunched { .. } => {
                "raise the pool's size and let the lead launch it; a machine of your own joins a pool of existing machines with a token"
            }
            Self::LaunchTooOld { .. } => {
                "terminate it, and the lead launches another; an instance joins within an hour of its launch"
            }
            Self::SecondJoin { .. } => {
                "terminate it, and the lead launches another; if nobody rebuilt it, somebody pretends to be it"
            }
        }
    }

    /// Whether the same node may succeed by asking again, with a new challenge.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::UnknownNonce
                | Self::ExpiredNonce
                | Self::Busy
                | Self::NotKnownYet { .. }
                | Self::Unavailable { .. }
        )
    }
}
