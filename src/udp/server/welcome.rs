//! The welcome of a session: the sockets and flows of its streams, and the message that offers them to the client.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use mio::Token;

use super::Limits;
use super::ports::{Flow, FlowKind, Ports};
use super::wakeups::Wakeups;
use crate::sys::clock::{self, monotonic_ns};
use crate::sys::shared_port;
use crate::udp::fleet::hub::Hub;
use crate::udp::placement::{self, Cpus};
use crate::udp::plan::{Mode, Plan};
use crate::udp::receive::prepared::PreparedReceivers;
use crate::udp::setup;
use crate::udp::shared_loops::{self, SharedLoops};
use crate::udp::wire::control::{Hello, ReceiverEffective, StreamOffer, Welcome};

/// The parts of the server that a new session uses.
pub(super) struct SessionContext<'a> {
    pub(super) ports: &'a mut Ports,
    pub(super) limits: Limits,
    pub(super) cpus: Option<Vec<usize>>,
    pub(super) wakeups: &'a Arc<Wakeups>,
    /// The loops of paced sessions.
    pub(super) loops: &'a Arc<SharedLoops>,
    /// The fleets of the server's clients.
    pub(super) fleets: &'a mut Hub,
    /// Streams of all sessions, with those of this session.
    pub(super) streams: usize,
    /// The session's connection in the event loop.
    pub(super) token: Token,
}

/// The parts of a new session.
pub(super) struct Opening {
    pub(super) welcome: Welcome,
    /// The server's receivers, if the client sends.
    pub(super) receivers: Option<PreparedReceivers>,
    /// The sockets of the server's senders, or of the responder.
    pub(super) sockets: Vec<UdpSocket>,
    pub(super) cpus: Cpus,
    /// Whether the receivers share event loops, and the senders.
    pub(super) receivers_share: bool,
    pub(super) senders_share: bool,
}

/// Creates the sockets of all streams, and offers their flows.
///
/// # Errors
/// A sentence for the client.
pub(super) fn open(
    plan: &Plan,
    hello: &Hello,
    local: SocketAddr,
    client: IpAddr,
    context: &mut SessionContext<'_>,
) -> Result<Opening, String> {
    let (client_sends, server_sends) =
        (plan.direction.client_sends(), plan.direction.server_sends());
    if client_sends {
        setup::can_receive(plan).map_err(at_server)?;
    }
    if server_sends {
        setup::can_send(plan).map_err(at_server)?;
    }
    if let Some(group) = plan.traffic.group
        && group.is_ipv6() != local.is_ipv6()
    {
        return Err(format!(
            "the multicast group {group} and the server's address {} have different families; choose a group or an address of the other family",
            local.ip()
        ));
    }
    let same_clock = hello.clock.is_some() && hello.clock == clock::identity();
    let cpus: Cpus = context
        .cpus
        .as_ref()
        .filter(|cpus| !cpus.is_empty())
        .map(|cpus| cpus.iter().copied().cycle().take(plan.streams).collect());
    let receivers_share = shared_loops::are_shared(plan, context.streams);
    let answers = matches!(plan.mode, Mode::RoundTrip(_));
    let receivers = if client_sends && !answers {
        let shared = |stream| same_clock && placement::is_shared(&hello.cpus, &cpus, stream);
        let receivers = PreparedReceivers::new(plan, local, cpus.clone(), shared);
        let mut receivers = receivers.map_err(at_server)?;
        receivers.set_shares_loops(receivers_share);
        Some(receivers)
    } else {
        None
    };
    let sockets: Vec<UdpSocket> = if server_sends || answers {
        let socket = || {
            let socket = shared_port::unbound(local)
                .map_err(|error| format!("the server cannot create a socket: {error}"))?;
            setup::set_ip_fields(&socket, plan.traffic.ip).map_err(at_server)?;
            Ok(socket)
        };
        (0..plan.streams)
            .map(|_| socket())
            .collect::<Result<_, String>>()?
    } else {
        Vec::new()
    };
    let session = context.token;
    let mut offers = |kind: fn(usize) -> FlowKind, sends: bool| {
        let count = if sends { plan.streams } else { 0 };
        (0..count)
            .map(|stream| offer(context.ports, session, kind(stream)))
            .collect::<Result<Vec<_>, _>>()
    };
    let forward = offers(FlowKind::Forward, client_sends)?;
    let reverse = offers(FlowKind::Reverse, server_sends)?;
    let welcome = Welcome {
        session: random()?,
        forward,
        reverse,
        clock: offer(context.ports, session, FlowKind::Clock)?,
        receiver: match &receivers {
            Some(receivers) => Some(receivers.effective().clone()),
            None if answers => Some(ReceiverEffective {
                cpus: cpus.clone(),
                ..ReceiverEffective::default()
            }),
            None => None,
        },
        sender_cpus: if server_sends { cpus.clone() } else { None },
        same_clock,
        clock_ns: monotonic_ns(),
        client_ip: client.to_canonical().to_string(),
        traffic: plan.traffic.is_any(),
    };
    Ok(Opening {
        welcome,
        receivers,
        sockets,
        cpus,
        receivers_share,
        senders_share: shared_loops::are_senders_shared(plan, context.streams),
    })
}

fn at_server(error: impl Display) -> String {
    format!("the server {error}")
}

/// Offers a flow with a random token.
fn offer(ports: &mut Ports, session: Token, kind: FlowKind) -> Result<StreamOffer, String> {
    let mut token = random()?;
    while ports.is_taken(token) {
        token = random()?;
    }
    Ok(StreamOffer {
        token,
        port: ports.offer(token, Flow { session, kind }),
    })
}

fn random() -> Result<u64, String> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| format!("the server cannot read random numbers: {error}"))?;
    Ok(u64::from_ne_bytes(bytes))
}
