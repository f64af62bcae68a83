//! Stand-ins for the clouds, for tests alone: they keep state, fail on demand and boot real agents from the user data they were given.

pub mod aws;
pub mod azure;
pub mod boot;
pub mod clock;
pub mod control;
pub mod faults;
pub mod gcp;
pub mod http;
pub mod imds;
