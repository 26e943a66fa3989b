//! The flows of a thread: found by their ends, and closed after a time without datagrams. Pure, times are arguments.

use std::hash::BuildHasher;
use std::mem;
use std::net::{IpAddr, SocketAddr};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::counters::DatagramCounters;
use super::limits::FlowPermit;
use super::record::{DropCause, Drops, Traffic};
use crate::proxy::record::Decision;
use crate::proxy::slab::{Key, Slab};
use crate::proxy::timers::{Timer, Timers};

/// The ends of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The client.
    pub client: SocketAddr,
    /// The address of this host to which the client sends, if the listener has more than one.
    pub local: Option<IpAddr>,
}

/// A flow, whose socket is a `S`.
///
/// The fields that each datagram needs come first, as few cache lines: of 10,000 flows in turn, none is in a near cache.
#[derive(Debug)]
#[repr(C)]
pub struct Flow<S> {
    /// Its ends.
    pub ends: Ends,
    /// The longest datagrams that are sent in runs, to the server and to the client.
    pub longest_segments: [u16; 2],
    /// Its socket, connected to the server.
    pub socket: S,
    /// When its last datagram was received.
    last: u64,
    timer: Timer,
    /// Sent to the server.
    pub to_server: Traffic,
    /// Sent to the client.
    pub to_client: Traffic,
    /// The server.
    pub server: SocketAddr,
    /// What precedes the first datagram for the server: a PROXY header.
    pub preamble: Option<Box<[u8]>>,
    /// The decision on the server.
    pub decision: Decision,
    /// Dropped in either direction.
    pub drops: Drops,
    /// Of these, what the kernel dropped at the socket: its counter of 32 bits.
    pub(super) queue_drops: u32,
    /// When it was opened, in ns since 1970.
    pub opened_at: u64,
    /// When it was opened.
    pub opened: u64,
    _permit: FlowPermit,
}

impl<S> Flow<S> {
    /// A flow that is opened at `now`, in ns.
    pub fn new(
        ends: Ends,
        socket: S,
        (server, decision): (SocketAddr, Decision),
        permit: FlowPermit,
        now: u64,
    ) -> Self {
        Self {
            ends,
            socket,
            server,
            decision,
            preamble: None,
            to_server: Traffic::default(),
            to_client: Traffic::default(),
            drops: Drops::default(),
            queue_drops: 0,
            longest_segments: [u16::MAX; 2],
            opened_at: 0,
            opened: now,
            last: now,
            timer: Timer::default(),
            _permit: permit,
        }
    }

    /// Counts dropped datagrams, here and in `counters`.
    pub fn count_drops(&mut self, cause: DropCause, datagrams: u64, counters: &DatagramCounters) {
        self.drops.add(cause, datagrams);
        counters.count_drops(cause, datagrams);
    }

    /// As [`Self::count_drops`], what the kernel has dropped at the socket since the last call: `all` is its counter.
    pub fn count_queue_drops(&mut self, all: u32, counters: &DatagramCounters) {
        let more = all.wrapping_sub(mem::replace(&mut self.queue_drops, all));
        if more > 0 {
            self.count_drops(DropCause::QueueFull, more.into(), counters);
        }
    }

    /// Whether a datagram from `source` is the server's. connect(2) binds the socket to a port before it sets the peer: meanwhile the
    /// socket queues datagrams of any source.
    pub fn is_from_server(&self, source: Option<SocketAddr>) -> bool {
        source.is_some_and(|source| {
            // A socket that is connected to the unspecified address has a peer on loopback.
            let is_ip =
                source.ip() == self.server.ip() || self.server.ip().to_canonical().is_unspecified();
            is_ip && source.port() == self.server.port()
        })
    }
}

/// The flows of a thread. Times are in ns of any one clock.
#[derive(Debug)]
pub struct FlowTable<S> {
    flows: Slab<Flow<S>>,
    /// The keys by the hashes of their flows' ends, which are compared in the flows: so it is small.
    by_ends: HashTable<Key>,
    hasher: RandomState,
    timers: Timers<Key>,
    idle: u64,
}

impl<S> FlowTable<S> {
    /// A table whose flows end after `idle` without datagrams.
    pub fn new(idle: u64) -> Self {
        Self {
            flows: Slab::new(),
            by_ends: HashTable::new(),
            hasher: RandomState::default(),
            timers: Timers::new(),
            idle,
        }
    }

    /// The flow with these ends.
    pub fn find(&self, ends: &Ends) -> Option<Key> {
        let hash = self.hasher.hash_one(ends);
        let is_it = |key: &Key| self.flows.get(*key).is_some_and(|flow| flow.ends == *ends);
        self.by_ends.find(hash, is_it).copied()
    }

    /// Adds the flow that `make` makes of its key, unless that fails. There is none with the same ends yet.
    ///
    /// # Errors
    /// As `make`.
    pub fn open<E>(
        &mut self,
        now: u64,
        make: impl FnOnce(Key) -> Result<Flow<S>, E>,
    ) -> Result<Key, E> {
        let key = self.flows.insert(make)?;
        let hash_of = |key: &Key| {
            let ends = self.flows.get(*key).map(|flow| flow.ends);
            ends.map_or(0, |ends| self.hasher.hash_one(ends))
        };
        self.by_ends.insert_unique(hash_of(&key), key, hash_of);
        self.touch(key, now);
        Ok(key)
    }

    /// A flow.
    pub fn get(&self, key: Key) -> Option<&Flow<S>> {
        self.flows.get(key)
    }

    /// A flow, to change it.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Flow<S>> {
        self.flows.get_mut(key)
    }

    /// The flow has received datagrams from either end.
    pub fn touch(&mut self, key: Key, now: u64) {
        if let Some(flow) = self.flows.get_mut(key) {
            flow.last = now;
            let due = now.saturating_add(self.idle);
            self.timers.set(key, &mut flow.timer, due);
        }
    }

    /// Flows end after `idle` without datagrams from now on.
    pub fn set_idle(&mut self, idle: u64) {
        self.idle = idle;
        for key in self.flows.keys() {
            if let Some(flow) = self.flows.get_mut(key) {
                let due = flow.last.saturating_add(idle);
                self.timers.set(key, &mut flow.timer, due);
            }
        }
    }

    /// When to call [`Self::expired`], perhaps in vain.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers.next()
    }

    /// Removes a flow that had no datagram for too long.
    pub fn expired(&mut self, now: u64) -> Option<(Key, Flow<S>)> {
        while let Some(key) = self.timers.up(now) {
            let flow = self.flows.get_mut(key);
            if flow.is_some_and(|flow| self.timers.is_due(key, &mut flow.timer, now)) {
                return self.remove(key).map(|flow| (key, flow));
            }
        }
        None
    }

    /// Removes a flow.
    pub fn remove(&mut self, key: Key) -> Option<Flow<S>> {
        let mut flow = self.flows.remove(key)?;
        self.timers.clear(key, &mut flow.timer);
        let hash = self.hasher.hash_one(flow.ends);
        if let Ok(entry) = self.by_ends.find_entry(hash, |other| *other == key) {
            entry.remove();
        }
        Some(flow)
    }

    /// The keys of all flows.
    pub fn keys(&self) -> Vec<Key> {
        self.flows.keys()
    }

    /// Whether there are no flows.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// The number of flows.
    pub fn len(&self) -> usize {
        self.flows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::FlowLimits;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const IDLE: u64 = 50;

    fn ends(port: u16, local: u8) -> Ends {
        Ends {
            client: SocketAddr::new([192, 0, 2, 1].into(), port),
            local: (local > 0).then(|| [127, 0, 0, local].into()),
        }
    }

    proptest! {
        #[test]
        fn a_flow_is_found_until_it_was_idle_for_too_long(
            acts in prop::collection::vec((0u16..6, 0u8..2, 0u64..40), 0..200),
            drains_at in 0usize..300,
        ) {
            let limits = FlowLimits::new(4, 4);
            let mut table: FlowTable<()> = FlowTable::new(IDLE);
            let (mut now, mut idle) = (0, IDLE);
            // When the last datagram of each flow was received.
            let mut model: BTreeMap<(u16, u8), u64> = BTreeMap::new();
            for (number, (port, local, pause)) in acts.into_iter().enumerate() {
                now += pause;
                if number == drains_at {
                    idle = 10;
                    table.set_idle(idle);
                }
                if let Some(first) = model.values().min() {
                    prop_assert!(table.next_deadline().unwrap() <= first + idle);
                }
                while let Some((_, flow)) = table.expired(now) {
                    let local = flow.ends.local.map_or(0, |_| 1);
                    let last = model.remove(&(flow.ends.client.port(), local)).unwrap();
                    prop_assert!(last + idle <= now);
                }
                prop_assert!(model.values().all(|last| last + idle > now));
                let ends = ends(port, local);
                let found = table.find(&ends);
                prop_assert_eq!(found.is_some(), model.contains_key(&(port, local)));
                match found {
                    Some(key) => table.touch(key, now),
                    None => {
                        let opened = table.open(now, |_| {
                            let permit = limits.take(ends.client.ip()).ok_or(())?;
                            let server = (SocketAddr::new([127, 0, 0, 1].into(), 53), Decision::Allowed);
                            Ok::<_, ()>(Flow::new(ends, (), server, permit, now))
                        });
                        // A flow over the limit replaces no other.
                        prop_assert_eq!(opened.is_ok(), model.len() < 4);
                    }
                }
                if table.find(&ends).is_some() {
                    model.insert((port, local), now);
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for key in table.keys() {
                table.remove(key);
            }
            prop_assert!(table.is_empty() && table.next_deadline().is_none() && table.by_ends.is_empty());
            prop_assert!((0..4).all(|n| limits.take([192, 0, 2, n].into()).is_some()));
        }
    }

    #[test]
    fn only_the_server_is_the_source_of_answers() {
        let limits = FlowLimits::new(1, 1);
        for (server, source, is_it) in [
            ("192.0.2.7:53", "192.0.2.7:53", true),
            ("192.0.2.7:53", "192.0.2.7:54", false),
            ("192.0.2.7:53", "192.0.2.8:53", false),
            ("0.0.0.0:53", "127.0.0.1:53", true),
            ("[::ffff:0.0.0.0]:53", "[::ffff:127.0.0.1]:53", true),
            ("[fe80::1]:53", "[fe80::1]:53", true),
        ] {
            let permit = limits.take([192, 0, 2, 1].into()).unwrap();
            let server = (server.parse().unwrap(), Decision::Allowed);
            let flow = Flow::new(ends(1, 0), (), server, permit, 0);
            assert_eq!(flow.is_from_server(source.parse().ok()), is_it, "{source}");
            assert!(!flow.is_from_server(None));
        }
    }
}
