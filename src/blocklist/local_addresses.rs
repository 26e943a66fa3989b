//! Addresses of this host, which `--deny-private` blocks: a service that listens on all addresses is private at a public one
//! too.

use std::io;
use std::net::IpAddr;

use super::entry::{Entry, Subject};
use super::index::Index;
use super::private;
use crate::sys::local;

/// Local addresses, without those in networks that are private anyway: those match earlier, and a host without other addresses
/// needs no lookup.
#[derive(Debug, Default)]
pub struct LocalAddresses(Index);

impl LocalAddresses {
    /// Reads the addresses from the kernel.
    ///
    /// # Errors
    /// As [`local::networks`].
    pub fn read() -> io::Result<Self> {
        Ok(Self::new(local::networks()?))
    }

    /// Networks are given by their first and last address.
    fn new(networks: Vec<(IpAddr, IpAddr)>) -> Self {
        let mut index = Index::default();
        for (first, last) in networks {
            let private = private::network(first.to_canonical());
            if private.is_some_and(|private| private.has(last.to_canonical())) {
                continue;
            }
            if let Some(subject) = Subject::range(first, last) {
                index.insert("", Entry::from(subject));
            }
        }
        Self(index)
    }

    /// Whether an address is local.
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
    fn only_public_addresses_are_kept() {
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
        // Wider than the private network around its first address.
        let wide = networks(&[
            ("10.0.0.0", "255.255.255.255"),
            ("0.0.0.0", "255.255.255.255"),
        ]);
        assert!(wide.has(ip("8.8.4.4")) && wide.has(ip("11.0.0.1")));
    }
}
