//! The client's end of every UDP flow: its socket, and the knocking that opens the flow at the server and on the way.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::conversation::{Conversation, Event};
use super::{RunError, Setup};
use crate::sys::{shared_port, socket};
use crate::udp::setup::SetupError;
use crate::udp::wire::control::{Reply, StreamOffer};
use crate::udp::wire::header::{HEADER, Header, Kind};

/// Time between two knocks.
const PAUSE: Duration = Duration::from_millis(100);

/// How long to knock, on top of some round trips.
const LIMIT: Duration = Duration::from_secs(5);

/// How long to knock after an outage at least, on top of some round trips.
const AFTER_OUTAGE: Duration = Duration::from_secs(1);

/// Answers read from one flow before others get their turn.
const MOST: usize = 16;

/// A flow that is being opened.
pub(super) struct Flow {
    pub(super) socket: UdpSocket,
    pub(super) token: u64,
    to: SocketAddr,
    is_open: bool,
}

impl Flow {
    /// A connected socket for `offer`. Only the first of several flows has a port that was named.
    pub(super) fn new(
        server: SocketAddr,
        setup: &Setup,
        offer: StreamOffer,
        is_first: bool,
    ) -> Result<Self, RunError> {
        let mut to = server;
        if let Some(port) = offer.port {
            to.set_port(port);
        }
        let mut local = setup.bind.unwrap_or(shared_port::any(server));
        if !is_first {
            local.set_port(0);
        }
        let bind = |cause| SetupError::Bind { local, cause };
        let socket = shared_port::unbound(server).map_err(bind)?;
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
            to,
            is_open: false,
        })
    }

    fn knock(&self) {
        let knock = Header::bare(Kind::Probe, self.token, 0).encode();
        if self.socket.send(&knock).is_err() {
            // A pending error of the socket is reported once instead of sending.
            let _ = self.socket.send(&knock);
        }
    }

    /// Reads what has come.
    pub(super) fn attend(&mut self) {
        let mut bytes = [0; 2 * HEADER];
        for _ in 0..MOST {
            match self.socket.recv(&mut bytes) {
                Ok(length) => {
                    let header = Header::decode(bytes.get(..length).unwrap_or_default());
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

/// Knocks at every flow until the server has answered each.
pub(super) fn open(
    conversation: &mut Conversation<'_>,
    flows: &mut [Flow],
) -> Result<(), RunError> {
    let server = conversation.server;
    for (number, flow) in flows.iter().enumerate() {
        conversation
            .watch(&flow.socket, number)
            .map_err(RunError::Start)?;
        flow.knock();
    }
    let mut limit = Instant::now() + LIMIT + 3 * conversation.round_trip();
    let mut knock_at = Instant::now() + PAUSE;
    loop {
        flows.iter_mut().for_each(Flow::attend);
        let Some(closed) = flows.iter().find(|flow| !flow.is_open) else {
            break;
        };
        if conversation.is_cut_off() {
            // It is not UDP alone that does not arrive: that is an outage, which the peer timeout ends.
            limit = limit.max(Instant::now() + AFTER_OUTAGE + 3 * conversation.round_trip());
        }
        if Instant::now() >= limit {
            return Err(RunError::NoUdp(closed.to));
        }
        let event = conversation.next(Some(knock_at));
        match event.map_err(|error| RunError::Lost(server, error))? {
            Event::Time => {
                knock_at = Instant::now() + PAUSE;
                flows
                    .iter()
                    .filter(|flow| !flow.is_open)
                    .for_each(Flow::knock);
            }
            Event::Cancelled => return Err(RunError::Cancelled),
            Event::Reply(reply) => refused(server, reply)?,
            Event::Flows | Event::Rows(_) | Event::Sender(_) => {}
        }
    }
    for flow in flows.iter() {
        conversation
            .unwatch(&flow.socket)
            .map_err(RunError::Start)?;
    }
    Ok(())
}

/// A server that ends the session before the run has begun refuses it.
pub(super) fn refused(server: SocketAddr, reply: Reply) -> Result<(), RunError> {
    let reason = match reply {
        Reply::Refused { reason } => Some(reason),
        Reply::Done(done) => done.reason,
        Reply::SendersDone { reason } => reason,
        _ => return Ok(()),
    };
    let reason = reason.unwrap_or_else(|| "it ended the session".to_owned());
    Err(RunError::Refused(server, reason))
}
