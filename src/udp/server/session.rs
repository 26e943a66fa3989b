//! A session at the server: its receivers and senders while they run, and their results.

mod flows;

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::Token;

use super::clock_flow::ClockFlow;
use super::senders::{SendingState, SendingStreams, explained};
use super::welcome::{self, Opening, SessionContext};
use super::{Limits, SessionReport, record};
use crate::sys::affinity;
use crate::sys::clock::monotonic_ns;
use crate::udp::Notify;
use crate::udp::explain::Explainer;
use crate::udp::placement::{self, Cpus};
use crate::udp::plan::{Mode, Plan};
use crate::udp::receive::receivers::{self, Receivers};
use crate::udp::receive::result_upload::{ResultUpload, interval_messages};
use crate::udp::result::Ended;
use crate::udp::round_trip::responder::Responder;
use crate::udp::send::senders::{self, Senders};
use crate::udp::shared_loops::SharedLoops;
use crate::udp::stages::trial::{self, Trial};
use crate::udp::wire::control::{Finish, Hello, Reply, Request, Welcome};

/// The longest round trip that a sender assumes without a measurement.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(10);

/// Waiting messages above which an interval is sent without its histograms: the client reads too slowly, and memory is bounded.
const MAX_WAITING: usize = 1_024;

/// A session.
pub(super) struct Session {
    plan: Plan,
    token: Token,
    welcome: Welcome,
    clock: ClockFlow,
    receiving: Receiving,
    sending: Option<SendingStreams>,
    /// Messages for the client.
    replies: VecDeque<Reply>,
    started: Instant,
    /// When a datagram last arrived at the ports or the clock flow.
    last_datagram: Instant,
    /// The client's counts.
    finish: Option<Finish>,
    ended: Ended,
    notify: Notify,
    /// The loops of the senders; `None` for a thread per stream.
    loops: Option<Arc<SharedLoops>>,
    cpus: Cpus,
    /// Longest wait of a sender for credit.
    idle: Duration,
    /// Explains the losses on this host, if the client requests it.
    explainer: Option<Explainer>,
    /// Measures the cost of the senders' stamps, if the plan requests stages.
    trial: Option<JoinHandle<Option<Trial>>>,
    /// Requests of round trips, once the responder has ended.
    answered: Option<u64>,
    client: SocketAddr,
}

/// The streams that the client sends.
enum Receiving {
    Nothing,
    Running(Box<Receivers>),
    /// The datagrams are requests, which are sent back.
    Responding(Box<Responder>),
    Uploading(Box<ResultUpload>),
}

impl Session {
    /// Opens a session.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn start(
        hello: &Hello,
        plan: Plan,
        local: SocketAddr,
        client: SocketAddr,
        context: &mut SessionContext<'_>,
    ) -> Result<Self, String> {
        let Opening {
            welcome,
            receivers,
            sockets,
            cpus,
            receivers_share,
            senders_share,
        } = welcome::open(&plan, hello, local, client.ip(), context)?;
        let notify = context.wakeups.notify(context.token);
        let mut sockets = sockets;
        let receiving = match receivers {
            None if matches!(plan.mode, Mode::RoundTrip(_)) => {
                responder(&plan, &mut sockets, &cpus)?
            }
            None => Receiving::Nothing,
            Some(prepared) => Receiving::Running(Box::new(Receivers::new(
                receivers::Settings {
                    plan: plan.clone(),
                    packet_rows: context.limits.packet_rows,
                    sent_probes: false,
                    offset: Arc::default(),
                    notify: notify.clone(),
                    loops: receivers_share.then(|| context.loops.clone()),
                },
                prepared,
            ))),
        };
        let sending = plan.direction.server_sends().then(|| SendingStreams {
            sockets: sockets.into_iter().map(|socket| (socket, false)).collect(),
            state: SendingState::Opening,
            reason: None,
            refused: BTreeMap::new(),
        });
        let datagram = plan.datagram();
        let trial = (plan.stages && sending.is_some()).then(|| {
            let trial = thread::Builder::new().name("stamp-trial".to_owned());
            trial.spawn(move || trial::run(datagram).ok()).ok()
        });
        let mut explainer = hello.explain.as_ref().map(Explainer::requested);
        if let Some(explainer) = &mut explainer {
            explainer.begin(client, None);
        }
        Ok(Self {
            token: context.token,
            clock: ClockFlow::new(welcome.clock.token, plan.traffic.ip),
            receiving,
            sending,
            replies: VecDeque::new(),
            started: Instant::now(),
            last_datagram: Instant::now(),
            finish: None,
            ended: Ended::Complete,
            notify,
            loops: senders_share.then(|| context.loops.clone()),
            idle: context.limits.idle,
            explainer,
            trial: trial.flatten(),
            answered: None,
            client,
            cpus,
            welcome,
            plan,
        })
    }

    /// The welcome message.
    pub(super) fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Streams of both directions.
    pub(super) fn streams(&self) -> usize {
        self.plan.all_streams()
    }

    /// Processes a message of the client.
    pub(super) fn on_request(&mut self, request: Request) {
        match request {
            Request::Begin { receiver } => {
                let window = receiver.and_then(|effective| effective.window);
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
                self.stop_responding();
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
            | Request::Fleet(_)
            | Request::Proof { .. } => {
                self.end(Ended::Failed("the client sent a second hello".to_owned()));
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
            return Err("the client sent a second begin".to_owned());
        }
        if window.is_some_and(|window| window > 0) != lossless {
            return Err("the client's credit window does not fit the mode".to_owned());
        }
        if !sending.sockets.iter().all(|(_, is_open)| *is_open) {
            return Err("the client began before every stream was open".to_owned());
        }
        // The streams did not open before the trial had ended.
        let trial = self.trial.take().and_then(|trial| trial.join().ok()?);
        let cores = affinity::allowed().unwrap_or_default();
        let mut senders = Senders::new(senders::Settings {
            plan: self.plan.clone(),
            send_buffer: self.plan.send_buffer,
            spin: placement::may_spin(&self.cpus, &None, self.plan.streams, &cores),
            cpus: self.cpus.clone(),
            window,
            // The client has responded several times since the session began.
            round_trip: self.started.elapsed().min(MAX_ROUND_TRIP),
            credit_timeout: self.idle,
            offset: Arc::new(AtomicI64::new(0)),
            notify: self.notify.clone(),
            is_reverse: true,
            trial,
            loops: self.loops.clone(),
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

    /// Whether the session was ended early.
    pub(super) fn is_ending(&self) -> bool {
        self.ended != Ended::Complete
    }

    /// Stops the session. The first reason is kept.
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
        self.stop_responding();
    }

    /// Stops the responder, and sends its counts.
    fn stop_responding(&mut self) {
        if !matches!(self.receiving, Receiving::Responding(_)) {
            return;
        }
        if let Receiving::Responding(responder) =
            std::mem::replace(&mut self.receiving, Receiving::Nothing)
        {
            let (received, done) = responder.stop(reason_of(&self.ended));
            self.answered = Some(received.unique);
            self.replies.push_back(Reply::Stream(received));
            self.replies.push_back(Reply::Done(Box::new(done)));
        }
    }

    /// Replies to clock exchanges, processes the events of the threads, and enforces the limits.
    pub(super) fn poll(&mut self, limits: &Limits) {
        if self.clock.poll() {
            self.last_datagram = Instant::now();
        }
        self.poll_receivers();
        self.poll_senders();
        if self.ended == Ended::Complete {
            self.enforce(limits);
        }
    }

    fn poll_receivers(&mut self) {
        let Receiving::Running(receivers) = &mut self.receiving else {
            return;
        };
        let rows = receivers.poll();
        for completed in rows {
            if let Some(latencies) = completed.latencies.as_deref()
                && self.replies.len() < MAX_WAITING
            {
                self.replies.extend(interval_messages(latencies));
            }
            self.replies
                .push_back(Reply::Interval((&completed.row).into()));
        }
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
            let refused = self.sending.as_ref().map(|sending| sending.refused.clone());
            self.replies.extend(explained(
                self.explainer.as_ref(),
                &refused.unwrap_or_default(),
            ));
            let upload = ResultUpload::new(receivers.into_outcome(), reason_of(&self.ended));
            self.receiving = Receiving::Uploading(Box::new(upload));
        }
    }

    fn poll_senders(&mut self) {
        let Some(sending) = &mut self.sending else {
            return;
        };
        sending.answer_probes();
        if let Err(reason) = sending.poll(&mut self.replies, self.explainer.as_ref()) {
            self.end(Ended::Failed(reason));
        }
    }

    fn enforce(&mut self, limits: &Limits) {
        if self.started.elapsed() > limits.duration {
            let most = limits.duration.as_secs_f64();
            return self.end(Ended::Limited(format!(
                "the server's limit is {most} s per session (--max-duration)"
            )));
        }
        if matches!(self.receiving, Receiving::Nothing | Receiving::Uploading(_)) {
            return;
        }
        if self.finish.is_some() {
            // The receivers wait for stragglers for a short time only.
            return;
        }
        // The gap of a slow schedule may exceed the limit.
        let most = limits.idle.max(self.plan.longest_gap().saturating_mul(2));
        let quiet = self.last_arrival().map_or(self.started.elapsed(), since);
        if quiet.min(self.last_datagram.elapsed()) > most {
            self.end(Ended::Limited(format!(
                "no datagram for {} s (--idle-timeout at the server)",
                most.as_secs_f64()
            )));
        }
    }

    /// When a datagram of the client's streams last arrived, in ns; `None` if no stream is open.
    fn last_arrival(&self) -> Option<u64> {
        match &self.receiving {
            Receiving::Running(receivers) => receivers.last_arrival(),
            Receiving::Responding(responder) => responder.last_arrival(),
            Receiving::Nothing | Receiving::Uploading(_) => None,
        }
    }

    /// Time since the client last sent over UDP.
    pub(super) fn udp_silence(&self) -> Duration {
        let data = self.last_arrival().map_or(Duration::MAX, since);
        self.last_datagram.elapsed().min(data)
    }

    /// Datagrams received so far.
    pub(super) fn datagrams(&self) -> u64 {
        match &self.receiving {
            Receiving::Running(receivers) => receivers.datagrams(),
            _ => 0,
        }
    }

    /// The next message for the client.
    pub(super) fn next_reply(&mut self) -> Option<Reply> {
        self.replies
            .pop_front()
            .or_else(|| match &mut self.receiving {
                Receiving::Uploading(upload) => upload.next_reply(),
                _ => None,
            })
    }

    /// Whether all receivers and senders have ended.
    pub(super) fn is_done(&self) -> bool {
        !matches!(
            self.receiving,
            Receiving::Running(_) | Receiving::Responding(_)
        ) && self
            .sending
            .as_ref()
            .is_none_or(|sending| matches!(sending.state, SendingState::Over))
    }

    /// Whether all messages have been taken by [`Self::next_reply`].
    pub(super) fn is_over(&self) -> bool {
        let uploaded = match &self.receiving {
            Receiving::Uploading(upload) => upload.is_over(),
            Receiving::Nothing => true,
            Receiving::Running(_) | Receiving::Responding(_) => false,
        };
        uploaded && self.is_done() && self.replies.is_empty()
    }

    /// The outcome of the session. Stops running receivers and senders, and waits for them.
    pub(super) fn into_report(mut self, client: SocketAddr, delivered: bool) -> SessionReport {
        if !self.is_done() {
            self.end(Ended::Failed(
                "the server was stopped before it sent its result".to_owned(),
            ));
        }
        if let Receiving::Running(receivers) = &mut self.receiving {
            // The rows are part of the receivers' outcome too.
            let _ = receivers.stop_and_wait();
        }
        self.upload_when_done();
        if let Some(explainer) = self.explainer.take() {
            explainer.end_in_background();
        }
        let measured = match self.receiving {
            Receiving::Uploading(upload) => Some(record::received(
                &self.plan,
                &self.welcome,
                self.ended.clone(),
                self.finish,
                self.clock.last_ping(),
                *upload,
            )),
            _ => None,
        };
        SessionReport {
            client,
            measured,
            sent: self.sending.is_some(),
            answered: self.answered,
            delivered,
        }
    }
}

/// Time since a stamp in ns.
fn since(ns: u64) -> Duration {
    Duration::from_nanos(monotonic_ns().saturating_sub(ns))
}

/// The responder of a round-trip session.
fn responder(plan: &Plan, sockets: &mut Vec<UdpSocket>, cpus: &Cpus) -> Result<Receiving, String> {
    let Some(socket) = sockets.pop() else {
        return Ok(Receiving::Nothing);
    };
    let responder = Responder::new(plan, socket, cpus).map_err(|error| error.to_string())?;
    Ok(Receiving::Responding(Box::new(responder)))
}

fn reason_of(ended: &Ended) -> Option<String> {
    match ended {
        Ended::Limited(reason) | Ended::Failed(reason) => Some(reason.clone()),
        Ended::Complete | Ended::Interrupted(_) | Ended::PeerLost(_) => None,
    }
}
