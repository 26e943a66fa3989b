//! An association: its sockets, its destinations and its counts.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use super::counters::AssociationCounters;
use super::destinations::Destinations;
use super::handle::Opening;
use super::lookups::OfAssociation;
use super::own::{OwnSocket, OwnSockets};
use crate::proxy::datagrams::backend::Backend;
use crate::proxy::datagrams::record::{DropCause, Drops, Outcome, Traffic};
use crate::proxy::datagrams::sockets::{End, Socket, SocketId, Sockets};
use crate::proxy::rules::is_own;
use crate::proxy::slab::{Key, Slab};
use crate::proxy::timers::{Timer, Timers};
use crate::sys::clock::realtime_ns;
use crate::sys::{datagrams, socket};

/// The socket for destinations of the family of this address.
pub(super) fn end_of(address: SocketAddr) -> End {
    match address {
        SocketAddr::V4(_) => End::Server,
        SocketAddr::V6(_) => End::ServerV6,
    }
}

/// An association.
pub(super) struct Association {
    pub(super) opening: Box<Opening>,
    /// By [`End`].
    sockets: [Option<Socket>; End::ALL.len()],
    /// The addresses of the sockets for destinations.
    own: Vec<OwnSocket>,
    /// The source of the client's datagrams, once it is known. The relay socket is connected to it.
    pub(super) client: Option<SocketAddr>,
    pub(super) destinations: Destinations,
    pub(super) lookups: OfAssociation,
    pub(super) to_server: Traffic,
    pub(super) to_client: Traffic,
    pub(super) drops: Drops,
    /// The longest datagrams that are sent to the client in runs.
    pub(super) longest_segment: u16,
    pub(super) opened_at: u64,
    pub(super) last: u64,
    pub(super) timer: Timer,
}

impl Sockets for Slab<Association> {
    fn get(&self, id: SocketId) -> Option<&Socket> {
        Self::get(self, id.key)?.socket(id.end)
    }

    fn get_mut(&mut self, id: SocketId) -> Option<&mut Socket> {
        let sockets = &mut Self::get_mut(self, id.key)?.sockets;
        sockets.get_mut(id.end as usize)?.as_mut()
    }
}

impl Association {
    /// An association without datagrams.
    pub(super) fn new(opening: Box<Opening>, relay: Socket, now: u64) -> Self {
        let is_v6 = opening.client.is_ipv6();
        Self {
            opening,
            sockets: [Some(relay), None, None],
            own: Vec::new(),
            client: None,
            destinations: Destinations::new(is_v6),
            lookups: OfAssociation::default(),
            to_server: Traffic::default(),
            to_client: Traffic::default(),
            drops: Drops::default(),
            longest_segment: u16::MAX,
            opened_at: realtime_ns(),
            last: now,
            timer: Timer::default(),
        }
    }

    pub(super) fn socket(&self, end: End) -> Option<&Socket> {
        self.sockets.get(end as usize)?.as_ref()
    }

    /// The only source of the client's datagrams.
    pub(super) fn client_ip(&self) -> IpAddr {
        self.opening.client
    }

    /// Whether datagrams from `source` are the client's. The first one fixes the port.
    pub(super) fn is_client(&self, source: SocketAddr, own: &OwnSockets) -> bool {
        if let Some(client) = self.client {
            return client == source;
        }
        let port = self.opening.port;
        source.ip().to_canonical() == self.opening.client
            && (port == 0 || port == source.port())
            && !is_own(&own.with_port(source.port()), source)
    }

    /// Receives only the datagrams of this source from now on.
    ///
    /// # Errors
    /// As connect(2).
    pub(super) fn connect(&mut self, source: SocketAddr) -> io::Result<()> {
        if let Some(relay) = self.socket(End::Client) {
            relay.socket().connect(source)?;
        }
        self.client = Some(source);
        Ok(())
    }

    /// Opens the socket for destinations of a family, unless it is open.
    ///
    /// # Errors
    /// As socket(2), bind(2) and [`Backend::open`].
    pub(super) fn open(
        &mut self,
        end: End,
        key: Key,
        backend: &mut impl Backend,
        own: &Arc<OwnSockets>,
    ) -> io::Result<()> {
        let ip: IpAddr = match end {
            End::ServerV6 => Ipv6Addr::UNSPECIFIED.into(),
            End::Client | End::Server => Ipv4Addr::UNSPECIFIED.into(),
        };
        let Some(place @ None) = self.sockets.get_mut(end as usize) else {
            return Ok(());
        };
        let socket = datagrams::bind(SocketAddr::new(ip, 0))?;
        set_buffers(&socket, self.opening.has_large_buffers);
        let address = socket.local_addr()?;
        let socket = Socket::from(socket);
        backend.open(SocketId { key, end }, &socket)?;
        *place = Some(socket);
        self.own.push(own.add(address));
        Ok(())
    }

    /// Whether the client sends over IPv6.
    pub(super) fn has_v6_client(&self) -> bool {
        self.client
            .is_some_and(|client| client.ip().to_canonical().is_ipv6())
    }

    /// The association has forwarded datagrams.
    pub(super) fn touch(&mut self, key: Key, timers: &mut Timers<Key>, now: u64, idle: u64) {
        self.last = now;
        timers.set(key, &mut self.timer, now.saturating_add(idle));
    }

    /// Removes its sockets.
    pub(super) fn take_sockets(&mut self) -> impl Iterator<Item = (End, Socket)> {
        let each = End::ALL.into_iter().zip(mem::take(&mut self.sockets));
        each.filter_map(|(end, socket)| Some((end, socket?)))
    }

    pub(super) fn count_to_server(&mut self, outcome: Outcome, counters: &AssociationCounters) {
        counters.sent_to_server(outcome.sent);
        self.to_server = self.to_server.and(outcome.sent);
        self.drop_datagrams(&outcome.drops, counters);
    }

    pub(super) fn drop_datagrams(&mut self, drops: &Drops, counters: &AssociationCounters) {
        if drops.total() > 0 {
            counters.dropped(drops);
            self.drops = self.drops.and(*drops);
        }
    }
}

/// Requests buffers of 4 MiB, or else of 1 MiB, which the kernel limits (`net.core.rmem_max`). A privileged process exceeds the
/// limit for large ones: 2 ms of datagrams at 100,000 a second fill a buffer of the default limit. A smaller buffer only drops
/// earlier.
pub(super) fn set_buffers(socket: &UdpSocket, is_large: bool) {
    let bytes = Some(if is_large { 4 << 20 } else { 1 << 20 });
    let _ = socket::set_buffers(socket, bytes, bytes, is_large);
}

/// The outcome of datagrams for which no socket can be opened.
pub(super) fn no_socket(error: &io::Error, datagrams: usize) -> Outcome {
    let cause = match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => DropCause::Unreachable,
        _ => DropCause::OverLimit,
    };
    Outcome::dropped(cause, datagrams)
}
