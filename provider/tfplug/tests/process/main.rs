//! The plugin as a process: handshake, TLS, sockets, signals, the end.

mod client;
mod handshake;
mod lifetime;
mod tls;
