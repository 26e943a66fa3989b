//! The addresses of this host, which `--deny-private` is about too: a service that listens on all of them is as private by a
//! public one.

use std::io;
use std::net::IpAddr;

use super::entry::{Entry, Subject};
use super::index::Index;
use super::private;
use crate::sys::local;

/// What the kernel delivers to this host itself, apart from networks that are private for everybody: those are decided on
/// before, and a host that has no other address costs a decision no lookup.
#[derive(Debug, Default)]
pub struct LocalAddresses(Index);

impl LocalAddresses {
    /// Asks the kernel.
    ///
    /// # Errors
    /// As [`local::networks`].
    pub fn read() -> io::Result<Self> {
        Ok(Self::new(local::networks()?))
    }

    /// Of networks, each by its first and last address.
    fn new(networks: Vec<(IpAddr, IpAddr)>) -> Self {
        let mut index = Index::default();
        for (first, last) in networks {
            let private = private::network(first.to_canonical());
            if private.is_some_and(|private| private.has(last.to_canonical())) {
                continue;
            }
            if let Some(subject) = Subject::range(first, last) {
                index.insert(Entry::from(subject));
            }
        }
        Self(index)
    }

    /// Whether an address is among them.
    pub fn has(&self, address: IpAddr) -> bool {
        !self.0.is_empty() && self.0.address(address, |_| true).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_addresses_that_are_not_private_anyway_are_kept() {
        let networks = |list: &[(&str, &str)]| {
            let networks = list.iter().map(|(first, last)| (ip(first), ip(last)));
            LocalAddresses::new(networks.collect())
        };
        let inner = networks(&[
            ("127.0.0.0", "127.255.255.255"),
            ("10.0.0.5", "10.0.0.5"),
            ("::1", "::1"),
            ("fe80::1", "fe80::1"),
            ("::ffff:192.168.0.1", "::ffff:192.168.0.1"),
        ]);
        assert!(inner.0.is_empty());
        assert!(!inner.has(ip("8.8.4.4")));
        let public = networks(&[
            ("8.8.4.0", "8.8.4.255"),
            ("2a00::5", "2a00::5"),
            ("10.0.0.5", "10.0.0.5"),
        ]);
        assert_eq!(public.0.len(), 2);
        assert!(public.has(ip("8.8.4.4")) && public.has(ip("2a00::5")));
        assert!(!public.has(ip("8.8.5.0")) && !public.has(ip("2a00::6")));
        // Wider than any private network that it begins in.
        let wide = networks(&[
            ("10.0.0.0", "255.255.255.255"),
            ("0.0.0.0", "255.255.255.255"),
        ]);
        assert!(wide.has(ip("8.8.4.4")) && wide.has(ip("11.0.0.1")));
    }
}
