//! A receiver with one request that goes on: multishot recvmsg into provided buffers (Linux 6.0).
//!
//! The kernel fills one buffer after the other, and says with each completion which it was. When it finds none
//! the request ends with `ENOBUFS` and is made anew; nothing is lost by that, the datagrams stay in the socket.

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use io_uring::opcode;

use super::buffers::{Buffers, GROUP};
use super::outbox::Outbox;
use super::owner;
use super::ring::{Abandon, Completion, Kept, Ring, SOCKET};
use crate::engine::choice::UringSettings;
use crate::engine::errors::PendingErrors;
use crate::engine::stats::ReceiveStats;
use crate::engine::{Layout, Rx};
use crate::sys::message::Message;
use crate::sys::region::Region;
use crate::sys::wake::Wake;
use crate::sys::{error_queue, socket};

/// What the kernel writes before the payload: `struct io_uring_recvmsg_out`, the name and the control data. The
/// latter two are given more room than they need, so that the payload begins with a cache line.
const OUT_BYTES: usize = 16;
const NAME_BYTES: usize = 32;
const CONTROL_BYTES: usize = 80;
const BEFORE: usize = OUT_BYTES + NAME_BYTES + CONTROL_BYTES;

/// Buffers at least. More than a batch are of no use: while the kernel fills them, nothing is taken out.
const FEWEST: usize = 4;

/// A receiver on a bound socket.
pub struct MultishotRx {
    kept: Kept<Memory>,
    socket: UdpSocket,
    _wake: Wake,
    most: usize,
    armed: bool,
    errors: PendingErrors,
    stats: ReceiveStats,
}

struct Memory {
    buffers: Buffers,
    outbox: Outbox,
    /// A `msghdr` that says how long the name and the control data may be.
    shape: Region,
}

impl MultishotRx {
    /// Whatever `layout` does not hold of a message is cut off, and the message counted as truncated.
    ///
    /// # Errors
    /// As io_uring_setup(2) and io_uring_register(2); out of file descriptors or memory.
    pub fn new(
        socket: UdpSocket,
        layout: Layout,
        settings: &UringSettings,
        wake: &Wake,
    ) -> io::Result<Self> {
        let count = layout.messages.max(FEWEST);
        // Without the option ICMP errors are passed over all the same, and not counted.
        let _ = error_queue::enable(&socket);
        let files = [socket.as_raw_fd(), wake.as_fd().as_raw_fd()];
        let ring = Ring::new(settings, 64, 2 * count as u32 + 64, &files)?;
        let stride = (BEFORE + layout.bytes).next_multiple_of(64);
        let buffers = Buffers::new(&ring, count, stride)?;
        let shape = Region::new(size_of::<libc::msghdr>())?;
        // SAFETY: all zero is valid for plain integers and pointers; the region has room and is aligned.
        unsafe {
            let mut header: libc::msghdr = mem::zeroed();
            header.msg_namelen = NAME_BYTES as u32;
            header.msg_controllen = CONTROL_BYTES as _;
            shape.as_ptr().cast::<libc::msghdr>().write(header);
        }
        let memory = Memory {
            buffers,
            outbox: Outbox::new()?,
            shape,
        };
        Ok(Self {
            kept: Kept::new(ring, memory),
            socket,
            _wake: wake.clone(),
            most: layout.messages,
            armed: false,
            errors: PendingErrors::default(),
            stats: ReceiveStats::default(),
        })
    }

    /// Makes the requests that go on, where they have ended.
    fn arm(&mut self) -> io::Result<()> {
        if !mem::replace(&mut self.armed, true) {
            let shape = self.kept.memory.shape.as_ptr().cast::<libc::msghdr>();
            let request = opcode::RecvMsgMulti::new(SOCKET, shape, GROUP)
                .build()
                .user_data(owner::RECEIVE);
            // SAFETY: the header is never written to again, and it and the buffers outlive the ring.
            unsafe { self.kept.ring.push(&request)? };
        }
        self.kept.ring.watch_wake()?;
        Ok(())
    }

    /// Takes in a completion, and says whether it was a message.
    #[inline]
    fn take(
        &mut self,
        completion: Completion,
        each: &mut impl FnMut(Message<'_>),
    ) -> io::Result<bool> {
        match owner::of(completion.user_data) {
            (owner::RECEIVE, _) => {
                if !completion.more() {
                    self.armed = false;
                    self.kept.ring.rearmed();
                }
                if let Some(errno) = completion.errno() {
                    useless(errno)?;
                    // Else the buffers ran out, which is no error of the socket's.
                    if errno != libc::ENOBUFS {
                        self.errors.collect(self.socket.as_fd(), |_| ());
                    }
                } else if let Some(buffer) = completion.buffer() {
                    let length = completion.result as usize;
                    if let Some(message) = message(self.kept.memory.buffers.filled(buffer, length))
                    {
                        self.stats.truncated += u64::from(message.truncated);
                        each(message);
                    }
                    self.kept.memory.buffers.give_back(buffer);
                    return Ok(true);
                }
            }
            (owner::LETTER, number) => {
                let (socket, errors) = (self.socket.as_fd(), &mut self.errors);
                let outbox = &mut self.kept.memory.outbox;
                outbox.sent(
                    &mut self.kept.ring,
                    number,
                    completion.errno(),
                    socket,
                    errors,
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
        // One that ran out of buffers may have left something in the socket, so it is asked again, once.
        for _ in 0..2 {
            self.arm()?;
            if self.kept.ring.has_work() {
                self.kept.ring.enter()?;
            }
            while count < self.most
                && let Some(completion) = self.kept.ring.next()
            {
                count += usize::from(self.take(completion, &mut each)?);
            }
            if count > 0 || self.armed {
                break;
            }
        }
        self.stats.messages += count as u64;
        self.stats.eagain += u64::from(count == 0);
        Ok(count)
    }

    fn answer(&mut self, datagram: &[u8], to: SocketAddr) {
        self.stats.answers += 1;
        self.kept
            .memory
            .outbox
            .send(&mut self.kept.ring, datagram, Some(to));
    }

    fn wait(&mut self, deadline: u64) -> io::Result<()> {
        self.stats.waits += 1;
        self.arm()?;
        self.kept.ring.wait(deadline)
    }

    fn drops(&self) -> u64 {
        socket::drops(self.socket.as_fd()).map_or(0, u64::from)
    }

    fn stats(&self) -> ReceiveStats {
        let ring = self.kept.ring.stats();
        ReceiveStats {
            syscalls: ring.enters,
            icmp: self.errors.icmp,
            ring: Some(ring),
            ..self.stats
        }
    }
}

#[cfg(test)]
impl MultishotRx {
    /// Closes the ring as a drop does, and then writes `canary` all over the buffers.
    pub(super) fn settle(&mut self, canary: u8) {
        assert!(self.kept.ring.close());
        self.kept.memory.buffers.overwrite(canary);
    }

    /// Whether nobody else has written to them since.
    pub(super) fn is_all(&self, canary: u8) -> bool {
        self.kept.memory.buffers.is_all(canary)
    }
}

impl Abandon for Memory {
    fn abandon(self) {
        self.buffers.abandon();
        self.outbox.abandon();
        self.shape.abandon();
    }
}

/// What a filled buffer holds: a `struct io_uring_recvmsg_out`, the name, the control data, the payload.
#[inline]
fn message(filled: &[u8]) -> Option<Message<'_>> {
    let number = |at: usize| -> Option<usize> {
        let bytes = filled.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes) as usize)
    };
    let (name, control, flags) = (number(0)?, number(4)?, number(12)?);
    let after_name = OUT_BYTES + NAME_BYTES;
    let name = filled.get(OUT_BYTES..OUT_BYTES + name.min(NAME_BYTES))?;
    let control = filled.get(after_name..after_name + control.min(CONTROL_BYTES))?;
    let payload = filled.get(BEFORE..)?;
    Some(Message::new(payload, name, control, flags as libc::c_int))
}

/// Fails with what makes a socket useless; all else is passed over, as it only reports what became of an earlier send.
pub(super) fn useless(errno: i32) -> io::Result<()> {
    match errno {
        libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::ENOMEM | libc::EINVAL => {
            Err(io::Error::from_raw_os_error(errno))
        }
        _ => Ok(()),
    }
}
