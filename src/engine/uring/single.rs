//! A receiver that makes a request a message.
//!
//! Several requests waiting on one socket could complete in any order, so none of them waits: a batch of
//! them takes what is there, in order, and what is not there is waited for by polling the socket.

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use io_uring::opcode;

use super::multishot::useless;
use super::outbox::Outbox;
use super::owner;
use super::ring::{Abandon, Kept, Ring, SOCKET};
use crate::engine::choice::UringSettings;
use crate::engine::errors::PendingErrors;
use crate::engine::stats::ReceiveStats;
use crate::engine::{Layout, Rx};
use crate::sys::message::{CONTROL_BYTES, Message, NAME_BYTES};
use crate::sys::region::Region;
use crate::sys::wake::Wake;
use crate::sys::{error_queue, socket};

/// A receiver on a bound socket.
pub struct SingleRx {
    kept: Kept<Memory>,
    socket: UdpSocket,
    _wake: Wake,
    /// Requests to make next time: twice what came, since each that finds nothing is a waste.
    depth: usize,
    socket_armed: bool,
    errors: PendingErrors,
    stats: ReceiveStats,
}

struct Memory {
    layout: Layout,
    /// A [`Place`] a request, each followed in `payloads` by its bytes.
    places: Region,
    payloads: Region,
    outbox: Outbox,
}

#[repr(C)]
struct Place {
    header: libc::msghdr,
    vector: libc::iovec,
    control: [u64; CONTROL_BYTES / 8],
    name: [u8; NAME_BYTES],
}

impl Memory {
    fn place(&self, number: usize) -> *mut Place {
        let number = number.min(self.layout.messages - 1);
        // SAFETY: the region holds `messages` places.
        unsafe { self.places.as_ptr().cast::<Place>().add(number) }
    }

    fn message(&self, number: usize, length: usize) -> Option<Message<'_>> {
        let start = number * self.layout.bytes;
        let payload = self.payloads.part(start, length)?;
        // SAFETY: the kernel has completed this request, so nobody writes to its place.
        let place = unsafe { &*self.place(number) };
        // SAFETY: the control buffer is plain integers.
        let control = unsafe { mem::transmute::<&[u64; 8], &[u8; 64]>(&place.control) };
        let header = &place.header;
        Some(Message::new(
            payload,
            place.name.get(..header.msg_namelen as usize)?,
            control.get(..header.msg_controllen)?,
            header.msg_flags,
        ))
    }
}

impl SingleRx {
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
        // Without the option ICMP errors are passed over all the same, and not counted.
        let _ = error_queue::enable(&socket);
        let files = [socket.as_raw_fd(), wake.as_fd().as_raw_fd()];
        let requests = layout.messages as u32 + 64;
        let ring = Ring::new(settings, requests, 2 * requests, &files)?;
        let memory = Memory {
            layout,
            places: Region::new(layout.messages * size_of::<Place>())?,
            payloads: Region::new(layout.messages * layout.bytes)?,
            outbox: Outbox::new()?,
        };
        Ok(Self {
            kept: Kept::new(ring, memory),
            socket,
            _wake: wake.clone(),
            depth: 1,
            socket_armed: false,
            errors: PendingErrors::default(),
            stats: ReceiveStats::default(),
        })
    }

    /// Asks for a message, to be had now or not at all.
    fn request(&mut self, number: usize) -> io::Result<()> {
        let Layout {
            messages, bytes, ..
        } = self.kept.memory.layout;
        let number = number.min(messages - 1);
        let start = number * bytes;
        // SAFETY: the place is aligned, all zero is valid for it, and the kernel is done with it: `receive` waits
        // for every request it makes.
        let place = unsafe { &mut *self.kept.memory.place(number) };
        // SAFETY: `messages` payloads of `bytes` fit the region.
        let payload = unsafe { self.kept.memory.payloads.as_ptr().add(start) };
        place.vector.iov_base = payload.cast();
        place.vector.iov_len = bytes;
        place.header.msg_iov = &raw mut place.vector;
        place.header.msg_iovlen = 1;
        place.header.msg_name = place.name.as_mut_ptr().cast();
        place.header.msg_namelen = NAME_BYTES as u32;
        place.header.msg_control = place.control.as_mut_ptr().cast();
        place.header.msg_controllen = CONTROL_BYTES as _;
        place.header.msg_flags = 0;
        let request = opcode::RecvMsg::new(SOCKET, &raw mut place.header)
            .flags(libc::MSG_DONTWAIT as u32)
            .build()
            .user_data(owner::SLOT | number as u64);
        // SAFETY: the place and the payload are not touched before the completion, and outlive the ring.
        unsafe { self.kept.ring.push(&request) }
    }
}

impl Rx for SingleRx {
    fn receive(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<usize> {
        for number in 0..self.depth {
            self.request(number)?;
        }
        self.kept.ring.enter()?;
        let (mut missing, mut count) = (self.depth, 0);
        let mut failed = None;
        while missing > 0 {
            let Some(completion) = self.kept.ring.next() else {
                // Only with a submission thread is anything missing still.
                self.kept.ring.wait(u64::MAX)?;
                continue;
            };
            match owner::of(completion.user_data) {
                (owner::SLOT, number) => {
                    missing -= 1;
                    match completion.errno() {
                        None => {
                            if let Some(message) =
                                self.kept.memory.message(number, completion.result as usize)
                            {
                                self.stats.truncated += u64::from(message.truncated);
                                each(message);
                            }
                            count += 1;
                        }
                        Some(libc::EAGAIN) => {}
                        Some(errno) => {
                            failed = useless(errno).err().or(failed);
                            self.errors.collect(self.socket.as_fd(), |_| ());
                        }
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
                _ => self.socket_armed = false,
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        self.depth = (2 * count).clamp(1, self.kept.memory.layout.messages);
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
        self.kept.ring.watch_wake()?;
        if !mem::replace(&mut self.socket_armed, true) {
            let request = opcode::PollAdd::new(SOCKET, libc::POLLIN as u32)
                .build()
                .user_data(owner::READABLE);
            // SAFETY: it points to nothing.
            unsafe { self.kept.ring.push(&request)? };
        }
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

impl Abandon for Memory {
    fn abandon(self) {
        self.places.abandon();
        self.payloads.abandon();
        self.outbox.abandon();
    }
}
