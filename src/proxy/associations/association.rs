//! An association: its sockets, its destinations and its counts.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use super::backend::Backend;
use super::counters::AssociationCounters;
use super::destinations::Destinations;
use super::handle::Opening;
use super::lookups::OfAssociation;
use super::own::{OwnSocket, OwnSockets};
use crate::proxy::datagrams::record::{DropCause, Drops, Traffic};
use crate::proxy::datagrams::transmit::Outcome;
use crate::proxy::rules::is_own;
use crate::proxy::slab::Key;
use crate::proxy::timers::{Timer, Timers};
use crate::sys::clock::realtime_ns;
use crate::sys::{datagrams, socket};

/// A socket of an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client's relay socket.
    Client,
    /// The socket for destinations of IPv4.
    V4,
    /// The socket for destinations of IPv6.
    V6,
}

impl End {
    pub(super) const ALL: [Self; 3] = [Self::Client, Self::V4, Self::V6];

    pub(super) fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }
}

/// An association.
pub(super) struct Association {
    pub(super) opening: Box<Opening>,
    /// The source of the client's datagrams, once it is known. The relay socket is connected to it.
    pub(super) client: Option<SocketAddr>,
    outgoing: [Option<(UdpSocket, OwnSocket)>; 2],
    pub(super) destinations: Destinations,
    pub(super) lookups: OfAssociation,
    pub(super) to_server: Traffic,
    pub(super) to_client: Traffic,
    pub(super) drops: Drops,
    /// The longest datagrams that are sent to the client in runs.
    pub(super) longest_segment: u16,
    /// The sockets that may have datagrams, and are in the queue of the backend.
    is_ready: [bool; 3],
    pub(super) opened_at: u64,
    pub(super) last: u64,
    pub(super) timer: Timer,
}

impl Association {
    /// An association without datagrams.
    pub(super) fn new(opening: Box<Opening>, now: u64) -> Self {
        let is_v6 = opening.client.is_ipv6();
        Self {
            opening,
            client: None,
            outgoing: [None, None],
            destinations: Destinations::new(is_v6),
            lookups: OfAssociation::default(),
            to_server: Traffic::default(),
            to_client: Traffic::default(),
            drops: Drops::default(),
            longest_segment: u16::MAX,
            is_ready: [false; 3],
            opened_at: realtime_ns(),
            last: now,
            timer: Timer::default(),
        }
    }

    pub(super) fn socket(&self, end: End) -> Option<&UdpSocket> {
        let [v4, v6] = &self.outgoing;
        match end {
            End::Client => Some(&self.opening.relay),
            End::V4 => v4.as_ref().map(|(socket, _)| socket),
            End::V6 => v6.as_ref().map(|(socket, _)| socket),
        }
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
        self.opening.relay.connect(source)?;
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
        let [v4, v6] = &mut self.outgoing;
        let (place, ip): (_, IpAddr) = match end {
            End::V6 => (v6, Ipv6Addr::UNSPECIFIED.into()),
            End::Client | End::V4 => (v4, Ipv4Addr::UNSPECIFIED.into()),
        };
        if place.is_none() {
            let socket = datagrams::bind(SocketAddr::new(ip, 0))?;
            set_buffers(&socket, self.opening.has_large_buffers);
            let address = socket.local_addr()?;
            backend.open(end, key, &socket)?;
            *place = Some((socket, own.add(address)));
        }
        Ok(())
    }

    /// Sets whether a socket may have datagrams. Returns whether it had before.
    pub(super) fn set_ready(&mut self, end: End, is_ready: bool) -> bool {
        let place = self.is_ready.get_mut(end as usize);
        place.is_some_and(|place| mem::replace(place, is_ready))
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

    /// Closes its sockets.
    pub(super) fn close(self, key: Key, backend: &mut impl Backend) {
        let [v4, v6] = self.outgoing;
        backend.close(End::Client, key, self.opening.relay);
        for (end, socket) in [(End::V4, v4), (End::V6, v6)] {
            if let Some((socket, _own)) = socket {
                backend.close(end, key, socket);
            }
        }
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
