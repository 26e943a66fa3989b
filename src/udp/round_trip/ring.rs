//! A channel over io_uring(7): at most one send and one receive in flight.
//!
//! A thread that sleeps submits a send and the receive of its response, and waits for both, with one system call an exchange. A thread
//! that spins watches the completion queue and enters the kernel to submit, and when a completion is due.

#![allow(
    unsafe_code,
    reason = "requests carry pointers to the buffers of both datagrams"
)]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::types::Timespec;

use super::channel::{Calls, Channel, Received, Settings, TICK, Waiting};
use crate::sys::mmap::Mmap;
use crate::uring::ring::{Leak, Ring, RingWithMemory, SOCKET};

/// Entries of the ring.
const ENTRIES: u32 = 8;

/// The requests.
const SEND: u64 = 1;
const RECEIVE: u64 = 2;
const TIMER: u64 = 3;

/// A [`TICK`].
static TICK_TIME: Timespec = Timespec::new()
    .sec(TICK.as_secs())
    .nsec(TICK.subsec_nanos());

/// Waits for the socket before the first attempt to receive (`IORING_RECVSEND_POLL_FIRST`, Linux 5.19), which would be in vain.
const POLL_FIRST: u16 = 1;

/// A connected socket with its ring.
pub(super) struct RingChannel {
    uring: RingWithMemory<Memory>,
    socket: UdpSocket,
    /// Requests are submitted by the next sleep.
    defers: bool,
    /// Bytes of a buffer.
    length: usize,
    /// The buffer that receives: the first one or the second one. The other one sends.
    receiver: usize,
    /// A send is in flight.
    sends: bool,
    /// A receive is in flight.
    receives: bool,
    /// A timer is in flight, which ends a sleep.
    times: bool,
}

/// Two buffers.
struct Memory(Mmap);

impl Leak for Memory {
    fn leak(self) {
        self.0.leak();
    }
}

impl RingChannel {
    /// Creates a ring of the calling thread.
    ///
    /// # Errors
    /// As io_uring_setup(2) and io_uring_register(2); out of file descriptors or memory.
    pub(super) fn new(socket: UdpSocket, settings: &Settings) -> io::Result<Self> {
        // A request on a non-blocking socket would fail instead of waiting.
        socket.set_nonblocking(false)?;
        // A longer datagram is none of the flow.
        let length = settings.datagram + 1;
        let ring = Ring::new(
            &settings.engine.uring,
            ENTRIES,
            2 * ENTRIES,
            &[socket.as_raw_fd()],
        )?;
        Ok(Self {
            uring: RingWithMemory::new(ring, Memory(Mmap::new(2 * length)?)),
            socket,
            defers: settings.waiting == Waiting::Asleep,
            length,
            receiver: 0,
            sends: false,
            receives: false,
            times: false,
        })
    }

    /// A buffer; empty while the kernel uses it.
    fn buffer(&mut self, number: usize, is_in_flight: bool) -> &mut [u8] {
        let length = if is_in_flight { 0 } else { self.length };
        let memory = &mut self.uring.memory.0;
        memory
            .part_mut(number * self.length, length)
            .unwrap_or_default()
    }

    /// A pointer to a buffer.
    fn at(&self, number: usize) -> *mut u8 {
        self.uring
            .memory
            .0
            .as_ptr()
            .wrapping_add(number * self.length)
    }

    /// Queues a receive unless one is in flight.
    fn arm(&mut self, priority: u16) -> io::Result<()> {
        if self.receives {
            return Ok(());
        }
        let request = opcode::Recv::new(SOCKET, self.at(self.receiver), self.length as u32)
            .ioprio(priority)
            .build()
            .user_data(RECEIVE);
        // SAFETY: the buffer is not accessed while `receives` is set, and outlives the ring.
        unsafe { self.uring.ring.push(&request)? };
        self.receives = true;
        Ok(())
    }

    /// Queues a timer unless one is in flight, and returns the time of a wait that it ends. A wait with a time of its own starts and
    /// stops a high-resolution timer, which took 5 % of a round trip on one CPU of a virtual machine.
    fn arm_timer(&mut self) -> io::Result<u64> {
        if !self.times {
            let request = opcode::Timeout::new(&raw const TICK_TIME)
                .build()
                .user_data(TIMER);
            // SAFETY: the time is static.
            unsafe { self.uring.ring.push(&request)? };
            self.times = true;
        }
        Ok(u64::MAX)
    }

    /// Handles the next completion.
    fn next(&mut self) -> Option<Received> {
        let completion = self.uring.ring.next()?;
        let error = completion.errno().map(io::Error::from_raw_os_error);
        if completion.user_data == SEND {
            self.sends = false;
            return Some(error.map_or(Received::Nothing, Received::NotSent));
        }
        if completion.user_data == TIMER {
            self.times = false;
            return Some(Received::Nothing);
        }
        self.receives = false;
        Some(match error {
            None => Received::Datagram(completion.result as usize),
            Some(error) => Received::Failed(error),
        })
    }
}

impl Channel for RingChannel {
    fn outgoing(&mut self) -> &mut [u8] {
        self.buffer(1 - self.receiver, self.sends)
    }

    fn send(&mut self, length: usize) -> io::Result<()> {
        if self.sends {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = length.min(self.length) as u32;
        // The request completes while it is submitted, as the kernel copies the datagram.
        let request = opcode::Send::new(SOCKET, self.at(1 - self.receiver), length)
            .flags(libc::MSG_DONTWAIT)
            .build()
            .user_data(SEND);
        // SAFETY: the buffer is not written while `sends` is set, and outlives the ring.
        unsafe { self.uring.ring.push(&request)? };
        self.sends = true;
        self.arm(POLL_FIRST)?;
        match self.defers {
            true => Ok(()),
            false => self.uring.ring.enter(),
        }
    }

    fn incoming(&mut self) -> &mut [u8] {
        self.buffer(self.receiver, self.receives)
    }

    fn reply(&mut self, length: usize) -> io::Result<()> {
        if self.sends || self.receives {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.receiver = 1 - self.receiver;
        self.send(length)
    }

    fn receive(&mut self) -> Received {
        loop {
            match self.next() {
                Some(Received::Nothing) => {}
                Some(received) => return received,
                None if self.defers => return Received::Nothing,
                None => {
                    if let Err(error) = self.arm(0) {
                        return Received::Failed(error);
                    }
                    if !self.uring.ring.has_work() {
                        return Received::Nothing;
                    }
                    if let Err(error) = self.uring.ring.enter() {
                        return Received::Failed(error);
                    }
                }
            }
        }
    }

    fn sleep(&mut self, ns: u64) {
        // The response to a send follows its completion.
        let completions = 1 + usize::from(self.sends);
        let ns = ns.min(TICK.as_nanos() as u64);
        // After a failure the next receive fails too.
        let _ = match self.defers {
            true => self.arm_timer(),
            false => Ok(ns),
        }
        .and_then(|ns| {
            self.arm(POLL_FIRST)?;
            self.uring.ring.submit_and_wait(completions, ns)
        });
    }

    fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    fn calls(&self) -> Calls {
        let ring = self.uring.ring.stats();
        Calls {
            sends: 0,
            receives: ring.enters,
            ring: Some(ring),
        }
    }
}
