//! The addresses of the sockets of all associations, which are no destinations.
//!
//! Two associations that have each other's sockets as client and destination would pass one datagram around forever.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The addresses, by port.
#[derive(Debug, Default)]
pub struct OwnSockets(Mutex<HashMap<u16, Vec<IpAddr>>>);

/// An address in [`OwnSockets`], until it is dropped.
#[derive(Debug)]
pub struct OwnSocket {
    address: SocketAddr,
    all: Arc<OwnSockets>,
}

impl OwnSockets {
    /// Adds the address of a socket; the unspecified address is every address of this host.
    pub fn add(self: &Arc<Self>, address: SocketAddr) -> OwnSocket {
        let mut all = self.locked();
        all.entry(address.port()).or_default().push(address.ip());
        let all = Arc::clone(self);
        OwnSocket { address, all }
    }

    /// The addresses with this port.
    pub fn with_port(&self, port: u16) -> Vec<SocketAddr> {
        let all = self.locked();
        let each = all.get(&port).into_iter().flatten();
        each.map(|ip| SocketAddr::new(*ip, port)).collect()
    }

    /// A thread that panicked left the data consistent.
    fn locked(&self) -> MutexGuard<'_, HashMap<u16, Vec<IpAddr>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        let mut all = self.all.locked();
        let (ip, port) = (self.address.ip(), self.address.port());
        if let Some(with_port) = all.get_mut(&port) {
            if let Some(place) = with_port.iter().position(|other| *other == ip) {
                with_port.swap_remove(place);
            }
            if with_port.is_empty() {
                all.remove(&port);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_there_until_they_are_dropped() {
        let own = Arc::new(OwnSockets::default());
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let [a, b] = ["127.0.0.1:7", "[::]:7"].map(address);
        let (first, second) = (own.add(a), own.add(b));
        let again = own.add(a);
        assert_eq!(own.with_port(7), [a, b, a]);
        assert!(own.with_port(8).is_empty());
        drop(first);
        assert_eq!(own.with_port(7).len(), 2);
        drop((second, again));
        assert!(own.locked().is_empty());
    }
}
