//! The server's side of the clock exchanges of one session.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::sys::clock::monotonic_ns;
use crate::sys::shared_port;
use crate::udp::wire::header::{HEADER, Header, Kind};

/// Questions answered before the rest of the server gets its turn.
const MOST: usize = 64;

/// A socket on a shared port, connected to the client once its first question has come.
pub(super) struct ClockFlow {
    token: u64,
    socket: Option<UdpSocket>,
}

impl ClockFlow {
    pub(super) fn new(token: u64) -> Self {
        Self {
            token,
            socket: None,
        }
    }

    /// The first question came from `peer` to `local`, or another one from a new address of the client.
    ///
    /// # Errors
    /// As socket(2), bind(2), connect(2) and epoll_ctl(2).
    pub(super) fn open(
        &mut self,
        local: SocketAddr,
        peer: SocketAddr,
        registry: &Registry,
        session: Token,
    ) -> io::Result<()> {
        if let Some(socket) = &self.socket {
            return socket.connect(peer);
        }
        let socket = shared_port::unbound(local)?;
        shared_port::join(&socket, local, peer)?;
        let fd = socket.as_raw_fd();
        registry.register(&mut SourceFd(&fd), session, Interest::READABLE)?;
        self.socket = Some(socket);
        Ok(())
    }

    /// Answers a question that came at `arrived`, in ns.
    pub(super) fn answer(&self, header: &Header, arrived: u64) {
        let Some(socket) = &self.socket else { return };
        let kind = match header.kind {
            Kind::Ping => Kind::Pong,
            Kind::Probe => Kind::Credit,
            Kind::Data | Kind::Credit | Kind::Pong => return,
        };
        let pong = Header {
            sent: arrived,
            lateness: monotonic_ns().saturating_sub(arrived),
            ..Header::bare(kind, self.token, header.sequence)
        };
        if socket.send(&pong.encode()).is_err() {
            // A pending error of the socket is reported once instead of sending.
            let _ = socket.send(&pong.encode());
        }
    }

    /// Answers all questions that have come, and says whether there were any.
    pub(super) fn attend(&self) -> bool {
        let mut any = false;
        let Some(socket) = &self.socket else {
            return false;
        };
        let mut bytes = [0; 2 * HEADER];
        for _ in 0..MOST {
            match socket.recv(&mut bytes) {
                Ok(length) => {
                    let arrived = monotonic_ns();
                    if let Ok(header) = Header::decode(bytes.get(..length).unwrap_or_default())
                        && header.token == self.token
                        && length == HEADER
                    {
                        any = true;
                        self.answer(&header, arrived);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        any
    }
}
