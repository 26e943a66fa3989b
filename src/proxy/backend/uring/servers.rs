//! The sockets of a connection's server: those that are being connected, and the one that is connected.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::types::Fd;
use socket2::SockAddr;

use super::operation::{MAX_SLOTS, Operation};
use super::resources::Context;
use super::ring::Completion;
use crate::sys::tcp;

/// A connect(2) in flight.
struct Attempt {
    socket: TcpStream,
    to: SocketAddr,
    /// Memory that the kernel may read until the completion.
    address: Box<SockAddr>,
    /// Its outcome is ignored.
    is_given_up: bool,
}

/// The sockets of a connection's server.
#[derive(Default)]
pub(super) struct Servers {
    /// By the slot that their completions carry.
    attempts: Vec<Option<Attempt>>,
    connected: Option<TcpStream>,
    /// The outcome of the last attempt, until it is taken.
    outcome: Option<(SocketAddr, io::Result<SocketAddr>)>,
}

impl Servers {
    /// The server, once it is connected.
    pub(super) fn connected(&self) -> Option<&TcpStream> {
        self.connected.as_ref()
    }

    /// The server, to be closed.
    pub(super) fn into_connected(self) -> Option<TcpStream> {
        self.connected
    }

    /// Whether an attempt to connect to this address is in progress.
    pub(super) fn is_connecting_to(&self, address: SocketAddr) -> bool {
        let mut attempts = self.attempts.iter().flatten();
        attempts.any(|attempt| attempt.to == address && !attempt.is_given_up)
    }

    /// Whether an attempt is in flight.
    pub(super) fn is_busy(&self) -> bool {
        self.attempts.iter().any(Option::is_some)
    }

    /// Starts to connect.
    ///
    /// # Errors
    /// As [`tcp::unconnected`]; `ENOBUFS` if too many attempts that were given up are still in flight.
    pub(super) fn connect(&mut self, to: SocketAddr, context: &mut Context<'_>) -> io::Result<()> {
        let free = self.attempts.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.attempts.len());
        let operation = match u8::try_from(slot) {
            Ok(number) if slot < MAX_SLOTS => Operation::Connect(number),
            _ => return Err(io::Error::from_raw_os_error(libc::ENOBUFS)),
        };
        let socket = tcp::unconnected(to)?;
        let address = Box::new(SockAddr::from(to));
        let connect = opcode::Connect::new(
            Fd(socket.as_raw_fd()),
            address.as_ptr().cast(),
            address.len(),
        )
        .build()
        .user_data(operation.user_data(context.key));
        let attempt = Some(Attempt {
            socket,
            to,
            address,
            is_given_up: false,
        });
        match self.attempts.get_mut(slot) {
            Some(free) => *free = attempt,
            None => self.attempts.push(attempt),
        }
        // SAFETY: the address is in a box of its own, which is freed with the completion or after it.
        unsafe { context.backend.submit(&connect) };
        Ok(())
    }

    /// Gives up the attempt to connect to this address.
    pub(super) fn give_up(&mut self, to: SocketAddr, context: &mut Context<'_>) {
        self.give_up_where(|attempt| attempt.to == to, context);
    }

    /// Gives up all attempts.
    pub(super) fn give_up_all(&mut self, context: &mut Context<'_>) {
        self.give_up_where(|_| true, context);
    }

    /// Gives up all attempts and closes the server.
    pub(super) fn close(&mut self, context: &mut Context<'_>) {
        self.give_up_all(context);
        self.connected = None;
    }

    fn give_up_where(&mut self, which: impl Fn(&Attempt) -> bool, context: &mut Context<'_>) {
        for (slot, attempt) in (0..).zip(&mut self.attempts) {
            if let Some(attempt) = attempt
                && !attempt.is_given_up
                && which(attempt)
            {
                attempt.is_given_up = true;
                context
                    .backend
                    .cancel(Operation::Connect(slot), context.key);
            }
        }
    }

    /// Records the outcome of an attempt, unless it was given up. A socket that is connected becomes the server.
    pub(super) fn on_completed(&mut self, slot: u8, completion: Completion) {
        let slot = self.attempts.get_mut(usize::from(slot));
        let Some(Attempt {
            socket,
            to,
            address,
            is_given_up,
        }) = slot.and_then(Option::take)
        else {
            return;
        };
        // The kernel no longer reads it.
        drop(address);
        if is_given_up {
            // It may be connected by now: a reset ends that at once.
            let _ = tcp::reset_on_close(&socket);
            return;
        }
        let outcome = match completion.errno() {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => tcp::connected_from(&socket, to),
        };
        if outcome.is_ok() {
            self.connected = Some(socket);
        }
        self.outcome = Some((to, outcome));
    }

    /// The completed attempt: its address, and the local address if it succeeded.
    pub(super) fn next_connected(&mut self) -> Option<(SocketAddr, io::Result<SocketAddr>)> {
        self.outcome.take()
    }
}
