//! Addresses of machines: each has one of 127.0.0.0/8 to itself on this computer.

use crate::faults::Chance;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};

/// Whoever holds this port of an address has the address; nothing is sent to it.
const CLAIM: u16 = 47_443;
/// How many addresses are tried.
const TRIES: usize = 1_000;

/// An address that no other machine has while this lives, those of other processes included.
#[derive(Debug)]
pub struct Address {
    ip: Ipv4Addr,
    _claim: UdpSocket,
}

// === impl Address ===

impl Address {
    /// Claims a free one of 127.16.0.0 to 127.127.255.255.
    ///
    /// # Errors
    /// When a thousand tries found none.
    pub fn claim() -> io::Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanos = since.map_or(0, |d| u64::from(d.subsec_nanos()));
        let mut chance = Chance::new(nanos ^ (u64::from(std::process::id()) << 32));
        let mut last = io::Error::other("no try");
        for _ in 0..TRIES {
            let [a, b, c, ..] = chance.bits().to_le_bytes();
            let ip = Ipv4Addr::new(127, 16 + a % 112, b, 1 + c % 250);
            match UdpSocket::bind((ip, CLAIM)) {
                Ok(claim) => return Ok(Self { ip, _claim: claim }),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// The address.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_machines_have_one_address_and_an_ended_ones_is_free() {
        let claims: Vec<_> = (0..50)
            .map(|_| Address::claim().expect("one is free"))
            .collect();
        let mut ips: Vec<_> = claims.iter().map(Address::ip).collect();
        ips.sort();
        ips.dedup();
        assert_eq!(ips.len(), 50);
        assert!(ips.iter().all(Ipv4Addr::is_loopback));
        drop(claims);
        assert!(UdpSocket::bind((ips[0], CLAIM)).is_ok());
    }
}
