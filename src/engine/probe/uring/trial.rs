//! A ring, sockets of loopback, and the memory that requests point to: what operations are tried with.
//!
//! The rule of io_uring is kept here alone: what a request points to stays until its last completion. At its end
//! a [`Trial`] cancels what is under way and takes its completions; memory whose completion never comes is
//! never freed.

#![allow(
    unsafe_code,
    reason = "requests carry pointers, and a buffer ring is shared with the kernel"
)]

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

use super::{plain, ring};
use crate::engine::choice::UringSettings;
use crate::engine::probe::pair;
use crate::engine::uring::tx::REPORT_USAGE;

/// What a request sends.
pub(super) const PAYLOAD: [u8; 32] = [7; 32];

/// Bytes of each buffer that the kernel fills; a multishot receive puts 16 bytes of its own before the data.
const BUFFER: usize = 128;

/// Provided buffers, a power of two.
pub(super) const BUFFERS: u16 = 4;

/// The group they are known by.
const GROUP: u16 = 0;

/// The longest wait for a completion. On loopback it takes microseconds.
const PATIENCE_MS: u32 = 50;

/// The most waits for what was cancelled; one a completion is enough.
const LAST_WAITS: u32 = 20;

/// Marks the completion of a cancellation.
pub(super) const CANCEL: u64 = u64::MAX;

/// Marks those of [`Request::AcceptOn`]; all other requests are marked 0.
const ACCEPT: u64 = 1;

/// What can be asked of a trial's ring. It builds the entry itself, so that none points elsewhere than to its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// [`PAYLOAD`], from the sender to the receiver.
    Send,
    /// The same from the first registered file.
    SendFixed,
    /// The same without a copy, and with a report whether there was none.
    SendZeroCopy,
    /// Of the receiver, into a buffer of the request's own.
    Receive,
    /// Messages of the receiver, again and again, into buffers that were provided.
    ReceiveMessagesOn,
    /// The same, the data alone.
    ReceiveOn,
    /// The receiver's readability, once.
    Poll,
    /// The same, again and again.
    PollOn,
    /// Of who connects to the listener, again and again.
    AcceptOn,
    /// Of the stream to the listener.
    Connect,
    /// All that is under way.
    Cancel,
}

/// What the kernel reads and writes while requests are under way.
#[repr(C, align(65536))]
struct Memory {
    /// The buffer ring, which must begin at a page; none is larger than this type's alignment.
    entries: [BufRingEntry; BUFFERS as usize],
    provided: [[u8; BUFFER]; BUFFERS as usize],
    buffer: [u8; BUFFER],
    payload: [u8; PAYLOAD.len()],
    outgoing: libc::iovec,
    incoming: libc::iovec,
    message_out: libc::msghdr,
    message_in: libc::msghdr,
    /// Of a multishot receive, whose buffers are provided.
    message_bare: libc::msghdr,
    /// Of the listener.
    address: libc::sockaddr_in,
}

pub(super) struct Trial {
    pub(super) ring: IoUring,
    pub(super) sender: UdpSocket,
    pub(super) receiver: UdpSocket,
    pub(super) listener: TcpListener,
    /// Not connected to anything.
    pub(super) stream: Socket,
    memory: NonNull<Memory>,
    /// Requests that will have another completion.
    pending: u32,
}

impl Trial {
    /// With a ring as the engine has it, or a plain one where that is not to be had.
    pub(super) fn new() -> io::Result<Self> {
        let ring = ring(&UringSettings::default()).or_else(|_| plain())?;
        let (sender, receiver) = pair()?;
        // A request on a non-blocking socket would not wait, it would fail with EAGAIN.
        sender.set_nonblocking(false)?;
        receiver.set_nonblocking(false)?;
        receiver.set_read_timeout(Some(Duration::from_millis(PATIENCE_MS.into())))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let stream = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // SAFETY: integers, arrays of them and pointers, for which all zero is valid.
        let memory = Box::leak(Box::new(unsafe { mem::zeroed::<Memory>() }));
        // The pointers are to fields of the same allocation, which does not move.
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

    /// Hands a request to the kernel.
    pub(super) fn submit(&mut self, request: Request) -> io::Result<()> {
        let (sender, receiver) = (self.sender.as_raw_fd(), self.receiver.as_raw_fd());
        let memory = self.memory.as_ptr();
        // SAFETY: takes addresses within the allocation, and reads nothing.
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
            Request::ReceiveMessagesOn => {
                opcode::RecvMsgMulti::new(Fd(receiver), bare, GROUP).build()
            }
            Request::ReceiveOn => opcode::RecvMulti::new(Fd(receiver), GROUP).build(),
            Request::Poll => opcode::PollAdd::new(Fd(receiver), readable).build(),
            Request::PollOn => opcode::PollAdd::new(Fd(receiver), readable)
                .multi(true)
                .build(),
            Request::AcceptOn => opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd()))
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
        // SAFETY: all that the entry points to is in `self.memory`, which stays until the last completion (`drop`);
        // the descriptors stay until the ring is closed.
        unsafe { self.ring.submission().push(&entry) }
            .map_err(|_| io::Error::from(io::ErrorKind::QuotaExceeded))?;
        self.pending += 1;
        self.ring.submit()?;
        Ok(())
    }

    /// The next completion.
    ///
    /// # Errors
    /// `TimedOut` when none comes.
    pub(super) fn next(&mut self) -> io::Result<cqueue::Entry> {
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
                        "the kernel took it, and nothing came of it within 50 ms",
                    ));
                }
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }

    /// What [`Request::Receive`] has received; nothing while anything is under way.
    pub(super) fn received(&self, length: usize) -> &[u8] {
        if self.pending > 0 {
            return &[];
        }
        // SAFETY: every request has had its last completion, so the kernel no longer writes to the buffer, and
        // `&self` keeps others from being submitted.
        let buffer = unsafe { &(*self.memory.as_ptr()).buffer };
        buffer.get(..length).unwrap_or_default()
    }

    /// Whom a completion of [`Request::AcceptOn`] brought.
    ///
    /// # Errors
    /// It brought nobody.
    pub(super) fn accepted(completion: cqueue::Entry) -> io::Result<TcpStream> {
        let file = completion.result();
        if completion.user_data() != ACCEPT || file < 0 {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // SAFETY: such a completion's result is a new descriptor (accept(2)) that nobody else knows of; an entry
        // is given away here, and with it the descriptor.
        Ok(TcpStream::from(unsafe { OwnedFd::from_raw_fd(file) }))
    }

    /// Gives the kernel buffers to choose from, once a trial and before any request.
    pub(super) fn provide_buffers(&mut self) -> io::Result<()> {
        if self.pending > 0 {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        // SAFETY: no request is under way, so this is the only reference to the memory.
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
        // SAFETY: the entries begin at a page, there are as many as stated, and they live until the buffer ring is
        // unregistered (`drop`). Its tail is in the first entry's spare bytes, aligned as a u16 is, and the kernel
        // reads it before the entries that it covers.
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
            // If it cannot be cancelled, nothing comes, and the memory is kept.
            let _ = self.submit(Request::Cancel);
        }
        for _ in 0..LAST_WAITS {
            if self.pending > 0 {
                let _ = self.next();
            }
        }
        // Fails where no buffers were provided.
        let _ = self.ring.submitter().unregister_buf_ring(GROUP);
        if self.pending == 0 {
            // SAFETY: it came from a Box, every request has had its last completion, and the buffer ring is the
            // kernel's no more.
            drop(unsafe { Box::from_raw(self.memory.as_ptr()) });
        }
    }
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
    fn what_is_under_way_at_the_end_is_cancelled_and_taken() {
        let Ok(mut trial) = super::super::again(Trial::new) else {
            println!("skipped: no io_uring here");
            return;
        };
        trial.provide_buffers().unwrap();
        for request in [
            Request::ReceiveMessagesOn,
            Request::Receive,
            Request::PollOn,
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
