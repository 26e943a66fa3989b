//! The server's UDP ports, at which streams are opened, each by its first datagram.
//!
//! A stream has its own socket on the port at which it was opened, connected to its peer. One port therefore serves all streams of
//! all clients, the kernel demultiplexes them, and a NAT on the path sees one flow per stream.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::sys::shared_port::{self, Arrival};
use crate::udp::wire::header::{Header, Kind};

/// Datagrams read from one port before the rest of the server is served.
const MAX_DATAGRAMS: usize = 256;

/// The flow that a token identifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    /// The token of the session's connection in the event loop.
    pub(super) session: Token,
    pub(super) kind: FlowKind,
}

/// A flow of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlowKind {
    /// A stream that the client sends.
    Forward(usize),
    /// A stream that the server sends.
    Reverse(usize),
    /// Clock exchanges.
    Clock,
}

/// A datagram of a flow that has no socket connected to the sender.
#[derive(Debug, Clone, Copy)]
pub(super) struct PortDatagram {
    pub(super) flow: Flow,
    pub(super) header: Header,
    pub(super) peer: SocketAddr,
    /// The local address and port of the datagram.
    pub(super) local: SocketAddr,
}

/// The UDP ports, and the flows that can be opened at them.
pub(super) struct Ports {
    sockets: Vec<(UdpSocket, SocketAddr)>,
    flows: HashMap<u64, Flow>,
    /// The port of the next flow.
    next: usize,
    /// Whether clients need the port number, because it differs from the control port.
    announced: bool,
}

impl Ports {
    /// Binds the ports of `range`, or the port of `local`.
    ///
    /// # Errors
    /// As bind(2), with the address.
    pub(super) fn bind(
        local: SocketAddr,
        range: Option<RangeInclusive<u16>>,
    ) -> Result<Self, (io::Error, SocketAddr)> {
        let announced = range.is_some();
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
            announced,
        })
    }

    /// Watches all ports, with consecutive tokens from `first` on.
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

    /// Number of ports.
    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Adds a flow. Returns its port, if it differs from the control port.
    pub(super) fn offer(&mut self, token: u64, flow: Flow) -> Option<u16> {
        self.flows.insert(token, flow);
        let (_, local) = self.sockets.get(self.next % self.sockets.len().max(1))?;
        self.next = self.next.wrapping_add(1);
        self.announced.then(|| local.port())
    }

    /// Removes the flows of a session.
    pub(super) fn withdraw(&mut self, session: Token) {
        self.flows.retain(|_, flow| flow.session != session);
    }

    /// Whether a flow has this token.
    pub(super) fn is_taken(&self, token: u64) -> bool {
        self.flows.contains_key(&token)
    }

    /// Passes the datagrams at the port with this number to `each`, if they are of a known flow. `true` if there may be more.
    pub(super) fn receive(&self, number: usize, mut each: impl FnMut(PortDatagram)) -> bool {
        let Some((socket, local)) = self.sockets.get(number) else {
            return false;
        };
        let mut bytes = [0; 64];
        for _ in 0..MAX_DATAGRAMS {
            match shared_port::receive(socket, *local, &mut bytes) {
                Ok(Some(arrival)) => {
                    if let Some(datagram) = self.datagram(&bytes, arrival) {
                        each(datagram);
                    }
                }
                Ok(None) => return false,
                // An ICMP error about an earlier datagram.
                Err(_) => {}
            }
        }
        true
    }

    /// The datagram, if it is of a known flow. Other datagrams are never answered.
    fn datagram(&self, bytes: &[u8], arrival: Arrival) -> Option<PortDatagram> {
        let header = Header::decode(bytes.get(..arrival.length.min(bytes.len()))?).ok()?;
        if !matches!(header.kind, Kind::Probe | Kind::Ping | Kind::Data) {
            return None;
        }
        Some(PortDatagram {
            flow: *self.flows.get(&header.token)?,
            header,
            peer: arrival.peer,
            local: arrival.local,
        })
    }
}
