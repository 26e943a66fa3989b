//! The state of a connection without its sockets: phase, deadline, and the record that remains of it.
//!
//! ```text
//!   ReadingRequest --> Resolving --> Connecting --> Relaying
//!         |                |           |  ^ next address | |
//!         +----------------+-----------+--+--------------+-|--> Closing
//!         |                                                +--> Flushing
//!         +--> Associated
//! ```
//!
//! Resolving and connecting share one deadline, however many addresses a name has. While untried addresses are left, the
//! next one is tried in parallel after [`ATTEMPT_DELAY`]. The first attempt of a connection needs no permit. Further
//! parallel attempts need one; without a permit the oldest attempt is given up instead.

mod admission;
mod closing;

use std::net::SocketAddr;
use std::time::Duration;

use super::associations::handle::Holder;
use super::backend::{Backend, IoContext};
use super::chunk::CHUNK_SIZE;
use super::context::{Turn, WorkerContext};
use super::counters::Counters;
use super::forwarding::Traffic;
use super::handshake::{Action, Handshake};
use super::limits::ConnectionPermit;
use super::options::{
    ATTEMPT_DELAY, CLOSE_TIMEOUT, EOF_GRACE, FLUSH_INTERVAL, MIN_ATTEMPT, Timeouts,
};
use super::progress::Deadline;
use super::record::{BusyCause, CloseReason};
use super::relay::{Relay, Side, Verdict};
use super::request_memory::Reservation;
use super::shared::Permit;
use super::slab::Key;
use super::timers::{Timer, Timers};
use crate::destination::Name;
use crate::sys::clock::monotonic_ns;
use crate::sys::endpoint::{Endpoint, Peer};
use crate::sys::tcp::Unread;

/// The phase of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Reading the client's request.
    ReadingRequest,
    /// Looking up a name.
    Resolving,
    /// Connecting to a server.
    Connecting,
    /// Relaying in both directions.
    Relaying,
    /// One end is gone. Waiting for the other end to acknowledge what was sent to it, before it gets a reset, which discards the
    /// send queue.
    Flushing {
        /// The reason to record.
        reason: CloseReason,
        /// The end that is left.
        to: Side,
    },
    /// Waiting for the client to close, or for its association of datagrams to end.
    Associated,
    /// Sending the last reply, discarding input, and waiting for the client to close. A socket that is closed with unread
    /// input sends a reset, which may destroy the reply.
    Closing {
        /// The reason to record.
        reason: CloseReason,
        /// The client has ended its side of the connection.
        client_closed: bool,
        /// Bytes of input that were discarded.
        discarded: usize,
    },
}

/// The state of a connection. Times are in ns of [`crate::sys::clock::monotonic_ns`].
pub(super) struct ConnectionState {
    pub(super) phase: Phase,
    pub(super) handshake: Box<Handshake>,
    pub(super) relay: Relay,
    timer: Timer,
    /// The deadline of a phase that lasts as long as there is progress.
    deadline: Deadline,
    /// `None` for a client over the connection limit.
    permit: Option<ConnectionPermit>,
    /// The memory of the request until a server is connected.
    reservation: Option<Reservation>,
    accepted: u64,
    connected: Option<u64>,
    /// When the server has to be connected.
    connect_deadline: u64,
    /// When the last attempt started.
    last_attempt: u64,
    /// When to consider another attempt.
    next_attempt: u64,
    /// One for each parallel attempt after the first.
    attempt_permits: Vec<Permit>,
    /// The client ended its side before it sent data for the server, so [`EOF_GRACE`] applies.
    client_ended: bool,
    /// Bytes that are counted already, to the server and to the client, and those of them that were spliced.
    counted: [u64; 2],
    counted_spliced: u64,
    half_closed: bool,
    /// In [`Phase::Associated`], until the connection is closed.
    association: Option<Holder>,
}

/// What follows a deadline that has passed.
pub(super) enum TimeoutAction {
    /// Continue the handshake.
    Handshake(Action),
    /// Give up the attempt to this address, and call [`Handshake::gave_up`].
    GiveUp(SocketAddr),
    /// Nothing yet.
    Wait,
    /// Close the connection.
    Close(CloseReason),
}

/// What follows a relay that has finished.
pub(super) enum Finished {
    /// Wait for the client to close.
    Closing(CloseReason),
    /// Wait until this end has acknowledged all, then close the connection.
    Flushing(CloseReason, Side),
    /// Close the connection.
    Close(CloseReason),
}

impl ConnectionState {
    /// The state of a client that connected from `peer` to `local`. A client without a `permit` is refused.
    pub(super) fn new<B: Backend>(
        peer: Peer,
        local: Option<Endpoint>,
        permit: Result<ConnectionPermit, BusyCause>,
        context: &WorkerContext<B>,
        now: u64,
    ) -> Self {
        let mut handshake = Handshake::new(&context.rules, peer, local, permit.is_err());
        if let Err(cause) = permit {
            handshake.set_over_limit(cause);
        }
        Self {
            phase: Phase::ReadingRequest,
            handshake: Box::new(handshake),
            relay: Relay::new(context.forwarding, CHUNK_SIZE),
            timer: Timer::default(),
            deadline: Deadline::default(),
            permit: permit.ok(),
            reservation: None,
            accepted: now,
            connected: None,
            connect_deadline: 0,
            last_attempt: 0,
            next_attempt: 0,
            attempt_permits: Vec::new(),
            client_ended: false,
            counted: [0; 2],
            counted_spliced: 0,
            half_closed: false,
            association: None,
        }
    }

    /// The context of a call into the connection's I/O.
    pub(super) fn io_context<'a, B>(&'a mut self, turn: &'a mut Turn<'_, B>) -> IoContext<'a, B> {
        IoContext {
            key: turn.key,
            relay: &mut self.relay,
            backend: &mut turn.context.backend,
        }
    }

    /// Enters a phase and starts its deadline. Returns when [`Self::on_timeout`] is called next.
    pub(super) fn enter<B>(&mut self, phase: Phase, turn: &mut Turn<'_, B>) -> u64 {
        self.phase = phase;
        let timeout = ns(self.timeout(&turn.context.timeouts));
        let until = match self.awaits_progress() {
            true => self.deadline.restart(turn.now, timeout),
            false => turn.now.saturating_add(timeout),
        };
        turn.context.timers.set(turn.key, &mut self.timer, until);
        until
    }

    /// Whether the phase lasts as long as there is progress.
    pub(super) fn awaits_progress(&self) -> bool {
        matches!(
            self.phase,
            Phase::Relaying | Phase::Flushing { .. } | Phase::Closing { .. }
        )
    }

    /// The longest duration of the phase, or the longest duration without progress if [`Self::awaits_progress`].
    fn timeout(&self, timeouts: &Timeouts) -> Duration {
        match self.phase {
            Phase::ReadingRequest if self.is_over_limit() => CLOSE_TIMEOUT,
            Phase::ReadingRequest => timeouts.request,
            Phase::Resolving | Phase::Connecting => timeouts.connect,
            Phase::Relaying if self.is_half_closed() => timeouts.half_closed,
            Phase::Relaying => timeouts.idle,
            Phase::Flushing { .. } => timeouts.half_closed,
            Phase::Associated => Duration::MAX,
            Phase::Closing { .. } => CLOSE_TIMEOUT,
        }
    }

    /// Starts to look `name` up.
    pub(super) fn resolve<B>(&mut self, name: Name, turn: &mut Turn<'_, B>) {
        self.connect_deadline = self.enter(Phase::Resolving, turn);
        let context = &*turn.context;
        context.counters.lookup_started();
        let client = self.handshake.info.client.ip().map(|client| client.ip());
        context.resolver.ask(name, client, turn.key, &context.inbox);
    }

    /// Another attempt starts.
    pub(super) fn start_attempt<B>(&mut self, turn: &mut Turn<'_, B>) {
        if !matches!(self.phase, Phase::Resolving | Phase::Connecting) {
            self.connect_deadline = later(turn.now, turn.context.timeouts.connect);
        }
        self.phase = Phase::Connecting;
        self.last_attempt = turn.now;
        self.next_attempt = turn.now.saturating_add(ATTEMPT_DELAY);
        self.await_attempts(turn);
    }

    /// Sets the timer for the attempts in progress and for the next one. Returns permits that are no longer needed.
    pub(super) fn await_attempts<B>(&mut self, turn: &mut Turn<'_, B>) {
        let attempts = self.handshake.attempts().len();
        self.attempt_permits.truncate(attempts.saturating_sub(1));
        let until = match self.handshake.has_untried() {
            true => self.connect_deadline.min(self.next_attempt),
            false => self.connect_deadline,
        };
        turn.context.timers.set(turn.key, &mut self.timer, until);
    }

    /// No address has answered within [`ATTEMPT_DELAY`]: tries the next one in parallel, or instead of the oldest.
    fn try_next_address<B>(&mut self, turn: &mut Turn<'_, B>) -> TimeoutAction {
        let permit = turn.context.shared.attempt();
        let action = match (self.handshake.has_untried(), permit) {
            (true, Some(permit)) => {
                self.attempt_permits.push(permit);
                let action = self.handshake.try_in_parallel(&turn.context.rules);
                return TimeoutAction::Handshake(action);
            }
            (true, None) if turn.now >= self.last_attempt.saturating_add(MIN_ATTEMPT) => {
                let oldest = self.handshake.attempts().next();
                oldest.map_or(TimeoutAction::Wait, TimeoutAction::GiveUp)
            }
            _ => TimeoutAction::Wait,
        };
        self.next_attempt = turn.now.saturating_add(ATTEMPT_DELAY);
        self.await_attempts(turn);
        action
    }

    /// The client may have hung up before its server is connected; `unread` is the state of its socket. A reset closes the
    /// connection at once. A client that ended its side without data for the server has most likely closed its socket, so it
    /// is given up unless the server is connected within [`EOF_GRACE`].
    pub(super) fn on_hang_up<B>(
        &mut self,
        unread: Unread,
        turn: &mut Turn<'_, B>,
    ) -> Option<CloseReason> {
        let has_data = self.handshake.has_early_data() || self.relay.to_server.counts().fills > 0;
        match unread {
            Unread::Broken => {
                self.handshake.on_client_gone(CloseReason::ClientReset);
                return Some(CloseReason::ClientReset);
            }
            // It may only receive from now on.
            Unread::End if !has_data && !self.client_ended => {
                self.client_ended = true;
                let grace = turn.now.saturating_add(EOF_GRACE);
                self.connect_deadline = self.connect_deadline.min(grace);
                self.await_attempts(turn);
            }
            Unread::End | Unread::Data | Unread::Nothing => {}
        }
        None
    }

    /// The bytes that the handshake has for the client, queued in the relay.
    pub(super) fn take_reply(&mut self) -> Vec<u8> {
        let reply = self.handshake.take_reply();
        self.relay.to_client.queue(reply.len());
        reply
    }

    /// The bytes that the handshake has for the server, queued in the relay.
    pub(super) fn take_preamble(&mut self) -> Vec<u8> {
        let preamble = self.handshake.take_preamble();
        self.relay.to_server.queue(preamble.len());
        preamble
    }

    /// A server is connected: its address, and the local one.
    pub(super) fn on_connected<B>(
        &mut self,
        server: SocketAddr,
        local: SocketAddr,
        turn: &mut Turn<'_, B>,
    ) {
        self.handshake.on_connected(server, local);
        self.attempt_permits.clear();
        if self.handshake.is_complete() {
            self.relay.to_server.ended();
        }
        self.relay.to_server.writable();
        self.connected = Some(turn.now);
        self.reservation = None;
        self.enter(Phase::Relaying, turn);
    }

    /// An association is open, whose datagrams the client sends to `relay`. It has a deadline of its own.
    pub(super) fn on_associated<B>(
        &mut self,
        association: Holder,
        relay: SocketAddr,
        turn: &mut Turn<'_, B>,
    ) {
        self.handshake.on_associated(relay);
        self.association = Some(association);
        self.connected = Some(turn.now);
        self.phase = Phase::Associated;
        turn.context.timers.clear(turn.key, &mut self.timer);
    }

    /// The connection is closed for this reason, so its association ends.
    pub(super) fn end_association(&mut self, reason: CloseReason) {
        if let Some(association) = self.association.take() {
            association.close(reason);
        }
    }

    /// What follows, if the relay has finished.
    pub(super) fn finished(&self) -> Option<Finished> {
        Some(match self.relay.verdict()? {
            // Bytes behind a complete request were not read, so closing at once would send a reset.
            Verdict::Finished if self.handshake.is_complete() => {
                Finished::Closing(CloseReason::Finished)
            }
            Verdict::Finished => Finished::Close(CloseReason::Finished),
            Verdict::Reset(Side::Client) => {
                Finished::Flushing(CloseReason::ClientReset, Side::Server)
            }
            Verdict::Reset(Side::Server) => {
                Finished::Flushing(CloseReason::ServerReset, Side::Client)
            }
        })
    }

    /// The relay had its turn: restarts its deadline if bytes moved.
    pub(super) fn on_relayed<B>(&mut self, turn: &mut Turn<'_, B>) {
        let half_closed = self.is_half_closed();
        let has_changed = half_closed != self.half_closed;
        if has_changed {
            // The end may have arrived after the thread woke up, if another one had the CPU meanwhile.
            turn.now = monotonic_ns();
        }
        let context = &mut *turn.context;
        if self.count(&context.counters, &mut context.traffic) || has_changed {
            self.half_closed = half_closed;
            self.enter(Phase::Relaying, turn);
        }
    }

    /// The deadline has passed, or it is time to look whether there is progress: the send queues to the server and to the client
    /// contain `queued` bytes.
    pub(super) fn on_timeout<B>(
        &mut self,
        queued: [u64; 2],
        turn: &mut Turn<'_, B>,
    ) -> TimeoutAction {
        if self.awaits_progress() {
            let sent = self.drained();
            if let Some(mut until) = self.deadline.look(turn.now, sent, queued) {
                if let Phase::Flushing { .. } = self.phase {
                    until = until.min(turn.now.saturating_add(FLUSH_INTERVAL));
                }
                turn.context.timers.set(turn.key, &mut self.timer, until);
                return TimeoutAction::Wait;
            }
        }
        TimeoutAction::Handshake(match self.phase {
            Phase::ReadingRequest => self.handshake.on_request_timeout(),
            Phase::Resolving | Phase::Connecting
                if self.client_ended && turn.now >= self.connect_deadline =>
            {
                self.handshake.on_client_gone(CloseReason::Left);
                return TimeoutAction::Close(CloseReason::Left);
            }
            Phase::Resolving => {
                self.cancel_lookup(turn);
                self.handshake.on_lookup_timeout()
            }
            Phase::Connecting if turn.now < self.connect_deadline => {
                return self.try_next_address(turn);
            }
            Phase::Connecting => self.handshake.on_connect_timeout(),
            Phase::Relaying if self.is_half_closed() => {
                return TimeoutAction::Close(CloseReason::HalfClosedTimeout);
            }
            Phase::Relaying => return TimeoutAction::Close(CloseReason::IdleTimeout),
            Phase::Associated => return TimeoutAction::Wait,
            Phase::Flushing { reason, .. } | Phase::Closing { reason, .. } => {
                return TimeoutAction::Close(reason);
            }
        })
    }

    fn cancel_lookup<B>(&mut self, turn: &Turn<'_, B>) {
        if let (Phase::Resolving, Some(name)) = (self.phase, self.handshake.name()) {
            let context = &*turn.context;
            context
                .resolver
                .forget(name.clone(), turn.key, &context.inbox);
        }
    }

    /// As [`Timers::is_due`].
    pub(super) fn is_due(&mut self, key: Key, timers: &mut Timers<Key>, now: u64) -> bool {
        timers.is_due(key, &mut self.timer, now)
    }

    /// Cancels the lookup and the deadline.
    pub(super) fn stop<B>(&mut self, turn: &mut Turn<'_, B>) {
        self.cancel_lookup(turn);
        turn.context.timers.clear(turn.key, &mut self.timer);
    }

    /// Counts the bytes that were relayed since the last call. Whether there were any.
    fn count(&mut self, counters: &Counters, traffic: &mut Traffic) -> bool {
        let flows = [&self.relay.to_server, &self.relay.to_client];
        let drained = self.drained();
        if drained == self.counted {
            return false;
        }
        let [to_server, to_client] = drained;
        let [counted_to_server, counted_to_client] = self.counted;
        let relayed = [to_server - counted_to_server, to_client - counted_to_client];
        for (flow, bytes) in flows.iter().zip(relayed) {
            traffic.add(bytes, flow.is_bulk());
        }
        let spliced = flows.iter().map(|flow| flow.counts().spliced).sum();
        counters.relayed(relayed, spliced - self.counted_spliced);
        (self.counted, self.counted_spliced) = (drained, spliced);
        true
    }

    /// Bytes that the sockets of the server and of the client accepted.
    fn drained(&self) -> [u64; 2] {
        [&self.relay.to_server, &self.relay.to_client].map(|flow| flow.counts().drained)
    }

    /// Whether one side has ended and the other has not. The end of a complete request does not count.
    fn is_half_closed(&self) -> bool {
        match self.handshake.is_complete() {
            true => !self.relay.to_client.is_open(),
            false => self.relay.is_half_closed(),
        }
    }
}

/// The time `after` this one, in ns.
fn later(now: u64, after: Duration) -> u64 {
    now.saturating_add(ns(after))
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
