//! What an instance learns of itself from its cloud's metadata service: who it is, a proof of that, and when it will be taken away.
//!
//! Three dialects behind one [`Metadata`]: AWS's IMDSv2 (a session token for every call), Google's
//! (a header, and answers that wait for a change) and Azure's (a header, and events that are
//! acknowledged). Nothing here decides: [`Metadata::notices`] tells all that is announced, again and
//! again, and who listens makes of it what it will. Credentials are used and never kept, shown or logged.

mod aws;
mod azure;
mod date;
mod dialect;
mod error;
mod google;
mod metadata;
mod notice;

pub use dialect::{Dialect, Facts, UnknownDialect};
pub use error::MetadataError;
pub use metadata::{
    CALL_TIMEOUT, CONNECT_TIMEOUT, FIRST_EVENTS_TIMEOUT, MAX_DOCUMENT_BYTES, Metadata, Proof,
};
pub use notice::{Clock, Notice, NoticeKind, most_pressing};
