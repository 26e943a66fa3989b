//! Receiver: one batch of messages per system call.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};

use super::{SOCKET, WAKE, poll, receive_batch};
use crate::sys::cmsg::Message;
use crate::sys::mmsg::ReceiveBatch;
use crate::sys::{error_queue, socket};
use crate::udp::engine::Rx;
use crate::udp::engine::endpoint::RxEndpoint;
use crate::udp::engine::errors::PendingErrors;
use crate::udp::engine::stats::ReceiveStats;

/// Most tries of a control send while ICMP errors are pending.
const CONTROL_TRIES: u32 = 4;

/// A receiver on a bound socket.
pub struct MioRx {
    socket: UdpSocket,
    poll: Poll,
    events: Events,
    batch: ReceiveBatch,
    errors: PendingErrors,
    stats: ReceiveStats,
}

impl MioRx {
    /// Opens a receiver.
    ///
    /// # Errors
    /// Out of file descriptors or memory.
    pub fn new(endpoint: RxEndpoint<'_>) -> io::Result<Self> {
        let RxEndpoint {
            socket,
            layout,
            wake,
        } = endpoint;
        let poll = Poll::new()?;
        // If the option is refused, ICMP errors are skipped without being counted.
        let _ = error_queue::enable(&socket);
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
            errors: PendingErrors::default(),
            stats: ReceiveStats::default(),
        })
    }
}

impl Rx for MioRx {
    fn receive(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<usize> {
        self.stats.syscalls += 1;
        let batch = &mut self.batch;
        let Some(count) = receive_batch(batch, &self.socket, &mut self.errors, |_| ())? else {
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

    fn send_control(&mut self, datagram: &[u8], to: SocketAddr) {
        self.stats.answers += 1;
        send_control(&self.socket, &mut self.errors, datagram, to);
    }

    fn wait(&mut self, deadline: u64) -> io::Result<()> {
        self.stats.waits += 1;
        poll(&mut self.poll, &mut self.events, Some(deadline))
    }

    fn drops(&self) -> u64 {
        socket::drops(self.socket.as_fd()).map_or(0, u64::from)
    }

    fn stats(&self) -> ReceiveStats {
        ReceiveStats {
            icmp: self.errors.icmp,
            ..self.stats
        }
    }
}

/// Sends one datagram. If there is no room the datagram is lost, as on the path.
pub(super) fn send_control(
    socket: &UdpSocket,
    errors: &mut PendingErrors,
    datagram: &[u8],
    to: SocketAddr,
) {
    for _ in 0..CONTROL_TRIES {
        let Err(error) = socket.send_to(datagram, to) else {
            break;
        };
        let errno = error.raw_os_error().unwrap_or(0);
        if !errors.explain(socket.as_fd(), errno, |_| ()) {
            break;
        }
    }
    errors.resolved();
}
