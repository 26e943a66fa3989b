//! Datagrams to a relay whose destination is blocked.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::protocol::socks5::datagram;
use crate::protocol::{Destination, Host};
use crate::udp::client::{Association, RunError, Setup, Via};

/// Time between two bursts of datagrams.
const PAUSE: Duration = Duration::from_millis(1);

/// How long the last datagrams may take.
const STRAGGLERS: Duration = Duration::from_millis(100);

/// The blocked destination.
pub(super) struct Blocked {
    destination: Destination,
    /// Its socket, at which nothing may arrive; otherwise why this host has none.
    sink: Result<UdpSocket, String>,
}

/// What became of the datagrams.
pub(super) struct Outcome {
    pub(super) sent: u64,
    /// Refused by this host's kernel.
    pub(super) refused: u64,
    /// Arrived at the blocked destination, or were answered from there.
    pub(super) passed: u64,
    pub(super) seconds: f64,
}

/// A socket for datagrams that may not arrive.
pub(super) fn sink() -> io::Result<UdpSocket> {
    bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

fn bound(address: SocketAddr) -> io::Result<UdpSocket> {
    let sink = UdpSocket::bind(address)?;
    sink.set_nonblocking(true)?;
    Ok(sink)
}

/// Bytes of the header that names this destination to a SOCKS5 relay.
pub(super) fn header_length(blocked: &Destination) -> usize {
    datagram::header(&blocked.host, blocked.port).len()
}

impl Blocked {
    /// The destination at which `sink` receives.
    ///
    /// # Errors
    /// As getsockname(2).
    pub(super) fn received_by(sink: UdpSocket) -> io::Result<Self> {
        let address = sink.local_addr()?;
        Ok(Self {
            destination: Destination {
                host: Host::Ip(address.ip()),
                port: address.port(),
            },
            sink: Ok(sink),
        })
    }

    /// A destination that the running relay `via` refuses. Its datagrams are received if it is an unused address of this host.
    pub(super) fn named(destination: Destination, via: IpAddr) -> Self {
        let sink = match &destination.host {
            Host::Ip(ip) if ip.is_loopback() && !via.is_loopback() => {
                Err("it is a loopback address, and the relay may be on another host".to_owned())
            }
            Host::Ip(ip) => {
                bound(SocketAddr::new(*ip, destination.port)).map_err(|error| error.to_string())
            }
            Host::Name(_) => Err("it is a name".to_owned()),
        };
        Self { destination, sink }
    }

    /// A sentence about what the figures do not cover.
    pub(super) fn warning(&self) -> Option<String> {
        let Self { destination, sink } = self;
        let reason = sink.as_ref().err()?;
        Some(format!(
            "Arrivals at the blocked destination {destination} were not observed ({reason}): a datagram that the relay let through counts as dropped, unless it was answered. --blocked with an unused address and port of this host observes them."
        ))
    }

    /// Opens a flow through the relay, with datagrams of `length` bytes.
    ///
    /// # Errors
    /// As socket(2) and connect(2), and a SOCKS5 proxy that refuses an association.
    pub(super) fn open(&self, via: &Via, length: usize) -> Result<Flow<'_>, RunError> {
        let (association, mut datagram) = match via {
            Via::Socks5 { proxy, user } => {
                let setup = Setup::to(*proxy);
                let association = Association::open(*proxy, user.as_ref(), &setup)?;
                let Destination { host, port } = &self.destination;
                (Some(association), datagram::header(host, *port))
            }
            Via::Udp(_) => (None, Vec::new()),
        };
        datagram.resize(datagram.len() + length, 0);
        let relay = association.as_ref().map(|association| association.relay);
        let relay = relay.unwrap_or(via.address());
        let any: IpAddr = match relay {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).map_err(RunError::Start)?;
        socket.connect(relay).map_err(RunError::Start)?;
        Ok(Flow {
            socket,
            sink: self.sink.as_ref().ok(),
            datagram,
            _association: association,
        })
    }
}

/// A flow of datagrams through the relay.
pub(super) struct Flow<'a> {
    socket: UdpSocket,
    sink: Option<&'a UdpSocket>,
    datagram: Vec<u8>,
    /// The relay ends with its connection.
    _association: Option<Association>,
}

impl Flow<'_> {
    /// Sends `pps` datagrams a second for this long, until `stop` returns `true`.
    pub(super) fn send(&self, pps: f64, time: Duration, stop: impl Fn() -> bool) -> Outcome {
        let (mut sent, mut refused) = (0u64, 0);
        let mut passed = self.passed();
        let began = Instant::now();
        while began.elapsed() < time && !stop() {
            let due = (began.elapsed().as_secs_f64() * pps) as u64;
            while sent < due {
                sent += 1;
                let send = || self.socket.send(&self.datagram);
                // An ICMP error about an earlier datagram fails a send.
                if send().is_err() && send().is_err() {
                    refused += 1;
                }
            }
            passed += self.passed();
            thread::sleep(PAUSE);
        }
        let seconds = began.elapsed().as_secs_f64();
        if !time.is_zero() {
            thread::sleep(STRAGGLERS);
        }
        passed += self.passed();
        Outcome {
            sent,
            refused,
            passed,
            seconds,
        }
    }

    /// Datagrams that have arrived at the destination, and answers.
    fn passed(&self) -> u64 {
        let arrived = self.sink.map_or(0, waiting);
        arrived + waiting(&self.socket)
    }
}

/// Datagrams in the receive buffer, which is emptied.
fn waiting(socket: &UdpSocket) -> u64 {
    let mut count = 0;
    loop {
        let mut byte = [MaybeUninit::uninit()];
        let received = SockRef::from(socket).recv_with_flags(&mut byte, libc::MSG_DONTWAIT);
        match received {
            Ok(_) => count += 1,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return count,
        }
    }
}
