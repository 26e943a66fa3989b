//! What the connections of a thread share over io_uring(7).

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;

use io_uring::squeue;

use super::operation::Operation;
use super::provided_buffers::{ProvidedBuffers, Size};
use super::ring::RingWithMemory;
use super::scheduler::Scheduler;
use super::waiting::WaitingConnections;
use crate::proxy::backend::IoContext;
use crate::proxy::buffers::BufferPool;
use crate::proxy::pipes::PipePool;
use crate::proxy::slab::Key;

/// The context of a call.
pub(super) type Context<'a> = IoContext<'a, Uring>;

/// How clients are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepting {
    /// No operation is in flight.
    Idle,
    InFlight,
    /// By attempts that do not wait.
    BacklogOnly,
}

/// The backend of a thread.
pub(in crate::proxy) struct Uring {
    pub(super) ring: RingWithMemory<ProvidedBuffers>,
    /// `None` once it is closed.
    pub(super) listener: Option<TcpListener>,
    pub(super) listens_on_path: bool,
    pub(super) accepting: Accepting,
    pub(super) scheduler: Scheduler,
    pub(super) waiting: WaitingConnections,
    /// Connections whose receive found no buffer.
    pub(super) without_buffer: VecDeque<Key>,
    pub(super) pipes: PipePool,
    pub(super) buffer_pool: BufferPool,
    /// The error of an operation that could not be submitted. It ends the loop.
    pub(super) failure: Option<io::Error>,
}

impl Uring {
    /// Queues an operation, which the next [`Backend::wait`] submits.
    ///
    /// # Safety
    /// As [`Ring::push`].
    pub(super) unsafe fn submit(&mut self, operation: &squeue::Entry) {
        // SAFETY: passed on to the caller.
        if let Err(error) = unsafe { self.ring.ring.push(operation) } {
            self.failure.get_or_insert(error);
        }
    }

    /// Cancels an operation of a connection.
    pub(super) fn cancel(&mut self, operation: Operation, key: Key) {
        self.cancel_one(operation.user_data(key));
    }

    pub(super) fn cancel_one(&mut self, user_data: u64) {
        if let Err(error) = self.ring.ring.cancel_one(user_data) {
            self.failure.get_or_insert(error);
        }
    }

    pub(super) fn buffers(&self) -> &ProvidedBuffers {
        &self.ring.memory
    }

    pub(super) fn buffers_mut(&mut self) -> &mut ProvidedBuffers {
        &mut self.ring.memory
    }

    /// A receive of this connection found no buffer. The connection gets a turn.
    pub(super) fn on_no_buffer(&mut self, key: Key, size: Size) {
        self.ring.ring.count_rearm();
        self.ring.memory.on_shortage(size);
        self.without_buffer.push_back(key);
    }
}
