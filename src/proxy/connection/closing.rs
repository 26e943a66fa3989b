//! The end of a connection: the last reply, discarded input, and what a reset drops.

use std::os::fd::BorrowedFd;

use super::{Connection, Status};
use crate::proxy::backend::{Backend, ConnectionIo};
use crate::proxy::chunk::{CHUNK_SIZE, DISCARD_QUANTUM};
use crate::proxy::context::Turn;
use crate::proxy::options::MAX_DISCARDED;
use crate::proxy::record::{CloseReason, ConnectionRecord};
use crate::proxy::relay::{Direction, Readable, Side, Step};
use crate::proxy::state::Phase;
use crate::sys::endpoint::Peer;
use crate::sys::tcp;

impl<B: Backend> Connection<B> {
    /// Closes the sockets.
    pub(in crate::proxy) fn into_record(self, turn: &mut Turn<'_, B>) -> ConnectionRecord {
        let reason = self.closed.unwrap_or(CloseReason::Stopped);
        let reset = !self.state.is_complete(reason);
        let dropped = match reset {
            true => self.dropped(),
            false => [0; 2],
        };
        self.io
            .close(reset, self.state.unsent(), &mut turn.context.backend);
        self.state
            .into_record(reason, dropped, &turn.context.counters, turn.now)
    }

    pub(super) fn start_closing(&mut self, reason: CloseReason, turn: &mut Turn<'_, B>) {
        self.io.close_server(&mut self.state.io_context(turn));
        // The first attempt to receive finds out whether there is anything to discard.
        self.state.relay.to_server.readable(Readable::Open);
        let phase = Phase::Closing {
            reason,
            client_closed: false,
            discarded: 0,
        };
        self.state.release_memory();
        self.state.enter(phase, turn);
    }

    /// Sends the last reply, discards input and waits for the client to close; `None` when the connection can continue. The
    /// connection of a client that sends more than [`MAX_DISCARDED`] is reset once the reply is acknowledged.
    pub(super) fn await_close(&mut self, turn: &mut Turn<'_, B>) -> Option<Status> {
        self.pump(Direction::ToClient, turn);
        for _ in 0..DISCARD_QUANTUM {
            let Phase::Closing {
                reason,
                client_closed,
                discarded,
            } = self.state.phase
            else {
                return None;
            };
            let is_flooded = discarded > MAX_DISCARDED;
            if client_closed || is_flooded {
                let is_sent = self.state.relay.to_client.step() == Step::Over;
                let is_over = is_sent && !(is_flooded && self.queued() != [0; 2]);
                return Some(match is_over {
                    true => Status::Close(reason),
                    false => Status::Waiting,
                });
            }
            let Some(received) = self.receive(CHUNK_SIZE, turn) else {
                return Some(Status::Waiting);
            };
            if let Some(status) = self.on_received(received, turn) {
                return Some(status);
            }
        }
        Some(Status::Ready)
    }

    /// The lengths of the send queues to the server and to the client.
    pub(super) fn queued(&self) -> [u64; 2] {
        let length = |socket: BorrowedFd<'_>| tcp::unacknowledged(&socket).unwrap_or(0);
        [self.io.server().map_or(0, length), length(self.io.client())]
    }

    /// As [`Self::queued`], of the ends whose progress counts.
    pub(super) fn awaited(&self) -> [u64; 2] {
        let [to_server, to_client] = self.queued();
        match self.state.phase {
            Phase::Flushing {
                to: Side::Server, ..
            } => [to_server, 0],
            Phase::Flushing {
                to: Side::Client, ..
            } => [0, to_client],
            _ => [to_server, to_client],
        }
    }

    /// Starts to wait until the end that is left has acknowledged all.
    pub(super) fn start_flushing(
        &mut self,
        reason: CloseReason,
        to: Side,
        turn: &mut Turn<'_, B>,
    ) -> Status {
        self.state.start_flushing(reason, to, turn);
        self.await_flush(reason, to)
    }

    /// Closes the connection if the end that is left has acknowledged all, or is gone too.
    pub(super) fn await_flush(&self, reason: CloseReason, to: Side) -> Status {
        let socket = match to {
            Side::Server => self.io.server(),
            Side::Client => Some(self.io.client()),
        };
        let is_broken = socket.is_none_or(|socket| tcp::is_broken(&socket));
        match is_broken || self.awaited() == [0; 2] {
            true => Status::Close(reason),
            false => Status::Waiting,
        }
    }

    /// Bytes of the send queues that a reset discards. A client behind a Unix socket has received all.
    fn dropped(&self) -> [u64; 2] {
        let [to_server, to_client] = self.queued();
        match self.state.handshake.info.peer {
            Peer::Ip(_) => [to_server, to_client],
            Peer::Unix => [to_server, 0],
        }
    }
}
