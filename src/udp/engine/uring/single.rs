//! Receiver with one request per message.
//!
//! Several requests waiting on one socket could complete in any order, so no request waits: a batch of non-blocking
//! requests reads queued messages in order, and a poll request waits for more.

use std::io;
use std::mem;
use std::net::SocketAddr;

use io_uring::opcode;

use super::control_sends::ControlSends;
use super::port::{Port, check_socket};
use super::tag;
use crate::engine::UringSettings;
use crate::sys::cmsg::{CONTROL_BYTES, Message, NAME_BYTES};
use crate::sys::mmap::Mmap;
use crate::udp::engine::endpoint::RxEndpoint;
use crate::udp::engine::stats::ReceiveStats;
use crate::udp::engine::{Layout, Rx};
use crate::uring::ring::{Leak, Ring, RingWithMemory, SOCKET};

/// A receiver on a bound socket.
pub struct SingleRx {
    uring: RingWithMemory<Memory>,
    port: Port,
    /// Requests of the next batch: twice the number of messages of the last, since a request without a message is
    /// wasted.
    depth: usize,
    socket_armed: bool,
    stats: ReceiveStats,
}

struct Memory {
    layout: Layout,
    /// One [`Place`] per request. Payloads follow in the same order.
    places: Mmap,
    payloads: Mmap,
    control_sends: ControlSends,
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
        // SAFETY: the mapping holds `messages` places.
        unsafe { self.places.as_ptr().cast::<Place>().add(number) }
    }

    fn message(&self, number: usize, length: usize) -> Option<Message<'_>> {
        let start = number * self.layout.bytes;
        let payload = self.payloads.part(start, length)?;
        // SAFETY: the kernel has completed this request and no longer writes to its place.
        let place = unsafe { &*self.place(number) };
        // SAFETY: the control buffer consists of plain integers.
        let control = unsafe {
            mem::transmute::<&[u64; CONTROL_BYTES / 8], &[u8; CONTROL_BYTES]>(&place.control)
        };
        let header = &place.header;
        Some(Message::new(
            payload,
            place.name.get(..header.msg_namelen as usize)?,
            control.get(..header.msg_controllen as _)?,
            header.msg_flags,
        ))
    }
}

impl SingleRx {
    /// Opens a receiver.
    ///
    /// # Errors
    /// As io_uring_setup(2) and io_uring_register(2); out of file descriptors or memory.
    pub fn new(endpoint: RxEndpoint<'_>, settings: &UringSettings) -> io::Result<Self> {
        let layout = endpoint.layout;
        let port = Port::new(endpoint.socket, endpoint.wake);
        let requests = layout.messages as u32 + 64;
        let ring = Ring::new(settings, requests, 2 * requests, &port.files())?;
        let memory = Memory {
            layout,
            places: Mmap::new(layout.messages * size_of::<Place>())?,
            payloads: Mmap::new(layout.messages * layout.bytes)?,
            control_sends: ControlSends::new()?,
        };
        Ok(Self {
            uring: RingWithMemory::new(ring, memory),
            port,
            depth: 1,
            socket_armed: false,
            stats: ReceiveStats::default(),
        })
    }

    /// Queues a non-blocking receive.
    fn request(&mut self, number: usize) -> io::Result<()> {
        let Layout {
            messages, bytes, ..
        } = self.uring.memory.layout;
        let number = number.min(messages - 1);
        let start = number * bytes;
        // SAFETY: the place is aligned, all-zero is valid for it, and the kernel does not use it, since `receive` waits
        // for all its requests.
        let place = unsafe { &mut *self.uring.memory.place(number) };
        // SAFETY: `messages` payloads of `bytes` bytes fit the mapping.
        let payload = unsafe { self.uring.memory.payloads.as_ptr().add(start) };
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
            .user_data(tag::SLOT | number as u64);
        // SAFETY: the place and the payload are not accessed before the completion and outlive the ring.
        unsafe { self.uring.ring.push(&request) }
    }
}

impl Rx for SingleRx {
    fn receive(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<usize> {
        for number in 0..self.depth {
            self.request(number)?;
        }
        self.uring.ring.enter()?;
        let (mut missing, mut count) = (self.depth, 0);
        let mut failed = None;
        while missing > 0 {
            let Some(completion) = self.uring.ring.next() else {
                // Only with a submission thread are completions outstanding here.
                self.uring.ring.wait(u64::MAX)?;
                continue;
            };
            match tag::split(completion.user_data) {
                (tag::SLOT, number) => {
                    missing -= 1;
                    match completion.errno() {
                        None => {
                            if let Some(message) = self
                                .uring
                                .memory
                                .message(number, completion.result as usize)
                            {
                                self.stats.truncated += u64::from(message.truncated);
                                each(message);
                            }
                            count += 1;
                        }
                        Some(libc::EAGAIN) => {}
                        Some(errno) => {
                            failed = check_socket(errno).err().or(failed);
                            self.port.collect_errors();
                        }
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
                _ => self.socket_armed = false,
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        self.depth = (2 * count).clamp(1, self.uring.memory.layout.messages);
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
        self.uring.ring.arm_wake()?;
        if !mem::replace(&mut self.socket_armed, true) {
            let request = opcode::PollAdd::new(SOCKET, libc::POLLIN as u32)
                .build()
                .user_data(tag::READABLE);
            // SAFETY: the request contains no pointer.
            unsafe { self.uring.ring.push(&request)? };
        }
        self.uring.ring.wait(deadline)
    }

    fn drops(&self) -> u64 {
        self.port.drops()
    }

    fn stats(&self) -> ReceiveStats {
        self.port.receive_stats(self.stats, &self.uring.ring)
    }
}

impl Leak for Memory {
    fn leak(self) {
        self.places.leak();
        self.payloads.leak();
        self.control_sends.leak();
    }
}
