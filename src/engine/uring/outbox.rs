//! Short datagrams: what a receiver answers and a sender asks. Each is copied to a place of its own until it is sent.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::ptr;

use io_uring::opcode;

use super::owner;
use super::ring::{Ring, SOCKET};
use crate::engine::errors::PendingErrors;
use crate::sys::region::Region;

/// Answers that can be under way. They complete as they are submitted, so it is what one batch can owe.
const LETTERS: usize = 32;

/// Bytes of the longest answer.
const LONGEST: usize = 64;

#[repr(C)]
struct Letter {
    header: libc::msghdr,
    vector: libc::iovec,
    name: libc::sockaddr_storage,
    text: [u8; LONGEST],
    /// Times that it was sent again.
    retries: u32,
}

/// Times that a datagram is sent again when an ICMP error is pending.
const MOST_RETRIES: u32 = 4;

pub(super) struct Outbox {
    letters: Region,
    free: Vec<usize>,
}

impl Outbox {
    /// # Errors
    /// Out of memory.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            letters: Region::new(LETTERS * size_of::<Letter>())?,
            free: (0..LETTERS).collect(),
        })
    }

    /// Queues a datagram, to nobody in particular where the socket is connected. When there is no place for it, it is
    /// lost.
    pub(super) fn send(&mut self, ring: &mut Ring, datagram: &[u8], to: Option<SocketAddr>) {
        let Some(number) = self.free.pop() else {
            return;
        };
        let length = datagram.len().min(LONGEST);
        // SAFETY: the region holds `LETTERS` letters, its pages are aligned for any type, and all zero, or what was
        // written here before, is a valid letter. The kernel is done with this one: its number was free.
        let letter = unsafe { &mut *self.letters.as_ptr().cast::<Letter>().add(number) };
        letter.text[..length].copy_from_slice(&datagram[..length]);
        letter.retries = 0;
        letter.vector.iov_base = letter.text.as_mut_ptr().cast();
        letter.vector.iov_len = length;
        if let Some(to) = to {
            let address = socket2::SockAddr::from(to);
            // SAFETY: the storage has room for any address, and `len` bytes of this one are readable.
            unsafe {
                ptr::copy_nonoverlapping(
                    address.as_ptr().cast::<u8>(),
                    (&raw mut letter.name).cast::<u8>(),
                    address.len() as usize,
                );
            }
            letter.header.msg_name = (&raw mut letter.name).cast();
            letter.header.msg_namelen = address.len();
        }
        letter.header.msg_iov = &raw mut letter.vector;
        letter.header.msg_iovlen = 1;
        self.submit(ring, number);
    }

    fn submit(&mut self, ring: &mut Ring, number: usize) {
        // SAFETY: the letter is one of the region's. Only its address is taken.
        let header =
            unsafe { &raw const (*self.letters.as_ptr().cast::<Letter>().add(number)).header };
        let request = opcode::SendMsg::new(SOCKET, header)
            .flags((libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32)
            .build()
            .user_data(owner::LETTER | number as u64);
        // SAFETY: the letter is not written to again before `sent` has made its number free, and the region
        // outlives the ring.
        if unsafe { ring.push(&request) }.is_err() {
            self.free.push(number);
        }
    }

    /// The send of a letter has completed. One that failed because an ICMP error was pending is sent again.
    pub(super) fn sent(
        &mut self,
        ring: &mut Ring,
        number: usize,
        errno: Option<i32>,
        socket: BorrowedFd<'_>,
        errors: &mut PendingErrors,
    ) {
        if let Some(errno) = errno
            && self.may_retry(number)
            && errors.explain(socket, errno, |_| ())
        {
            return self.submit(ring, number);
        }
        self.free.push(number);
    }

    fn may_retry(&mut self, number: usize) -> bool {
        // SAFETY: as in `send`; the kernel has completed this one.
        let letter = unsafe { &mut *self.letters.as_ptr().cast::<Letter>().add(number) };
        letter.retries += 1;
        letter.retries <= MOST_RETRIES
    }

    /// Leaves the memory to the kernel for good.
    pub(super) fn abandon(self) {
        self.letters.abandon();
    }
}
