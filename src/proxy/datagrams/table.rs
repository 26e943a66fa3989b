//! The flows of a thread: found by their ends, and closed after a time without datagrams. Pure, times are arguments.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use foldhash::fast::RandomState;

use super::limits::FlowPermit;
use super::record::{Drops, Traffic};
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
#[derive(Debug)]
pub struct Flow<S> {
    /// Its ends.
    pub ends: Ends,
    /// Its socket, connected to the server.
    pub socket: S,
    /// The server.
    pub server: SocketAddr,
    /// The decision on the server.
    pub decision: Decision,
    /// What precedes the first datagram for the server: a PROXY header.
    pub preamble: Option<Box<[u8]>>,
    /// Sent to the server.
    pub to_server: Traffic,
    /// Sent to the client.
    pub to_client: Traffic,
    /// Dropped in either direction.
    pub drops: Drops,
    /// The longest datagrams that are sent in runs, to the server and to the client.
    pub longest_segments: [u16; 2],
    /// When it was opened, in ns since 1970.
    pub opened_at: u64,
    /// When it was opened.
    pub opened: u64,
    /// When its last datagram was received.
    last: u64,
    timer: Timer,
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
            longest_segments: [u16::MAX; 2],
            opened_at: 0,
            opened: now,
            last: now,
            timer: Timer::default(),
            _permit: permit,
        }
    }
}

/// The flows of a thread. Times are in ns of any one clock.
#[derive(Debug)]
pub struct FlowTable<S> {
    flows: Slab<Flow<S>>,
    by_ends: HashMap<Ends, Key, RandomState>,
    timers: Timers<Key>,
    idle: u64,
}

impl<S> FlowTable<S> {
    /// A table whose flows end after `idle` without datagrams.
    pub fn new(idle: u64) -> Self {
        Self {
            flows: Slab::new(),
            by_ends: HashMap::default(),
            timers: Timers::new(),
            idle,
        }
    }

    /// The flow with these ends.
    pub fn find(&self, ends: &Ends) -> Option<Key> {
        self.by_ends.get(ends).copied()
    }

    /// Adds the flow that `make` makes of its key, unless that fails.
    ///
    /// # Errors
    /// As `make`.
    pub fn open<E>(
        &mut self,
        now: u64,
        make: impl FnOnce(Key) -> Result<Flow<S>, E>,
    ) -> Result<Key, E> {
        let key = self.flows.insert(make)?;
        if let Some(flow) = self.flows.get_mut(key) {
            self.by_ends.insert(flow.ends, key);
        }
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
        self.by_ends.remove(&flow.ends);
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
}
