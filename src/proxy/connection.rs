//! One client and its server, from the first byte to the close: carries out what the handshake and the relay decide.
//!
//! The decisions are in [`ConnectionState`], the system calls in the [`Backend`].

mod closing;

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::associations::handle::Wanted;
use super::backend::{Backend, ConnectionIo, Next, Received};
use super::chunk::DISCARD_QUANTUM;
use super::context::Turn;
use super::handshake::Action;
use super::limits::ConnectionPermit;
use super::options::REQUEST_CHUNK;
use super::record::{BusyCause, CloseReason};
use super::relay::{Direction, Readable, Step, Via};
use super::resolver::Answer;
use super::slab::Key;
use super::state::{ConnectionState, Finished, Phase, TimeoutAction};
use super::timers::Timers;
use crate::protocol::{Associate, Outcome};
use crate::sys::endpoint::Peer;
use crate::sys::rlimit::is_exhausted;

/// A connection.
pub(super) struct Connection<B: Backend> {
    state: ConnectionState,
    io: B::Io,
    /// Set when the connection is closed. It is removed when none of its operations is in flight.
    closed: Option<CloseReason>,
    /// It is scheduled for a turn.
    pub(super) is_scheduled: bool,
}

/// What the worker does with a connection next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Wait for an event.
    Waiting,
    /// Schedule a turn: it can continue at once.
    Ready,
    /// Close it.
    Close(CloseReason),
}

impl<B: Backend> Connection<B> {
    /// Starts to serve a client, or to refuse it if it is over a limit.
    ///
    /// # Errors
    /// The client has disconnected, or memory for its events ran out.
    pub(super) fn new(
        client: B::Stream,
        peer: Peer,
        permit: Result<ConnectionPermit, BusyCause>,
        turn: &mut Turn<'_, B>,
    ) -> io::Result<(Self, Status)> {
        let local = turn.context.local(&client)?;
        let mut state = ConnectionState::new(peer, local, permit, turn.context, turn.now);
        let io = B::Io::new(client, &mut state.io_context(turn))?;
        state.enter(Phase::ReadingRequest, turn);
        let mut connection = Self {
            state,
            io,
            closed: None,
            is_scheduled: false,
        };
        let action = connection.state.handshake.begin(&turn.context.rules);
        if let Action::Connect(_) = action
            && B::READS_AT_ONCE
        {
            connection.read_early(turn);
        }
        let status = connection.follow(action, turn);
        Ok((connection, status))
    }

    /// Records progress, and continues as far as possible unless a turn is scheduled for that.
    pub(super) fn on_event(&mut self, progress: B::Progress, turn: &mut Turn<'_, B>) -> Status {
        let relaying = self.state.phase == Phase::Relaying && !self.is_closed();
        let next = self
            .io
            .on_event(progress, relaying, &mut self.state.io_context(turn));
        match next {
            Next::Schedule => Status::Ready,
            Next::Wait => Status::Waiting,
            Next::Continue => self.serve(turn),
            Next::Received(received) if self.is_closed() => {
                if let Received::Bytes(chunk) = received {
                    turn.context.backend.release(chunk);
                }
                Status::Waiting
            }
            Next::Received(received) => match self.on_received(received, turn) {
                Some(status) => status,
                None => self.serve(turn),
            },
        }
    }

    /// Continues in a turn that the backend gave.
    pub(super) fn resume(&mut self, turn: &mut Turn<'_, B>) -> Status {
        self.io.resume();
        self.serve(turn)
    }

    /// The name is looked up.
    pub(super) fn on_resolved(&mut self, answer: Answer, turn: &mut Turn<'_, B>) -> Status {
        // The lookup may have been cancelled while its answer was on the way.
        if self.is_closed() || self.state.phase != Phase::Resolving {
            return Status::Waiting;
        }
        let action = self
            .state
            .handshake
            .on_resolved(answer, &turn.context.rules);
        self.follow(action, turn)
    }

    /// The deadline has passed, or it is time to try another address.
    pub(super) fn on_timeout(&mut self, turn: &mut Turn<'_, B>) -> Status {
        if self.is_closed() {
            return Status::Waiting;
        }
        let queued = match self.state.awaits_progress() {
            true => self.awaited(),
            false => [0; 2],
        };
        let action = match self.state.on_timeout(queued, turn) {
            TimeoutAction::Handshake(action) => action,
            TimeoutAction::GiveUp(address) => {
                self.io.give_up(address, &mut self.state.io_context(turn));
                self.state.handshake.gave_up(address, &turn.context.rules)
            }
            TimeoutAction::Wait => return self.serve(turn),
            TimeoutAction::Close(reason) => return Status::Close(reason),
        };
        self.follow(action, turn)
    }

    /// Starts the attempts for which there was no file descriptor.
    pub(super) fn reconnect(&mut self, turn: &mut Turn<'_, B>) -> Status {
        if self.is_closed() {
            return Status::Waiting;
        }
        match self.connect(turn) {
            Some(action) => self.follow(action, turn),
            None => self.serve(turn),
        }
    }

    /// Stops the connection and cancels its operations. It is to be removed when [`Self::is_removable`].
    pub(super) fn close(&mut self, reason: CloseReason, turn: &mut Turn<'_, B>) {
        self.closed = Some(reason);
        self.state.end_association(reason);
        self.state.stop(turn);
        self.io.cancel(&mut self.state.io_context(turn));
    }

    /// Whether it was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Whether it was closed and none of its operations is in flight.
    pub(super) fn is_removable(&self) -> bool {
        self.is_closed() && !self.io.is_busy()
    }

    /// As [`ConnectionState::may_evict`].
    pub(super) fn may_evict(&self, now: u64) -> Result<(), u64> {
        match self.is_closed() {
            true => Ok(()),
            false => self.state.may_evict(now),
        }
    }

    /// Whether the client exceeds the connection limit.
    pub(super) fn is_over_limit(&self) -> bool {
        self.state.is_over_limit()
    }

    /// As [`ConnectionState::displaceable_client`].
    pub(super) fn displaceable_client(&self) -> Option<IpAddr> {
        match self.is_closed() {
            true => None,
            false => self.state.displaceable_client(),
        }
    }

    /// As [`ConnectionState::give_up_permit`].
    pub(super) fn give_up_permit(&mut self, cause: BusyCause) {
        self.state.give_up_permit(cause);
    }

    /// As [`Timers::is_due`].
    pub(super) fn is_due(&mut self, key: Key, timers: &mut Timers<Key>, now: u64) -> bool {
        self.state.is_due(key, timers, now)
    }

    /// Continues as far as possible without an event.
    fn serve(&mut self, turn: &mut Turn<'_, B>) -> Status {
        if self.is_closed() {
            return Status::Waiting;
        }
        loop {
            let status = match self.state.phase {
                Phase::ReadingRequest => self.read_request(turn),
                Phase::Resolving | Phase::Connecting => self.await_server(turn),
                Phase::Relaying => self.relay(turn),
                Phase::Flushing { reason, to } => Some(self.await_flush(reason, to)),
                Phase::Associated => self.await_end(turn),
                Phase::Closing { .. } => self.await_close(turn),
            };
            if let Some(status) = status {
                return status;
            }
        }
    }

    /// Reads the request; `None` when the handshake continues.
    fn read_request(&mut self, turn: &mut Turn<'_, B>) -> Option<Status> {
        // There is no server yet, so this sends replies of the proxy itself.
        self.pump(Direction::ToClient, turn);
        match self.receive(REQUEST_CHUNK, turn) {
            None => Some(Status::Waiting),
            Some(received) => self.on_received(received, turn),
        }
    }

    /// Receives from the client outside of the relay.
    fn receive(&mut self, most: usize, turn: &mut Turn<'_, B>) -> Option<Received<B::Chunk>> {
        self.io.receive(most, &mut self.state.io_context(turn))
    }

    /// The client sent bytes, ended its side or is gone, outside of the relay. `None` when the connection can continue.
    fn on_received(
        &mut self,
        received: Received<B::Chunk>,
        turn: &mut Turn<'_, B>,
    ) -> Option<Status> {
        let (rules, backend) = (&turn.context.rules, &mut turn.context.backend);
        let action = match (&mut self.state.phase, received) {
            (Phase::ReadingRequest, Received::Bytes(chunk)) => {
                let awaited_header = self.state.handshake.awaits_header();
                let action = self.state.handshake.on_read(backend.bytes(&chunk), rules);
                backend.release(chunk);
                self.state.limit(action, awaited_header, turn)
            }
            (Phase::ReadingRequest, Received::End) => self.state.handshake.on_eof(rules),
            (Phase::Closing { client_closed, .. }, Received::End) => {
                *client_closed = true;
                return None;
            }
            (Phase::Associated, Received::End) => {
                return Some(Status::Close(CloseReason::Finished));
            }
            (Phase::Flushing { .. }, Received::End) => return None,
            (Phase::Flushing { reason, .. } | Phase::Closing { reason, .. }, Received::Failed) => {
                return Some(Status::Close(*reason));
            }
            (phase, Received::Bytes(chunk)) => {
                if let Phase::Closing { discarded, .. } = phase {
                    *discarded += backend.bytes(&chunk).len();
                }
                backend.release(chunk);
                return None;
            }
            (_, Received::End | Received::Failed) => {
                return Some(Status::Close(CloseReason::ClientReset));
            }
        };
        self.act(action, turn)
    }

    /// Does what the handshake decided and continues as far as possible.
    fn follow(&mut self, action: Action, turn: &mut Turn<'_, B>) -> Status {
        match self.act(action, turn) {
            Some(status) => status,
            None => self.serve(turn),
        }
    }

    /// Does what the handshake decided; `None` when the connection can continue.
    fn act(&mut self, action: Action, turn: &mut Turn<'_, B>) -> Option<Status> {
        let mut next = Some(action);
        while let Some(action) = next.take() {
            self.reply();
            match action {
                Action::Read => {}
                Action::Resolve(name) => self.state.resolve(name, turn),
                Action::Connect(_) => {
                    self.send_preamble();
                    self.state.start_attempt(turn);
                    next = self.connect(turn);
                }
                Action::Associate(request) => next = self.associate(request, turn),
                Action::Wait => self.state.await_attempts(turn),
                Action::Refuse(reason) if self.state.relay.to_client.buffered() == 0 => {
                    return Some(Status::Close(reason));
                }
                Action::Refuse(reason) => {
                    self.state.relay.to_client.ended();
                    self.start_closing(reason, turn);
                }
            }
        }
        None
    }

    /// Starts the attempts that the handshake wants and that are not in progress; what follows if one fails at once.
    fn connect(&mut self, turn: &mut Turn<'_, B>) -> Option<Action> {
        // A connection that waited for a file descriptor may be in another phase by now.
        while self.state.phase == Phase::Connecting {
            let io = &self.io;
            let is_new = |address: &SocketAddr| !io.is_connecting_to(*address);
            let address = self.state.handshake.attempts().find(is_new)?;
            let sends_first = self.state.relay.to_server.buffered() > 0;
            let mut io_context = self.state.io_context(turn);
            let started = self.io.connect(address, sends_first, &mut io_context);
            let context = &mut *turn.context;
            match started {
                Ok(()) => {}
                Err(error)
                    if is_exhausted(&error) && self.state.handshake.attempts().len() == 1 =>
                {
                    context.backend.pipes().shrink();
                    context.waiting_for_fd.push(turn.key);
                    return None;
                }
                Err(error) => {
                    let handshake = &mut self.state.handshake;
                    return Some(handshake.on_connect_failed(address, &error, &context.rules));
                }
            }
        }
        None
    }

    /// Opens an association of datagrams; what follows if that fails.
    fn associate(&mut self, request: Associate, turn: &mut Turn<'_, B>) -> Option<Action> {
        let context = &*turn.context;
        let wanted = Wanted {
            connected: &self.io.client(),
            request,
            info: &self.state.handshake.info,
            key: turn.key,
            now: turn.now,
        };
        let opened = match &context.associations {
            Some(associations) => associations.open(&wanted, &context.association_ends),
            None => Err(Outcome::Busy),
        };
        match opened {
            Ok((association, relay)) => {
                self.state.on_associated(association, relay, turn);
                self.reply();
                None
            }
            Err(outcome) => Some(self.state.handshake.on_associate_failed(&outcome)),
        }
    }

    /// Sends the reply, discards input and waits for the client to close, which ends its association.
    fn await_end(&mut self, turn: &mut Turn<'_, B>) -> Option<Status> {
        self.pump(Direction::ToClient, turn);
        for _ in 0..DISCARD_QUANTUM {
            let Some(received) = self.receive(REQUEST_CHUNK, turn) else {
                return Some(Status::Waiting);
            };
            if let Some(status) = self.on_received(received, turn) {
                return Some(status);
            }
        }
        Some(Status::Ready)
    }

    /// Sends replies and looks whether the client hung up and whether an attempt has completed; `None` when the connection
    /// can continue.
    fn await_server(&mut self, turn: &mut Turn<'_, B>) -> Option<Status> {
        self.pump(Direction::ToClient, turn);
        let unread = self.io.hang_up(&mut self.state.io_context(turn));
        if let Some(reason) = unread.and_then(|unread| self.state.on_hang_up(unread, turn)) {
            return Some(Status::Close(reason));
        }
        let Some((server, outcome)) = self.io.next_connected() else {
            return Some(Status::Waiting);
        };
        match outcome {
            Ok(local) => {
                self.start_relaying(server, local, turn);
                None
            }
            Err(error) => {
                let rules = &turn.context.rules;
                let handshake = &mut self.state.handshake;
                let action = handshake.on_connect_failed(server, &error, rules);
                self.act(action, turn)
            }
        }
    }

    /// The first server that is connected is used.
    fn start_relaying(&mut self, server: SocketAddr, local: SocketAddr, turn: &mut Turn<'_, B>) {
        self.state.on_connected(server, local, turn);
        self.reply();
        let forwarding = turn.context.forwarding;
        self.io
            .start_relaying(forwarding, &mut self.state.io_context(turn));
    }

    /// Relays in both directions; `None` when only the client remains to be closed.
    fn relay(&mut self, turn: &mut Turn<'_, B>) -> Option<Status> {
        self.state.relay.set_bulk_method(turn.context.bulk_method());
        let can_continue =
            [Direction::ToServer, Direction::ToClient].map(|direction| self.pump(direction, turn));
        match self.state.finished() {
            None => {}
            Some(Finished::Close(reason)) => return Some(Status::Close(reason)),
            Some(Finished::Flushing(reason, to)) => {
                return Some(self.start_flushing(reason, to, turn));
            }
            Some(Finished::Closing(reason)) => {
                self.start_closing(reason, turn);
                return None;
            }
        }
        // The client is no longer read from, and may disconnect before its answer is complete.
        if self.state.relay.to_server.is_shut() {
            self.io.watch_reset(&mut self.state.io_context(turn));
        }
        self.state.on_relayed(turn);
        Some(match can_continue.contains(&true) {
            true => Status::Ready,
            false => Status::Waiting,
        })
    }

    /// A client that is forwarded without a request has often sent data already, which can leave with the server's TCP
    /// handshake.
    fn read_early(&mut self, turn: &mut Turn<'_, B>) {
        self.send_preamble();
        self.state.relay.to_server.readable(Readable::Open);
        if let Step::Fill { via: Via::Copy, .. } = self.state.relay.step(Direction::ToServer) {
            self.pump(Direction::ToServer, turn);
        }
    }

    /// Queues what the handshake has for the server.
    fn send_preamble(&mut self) {
        let preamble = self.state.take_preamble();
        self.io.queue(Direction::ToServer, &preamble);
    }

    /// Queues what the handshake has for the client.
    fn reply(&mut self) {
        let reply = self.state.take_reply();
        self.io.queue(Direction::ToClient, &reply);
    }

    /// Whether the direction can continue at once.
    fn pump(&mut self, direction: Direction, turn: &mut Turn<'_, B>) -> bool {
        self.io.pump(direction, &mut self.state.io_context(turn))
    }
}
