//! A receiver: a batch of messages a call.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};

use super::{SOCKET, WAKE, poll, receive_batch};
use crate::engine::stats::ReceiveStats;
use crate::engine::{Layout, Rx};
use crate::sys::message::Message;
use crate::sys::mmsg::ReceiveBatch;
use crate::sys::socket;
use crate::sys::wake::Wake;

/// A receiver on a bound socket.
pub struct MioRx {
    socket: UdpSocket,
    poll: Poll,
    events: Events,
    batch: ReceiveBatch,
    stats: ReceiveStats,
}

impl MioRx {
    /// Whatever `layout` does not hold of a message is cut off, and the message counted as truncated.
    ///
    /// # Errors
    /// Out of file descriptors or memory.
    pub fn new(socket: UdpSocket, layout: Layout, wake: &Wake) -> io::Result<Self> {
        let poll = Poll::new()?;
        let register = |fd, token| {
            poll.registry()
                .register(&mut SourceFd(&fd), token, Interest::READABLE)
        };
        register(socket.as_raw_fd(), SOCKET)?;
        register(wake.as_fd().as_raw_fd(), WAKE)?;
        Ok(Self {
            socket,
            poll,
            events: Events::with_capacity(4),
            batch: ReceiveBatch::new(layout.messages, layout.bytes),
            stats: ReceiveStats::default(),
        })
    }
}

impl Rx for MioRx {
    fn receive(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<usize> {
        self.stats.syscalls += 1;
        let Some(count) = receive_batch(&mut self.batch, &self.socket)? else {
            self.stats.eagain += 1;
            return Ok(0);
        };
        self.stats.messages += count as u64;
        for message in self.batch.messages(count) {
            self.stats.truncated += u64::from(message.truncated);
            each(message);
        }
        Ok(count)
    }

    fn answer(&mut self, datagram: &[u8], to: SocketAddr) {
        self.stats.answers += 1;
        let _ = self.socket.send_to(datagram, to);
    }

    fn wait(&mut self, deadline: u64) -> io::Result<()> {
        self.stats.waits += 1;
        poll(&mut self.poll, &mut self.events, Some(deadline))
    }

    fn drops(&self) -> u64 {
        socket::drops(self.socket.as_fd()).map_or(0, u64::from)
    }

    fn stats(&self) -> ReceiveStats {
        self.stats
    }
}
