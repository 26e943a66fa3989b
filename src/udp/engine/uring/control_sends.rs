//! Sends of short control datagrams: probes of senders, credits and clock replies of receivers. Each is copied to its
//! own memory until the send completes.

use std::io;
use std::net::SocketAddr;
use std::ptr;

use io_uring::opcode;

use super::port::Port;
use super::tag;
use crate::sys::mmap::Mmap;
use crate::uring::ring::{Ring, SOCKET};

/// Most control sends in flight. They usually complete on submission, so this covers one batch.
const MESSAGES: usize = 32;

/// Longest control datagram in bytes.
const LONGEST: usize = 64;

#[repr(C)]
struct ControlMessage {
    header: libc::msghdr,
    vector: libc::iovec,
    name: libc::sockaddr_storage,
    bytes: [u8; LONGEST],
    /// Retries of this datagram.
    retries: u32,
}

/// Most retries of one datagram while ICMP errors are pending.
const MOST_RETRIES: u32 = 4;

pub(super) struct ControlSends {
    messages: Mmap,
    free: Vec<usize>,
}

impl ControlSends {
    /// # Errors
    /// Out of memory.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            messages: Mmap::new(MESSAGES * size_of::<ControlMessage>())?,
            free: (0..MESSAGES).collect(),
        })
    }

    /// Queues a datagram, to the connected peer if `to` is `None`. Without a free place the datagram is lost.
    pub(super) fn send(&mut self, ring: &mut Ring, datagram: &[u8], to: Option<SocketAddr>) {
        let Some(number) = self.free.pop() else {
            return;
        };
        let length = datagram.len().min(LONGEST);
        // SAFETY: the mapping holds `MESSAGES` messages, is page-aligned, and all-zero or earlier contents are a valid
        // message. The kernel does not use this message, since its number was free.
        let message = unsafe { &mut *self.messages.as_ptr().cast::<ControlMessage>().add(number) };
        message.bytes[..length].copy_from_slice(&datagram[..length]);
        message.retries = 0;
        message.vector.iov_base = message.bytes.as_mut_ptr().cast();
        message.vector.iov_len = length;
        if let Some(to) = to {
            let address = socket2::SockAddr::from(to);
            // SAFETY: the storage has room for any address, and `len` bytes of this address are readable.
            unsafe {
                ptr::copy_nonoverlapping(
                    address.as_ptr().cast::<u8>(),
                    (&raw mut message.name).cast::<u8>(),
                    address.len() as usize,
                );
            }
            message.header.msg_name = (&raw mut message.name).cast();
            message.header.msg_namelen = address.len();
        }
        message.header.msg_iov = &raw mut message.vector;
        message.header.msg_iovlen = 1;
        self.submit(ring, number);
    }

    fn submit(&mut self, ring: &mut Ring, number: usize) {
        // SAFETY: the message lies in the mapping. Only its address is computed.
        let header = unsafe {
            &raw const (*self.messages.as_ptr().cast::<ControlMessage>().add(number)).header
        };
        let request = opcode::SendMsg::new(SOCKET, header)
            .flags((libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32)
            .build()
            .user_data(tag::CONTROL | number as u64);
        // SAFETY: the message is not written before `sent` frees its number, and the mapping outlives the ring.
        if unsafe { ring.push(&request) }.is_err() {
            self.free.push(number);
        }
    }

    /// Handles the completion of a send. A send that failed on a pending ICMP error is retried.
    pub(super) fn sent(
        &mut self,
        ring: &mut Ring,
        number: usize,
        errno: Option<i32>,
        port: &mut Port,
    ) {
        if let Some(errno) = errno
            && self.may_retry(number)
            && port.is_explained(errno)
        {
            return self.submit(ring, number);
        }
        self.free.push(number);
    }

    fn may_retry(&mut self, number: usize) -> bool {
        // SAFETY: as in `send`; the kernel has completed this message.
        let message = unsafe { &mut *self.messages.as_ptr().cast::<ControlMessage>().add(number) };
        message.retries += 1;
        message.retries <= MOST_RETRIES
    }

    /// Leaks the memory, since the kernel may still use it.
    pub(super) fn leak(self) {
        self.messages.leak();
    }
}
