//! The addresses of this host, which `--deny-private` is about too: a service that listens on all of them is as private by a
//! public one.

use std::io;
use std::net::IpAddr;

use super::entry::{Entry, Subject};
use super::index::Index;
use crate::sys::local;

/// What the kernel delivers to this host itself.
#[derive(Debug, Default)]
pub struct OwnAddresses(Index);

impl OwnAddresses {
    /// Asks the kernel.
    ///
    /// # Errors
    /// As [`local::networks`].
    pub fn read() -> io::Result<Self> {
        let mut index = Index::default();
        for (first, last) in local::networks()? {
            if let Some(subject) = Subject::range(first, last) {
                index.insert(Entry::from(subject));
            }
        }
        Ok(Self(index))
    }

    /// Whether an address is among them.
    pub fn has(&self, address: IpAddr) -> bool {
        self.0.address(address, |_| true).is_some()
    }
}
