//! Receiver with one multishot recvmsg request and provided buffers (Linux 6.0).
//!
//! The kernel fills buffers in order and names the buffer in each completion. Without a free buffer the request ends
//! with `ENOBUFS` and is re-armed. Datagrams stay in the socket meanwhile.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use io_uring::opcode;

use super::control_sends::ControlSends;
use super::port::{Port, check_socket};
use super::tag;
use crate::engine::UringSettings;
use crate::sys::cmsg::Message;
use crate::sys::socket;
use crate::udp::engine::Rx;
use crate::udp::engine::endpoint::RxEndpoint;
use crate::udp::engine::stats::ReceiveStats;
use crate::uring::buffers::{BufferRing, GROUP};
use crate::uring::recvmsg::{BEFORE, Output, Shape};
use crate::uring::ring::{Completion, Leak, Ring, RingWithMemory, SOCKET};

/// Minimum number of buffers. More buffers than a batch has are useless: the batch is not drained while the kernel
/// fills them.
const MIN_BUFFERS: usize = 4;

/// A receiver on a bound socket.
pub struct MultishotRx {
    uring: RingWithMemory<Memory>,
    port: Port,
    batch: usize,
    armed: bool,
    stats: ReceiveStats,
}

struct Memory {
    buffers: BufferRing,
    control_sends: ControlSends,
    shape: Shape,
}

impl MultishotRx {
    /// Opens a receiver.
    ///
    /// # Errors
    /// As io_uring_setup(2) and io_uring_register(2); out of file descriptors or memory.
    pub fn new(endpoint: RxEndpoint<'_>, settings: &UringSettings) -> io::Result<Self> {
        let layout = endpoint.layout;
        let port = Port::new(endpoint.socket, endpoint.wake);
        let count = layout.messages.max(MIN_BUFFERS);
        let ring = Ring::new(settings, 64, 2 * count as u32 + 64, &port.files())?;
        let stride = (BEFORE + layout.bytes).next_multiple_of(64);
        let buffers = BufferRing::new(&ring, count, stride)?;
        let shape = Shape::new()?;
        let memory = Memory {
            buffers,
            control_sends: ControlSends::new()?,
            shape,
        };
        Ok(Self {
            uring: RingWithMemory::new(ring, memory),
            port,
            batch: layout.messages,
            armed: false,
            stats: ReceiveStats::default(),
        })
    }

    /// Re-arms requests that have ended.
    fn arm(&mut self) -> io::Result<()> {
        if !mem::replace(&mut self.armed, true) {
            let shape = self.uring.memory.shape.header();
            let request = opcode::RecvMsgMulti::new(SOCKET, shape, GROUP)
                .build()
                .user_data(tag::RECEIVE);
            // SAFETY: the header is never written again, and the header and the buffers outlive the ring.
            unsafe { self.uring.ring.push(&request)? };
        }
        self.uring.ring.arm_wake()?;
        Ok(())
    }

    /// Handles a completion and returns whether it was a message.
    #[inline]
    fn handle(
        &mut self,
        completion: Completion,
        each: &mut impl FnMut(Message<'_>),
    ) -> io::Result<bool> {
        match tag::split(completion.user_data) {
            (tag::RECEIVE, _) => {
                if !completion.more() {
                    self.armed = false;
                    self.uring.ring.count_rearm();
                }
                if let Some(errno) = completion.errno() {
                    check_socket(errno)?;
                    // ENOBUFS means no free buffer, not a socket error.
                    if errno != libc::ENOBUFS {
                        self.port.collect_errors();
                    }
                } else if let Some(buffer) = completion.buffer() {
                    let length = completion.result as usize;
                    if let Some(message) = message(self.uring.memory.buffers.filled(buffer, length))
                    {
                        self.stats.truncated += u64::from(message.truncated);
                        each(message);
                    }
                    self.uring.memory.buffers.provide(buffer);
                    return Ok(true);
                }
            }
            (tag::CONTROL, number) => {
                let sends = &mut self.uring.memory.control_sends;
                sends.sent(
                    &mut self.uring.ring,
                    number,
                    completion.errno(),
                    &mut self.port,
                );
            }
            _ => {}
        }
        Ok(false)
    }
}

impl Rx for MultishotRx {
    fn receive(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<usize> {
        let mut count = 0;
        // A request that ended without buffers may have left datagrams in the socket, so the receive is repeated once.
        for _ in 0..2 {
            self.arm()?;
            if self.uring.ring.has_work() {
                self.uring.ring.enter()?;
            }
            while count < self.batch
                && let Some(completion) = self.uring.ring.next()
            {
                count += usize::from(self.handle(completion, &mut each)?);
            }
            if count > 0 || self.armed {
                break;
            }
        }
        self.stats.count_batch(count);
        Ok(count)
    }

    fn send_control(&mut self, datagram: &[u8], to: SocketAddr) {
        self.stats.answers += 1;
        let sends = &mut self.uring.memory.control_sends;
        sends.send(&mut self.uring.ring, datagram, Some(to));
    }

    fn wait(&mut self, deadline: u64) -> io::Result<()> {
        self.stats.waits += 1;
        self.arm()?;
        self.uring.ring.wait(deadline)
    }

    fn is_behind(&self) -> bool {
        socket::has_datagram(self.port.socket.as_fd())
    }

    fn drops(&self) -> u64 {
        self.port.drops()
    }

    fn stats(&self) -> ReceiveStats {
        self.port.receive_stats(self.stats, &self.uring.ring)
    }
}

#[cfg(test)]
impl MultishotRx {
    /// Closes the ring like a drop, then fills the buffers with `canary`.
    pub(super) fn close(&mut self, canary: u8) {
        assert!(self.uring.ring.close());
        self.uring.memory.buffers.overwrite(canary);
    }

    /// Whether all buffers still contain `canary`.
    pub(super) fn is_all(&self, canary: u8) -> bool {
        self.uring.memory.buffers.is_all(canary)
    }
}

impl Leak for Memory {
    fn leak(self) {
        self.buffers.leak();
        self.control_sends.leak();
        self.shape.leak();
    }
}

/// The message in a filled buffer.
#[inline]
fn message(filled: &[u8]) -> Option<Message<'_>> {
    let output = Output::parse(filled)?;
    Some(Message::new(
        output.payload,
        output.name,
        output.control,
        output.flags,
    ))
}
