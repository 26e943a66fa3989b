//! A channel of plain system calls: send(2) and recv(2).

use std::io::{self, ErrorKind};
use std::net::{Shutdown, UdpSocket};
use std::time::Duration;

use socket2::SockRef;

use super::channel::{Calls, Channel, Received, Settings, TICK, Waiting};
use crate::sys::socket;

/// How long a kernel that can polls the device queue for a spinning socket, in µs (`SO_BUSY_POLL`, socket(7)).
const BUSY_POLL_US: libc::c_int = 50;

/// A connected socket.
pub(super) struct SocketChannel {
    socket: UdpSocket,
    /// A receive sleeps by itself.
    blocks: bool,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    calls: Calls,
}

impl SocketChannel {
    /// Sets up the waits.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub(super) fn new(socket: UdpSocket, settings: &Settings) -> io::Result<Self> {
        let blocks = settings.waiting == Waiting::Asleep;
        socket.set_nonblocking(!blocks)?;
        match settings.waiting {
            Waiting::Asleep => socket.set_read_timeout(Some(TICK))?,
            Waiting::AsleepUntil => {}
            Waiting::Spinning => {
                // More than `net.core.busy_read` needs CAP_NET_ADMIN. Without it the thread spins all the same.
                let _ = socket::set_busy_poll(&socket, BUSY_POLL_US);
            }
        }
        Ok(Self {
            socket,
            blocks,
            outgoing: vec![0; settings.datagram],
            // A longer datagram is none of the flow.
            incoming: vec![0; settings.datagram + 1],
            calls: Calls::default(),
        })
    }
}

impl Channel for SocketChannel {
    fn outgoing(&mut self) -> &mut [u8] {
        &mut self.outgoing
    }

    fn send(&mut self, length: usize) -> io::Result<()> {
        self.calls.sends += 1;
        let bytes = self.outgoing.get(..length).unwrap_or_default();
        self.socket.send(bytes).map(|_| ())
    }

    fn incoming(&mut self) -> &mut [u8] {
        &mut self.incoming
    }

    fn reply(&mut self, length: usize) -> io::Result<()> {
        self.calls.sends += 1;
        let bytes = self.incoming.get(..length).unwrap_or_default();
        self.socket.send(bytes).map(|_| ())
    }

    fn receive(&mut self) -> Received {
        self.calls.receives += 1;
        match self.socket.recv(&mut self.incoming) {
            Ok(length) => Received::Datagram(length),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Received::Nothing,
                _ => Received::Failed(error),
            },
        }
    }

    fn sleep(&mut self, ns: u64) {
        if !self.blocks {
            socket::await_readable(&self.socket, Duration::from_nanos(ns).min(TICK));
        }
    }

    fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    fn calls(&self) -> Calls {
        self.calls
    }
}

/// Wakes a thread that sleeps for the next datagram. The socket receives nothing from now on.
pub(super) fn wake(socket: &UdpSocket) {
    // It fails for an unconnected socket, whose thread wakes at the next tick.
    let _ = SockRef::from(socket).shutdown(Shutdown::Read);
}
