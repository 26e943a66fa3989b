//! A ring with loopback sockets and the memory of its requests, to try operations with.
//!
//! Memory of a request stays in place until its last completion. On drop a [`Trial`] cancels its requests and reaps
//! their completions; if one is missing, the memory is leaked.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use socket2::{Domain, Socket, Type};

use super::ring::{COPIED, REPORT_USAGE};
use super::setup::{plain, ring};
use crate::engine::UringSettings;
use crate::sys::loopback::{no_effect, pair};

/// The payload of sends.
pub(crate) const PAYLOAD: [u8; 32] = [7; 32];

/// Bytes of each buffer that the kernel fills. A multishot receive writes a 16-byte header before the data.
const BUFFER: usize = 128;

/// Provided buffers, a power of two.
pub(crate) const BUFFERS: u16 = 4;

/// Their buffer group.
const GROUP: u16 = 0;

/// Longest wait for a completion. Loopback takes microseconds.
const PATIENCE_MS: u32 = 50;

/// Most waits for cancelled requests, at one completion per wait.
const LAST_WAITS: u32 = 20;

/// `user_data` of a cancellation.
pub(crate) const CANCEL: u64 = u64::MAX;

/// `user_data` of [`Request::AcceptMulti`]. Other requests have 0.
const ACCEPT: u64 = 1;

/// A request that a trial can submit. The trial builds the entry, so every pointer leads to its own memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Send [`PAYLOAD`] from the sender to the receiver.
    Send,
    /// Like [`Self::Send`], through registered file 0.
    SendFixed,
    /// Like [`Self::Send`], without a copy, reporting whether the kernel copied.
    SendZeroCopy,
    /// Receive a message into the buffer of the request.
    Receive,
    /// Multishot receive of messages into provided buffers.
    ReceiveMessageMulti,
    /// Multishot receive of data without a message header.
    ReceiveMulti,
    /// Poll the receiver for input, once.
    Poll,
    /// Multishot poll of the receiver for input.
    PollMulti,
    /// Multishot accept.
    AcceptMulti,
    /// Connect the stream to the listener.
    Connect,
    /// Cancel all requests.
    Cancel,
}

/// Memory that the kernel reads and writes on behalf of requests.
#[repr(C, align(65536))]
struct Memory {
    /// The buffer ring, which must be page-aligned. No page is larger than the alignment of this type.
    entries: [BufRingEntry; BUFFERS as usize],
    provided: [[u8; BUFFER]; BUFFERS as usize],
    buffer: [u8; BUFFER],
    payload: [u8; PAYLOAD.len()],
    outgoing: libc::iovec,
    incoming: libc::iovec,
    message_out: libc::msghdr,
    message_in: libc::msghdr,
    /// For a multishot receive, which uses provided buffers.
    message_bare: libc::msghdr,
    /// Address of the listener.
    address: libc::sockaddr_in,
}

pub(crate) struct Trial {
    pub(crate) ring: IoUring,
    pub(crate) sender: UdpSocket,
    pub(crate) receiver: UdpSocket,
    pub(crate) listener: TcpListener,
    /// Not connected.
    pub(crate) stream: Socket,
    memory: NonNull<Memory>,
    /// Requests whose last completion has not been reaped.
    pending: u32,
}

impl Trial {
    /// Uses a ring with the engine's flags, or a plain ring if the flags are refused.
    pub(crate) fn new() -> io::Result<Self> {
        let ring = ring(&UringSettings::default()).or_else(|_| plain())?;
        let (sender, receiver) = pair()?;
        // On a non-blocking socket a request would fail with EAGAIN instead of waiting.
        sender.set_nonblocking(false)?;
        receiver.set_nonblocking(false)?;
        receiver.set_read_timeout(Some(Duration::from_millis(PATIENCE_MS.into())))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let stream = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // SAFETY: integers, arrays of integers and pointers, for which all-zero is valid.
        let memory = Box::leak(Box::new(unsafe { mem::zeroed::<Memory>() }));
        // The pointers lead to fields of the same allocation, which does not move.
        memory.payload = PAYLOAD;
        memory.outgoing = vector(&mut memory.payload);
        memory.incoming = vector(&mut memory.buffer);
        memory.message_out.msg_iov = &raw mut memory.outgoing;
        memory.message_out.msg_iovlen = 1;
        memory.message_in.msg_iov = &raw mut memory.incoming;
        memory.message_in.msg_iovlen = 1;
        memory.address.sin_family = libc::AF_INET as libc::sa_family_t;
        memory.address.sin_port = listener.local_addr()?.port().to_be();
        memory.address.sin_addr.s_addr = Ipv4Addr::LOCALHOST.to_bits().to_be();
        Ok(Self {
            ring,
            sender,
            receiver,
            listener,
            stream,
            memory: NonNull::from(memory),
            pending: 0,
        })
    }

    /// Submits a request.
    pub(crate) fn submit(&mut self, request: Request) -> io::Result<()> {
        let (sender, receiver) = (self.sender.as_raw_fd(), self.receiver.as_raw_fd());
        let memory = self.memory.as_ptr();
        // SAFETY: computes addresses within the allocation and reads nothing.
        let (outgoing, incoming, bare, address) = unsafe {
            (
                &raw const (*memory).message_out,
                &raw mut (*memory).message_in,
                &raw const (*memory).message_bare,
                &raw const (*memory).address,
            )
        };
        let readable = libc::POLLIN as u32;
        let entry = match request {
            Request::Send => opcode::SendMsg::new(Fd(sender), outgoing).build(),
            Request::SendFixed => opcode::SendMsg::new(Fixed(0), outgoing).build(),
            Request::SendZeroCopy => opcode::SendMsgZc::new(Fd(sender), outgoing)
                .ioprio(REPORT_USAGE)
                .build(),
            Request::Receive => opcode::RecvMsg::new(Fd(receiver), incoming).build(),
            Request::ReceiveMessageMulti => {
                opcode::RecvMsgMulti::new(Fd(receiver), bare, GROUP).build()
            }
            Request::ReceiveMulti => opcode::RecvMulti::new(Fd(receiver), GROUP).build(),
            Request::Poll => opcode::PollAdd::new(Fd(receiver), readable).build(),
            Request::PollMulti => opcode::PollAdd::new(Fd(receiver), readable)
                .multi(true)
                .build(),
            Request::AcceptMulti => opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd()))
                .build()
                .user_data(ACCEPT),
            Request::Connect => opcode::Connect::new(
                Fd(self.stream.as_raw_fd()),
                address.cast(),
                mem::size_of::<libc::sockaddr_in>() as libc::socklen_t,
            )
            .build(),
            Request::Cancel => opcode::AsyncCancel2::new(CancelBuilder::any())
                .build()
                .user_data(CANCEL),
        };
        // SAFETY: the entry points only into `self.memory`, which stays until the last completion (see `drop`). The
        // descriptors stay open until the ring is closed.
        unsafe { self.ring.submission().push(&entry) }
            .map_err(|_| io::Error::from(io::ErrorKind::QuotaExceeded))?;
        self.pending += 1;
        self.ring.submit()?;
        Ok(())
    }

    /// Waits for the next completion.
    ///
    /// # Errors
    /// `TimedOut` after 50 ms.
    pub(crate) fn next(&mut self) -> io::Result<cqueue::Entry> {
        let time = Timespec::new().nsec(PATIENCE_MS * 1_000_000);
        loop {
            if let Some(completion) = self.ring.completion().next() {
                let last = !cqueue::more(completion.flags());
                self.pending = self.pending.saturating_sub(u32::from(last));
                return Ok(completion);
            }
            let args = SubmitArgs::new().timespec(&time);
            match self.ring.submitter().submit_with_args(1, &args) {
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the kernel accepted the request, but no completion arrived within 50 ms",
                    ));
                }
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }

    /// Sends [`PAYLOAD`] without a copy and returns whether the kernel reports a copy.
    ///
    /// # Errors
    /// Those of the kernel; `Unsupported` when no notification arrives.
    pub(crate) fn send_zero_copy(&mut self) -> io::Result<bool> {
        self.submit(Request::SendZeroCopy)?;
        result(&self.next()?)?;
        // On loopback the notification follows the read.
        self.receiver.recv(&mut [0; PAYLOAD.len()])?;
        let notification = self.next()?;
        if !cqueue::notif(notification.flags()) {
            return Err(no_effect("no notification of completion"));
        }
        Ok(notification.result() as u32 & COPIED != 0)
    }

    /// The data received by [`Request::Receive`]; empty while requests are pending.
    pub(crate) fn received(&self, length: usize) -> &[u8] {
        if self.pending > 0 {
            return &[];
        }
        // SAFETY: all requests have completed, so the kernel no longer writes to the buffer, and `&self` prevents new
        // requests.
        let buffer = unsafe { &(*self.memory.as_ptr()).buffer };
        buffer.get(..length).unwrap_or_default()
    }

    /// The connection in a completion of [`Request::AcceptMulti`].
    ///
    /// # Errors
    /// The completion contains no connection.
    pub(crate) fn accepted(completion: cqueue::Entry) -> io::Result<TcpStream> {
        let file = completion.result();
        if completion.user_data() != ACCEPT || file < 0 {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // SAFETY: the result is a new descriptor (accept(2)) that has no other owner. The entry is consumed here.
        Ok(TcpStream::from(unsafe { OwnedFd::from_raw_fd(file) }))
    }

    /// Provides buffers to the kernel, once per trial and before any request.
    pub(crate) fn provide_buffers(&mut self) -> io::Result<()> {
        if self.pending > 0 {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        // SAFETY: no request is pending, so this is the only reference to the memory.
        let memory = unsafe { &mut *self.memory.as_ptr() };
        for (id, (entry, buffer)) in memory
            .entries
            .iter_mut()
            .zip(&mut memory.provided)
            .enumerate()
        {
            entry.set_addr(buffer.as_mut_ptr() as u64);
            entry.set_len(BUFFER as u32);
            entry.set_bid(id as u16);
        }
        let entries = (&raw mut memory.entries).cast::<BufRingEntry>();
        // SAFETY: the entries are page-aligned, `BUFFERS` in number, and valid until the buffer ring is unregistered
        // (see `drop`). The tail is in spare bytes of the first entry and is aligned for u16. The kernel reads it
        // before the entries it covers.
        unsafe {
            let submitter = self.ring.submitter();
            submitter.register_buf_ring_with_flags(entries as u64, BUFFERS, GROUP, 0)?;
            let tail = BufRingEntry::tail(entries).cast_mut();
            AtomicU16::from_ptr(tail).store(BUFFERS, Ordering::Release);
        }
        Ok(())
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if self.pending > 0 {
            // If cancelling fails, completions are missing and the memory is leaked.
            let _ = self.submit(Request::Cancel);
        }
        for _ in 0..LAST_WAITS {
            if self.pending > 0 {
                let _ = self.next();
            }
        }
        // Fails if no buffers were provided.
        let _ = self.ring.submitter().unregister_buf_ring(GROUP);
        if self.pending == 0 {
            // SAFETY: the pointer came from a Box, all requests have completed, and the kernel no longer uses the
            // buffer ring.
            drop(unsafe { Box::from_raw(self.memory.as_ptr()) });
        }
    }
}

/// The result of a request.
///
/// # Errors
/// Its errno.
pub(crate) fn result(completion: &cqueue::Entry) -> io::Result<u32> {
    u32::try_from(completion.result())
        .map_err(|_| io::Error::from_raw_os_error(-completion.result()))
}

fn vector(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: ptr::from_mut(bytes).cast(),
        iov_len: bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelled_requests_complete() {
        let Ok(mut trial) = super::super::setup::retry_while_out_of_memory(Trial::new) else {
            println!("skipped: no io_uring here");
            return;
        };
        trial.provide_buffers().unwrap();
        for request in [
            Request::ReceiveMessageMulti,
            Request::Receive,
            Request::PollMulti,
        ] {
            trial.submit(request).unwrap();
        }
        assert_eq!(trial.pending, 3);
        assert_eq!(trial.received(1), [0; 0]);
        trial.submit(Request::Cancel).unwrap();
        while trial.pending > 0 {
            trial.next().unwrap();
        }
    }
}
