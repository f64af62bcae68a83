//! The daemon: the only place where clocks tick, sockets open and devices are touched.

mod agent;
pub mod commands;
pub mod config;
mod files;
pub mod instance;
pub mod launch;
pub mod lead;
mod lock;
mod metrics;
pub mod node;
mod notify;
mod serve;

pub use agent::{AgentError, STOP_WITHIN, agent};
pub use files::FileError;
pub use lock::{DataDirLock, LockError};
pub use metrics::MAX_TENANTS;
