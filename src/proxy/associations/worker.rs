//! The loop of a thread that serves associations, over epoll(7).

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Token};

use super::association::{Association, End, no_socket, register};
use super::counters::AssociationCounters;
use super::destinations::{Judge, Route};
use super::forward::Batch;
use super::handle::{Command, Opening, Queue};
use super::lookups::Lookups;
use super::own::OwnSockets;
use super::record::AssociationRecord;
use crate::destination::Host;
use crate::proxy::access_log;
use crate::proxy::datagrams::record::{DropCause, Drops};
use crate::proxy::datagrams::transmit::Outcome;
use crate::proxy::record::CloseReason;
use crate::proxy::resolver::{Inbox, Resolver};
use crate::proxy::rules::Rules;
use crate::proxy::shared::Shared;
use crate::proxy::slab::{Key, Slab};
use crate::proxy::timers::Timers;
use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;
use crate::sys::socket;

/// A token of no socket.
const WAKER: Token = Token(usize::MAX);

/// Most events of one call.
const EVENTS: usize = 1_024;

/// Most turns between two looks at events.
const TURNS: usize = 64;

/// While the proxy stops, an association ends after so many ns without datagrams.
const DRAIN_IDLE: u64 = 1_000_000_000;

/// The longest time in ns in which datagrams that a client sent before it closed its connection are forwarded.
const ENDING: u64 = 100_000_000;

/// What the threads of associations share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) rules: Arc<Rules>,
    pub(super) shared: Arc<Shared>,
    pub(super) resolver: Resolver,
    pub(super) own: Arc<OwnSockets>,
    pub(super) log: Option<access_log::Handle>,
    pub(super) idle: Duration,
    pub(super) any_answers: bool,
}

impl Common {
    pub(super) fn judge(&self, generation: u64) -> Judge<'_> {
        Judge {
            rules: &self.rules,
            generation,
            own: &self.own,
        }
    }
}

/// A thread's loop.
pub(super) struct AssociationWorker {
    pub(super) poll: Poll,
    queue: Arc<Queue>,
    inbox: Arc<Inbox>,
    pub(super) common: Common,
    /// The [generation](crate::blocklist::reload::Policies::generation) of the policy that routes obey which are used in this pass.
    pub(super) generation: u64,
    pub(super) associations: Slab<Association>,
    by_id: HashMap<u64, Key>,
    timers: Timers<Key>,
    pub(super) lookups: Lookups,
    pub(super) batch: Batch,
    /// Sockets that may have datagrams.
    pub(super) ready: VecDeque<(End, Key)>,
    pub(super) counters: Arc<AssociationCounters>,
    idle: u64,
    is_draining: bool,
    quits: bool,
}

impl AssociationWorker {
    /// The loop of a thread that `wake` wakes.
    ///
    /// # Errors
    /// As epoll_create1(2) and epoll_ctl(2).
    pub(super) fn new(
        common: &Common,
        queue: Arc<Queue>,
        counters: Arc<AssociationCounters>,
        wake: &EventFd,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        register(poll.registry(), wake, WAKER)?;
        Ok(Self {
            poll,
            queue,
            inbox: Arc::new(Inbox::new(wake.clone())),
            generation: common.rules.policies.generation(),
            common: common.clone(),
            associations: Slab::new(),
            by_id: HashMap::new(),
            timers: Timers::new(),
            lookups: Lookups::default(),
            batch: Batch::new(),
            ready: VecDeque::new(),
            counters,
            idle: u64::try_from(common.idle.as_nanos()).unwrap_or(u64::MAX),
            is_draining: false,
            quits: false,
        })
    }

    /// Serves until there are no connections.
    ///
    /// # Errors
    /// As epoll_wait(2).
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.quits || self.is_ending() {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = monotonic_ns();
            self.batch.transmitter.start_pass();
            self.generation = self.common.rules.policies.generation();
            let mut is_woken = false;
            for event in &events {
                match (event.token(), End::of_token(event.token())) {
                    (WAKER, _) => is_woken = true,
                    (_, Some((end, key))) => self.schedule(end, key),
                    (_, None) => {}
                }
            }
            if is_woken {
                self.take_answers(now);
                self.take_commands(now);
            }
            for _ in 0..self.ready.len().min(TURNS) {
                if let Some((end, key)) = self.ready.pop_front() {
                    self.turn(end, key, now);
                }
            }
            self.drain();
            self.expire(now);
        }
        let now = monotonic_ns();
        for key in self.associations.keys() {
            self.close(key, CloseReason::Stopped, now);
        }
        Ok(())
    }

    /// How long to wait for events.
    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let until = self.timers.next()?.saturating_sub(monotonic_ns());
        Some(Duration::from_nanos(until))
    }

    fn schedule(&mut self, end: End, key: Key) {
        if let Some(association) = self.associations.get_mut(key)
            && let Some(is_ready) = association.is_ready.get_mut(end as usize)
            && !mem::replace(is_ready, true)
        {
            self.ready.push_back((end, key));
        }
    }

    /// Receives and forwards what a socket has, as far as one turn goes.
    fn turn(&mut self, end: End, key: Key, now: u64) {
        let Some(association) = self.associations.get_mut(key) else {
            return;
        };
        if let Some(is_ready) = association.is_ready.get_mut(end as usize) {
            *is_ready = false;
        }
        let has_more = match end {
            End::Client => self.read_client(key, now),
            End::V4 | End::V6 => self.read_server(end, key, now),
        };
        let ending = self
            .associations
            .get(key)
            .and_then(|association| association.ending);
        match ending {
            Some((reason, until)) if end == End::Client && (!has_more || now >= until) => {
                self.close(key, reason, now);
            }
            _ if has_more => self.schedule(end, key),
            _ => {}
        }
    }

    /// Whether associations of closed connections still forward datagrams.
    fn is_ending(&self) -> bool {
        let mut keys = self.associations.keys().into_iter();
        keys.any(|key| {
            let association = self.associations.get(key);
            association.is_some_and(|association| association.ending.is_some())
        })
    }

    fn take_commands(&mut self, now: u64) {
        for command in self.queue.take() {
            match command {
                Command::Open(opening) => self.open(opening, now),
                Command::Close(id, reason) => {
                    if let Some(key) = self.by_id.get(&id).copied()
                        && let Some(association) = self.associations.get_mut(key)
                    {
                        // The client's socket may have a full buffer, so this takes turns too.
                        association.ending = Some((reason, now.saturating_add(ENDING)));
                        self.schedule(End::Client, key);
                    }
                }
                Command::Quit => self.quits = true,
            }
        }
    }

    fn open(&mut self, opening: Box<Opening>, now: u64) {
        let registry = self.poll.registry();
        let (id, ends, connection) = (opening.id, Arc::clone(&opening.ends), opening.connection);
        let opened = self.associations.insert(|key| {
            register(registry, &opening.relay, End::Client.token(key))?;
            Ok::<_, io::Error>(Association::new(opening, now))
        });
        match opened {
            Ok(key) => {
                self.counters.opened();
                self.by_id.insert(id, key);
                self.touch(key, now);
            }
            // Memory for its events ran out.
            Err(_) => ends.put(connection, CloseReason::Unreachable),
        }
    }

    /// The association has forwarded datagrams.
    pub(super) fn touch(&mut self, key: Key, now: u64) {
        if let Some(association) = self.associations.get_mut(key) {
            association.last = now;
            let due = now.saturating_add(self.idle);
            self.timers.set(key, &mut association.timer, due);
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
                poll,
                batch,
                counters,
                generation,
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
                        let end = End::of(to);
                        match association.outgoing(end, key, poll.registry(), &common.own) {
                            Ok(socket) => batch.transmitter.send_one(
                                socket.as_fd(),
                                to.is_ipv6(),
                                Some(to),
                                [&[], payload],
                                *tos,
                            ),
                            Err(error) => no_socket(&error, 1),
                        }
                    }
                    Route::Drop(cause) => Outcome::dropped(cause, 1),
                    Route::Wait => Outcome::dropped(DropCause::Unresolved, 1),
                };
                association.count_to_server(outcome, counters);
            }
            self.touch(key, now);
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
        let sockets = End::ALL.iter().filter_map(|end| association.socket(*end));
        for socket in sockets {
            let dropped = socket::drops(socket.as_fd()).unwrap_or(0);
            drops.add(DropCause::QueueFull, dropped.into());
        }
        association.drop_datagrams(&drops, &self.counters);
        self.counters.closed();
        if let Some(log) = &self.common.log {
            let info = association.opening.info;
            log.record_association(AssociationRecord {
                client: info.client,
                peer: info.peer,
                user: info.user,
                destinations: association.destinations.count(),
                first: association.destinations.into_first(),
                opened_at: association.opened_at,
                opened: association.opening.opened,
                closed: now,
                to_server: association.to_server,
                to_client: association.to_client,
                drops: association.drops,
                reason,
            });
        }
    }
}
