//! What the lead serves: the fleet's API to people and the provider, the session to nodes, and
//! `/healthz` and `/metrics` of every agent.

mod fleet;
mod http;
mod jobs;
mod logs;
mod membership;
mod session;
mod stream;

pub(crate) use fleet::FleetService;
pub(crate) use http::{Health, serve_http};
pub(crate) use session::NodeService;

#[cfg(test)]
mod tests;
