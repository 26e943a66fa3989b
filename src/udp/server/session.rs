//! One session at the server: its receivers and its senders while they run, and what they bring back.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use super::clock::ClockFlow;
use super::ports::{Flow, Knock, Part, Ports};
use super::record;
use super::sending::{Sending, SendingState};
use super::{Limits, SessionReport};
use crate::sys::clock::{self, monotonic_ns};
use crate::sys::{affinity, shared_port};
use crate::udp::placement::{self, Cpus};
use crate::udp::plan::{Mode, Plan};
use crate::udp::receive::receivers::{self, Notify, Prepared, Receivers};
use crate::udp::receive::result_upload::Upload;
use crate::udp::result::Ended;
use crate::udp::send::senders::{self, Senders};
use crate::udp::setup;
use crate::udp::wire::control::{Finish, Hello, Reply, Request, StreamOffer, Welcome};
use crate::udp::wire::header::{Header, Kind};

/// The longest round trip that a sender reckons with where it was not measured.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(10);

/// What a session takes from the server that it runs at.
pub(super) struct Place<'a> {
    pub(super) ports: &'a mut Ports,
    pub(super) limits: Limits,
    pub(super) cpus: Option<Vec<usize>>,
    pub(super) notify: Notify,
    /// The session's connection in the event loop.
    pub(super) token: Token,
}

pub(super) struct Session {
    plan: Plan,
    token: Token,
    welcome: Welcome,
    clock: ClockFlow,
    receiving: Receiving,
    sending: Option<Sending>,
    /// Messages to the client that are ready.
    replies: VecDeque<Reply>,
    started: Instant,
    /// When a datagram of the session last came, but for those that receivers see.
    knocked: Instant,
    /// What the client says it sent.
    finish: Option<Finish>,
    ended: Ended,
    notify: Notify,
    cpus: Cpus,
    /// How long a sender waits for credit.
    idle: Duration,
}

/// The streams that the client sends.
enum Receiving {
    Nothing,
    Running(Box<Receivers>),
    Uploading(Box<Upload>),
}

impl Session {
    /// Makes the sockets of every stream and names the flows.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn start(
        hello: &Hello,
        local: SocketAddr,
        client: IpAddr,
        place: &mut Place<'_>,
    ) -> Result<Self, String> {
        let plan = hello.plan.clone();
        let failed = |error: &dyn std::fmt::Display| format!("the server {error}");
        let (client_sends, server_sends) =
            (plan.direction.client_sends(), plan.direction.server_sends());
        if client_sends {
            setup::can_receive(&plan).map_err(|error| failed(&error))?;
        }
        if server_sends {
            setup::can_send(&plan).map_err(|error| failed(&error))?;
        }
        let same_clock = hello.clock.is_some() && hello.clock == clock::identity();
        let cpus: Cpus = place
            .cpus
            .as_ref()
            .filter(|cpus| !cpus.is_empty())
            .map(|cpus| cpus.iter().copied().cycle().take(plan.streams).collect());
        let prepared = if client_sends {
            let shared = |stream| same_clock && placement::is_shared(&hello.cpus, &cpus, stream);
            let prepared = Prepared::new(&plan, local, cpus.clone(), shared);
            Some(prepared.map_err(|error| failed(&error))?)
        } else {
            None
        };
        let sockets: Vec<(UdpSocket, bool)> = if server_sends {
            let socket = || shared_port::unbound(local).map(|socket| (socket, false));
            let sockets: io::Result<_> = (0..plan.streams).map(|_| socket()).collect();
            sockets.map_err(|error| format!("the server has no socket for a stream: {error}"))?
        } else {
            Vec::new()
        };
        let session = place.token;
        let offers = |ports: &mut Ports, part: fn(usize) -> Part, count| {
            (0..count)
                .map(|stream| {
                    offer(
                        ports,
                        Flow {
                            session,
                            part: part(stream),
                        },
                    )
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let count = |sends| if sends { plan.streams } else { 0 };
        let clock = offer(
            place.ports,
            Flow {
                session,
                part: Part::Clock,
            },
        )?;
        let welcome = Welcome {
            session: random().map_err(no_random)?,
            forward: offers(place.ports, Part::Forward, count(client_sends))?,
            reverse: offers(place.ports, Part::Reverse, count(server_sends))?,
            clock,
            receiver: prepared.as_ref().map(|prepared| prepared.facts().clone()),
            sender_cpus: if server_sends { cpus.clone() } else { None },
            same_clock,
            clock_ns: monotonic_ns(),
            client_ip: client.to_canonical().to_string(),
        };
        let receiving = match prepared {
            None => Receiving::Nothing,
            Some(prepared) => Receiving::Running(Box::new(Receivers::new(
                receivers::Settings {
                    plan: plan.clone(),
                    packet_rows: place.limits.packet_rows,
                    offset: Arc::default(),
                    notify: place.notify.clone(),
                },
                prepared,
            ))),
        };
        Ok(Self {
            token: session,
            clock: ClockFlow::new(welcome.clock.token),
            receiving,
            sending: server_sends.then_some(Sending {
                sockets,
                state: SendingState::Opening,
                reason: None,
            }),
            replies: VecDeque::new(),
            started: Instant::now(),
            knocked: Instant::now(),
            finish: None,
            ended: Ended::Complete,
            notify: place.notify.clone(),
            idle: place.limits.idle,
            cpus,
            welcome,
            plan,
        })
    }

    pub(super) fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Streams of both directions.
    pub(super) fn streams(&self) -> usize {
        self.plan.all_streams()
    }

    /// A datagram came for a flow that has no socket for its peer.
    pub(super) fn knock(&mut self, knock: &Knock, registry: &Registry) {
        let arrived = monotonic_ns();
        self.knocked = Instant::now();
        let outcome = match knock.flow.part {
            Part::Clock => self.open_clock(knock, arrived, registry),
            Part::Forward(stream) => self.open_forward(stream, knock),
            Part::Reverse(stream) => self.open_reverse(stream, knock),
        };
        if let Err(error) = outcome {
            self.end(Ended::Failed(format!(
                "the server cannot open a stream on {}: {error}",
                knock.local
            )));
        }
    }

    fn open_clock(&mut self, knock: &Knock, arrived: u64, registry: &Registry) -> io::Result<()> {
        self.clock
            .open(knock.local, knock.peer, registry, self.token)?;
        self.clock.answer(&knock.header, arrived);
        Ok(())
    }

    fn open_forward(&mut self, stream: usize, knock: &Knock) -> io::Result<()> {
        let Receiving::Running(receivers) = &mut self.receiving else {
            return Ok(());
        };
        let window = receivers.facts().window;
        let Some(socket) = receivers.socket(stream) else {
            return receivers.rebind(stream, knock.peer);
        };
        shared_port::join(socket, knock.local, knock.peer)?;
        greet(socket, &knock.header, window);
        receivers.launch(stream, knock.header.token)
    }

    fn open_reverse(&mut self, stream: usize, knock: &Knock) -> io::Result<()> {
        let Some((socket, is_open)) = self
            .sending
            .as_mut()
            .and_then(|sending| sending.sockets.get_mut(stream))
        else {
            return Ok(());
        };
        if *is_open {
            // An address translator on the way gave the client another address. Its receiver expects no answer to that.
            return socket.connect(knock.peer);
        }
        shared_port::join(socket, knock.local, knock.peer)?;
        *is_open = true;
        greet(socket, &knock.header, None);
        Ok(())
    }

    /// Takes a message of the client in.
    pub(super) fn receive(&mut self, request: Request) {
        match request {
            Request::Begin { receiver } => {
                let window = receiver.and_then(|facts| facts.window);
                if let Err(reason) = self.begin(window) {
                    self.end(Ended::Failed(reason));
                }
            }
            Request::Finish(finish) => {
                if let Receiving::Running(receivers) = &mut self.receiving
                    && let Err(reason) = receivers.finish(&finish)
                {
                    self.end(Ended::Failed(reason));
                }
                self.finish = Some(finish);
            }
            Request::Stop => {
                if let Some(sending) = &mut self.sending {
                    sending.stop();
                }
            }
            Request::Alive(_) => {}
            Request::Hello(_)
            | Request::Resume(_)
            | Request::Greet { .. }
            | Request::Proof { .. } => {
                self.end(Ended::Failed("the client said hello twice".to_owned()));
            }
        }
    }

    /// Launches the server's senders.
    fn begin(&mut self, window: Option<u64>) -> Result<(), String> {
        let lossless = self.plan.mode == Mode::Lossless;
        let Some(sending) = &mut self.sending else {
            return Ok(());
        };
        if !matches!(sending.state, SendingState::Opening) {
            return Err("the client began twice".to_owned());
        }
        if window.is_some_and(|window| window > 0) != lossless {
            return Err("the client grants no credit, or some that is not used".to_owned());
        }
        if !sending.sockets.iter().all(|(_, is_open)| *is_open) {
            return Err("the client began before every stream was open".to_owned());
        }
        let cores = affinity::allowed().unwrap_or_default();
        let mut senders = Senders::new(senders::Settings {
            plan: self.plan.clone(),
            send_buffer: self.plan.send_buffer,
            spin: placement::may_spin(&self.cpus, &None, self.plan.streams, &cores),
            cpus: self.cpus.clone(),
            window,
            // From the session's begin to here, the client has answered several times.
            round_trip: self.started.elapsed().min(LONGEST_ROUND_TRIP),
            credit_timeout: self.idle,
            offset: Arc::new(AtomicI64::new(0)),
            notify: self.notify.clone(),
        });
        for ((socket, _), offer) in sending.sockets.iter().zip(&self.welcome.reverse) {
            socket
                .try_clone()
                .and_then(|socket| senders.launch(socket, offer.token, false))
                .map_err(|error| format!("the server cannot start a sender: {error}"))?;
        }
        sending.state = SendingState::Starting(senders, self.plan.streams);
        Ok(())
    }

    /// Whether it was told to end already.
    pub(super) fn is_ending(&self) -> bool {
        self.ended != Ended::Complete
    }

    /// Stops everything. The first reason given stands.
    pub(super) fn end(&mut self, ended: Ended) {
        if let Some(sending) = &mut self.sending {
            sending.reason = sending.reason.take().or(reason_of(&ended));
            sending.stop();
        }
        if let Receiving::Running(receivers) = &mut self.receiving {
            receivers.stop();
        }
        if self.ended == Ended::Complete {
            self.ended = ended;
        }
    }

    /// Does what is due: answers the clock, takes in what the threads report, and watches the limits.
    pub(super) fn attend(&mut self, limits: &Limits) {
        if self.clock.attend() {
            self.knocked = Instant::now();
        }
        self.attend_receivers();
        self.attend_senders();
        if self.ended == Ended::Complete {
            self.watch(limits);
        }
    }

    fn attend_receivers(&mut self) {
        let Receiving::Running(receivers) = &mut self.receiving else {
            return;
        };
        let rows = receivers.attend();
        self.replies
            .extend(rows.iter().map(|row| Reply::Interval(row.into())));
        let failure = receivers.failure().map(str::to_owned);
        if let (Some(failure), Ended::Complete) = (failure, &self.ended) {
            self.end(Ended::Failed(failure));
        }
        self.upload_when_done();
    }

    fn upload_when_done(&mut self) {
        let Receiving::Running(receivers) = &mut self.receiving else {
            return;
        };
        if !receivers.is_done() {
            return;
        }
        if let Receiving::Running(receivers) =
            std::mem::replace(&mut self.receiving, Receiving::Nothing)
        {
            let upload = Upload::new(receivers.into_outcome(), reason_of(&self.ended));
            self.receiving = Receiving::Uploading(Box::new(upload));
        }
    }

    fn attend_senders(&mut self) {
        let Some(sending) = &mut self.sending else {
            return;
        };
        sending.answer_knocks();
        if let Err(reason) = sending.attend(&mut self.replies) {
            self.end(Ended::Failed(reason));
        }
    }

    fn watch(&mut self, limits: &Limits) {
        if self.started.elapsed() > limits.duration {
            let most = limits.duration.as_secs_f64();
            return self.end(Ended::Limited(format!(
                "the server allows {most} s a session (--max-duration)"
            )));
        }
        let Receiving::Running(receivers) = &self.receiving else {
            return;
        };
        if self.finish.is_some() {
            // The receivers wait for stragglers, and not for long.
            return;
        }
        // A schedule may be slower than the limit.
        let most = limits.idle.max(self.plan.longest_gap().saturating_mul(2));
        let quiet = receivers.heard().map_or(self.started.elapsed(), |heard| {
            Duration::from_nanos(monotonic_ns().saturating_sub(heard))
        });
        if quiet.min(self.knocked.elapsed()) > most {
            self.end(Ended::Limited(format!(
                "no datagram came for {} s (--idle-timeout at the server)",
                most.as_secs_f64()
            )));
        }
    }

    /// When the client last showed itself over UDP.
    pub(super) fn heard(&self) -> Duration {
        let receivers = match &self.receiving {
            Receiving::Running(receivers) => receivers.heard(),
            _ => None,
        };
        let data =
            receivers.map(|heard| Duration::from_nanos(monotonic_ns().saturating_sub(heard)));
        self.knocked.elapsed().min(data.unwrap_or(Duration::MAX))
    }

    /// Datagrams received so far.
    pub(super) fn datagrams(&self) -> u64 {
        match &self.receiving {
            Receiving::Running(receivers) => receivers.datagrams(),
            _ => 0,
        }
    }

    /// The next message to the client that is ready.
    pub(super) fn next_reply(&mut self) -> Option<Reply> {
        self.replies
            .pop_front()
            .or_else(|| match &mut self.receiving {
                Receiving::Uploading(upload) => upload.next_reply(),
                _ => None,
            })
    }

    /// Whether every receiver and every sender has ended.
    pub(super) fn is_done(&self) -> bool {
        !matches!(self.receiving, Receiving::Running(_))
            && self
                .sending
                .as_ref()
                .is_none_or(|sending| matches!(sending.state, SendingState::Over))
    }

    /// Whether the client has been sent everything.
    pub(super) fn is_over(&self) -> bool {
        let uploaded = match &self.receiving {
            Receiving::Uploading(upload) => upload.is_over(),
            Receiving::Nothing => true,
            Receiving::Running(_) => false,
        };
        uploaded && self.is_done() && self.replies.is_empty()
    }

    /// What the session measured. Receivers and senders that still run are stopped and waited for.
    pub(super) fn into_report(mut self, client: SocketAddr, delivered: bool) -> SessionReport {
        if !self.is_done() {
            self.end(Ended::Failed(
                "the server was stopped before the result was brought back".to_owned(),
            ));
        }
        if let Receiving::Running(receivers) = &mut self.receiving {
            receivers.abandon();
        }
        self.upload_when_done();
        let measured = match self.receiving {
            Receiving::Uploading(upload) => Some(record::received(
                &self.plan,
                &self.welcome,
                self.ended.clone(),
                self.finish,
                *upload,
            )),
            _ => None,
        };
        SessionReport {
            client,
            measured,
            sent: self.sending.is_some(),
            delivered,
        }
    }
}

/// Answers the first datagram of a stream: the way is open.
pub(super) fn greet(socket: &UdpSocket, header: &Header, window: Option<u64>) {
    if header.kind == Kind::Probe {
        let limit = window.unwrap_or(header.sequence);
        let credit = Header::bare(Kind::Credit, header.token, limit).encode();
        // If it is lost, the client asks again.
        let _ = socket.send(&credit);
    }
}

fn offer(ports: &mut Ports, flow: Flow) -> Result<StreamOffer, String> {
    let mut token = random().map_err(no_random)?;
    while ports.knows(token) {
        token = random().map_err(no_random)?;
    }
    Ok(StreamOffer {
        token,
        port: ports.offer(token, flow),
    })
}

fn reason_of(ended: &Ended) -> Option<String> {
    match ended {
        Ended::Limited(reason) | Ended::Failed(reason) => Some(reason.clone()),
        Ended::Complete | Ended::Interrupted(_) | Ended::PeerLost(_) => None,
    }
}

fn no_random(error: io::Error) -> String {
    format!("the server has no random numbers: {error}")
}

fn random() -> io::Result<u64> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}
