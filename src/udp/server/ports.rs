//! The server's UDP ports: where streams are opened, each by the first datagram that names it.
//!
//! A stream gets a socket of its own on the port that it was opened at, connected to its peer. So one port serves every stream of
//! every client, the kernel tells them apart, and an address translator on the way sees one flow a stream.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::sys::shared_port::{self, Arrival};
use crate::udp::wire::header::{Header, Kind};

/// Datagrams taken from one port before the rest of the server gets its turn.
const MOST: usize = 256;

/// What a token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    /// The session, by the token of its connection in the event loop.
    pub(super) session: Token,
    pub(super) part: Part,
}

/// Which of a session's flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A stream that the client sends.
    Forward(usize),
    /// A stream that the server sends.
    Reverse(usize),
    /// Clock exchanges.
    Clock,
}

/// A datagram of a flow that has no socket for its peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Knock {
    pub(super) flow: Flow,
    pub(super) header: Header,
    pub(super) peer: SocketAddr,
    /// The address and port that it came to.
    pub(super) local: SocketAddr,
}

pub(super) struct Ports {
    sockets: Vec<(UdpSocket, SocketAddr)>,
    flows: HashMap<u64, Flow>,
    /// Where the next flow goes, of several ports.
    next: usize,
    /// Whether clients must be told a port that is not the control connection's.
    are_apart: bool,
}

impl Ports {
    /// Binds the ports: those of `range`, or the one of `local`.
    ///
    /// # Errors
    /// As bind(2), with the address.
    pub(super) fn bind(
        local: SocketAddr,
        range: Option<RangeInclusive<u16>>,
    ) -> Result<Self, (io::Error, SocketAddr)> {
        let are_apart = range.is_some();
        let ports = range.unwrap_or(local.port()..=local.port());
        let mut sockets = Vec::new();
        for port in ports {
            let mut local = local;
            local.set_port(port);
            let socket = shared_port::listen(local).map_err(|error| (error, local))?;
            sockets.push((socket, local));
        }
        Ok(Self {
            sockets,
            flows: HashMap::new(),
            next: 0,
            are_apart,
        })
    }

    /// Watches all ports. The first gets the token `first`, and so on.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub(super) fn register(&self, registry: &Registry, first: usize) -> io::Result<()> {
        for (number, (socket, _)) in self.sockets.iter().enumerate() {
            let fd = socket.as_raw_fd();
            registry.register(
                &mut SourceFd(&fd),
                Token(first + number),
                Interest::READABLE,
            )?;
        }
        Ok(())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Names a new flow, and the port where it is not the control connection's.
    pub(super) fn offer(&mut self, token: u64, flow: Flow) -> Option<u16> {
        self.flows.insert(token, flow);
        let (_, local) = self.sockets.get(self.next % self.sockets.len().max(1))?;
        self.next = self.next.wrapping_add(1);
        self.are_apart.then(|| local.port())
    }

    /// Forgets the flows of a session.
    pub(super) fn withdraw(&mut self, session: Token) {
        self.flows.retain(|_, flow| flow.session != session);
    }

    /// Whether a token is taken.
    pub(super) fn knows(&self, token: u64) -> bool {
        self.flows.contains_key(&token)
    }

    /// Hands over what has come to the port with this number, of flows that there are. `true` when there may be more.
    pub(super) fn receive(&self, number: usize, mut each: impl FnMut(Knock)) -> bool {
        let Some((socket, local)) = self.sockets.get(number) else {
            return false;
        };
        let mut bytes = [0; 64];
        for _ in 0..MOST {
            match shared_port::receive(socket, *local, &mut bytes) {
                Ok(Some(arrival)) => {
                    if let Some(knock) = self.knock(&bytes, arrival) {
                        each(knock);
                    }
                }
                Ok(None) => return false,
                // What became of an earlier datagram, as ICMP reports it.
                Err(_) => {}
            }
        }
        true
    }

    /// What is not a datagram of a flow of ours is never answered.
    fn knock(&self, bytes: &[u8], arrival: Arrival) -> Option<Knock> {
        let header = Header::decode(bytes.get(..arrival.length.min(bytes.len()))?).ok()?;
        if !matches!(header.kind, Kind::Probe | Kind::Ping | Kind::Data) {
            return None;
        }
        Some(Knock {
            flow: *self.flows.get(&header.token)?,
            header,
            peer: arrival.peer,
            local: arrival.local,
        })
    }
}
