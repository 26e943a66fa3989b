//! The loop of a thread that serves associations, over one [`Backend`].

use std::collections::HashMap;
use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::association::{Association, end_of, no_socket};
use super::context::Common;
use super::counters::AssociationCounters;
use super::destinations::Route;
use super::handle::{Command, Opening, Queue};
use super::lookups::Lookups;
use super::record::AssociationRecord;
use super::sort::Batch;
use crate::destination::Host;
use crate::proxy::datagrams::backend::Backend;
use crate::proxy::datagrams::record::{DropCause, Drops, Outcome};
use crate::proxy::datagrams::sockets::{End, Socket, SocketId};
use crate::proxy::record::CloseReason;
use crate::proxy::resolver::Inbox;
use crate::proxy::slab::{Key, Slab};
use crate::proxy::timers::Timers;
use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;
use crate::sys::socket;

/// While the proxy stops, an association ends after so many ns without datagrams.
const DRAIN_IDLE: u64 = 1_000_000_000;

/// The longest time in ns in which datagrams that a client sent before it closed its connection are forwarded.
const ENDING: u64 = 100_000_000;

/// An association whose connection was closed for a reason. It ends when the datagrams in the client's socket are forwarded, at a
/// time at the latest.
struct Ending {
    key: Key,
    reason: CloseReason,
    until: u64,
}

/// A thread's loop.
pub(super) struct AssociationWorker<B: Backend> {
    pub(super) backend: B,
    queue: Arc<Queue>,
    inbox: Arc<Inbox>,
    pub(super) common: Common,
    /// The [generation](crate::blocklist::reload::Policies::generation) of the policy that routes obey which are used in this pass.
    pub(super) generation: u64,
    pub(super) associations: Slab<Association>,
    by_id: HashMap<u64, Key>,
    pub(super) timers: Timers<Key>,
    pub(super) lookups: Lookups,
    pub(super) batch: Batch,
    endings: Vec<Ending>,
    pub(super) counters: Arc<AssociationCounters>,
    pub(super) idle: u64,
    is_draining: bool,
    quits: bool,
}

impl<B: Backend> AssociationWorker<B> {
    /// The loop of a thread that `wake` wakes.
    ///
    /// # Errors
    /// As [`Backend::new`].
    pub(super) fn new(
        common: &Common,
        queue: Arc<Queue>,
        counters: Arc<AssociationCounters>,
        wake: &EventFd,
    ) -> io::Result<Self> {
        Ok(Self {
            backend: B::new(wake)?,
            queue,
            inbox: Arc::new(Inbox::new(wake.clone())),
            generation: common.rules.policies.generation(),
            common: common.clone(),
            associations: Slab::new(),
            by_id: HashMap::new(),
            timers: Timers::new(),
            lookups: Lookups::default(),
            batch: Batch::default(),
            endings: Vec::new(),
            counters,
            idle: u64::try_from(common.idle.as_nanos()).unwrap_or(u64::MAX),
            is_draining: false,
            quits: false,
        })
    }

    /// Serves until there are no connections.
    ///
    /// # Errors
    /// As [`Backend::start`], and epoll_wait(2) or io_uring_enter(2).
    pub(super) fn run(mut self) -> io::Result<()> {
        self.backend.start()?;
        while !self.quits || !self.endings.is_empty() {
            let deadline = match self.endings.is_empty() {
                true => self.timers.next().unwrap_or(u64::MAX),
                false => 0,
            };
            let is_woken = self.backend.wait(deadline, &mut self.associations)?;
            let now = monotonic_ns();
            self.generation = self.common.rules.policies.generation();
            if is_woken {
                self.take_answers(now);
                self.take_commands(now);
            }
            self.forward(now)?;
            self.end_closed(now);
            self.drain();
            self.expire(now);
        }
        let now = monotonic_ns();
        for key in self.associations.keys() {
            self.close(key, CloseReason::Stopped, now);
        }
        Ok(())
    }

    fn take_commands(&mut self, now: u64) {
        for command in self.queue.take() {
            match command {
                Command::Open(opening, relay) => self.open(opening, relay, now),
                Command::Close(id, reason) => {
                    if let Some(key) = self.by_id.get(&id).copied() {
                        // The client's socket may have a full buffer, so this takes passes too.
                        let until = now.saturating_add(ENDING);
                        self.endings.push(Ending { key, reason, until });
                        self.receive_again(key);
                    }
                }
                Command::Quit => self.quits = true,
            }
        }
    }

    /// The next pass receives what the client's socket has.
    fn receive_again(&mut self, key: Key) {
        let end = End::Client;
        self.backend
            .receive_again(SocketId { key, end }, &mut self.associations);
    }

    fn open(&mut self, opening: Box<Opening>, relay: UdpSocket, now: u64) {
        let (id, ends, connection) = (opening.id, Arc::clone(&opening.ends), opening.connection);
        let relay = Socket::from(relay);
        let opened = self.associations.insert(|key| {
            let end = End::Client;
            self.backend.open(SocketId { key, end }, &relay)?;
            Ok::<_, io::Error>(Association::new(opening, relay, now))
        });
        match opened {
            Ok(key) => {
                self.by_id.insert(id, key);
                if let Some(association) = self.associations.get_mut(key) {
                    association.touch(key, &mut self.timers, now, self.idle);
                }
            }
            // Memory for its events ran out.
            Err(_) => {
                self.counters.closed();
                ends.put(connection, CloseReason::Unreachable);
            }
        }
    }

    /// Closes the associations of closed connections whose datagrams are forwarded.
    fn end_closed(&mut self, now: u64) {
        for ending in mem::take(&mut self.endings) {
            let Ending { key, reason, until } = ending;
            let Some(association) = self.associations.get(key) else {
                continue;
            };
            let end = End::Client;
            let relay = association.socket(end);
            let has_more = relay.is_some_and(|relay| socket::is_readable(relay.as_fd()))
                || self.backend.has_arrived(SocketId { key, end });
            if has_more && now < until {
                self.receive_again(key);
                self.endings.push(ending);
            } else {
                self.close(key, reason, now);
            }
        }
    }

    fn expire(&mut self, now: u64) {
        while let Some(key) = self.timers.up(now) {
            if let Some(association) = self.associations.get_mut(key)
                && self.timers.is_due(key, &mut association.timer, now)
            {
                let opening = &association.opening;
                let reason = CloseReason::IdleTimeout;
                opening.ends.put(opening.connection, reason);
                self.close(key, reason, now);
            }
        }
    }

    /// Once the proxy stops, associations without datagrams end soon.
    fn drain(&mut self) {
        if self.is_draining || !self.common.shared.is_stopping() {
            return;
        }
        self.is_draining = true;
        self.idle = self.idle.min(DRAIN_IDLE);
        for key in self.associations.keys() {
            if let Some(association) = self.associations.get_mut(key) {
                let due = association.last.saturating_add(self.idle);
                self.timers.set(key, &mut association.timer, due);
            }
        }
    }

    /// Looks up the names of lookups that have begun.
    pub(super) fn ask(&mut self) {
        for (key, destination, client) in self.batch.asks.drain(..) {
            if let Host::Name(name) = destination.host {
                self.common
                    .resolver
                    .ask(name, Some(client), key, &self.inbox);
            }
        }
    }

    fn take_answers(&mut self, now: u64) {
        for (lookup, answer) in self.inbox.take() {
            let Some(key) = self.lookups.association(lookup) else {
                continue;
            };
            let Self {
                associations,
                lookups,
                common,
                backend,
                counters,
                generation,
                timers,
                idle,
                ..
            } = self;
            let Some(association) = associations.get_mut(key) else {
                continue;
            };
            let Some(lookup) = lookups.end(&mut association.lookups, lookup) else {
                continue;
            };
            let judge = common.judge(*generation);
            let (header, destination) = (&lookup.header, &lookup.destination);
            let route = association
                .destinations
                .on_answer(header, destination, answer, judge, now);
            for (payload, tos) in &lookup.waiting {
                let outcome = match route {
                    Route::To(to) => {
                        let end = end_of(to);
                        let opened = association.open(end, key, backend, &common.own);
                        let (_, transmitter) = backend.slots();
                        match (opened, association.socket(end)) {
                            (Ok(()), Some(socket)) => transmitter.send_one(
                                socket.as_fd(),
                                to.is_ipv6(),
                                Some(to),
                                [&[], payload],
                                *tos,
                            ),
                            (Err(error), _) => no_socket(&error, 1),
                            (Ok(()), None) => Outcome::dropped(DropCause::Unreachable, 1),
                        }
                    }
                    Route::Drop(cause) => Outcome::dropped(cause, 1),
                    Route::Wait => Outcome::dropped(DropCause::Unresolved, 1),
                };
                association.count_to_server(outcome, counters);
            }
            association.touch(key, timers, now, *idle);
        }
    }

    /// Records an association, and closes its sockets.
    fn close(&mut self, key: Key, reason: CloseReason, now: u64) {
        let Some(mut association) = self.associations.remove(key) else {
            return;
        };
        self.timers.clear(key, &mut association.timer);
        self.by_id.remove(&association.opening.id);
        let mut drops = Drops::default();
        for (lookup, ended) in self.lookups.end_all(&mut association.lookups) {
            drops.add(DropCause::Unresolved, ended.waiting.len() as u64);
            if let Host::Name(name) = ended.destination.host {
                self.common.resolver.forget(name, lookup, &self.inbox);
            }
        }
        for (end, socket) in association.take_sockets() {
            let left = self.backend.close(SocketId { key, end }, socket);
            drops.add_all(&left.drops(0));
        }
        association.drop_datagrams(&drops, &self.counters);
        if let Some(log) = &self.common.log {
            let info = association.opening.info.clone();
            log.record_association(AssociationRecord {
                client: info.client,
                peer: info.peer,
                user: info.user,
                destinations: association.destinations.count(),
                first: association.destinations.take_first(),
                opened_at: association.opened_at,
                opened: association.opening.opened,
                closed: now,
                to_server: association.to_server,
                to_client: association.to_client,
                drops: association.drops,
                reason,
            });
        }
        // Its place is free before it is no longer counted.
        self.counters.closed();
    }
}
