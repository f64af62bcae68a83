//! The daemon: the only place where clocks tick, sockets open and devices are touched.

pub mod config;
pub mod launch;
pub mod lead;
pub mod node;
