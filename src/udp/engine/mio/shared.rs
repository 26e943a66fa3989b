//! Receiver of a stream whose event loop serves other streams too: the socket is the stream's own, the batch is the loop's.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;

use super::receive_batch;
use super::rx::send_control;
use crate::sys::cmsg::Message;
use crate::sys::mmsg::ReceiveBatch;
use crate::sys::{error_queue, socket};
use crate::udp::engine::errors::PendingErrors;
use crate::udp::engine::stats::ReceiveStats;
use crate::udp::engine::{Layout, Rx};

/// Messages per system call. Few are queued at a socket that an event loop serves in time.
const MESSAGES: usize = 16;

/// Most bytes of a message (udp(7)).
const BYTES: usize = 65_536;

/// The batch of an event loop.
pub fn shared_batch() -> ReceiveBatch {
    ReceiveBatch::new(MESSAGES, BYTES)
}

/// The socket of a stream, with its counters.
pub struct SharedSocket {
    socket: Arc<UdpSocket>,
    /// Longer messages are truncated.
    bytes: usize,
    errors: PendingErrors,
    stats: ReceiveStats,
}

impl SharedSocket {
    /// A bound socket with the message layout of its stream.
    pub fn new(socket: Arc<UdpSocket>, layout: Layout) -> Self {
        // If the option is refused, ICMP errors are skipped without being counted.
        let _ = error_queue::enable(&socket);
        Self {
            socket,
            bytes: layout.bytes,
            errors: PendingErrors::default(),
            stats: ReceiveStats::default(),
        }
    }

    /// The socket.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// The receiver with the batch of its loop.
    pub fn with<'a>(&'a mut self, batch: &'a mut ReceiveBatch) -> SharedRx<'a> {
        batch.set_length(self.bytes);
        SharedRx {
            shared: self,
            batch,
            is_drained: false,
        }
    }
}

/// The receiver during one turn of its loop.
pub struct SharedRx<'a> {
    shared: &'a mut SharedSocket,
    batch: &'a mut ReceiveBatch,
    is_drained: bool,
}

impl SharedRx<'_> {
    /// Whether the last receive left no message in the socket.
    pub fn is_drained(&self) -> bool {
        self.is_drained
    }
}

impl Rx for SharedRx<'_> {
    fn receive(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<usize> {
        let shared = &mut *self.shared;
        shared.stats.syscalls += 1;
        let received = receive_batch(self.batch, &shared.socket, &mut shared.errors, |_| ())?;
        let Some(count) = received else {
            shared.stats.eagain += 1;
            self.is_drained = true;
            return Ok(0);
        };
        // An error that ends a batch early has a readiness event of its own.
        self.is_drained = count < self.batch.capacity();
        shared.stats.messages += count as u64;
        for message in self.batch.messages(count) {
            shared.stats.truncated += u64::from(message.truncated);
            each(message);
        }
        Ok(count)
    }

    fn send_control(&mut self, datagram: &[u8], to: SocketAddr) {
        let shared = &mut *self.shared;
        shared.stats.answers += 1;
        send_control(&shared.socket, &mut shared.errors, datagram, to);
    }

    fn wait(&mut self, _deadline: u64) -> io::Result<()> {
        self.shared.stats.waits += 1;
        Ok(())
    }

    fn drops(&self) -> u64 {
        socket::drops(self.shared.socket.as_fd()).map_or(0, u64::from)
    }

    fn stats(&self) -> ReceiveStats {
        ReceiveStats {
            icmp: self.shared.errors.icmp,
            ..self.shared.stats
        }
    }
}
