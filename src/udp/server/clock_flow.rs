//! The server's side of the clock exchanges of a session.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::sys::clock::monotonic_ns;
use crate::sys::shared_port;
use crate::udp::plan::traffic::IpFields;
use crate::udp::setup::set_ip_fields;
use crate::udp::wire::header::{HEADER, Header, Kind};

/// Pings read before the rest of the server is served.
const MAX_PINGS: usize = 64;

/// A socket on a shared port, connected to the client once its first ping has arrived.
pub(super) struct ClockFlow {
    token: u64,
    ip: IpFields,
    socket: Option<UdpSocket>,
    /// When a ping last arrived, in ns.
    last_ping: Option<u64>,
}

impl ClockFlow {
    /// The replies have the fields `ip`, since pings and data should take the same queues.
    pub(super) fn new(token: u64, ip: IpFields) -> Self {
        Self {
            token,
            ip,
            socket: None,
            last_ping: None,
        }
    }

    /// When a ping last arrived, in ns.
    pub(super) fn last_ping(&self) -> Option<u64> {
        self.last_ping
    }

    /// Opens the flow after the first ping from `peer` to `local`, or after a ping from a new address of the client.
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
        set_ip_fields(&socket, self.ip).map_err(io::Error::other)?;
        shared_port::join(&socket, local, peer)?;
        let fd = socket.as_raw_fd();
        registry.register(&mut SourceFd(&fd), session, Interest::READABLE)?;
        self.socket = Some(socket);
        Ok(())
    }

    /// Replies to a ping or a probe that arrived at `arrived`, in ns.
    pub(super) fn reply(&mut self, header: &Header, arrived: u64) {
        let Some(socket) = &self.socket else { return };
        let kind = match header.kind {
            Kind::Ping => {
                self.last_ping = Some(arrived);
                Kind::Pong
            }
            Kind::Probe => Kind::Credit,
            Kind::Data | Kind::Credit | Kind::Pong => return,
        };
        let pong = Header {
            sent: arrived,
            lateness: monotonic_ns().saturating_sub(arrived),
            ..Header::bare(kind, self.token, header.sequence)
        };
        if socket.send(&pong.encode()).is_err() {
            // A send may report a pending error of the socket instead of sending.
            let _ = socket.send(&pong.encode());
        }
    }

    /// Replies to all pings that have arrived. `true` if there were any.
    pub(super) fn poll(&mut self) -> bool {
        let mut any = false;
        let mut bytes = [0; 2 * HEADER];
        for _ in 0..MAX_PINGS {
            let Some(socket) = &self.socket else {
                return false;
            };
            match socket.recv(&mut bytes) {
                Ok(length) => {
                    let arrived = monotonic_ns();
                    if let Ok(header) = Header::decode(bytes.get(..length).unwrap_or_default())
                        && header.token == self.token
                        && length == HEADER
                    {
                        any = true;
                        self.reply(&header, arrived);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        any
    }
}
