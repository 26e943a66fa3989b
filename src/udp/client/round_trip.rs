//! A run of round trips: against a server, with a session, or against an echo server, with nothing but the datagrams.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::association::Association;
use super::check::{Known, impossible};
use super::control_loop::{Event, SessionError};
use super::error::relay_lost;
use super::opening::{self, Flow};
use super::round_trip_record::{OtherEnd, record};
use super::session::Session;
use super::{Cancel, Observer, RunError, Setup};
use crate::sys::clock::{WallClock, monotonic_ns};
use crate::udp::control::connection::ConnectionError;
use crate::udp::placement;
use crate::udp::plan::traffic::IpFields;
use crate::udp::plan::{Direction, Mode, Plan};
use crate::udp::result::{Ended, IntervalRows, Measured};
use crate::udp::round_trip::requester::{self, Config, Outcome, Requester};
use crate::udp::round_trip::unanswered::unanswered;
use crate::udp::send::path_probe::PathProbe;
use crate::udp::send::task;
use crate::udp::wire::control::{Finish, Reply, Request, StreamOffer};
use crate::udp::wire::results::StreamSent;

/// The requester and its reports.
#[derive(Default)]
struct Progress {
    intervals: IntervalRows,
    outcome: Option<Box<Outcome>>,
}

impl Progress {
    fn add(&mut self, event: requester::Event, observer: &mut impl Observer) {
        match event {
            requester::Event::Row(completed) => {
                let latencies = completed.latencies.as_deref();
                observer.interval(Direction::Forward, &completed.row, latencies);
                self.intervals.push(completed.row);
            }
            requester::Event::Ended(outcome) => self.outcome = Some(outcome),
        }
    }

    /// Stops the requester, and waits until it has ended.
    fn close(&mut self, requester: &Requester, observer: &mut impl Observer) {
        requester.stop();
        while self.outcome.is_none() {
            match requester.wait() {
                Some(event) => self.add(event, observer),
                None if requester.has_ended() => break,
                None => {}
            }
        }
    }
}

fn interrupted() -> Ended {
    Ended::Interrupted("interrupted".to_owned())
}

fn config(plan: &Plan, setup: &Setup, flow: &Flow) -> Config {
    Config {
        pps: match plan.mode {
            Mode::RoundTrip(pps) => pps,
            _ => None,
        },
        cpu: placement::of(&setup.cpus, 0),
        is_echo: setup.is_echo,
        plan: plan.clone(),
        token: flow.token,
        relay: flow.relay.clone(),
    }
}

/// Executes a run against the first of the echo servers that a socket can be connected to.
///
/// # Errors
/// [`RunError`], if the run did not begin.
pub(super) fn echo(
    plan: &Plan,
    setup: &Setup,
    observer: &mut impl Observer,
    cancel: &Cancel,
) -> Result<Vec<Measured>, RunError> {
    let mut tried = Err(RunError::Cancelled);
    for &server in &setup.servers {
        tried = echo_flow(server, setup, plan.traffic.ip).map(|flow| (flow, server));
        if tried.is_ok() {
            break;
        }
    }
    let (flow, server) = tried?;
    let local = flow.socket.local_addr().map_err(RunError::Start)?;
    observer.listening(local);
    let buffers = requester::set_up(&flow.socket, plan)?;
    let wall = WallClock::now();
    observer.begun();
    let config = config(plan, setup, &flow);
    let association = flow.association;
    let requester =
        Requester::start(config, flow.socket, Arc::new(|| ())).map_err(RunError::Start)?;
    let mut progress = Progress::default();
    let mut ended = Ended::Complete;
    while progress.outcome.is_none() {
        match requester.wait() {
            Some(event) => progress.add(event, observer),
            None if requester.has_ended() => break,
            None => {}
        }
        if cancel.is_cancelled() {
            requester.stop();
            ended = interrupted();
        }
        if let Some(association) = &association
            && ended == Ended::Complete
            && Association::is_closed(&association.connection)
        {
            requester.stop();
            ended = Ended::PeerLost(relay_lost(association.proxy));
        }
    }
    let other = OtherEnd {
        client_ip: Some(local.ip().to_canonical().to_string()),
        ..OtherEnd::default()
    };
    let outcome = *progress.outcome.unwrap_or_default();
    if ended == Ended::Complete
        && let Some(reason) = unanswered(&outcome, server)
    {
        ended = Ended::PeerLost(reason);
    }
    Ok(vec![record(
        (plan, setup),
        &wall,
        (outcome, buffers),
        progress.intervals,
        ended,
        other,
    )])
}

/// A flow with a random token, by which datagrams of others are recognised.
fn echo_flow(server: SocketAddr, setup: &Setup, ip: IpFields) -> Result<Flow, RunError> {
    let mut token = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut token))
        .map_err(RunError::Start)?;
    let offer = StreamOffer {
        token: u64::from_ne_bytes(token),
        port: None,
    };
    Flow::new(server, setup, ip, offer, true)
}

impl<O: Observer> Session<'_, O> {
    /// Opens the flow, runs the requests and fetches the server's counts.
    pub(super) fn round_trips(mut self) -> Result<Vec<Measured>, RunError> {
        let server = self.control_loop.server;
        let offer = self.welcome.forward.first().copied();
        let offer = offer
            .filter(|_| self.is_welcome_valid())
            .ok_or(RunError::OutOfTurn(server))?;
        let mut flows = [self.flow(offer, true)?];
        let [flow] = &flows;
        let local = flow.socket.local_addr().map_err(RunError::Start)?;
        self.observer.listening(local);
        let buffers = requester::set_up(&flow.socket, self.plan)?;
        opening::open(&mut self.control_loop, &mut flows)
            .map_err(|error| error.within(self.plan.traffic.ip.ttl))?;
        let [flow] = flows;
        let path_note = task::path_note(
            self.plan,
            &PathProbe {
                socket: &flow.socket,
                token: flow.token,
                relay: &flow.relay,
                round_trip: self.control_loop.round_trip(),
                stop: &AtomicBool::new(false),
                is_of_requests: true,
            },
        )?;
        let (wall, begun) = (WallClock::now(), monotonic_ns());
        self.observer.begun();
        let config = config(self.plan, self.setup, &flow);
        let requester = Requester::start(config, flow.socket, self.control_loop.notify());
        self.control_loop.requester = Some(requester.map_err(RunError::Start)?);
        let mut progress = Progress::default();
        let mut other = OtherEnd::default();
        let mut ended = Ended::Complete;
        if let Err(error) = self.exchange(&mut progress, &mut other, &mut ended)
            && other.done.is_none()
        {
            let before = match progress.outcome {
                Some(_) => " before it sent its result",
                None => "",
            };
            ended = Ended::PeerLost(format!("the server at {server} was lost{before}: {error}"));
        }
        if let Some(requester) = self.control_loop.requester.take() {
            progress.close(&requester, self.observer);
        }
        let known = Known {
            plan: self.plan,
            session: (begun, monotonic_ns()),
            offset: None,
            is_complete: ended == Ended::Complete,
        };
        if let Err(what) = known.answered(other.received.as_ref(), other.done.as_ref()) {
            (other.received, other.done) = (None, None);
            ended = impossible(server, &what);
        }
        other.client_ip = Some(self.welcome.client_ip.clone());
        other.welcome = Some(self.welcome);
        let outcome = *progress.outcome.unwrap_or_default();
        let mut measured = record(
            (self.plan, self.setup),
            &wall,
            (outcome, buffers),
            progress.intervals,
            ended,
            other,
        );
        measured.run.effective.path_note = path_note;
        Ok(vec![measured])
    }

    /// Runs until the server has sent its counts.
    fn exchange(
        &mut self,
        progress: &mut Progress,
        other: &mut OtherEnd,
        ended: &mut Ended,
    ) -> Result<(), SessionError> {
        let mut is_finished = false;
        while other.done.is_none() || progress.outcome.is_none() {
            match self.control_loop.next(None)? {
                Event::RoundTrip(event) => progress.add(event, self.observer),
                Event::Cancelled => {
                    self.stop_requests();
                    *ended = interrupted();
                }
                Event::RelayLost(proxy) => {
                    self.stop_requests();
                    *ended = Ended::PeerLost(relay_lost(proxy));
                }
                Event::Reply(Reply::Refused { reason }) => {
                    return Err(ConnectionError::Io(io::Error::other(reason)).into());
                }
                Event::Reply(Reply::Stream(received)) => other.received = Some(received),
                Event::Reply(Reply::Done(done)) => {
                    let reason = done.reason.clone();
                    if !is_finished && *ended == Ended::Complete {
                        let unknown = || "the server ended the session".to_owned();
                        *ended = Ended::Limited(reason.unwrap_or_else(unknown));
                    }
                    other.done = Some(*done);
                    self.stop_requests();
                }
                _ => {}
            }
            if let Some(outcome) = &progress.outcome
                && !is_finished
            {
                is_finished = true;
                let finish = Finish {
                    streams: vec![StreamSent {
                        packets: outcome.counts.sent,
                        bytes: outcome.counts.sent.saturating_mul(self.plan.chunk as u64),
                        not_sent: outcome.not_sent,
                    }],
                    quiet_ns: 0,
                };
                if other.done.is_none() {
                    self.control_loop.send(&Request::Finish(finish))?;
                    self.control_loop.await_result();
                }
            }
        }
        Ok(())
    }

    fn stop_requests(&self) {
        self.control_loop.requester.iter().for_each(Requester::stop);
    }
}
