//! The client's end of every UDP flow: its socket, and the probes that open the flow at the server and at firewalls on the path.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::association::Association;
use super::control_loop::{ControlLoop, Event};
use super::{RunError, Setup, Via};
use crate::sys::device::Device;
use crate::sys::{ip_options, shared_port, socket};
use crate::udp::plan::traffic::IpFields;
use crate::udp::relay_header::RelayHeader;
use crate::udp::setup::{SetupError, set_ip_fields};
use crate::udp::wire::control::{Reply, StreamOffer};
use crate::udp::wire::header::{HEADER, Header, Kind};

/// Time between two probes.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest time to open a flow, on top of some round trips.
const LIMIT: Duration = Duration::from_secs(5);

/// Time left to open a flow after an outage, on top of some round trips.
const AFTER_OUTAGE: Duration = Duration::from_secs(1);

/// Responses read from one flow before the others are read.
const MAX_RESPONSES: usize = 16;

/// A flow that is being opened.
pub(super) struct Flow {
    pub(super) socket: UdpSocket,
    pub(super) token: u64,
    /// The header in front of each datagram.
    pub(super) relay: RelayHeader,
    /// The association with a SOCKS5 proxy, which must last as long as the flow.
    pub(super) association: Option<Association>,
    /// The server's UDP port.
    server: SocketAddr,
    via: Option<SocketAddr>,
    is_open: bool,
}

impl Flow {
    /// A connected socket for `offer`, whose datagrams have the fields `ip`. Only the first of several flows has the port of
    /// `setup.bind`.
    pub(super) fn new(
        server: SocketAddr,
        setup: &Setup,
        ip: IpFields,
        offer: StreamOffer,
        is_first: bool,
    ) -> Result<Self, RunError> {
        let mut to = server;
        if let Some(port) = offer.port {
            to.set_port(port);
        }
        let server = to;
        let via = setup.via.as_ref();
        let association = match via {
            Some(Via::Socks5 { proxy, user }) => {
                Some(Association::open(*proxy, user.as_ref(), setup)?)
            }
            Some(Via::Udp(_)) | None => None,
        };
        let relay = association.as_ref().map(|association| association.relay);
        let via = via.map(Via::address);
        let to = relay.or(via).unwrap_or(server);
        let mut local = setup.bind.unwrap_or(shared_port::any(to));
        if !is_first {
            local.set_port(0);
        }
        let bind = |cause| SetupError::Bind { local, cause };
        let socket = shared_port::unbound(to).map_err(bind)?;
        set_ip_fields(&socket, ip)?;
        if let Some(device) = &setup.bind_device {
            socket::bind_device(&socket, device).map_err(|cause| SetupError::Device {
                device: device.clone(),
                cause,
            })?;
        }
        if setup.bind.is_some() {
            socket::bind(&socket, local).map_err(bind)?;
        }
        socket
            .connect(to)
            .map_err(|cause| SetupError::Connect { to, cause })?;
        Ok(Self {
            socket,
            token: offer.token,
            relay: Via::header(setup.via.as_ref(), server),
            association,
            server,
            via,
            is_open: false,
        })
    }

    /// Sends all later datagrams to a multicast group, over the interface of the route to the server or that of `setup`. The socket
    /// receives nothing any more.
    pub(super) fn direct_to(&self, group: IpAddr, setup: &Setup) -> Result<(), RunError> {
        let connect = |cause| SetupError::Connect {
            to: SocketAddr::new(group, self.server.port()),
            cause,
        };
        let device = match &setup.bind_device {
            Some(name) => Device::named(name),
            None => Device::towards(self.server),
        };
        let device = device.map_err(connect)?;
        let interface = device.index();
        ip_options::send_groups_over(&self.socket, interface).map_err(connect)?;
        let to = ip_options::group_address(group, self.server.port(), interface);
        let connected = self.socket.connect(to);
        connected.map_err(|cause| match cause.raw_os_error() {
            Some(libc::ENETUNREACH) if group.is_ipv6() => {
                let device = device.name;
                SetupError::NoGroups { group, device }
            }
            _ => connect(cause),
        })?;
        Ok(())
    }

    fn send_probe(&self) {
        let probe = Header::bare(Kind::Probe, self.token, 0).encode();
        let probe = self.relay.wrap(&probe);
        if self.socket.send(&probe).is_err() {
            // A send may report a pending error of the socket instead of sending.
            let _ = self.socket.send(&probe);
        }
    }

    /// Reads responses to probes.
    pub(super) fn read(&mut self) {
        let mut bytes = [0; 2 * HEADER];
        for _ in 0..MAX_RESPONSES {
            match self.socket.recv(&mut bytes) {
                Ok(length) => {
                    let datagram = bytes.get(..length).unwrap_or_default();
                    let header = Header::decode(self.relay.payload(datagram));
                    self.is_open |= header.is_ok_and(|header| {
                        (header.kind, header.token) == (Kind::Credit, self.token)
                    });
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {}
            }
        }
    }
}

/// Sends probes on every flow until the server has responded on each.
pub(super) fn open(control_loop: &mut ControlLoop<'_>, flows: &mut [Flow]) -> Result<(), RunError> {
    let server = control_loop.server;
    for (number, flow) in flows.iter().enumerate() {
        control_loop
            .watch(&flow.socket, number)
            .map_err(RunError::Start)?;
        flow.send_probe();
    }
    let mut limit = Instant::now() + LIMIT + 3 * control_loop.round_trip();
    let mut probe_at = Instant::now() + PAUSE;
    loop {
        flows.iter_mut().for_each(Flow::read);
        let Some(closed) = flows.iter().find(|flow| !flow.is_open) else {
            break;
        };
        if control_loop.is_cut_off() {
            // An outage of UDP and TCP, which the peer timeout limits.
            limit = limit.max(Instant::now() + AFTER_OUTAGE + 3 * control_loop.round_trip());
        }
        if Instant::now() >= limit {
            return Err(match closed.via {
                None => RunError::NoUdp(closed.server),
                Some(via) => RunError::NotThrough(via, closed.server),
            });
        }
        let event = control_loop.next(Some(probe_at));
        match event.map_err(|error| RunError::Lost(server, error))? {
            Event::Timeout => {
                probe_at = Instant::now() + PAUSE;
                flows
                    .iter()
                    .filter(|flow| !flow.is_open)
                    .for_each(Flow::send_probe);
            }
            Event::Cancelled => return Err(RunError::Cancelled),
            Event::Reply(reply) => check_refusal(server, reply)?,
            Event::RelayLost(proxy) => return Err(RunError::RelayLost(proxy)),
            Event::FlowReadable | Event::Intervals(_) | Event::Sender(_) | Event::RoundTrip(_) => {}
        }
    }
    for flow in flows.iter() {
        control_loop
            .unwatch(&flow.socket)
            .map_err(RunError::Start)?;
    }
    Ok(())
}

/// Fails if `reply` ends the session, which refuses the run before it has begun.
pub(super) fn check_refusal(server: SocketAddr, reply: Reply) -> Result<(), RunError> {
    let reason = match reply {
        Reply::Refused { reason } => Some(reason),
        Reply::Done(done) => done.reason,
        Reply::SendersDone { reason } => reason,
        _ => return Ok(()),
    };
    let reason = reason.unwrap_or_else(|| "it ended the session".to_owned());
    Err(RunError::Refused(server, reason))
}
