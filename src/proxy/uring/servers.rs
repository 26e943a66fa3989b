//! The sockets of a connection's server: those that are being connected to, and the one that is connected.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::types::Fd;
use socket2::SockAddr;

use super::means::{Act, MOST_SLOTS, Means};
use crate::proxy::slab::Key;
use crate::sys::tcp;
use crate::uring::ring::Completion;

/// A connect(2) that the kernel has not completed.
struct Attempt {
    socket: TcpStream,
    to: SocketAddr,
    /// What the kernel reads, as long as this attempt is there.
    address: Box<SockAddr>,
    /// Whatever comes of it, it is not wanted any more.
    given_up: bool,
}

/// What there is of a server.
#[derive(Default)]
pub(super) struct Servers {
    /// By the slot that their completions carry.
    attempts: Vec<Option<Attempt>>,
    connected: Option<TcpStream>,
}

impl Servers {
    /// The server, once it is connected.
    pub(super) fn connected(&self) -> Option<&TcpStream> {
        self.connected.as_ref()
    }

    /// A socket is being connected to this address.
    pub(super) fn is_tried(&self, address: SocketAddr) -> bool {
        let mut attempts = self.attempts.iter().flatten();
        attempts.any(|attempt| attempt.to == address && !attempt.given_up)
    }

    /// The kernel has something to do for an attempt still.
    pub(super) fn is_busy(&self) -> bool {
        self.attempts.iter().any(Option::is_some)
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// As [`tcp::unconnected`]; `ENOBUFS` where too many attempts that were given up are still under way.
    pub(super) fn begin(&mut self, to: SocketAddr, key: Key, means: &mut Means) -> io::Result<()> {
        let free = self.attempts.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.attempts.len());
        let act = match u8::try_from(slot) {
            Ok(number) if slot < MOST_SLOTS => Act::Connect(number),
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
        .user_data(act.of(key));
        let attempt = Some(Attempt {
            socket,
            to,
            address,
            given_up: false,
        });
        match self.attempts.get_mut(slot) {
            Some(place) => *place = attempt,
            None => self.attempts.push(attempt),
        }
        // SAFETY: the address is in a box of its own, which goes with the completion or after it.
        unsafe { means.ask(&connect) };
        Ok(())
    }

    /// Has the kernel give up to connect to this address.
    pub(super) fn give_up(&mut self, to: SocketAddr, key: Key, means: &mut Means) {
        self.give_up_where(|attempt| attempt.to == to, key, means);
    }

    /// Has the kernel give up whatever is under way.
    pub(super) fn give_up_all(&mut self, key: Key, means: &mut Means) {
        self.give_up_where(|_| true, key, means);
    }

    /// There is a server or will be none: closes what there was.
    pub(super) fn close(&mut self, key: Key, means: &mut Means) {
        self.give_up_all(key, means);
        self.connected = None;
    }

    fn give_up_where(&mut self, which: impl Fn(&Attempt) -> bool, key: Key, means: &mut Means) {
        for (slot, attempt) in (0..).zip(&mut self.attempts) {
            if let Some(attempt) = attempt
                && !attempt.given_up
                && which(attempt)
            {
                attempt.given_up = true;
                means.cancel(Act::Connect(slot).of(key));
            }
        }
    }

    /// An attempt is over: to where, and from which local address; nothing where it was given up. One that is
    /// connected is the server.
    pub(super) fn done(
        &mut self,
        slot: u8,
        completion: Completion,
    ) -> Option<(SocketAddr, io::Result<SocketAddr>)> {
        let place = self.attempts.get_mut(usize::from(slot))?;
        let Attempt {
            socket,
            to,
            address,
            given_up,
        } = place.take()?;
        // The kernel is done with it.
        drop(address);
        if given_up {
            // It may be connected by now: a reset ends that at once.
            let _ = tcp::reset_on_close(&socket);
            return None;
        }
        let outcome = match completion.errno() {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => tcp::connected_from(&socket, to),
        };
        if outcome.is_ok() {
            self.connected = Some(socket);
        }
        Some((to, outcome))
    }
}
