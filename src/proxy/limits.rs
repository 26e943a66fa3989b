//! How many connections may be open: in all, and by client.
//!
//! A client is an IPv4 address or an IPv6 network of 64 bits, the smallest that a network operator assigns (RFC 6177). A client
//! behind a Unix socket is counted in all only, and so is one whose PROXY header is not read yet.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

/// The limits of all threads of a proxy, and the connections that are open.
#[derive(Debug)]
pub(super) struct ConnectionLimits {
    most: usize,
    per_client: usize,
    all: AtomicUsize,
    by_client: Mutex<ByClient>,
}

/// Numbers of connections.
type ByClient = HashMap<Client, usize, RandomState>;

/// A client, as the bits of an IPv6 address.
type Client = u128;

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// That of all connections.
    All,
    /// That of the client.
    Client,
}

/// Permission for one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    client: Option<Client>,
    limits: Arc<ConnectionLimits>,
}

impl ConnectionLimits {
    /// At most `most` connections, and at most `per_client` of one client. By default one client leaves a quarter to others.
    pub(super) fn new(most: usize, per_client: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            most,
            per_client: per_client.unwrap_or(most - most / 4),
            all: AtomicUsize::new(0),
            by_client: Mutex::default(),
        })
    }

    /// A permit for a connection of `client`.
    ///
    /// # Errors
    /// The limit that is reached, first that of the client.
    pub(super) fn take(
        self: &Arc<Self>,
        client: Option<IpAddr>,
    ) -> Result<ConnectionPermit, Limit> {
        let client = client.map(network);
        let mut by_client = self.by_client();
        let entry = client.map(|client| by_client.entry(client));
        if let Some(Entry::Occupied(connections)) = &entry
            && *connections.get() >= self.per_client
        {
            return Err(Limit::Client);
        }
        // Changed under the lock only.
        let all = self.all.load(Ordering::Relaxed);
        if all >= self.most {
            return Err(Limit::All);
        }
        self.all.store(all + 1, Ordering::Relaxed);
        if let Some(entry) = entry {
            *entry.or_insert(0) += 1;
        }
        let limits = Arc::clone(self);
        Ok(ConnectionPermit { client, limits })
    }

    /// Of these clients, the first one with the most connections, if those are at least two more than `newcomer` has: otherwise two
    /// clients would displace each other in turn.
    pub(super) fn largest(
        &self,
        newcomer: IpAddr,
        clients: impl Iterator<Item = IpAddr>,
    ) -> Option<usize> {
        let by_client = self.by_client();
        let of = |client: IpAddr| by_client.get(&network(client)).copied().unwrap_or(0);
        let least = of(newcomer) + 2;
        let mut largest = None;
        for (place, client) in clients.enumerate() {
            let connections = of(client);
            if connections >= least && largest.is_none_or(|(_, most)| connections > most) {
                largest = Some((place, connections));
            }
        }
        largest.map(|(place, _)| place)
    }

    /// Open connections.
    pub(super) fn open(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// A thread that panicked left the counts consistent.
    fn by_client(&self) -> MutexGuard<'_, ByClient> {
        self.by_client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionPermit {
    /// The PROXY header names the client. Whether it may have another connection.
    pub(super) fn assign(&mut self, client: IpAddr) -> bool {
        let client = network(client);
        let mut by_client = self.limits.by_client();
        let connections = by_client.get(&client).copied().unwrap_or(0);
        let may = self.client.is_none() && connections < self.limits.per_client;
        if may {
            by_client.insert(client, connections + 1);
            self.client = Some(client);
        }
        may
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut by_client = self.limits.by_client();
        let all = self.limits.all.load(Ordering::Relaxed);
        let rest = all.saturating_sub(1);
        self.limits.all.store(rest, Ordering::Relaxed);
        let Some(client) = self.client else {
            return;
        };
        if let Entry::Occupied(mut connections) = by_client.entry(client) {
            match *connections.get() {
                0 | 1 => {
                    connections.remove();
                }
                more => *connections.get_mut() = more - 1,
            }
        }
    }
}

/// What counts as one client.
fn network(client: IpAddr) -> Client {
    match client.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits() & !u128::from(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn limits_hold_and_nothing_remains(
            acts in prop::collection::vec((0u8..3, 0u8..4, any::<prop::sample::Index>()), 0..200),
        ) {
            let limits = ConnectionLimits::new(6, Some(3));
            let mut permits: Vec<ConnectionPermit> = Vec::new();
            for (act, client, which) in acts {
                let address = IpAddr::from([192, 0, 2, client]);
                let client = (client > 0).then_some(address);
                let of_client = permits.iter().filter(|permit| permit.client == Some(network(address))).count();
                match act {
                    0 if permits.is_empty() => {}
                    0 => drop(permits.remove(which.index(permits.len()))),
                    1 => match limits.take(client) {
                        Ok(permit) => {
                            prop_assert!(permits.len() < 6 && (client.is_none() || of_client < 3));
                            permits.push(permit);
                        }
                        Err(Limit::Client) => prop_assert!(client.is_some() && of_client == 3),
                        Err(Limit::All) => prop_assert_eq!(permits.len(), 6),
                    },
                    _ => if let Some(permit) = permits.iter_mut().find(|permit| permit.client.is_none()) {
                        prop_assert_eq!(permit.assign(address), of_client < 3);
                    },
                }
                prop_assert_eq!(limits.open(), permits.len());
            }
            permits.clear();
            prop_assert!(limits.open() == 0 && limits.by_client().is_empty());
        }
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let limits = ConnectionLimits::new(9, Some(1));
        let take = |client: &str| limits.take(client.parse().ok());
        let _permits = ["2001:db8::1", "192.0.2.1"].map(|client| take(client).unwrap());
        for client in ["2001:db8::ffff:1:2:3", "::ffff:192.0.2.1"] {
            assert_eq!(take(client).unwrap_err(), Limit::Client);
        }
        for client in ["2001:db8:0:1::1", "192.0.2.2"] {
            assert!(take(client).is_ok());
        }
    }

    #[test]
    fn one_client_leaves_a_quarter_to_others() {
        let most = |all| {
            let limits = ConnectionLimits::new(all, None);
            let take = || limits.take("192.0.2.1".parse().ok()).ok();
            std::iter::from_fn(take).collect::<Vec<_>>().len()
        };
        assert_eq!([1, 2, 3, 4, 200].map(most), [1, 2, 3, 3, 150]);
    }

    #[test]
    fn only_a_client_with_two_connections_more_is_displaced() {
        let limits = ConnectionLimits::new(9, None);
        let [few, many, newcomer] = [1, 2, 3].map(|host| IpAddr::from([192, 0, 2, host]));
        let _permits =
            [few, few, many, many, many].map(|client| limits.take(Some(client)).unwrap());
        let largest = |newcomer| limits.largest(newcomer, [few, many, many].into_iter());
        assert_eq!(largest(newcomer), Some(1));
        assert_eq!(largest(few), None);
        let _other = limits.take(Some(many)).unwrap();
        assert_eq!(largest(few), Some(1));
        assert_eq!(limits.largest(newcomer, [few].into_iter()), Some(0));
    }
}
