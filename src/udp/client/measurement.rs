//! The measurement: from the start of the senders to the last result of both sides.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::check::{Known, impossible};
use super::clock_flow::{ClockEstimate, ClockFlow};
use super::control_loop::{Event, SessionError};
use super::error::relay_lost;
use super::results::DirectionResults;
use super::session::{BURST, ClockState, Directions, Session};
use super::{Observer, Via};
use crate::sys::clock::{WallClock, monotonic_ns};
use crate::udp::control::connection::ConnectionError;
use crate::udp::plan::Direction;
use crate::udp::receive::intervals::CompletedInterval;
use crate::udp::receive::receiver::{MAX_QUIET_NS, MIN_QUIET_NS};
use crate::udp::receive::receivers::Receivers;
use crate::udp::receive::result_upload::ResultUpload;
use crate::udp::result::{Ended, Measured};
use crate::udp::send::{outcome, senders};
use crate::udp::wire::control::{Finish, Reply, Request};
use crate::udp::wire::results::Histogram;
use crate::udp::wire::stages::StampedEnd;

/// A start that is nearer than this is waited for without events, as their timeouts are in whole ms.
const NEAR: Duration = Duration::from_millis(3);

impl<O: Observer> Session<'_, O> {
    /// Sends and receives, waits for the results and computes the records.
    pub(super) fn measure(mut self) -> Vec<Measured> {
        if let Some(explainer) = &mut self.explainer {
            let device = self.setup.bind_device.as_deref();
            let next = self.setup.via.as_ref().map(Via::address);
            explainer.begin(next.unwrap_or(self.control_loop.server), device);
        }
        let wall = WallClock::now();
        self.observer.begun();
        let clocks_related = self.clock != ClockState::Unknown;
        let mut directions = Directions {
            forward: DirectionResults::new(
                Direction::Forward,
                self.welcome.forward.len(),
                clocks_related,
            ),
            reverse: DirectionResults::new(
                Direction::Reverse,
                self.welcome.reverse.len(),
                clocks_related,
            ),
            senders: None,
            ended: Ended::Complete,
            server: None,
            client: None,
            impossible: None,
            begun: monotonic_ns(),
            end: monotonic_ns(),
        };
        if let Err(error) = self.run_to_end(&mut directions) {
            self.on_session_lost(&mut directions, &error);
        }
        if let Some(senders) = &mut self.control_loop.senders {
            directions.senders.get_or_insert_with(|| senders.join());
        }
        if let Some(explainer) = &self.explainer {
            let outcomes = directions.senders.as_deref().unwrap_or_default();
            directions.client = Some(explainer.report(&outcome::refused(outcomes)));
        }
        let estimate = match &self.control_loop.clock {
            Some(clock) => clock.estimate(directions.end),
            None => None,
        };
        self.check(&mut directions, estimate);
        self.assemble(directions, &wall, estimate)
    }

    /// What this host knows of the run.
    fn known(&self, directions: &Directions, estimate: Option<ClockEstimate>) -> Known<'_> {
        Known {
            plan: self.plan,
            session: (directions.begun, monotonic_ns()),
            offset: match (self.clock, estimate) {
                (ClockState::Same, _) => Some((0, 0)),
                (ClockState::Estimated, Some(of)) => Some((of.offset_ns, of.error_ns)),
                (ClockState::Estimated | ClockState::Unknown, _) => None,
            },
            is_complete: directions.ended == Ended::Complete,
        }
    }

    /// What this host knows when a row arrives: the relation of the clocks, but not its last estimate.
    fn known_of_rows(&self, directions: &Directions) -> Known<'_> {
        Known {
            offset: (self.clock != ClockState::Unknown).then_some((0, 0)),
            ..self.known(directions, None)
        }
    }

    /// Refuses a result of the server that contradicts what this host knows.
    fn check(&mut self, directions: &mut Directions, estimate: Option<ClockEstimate>) {
        let known = self.known(directions, estimate);
        let sent = senders::counts(directions.senders.as_deref().unwrap_or_default());
        let of_received = match directions.impossible.take() {
            None => directions.forward.check_received(known, &sent),
            Some(row) => Err(row),
        };
        let of_sent = directions.reverse.check_sent(known);
        if of_received.is_err() {
            directions.forward.refuse_received();
        }
        if of_sent.is_err() {
            directions.reverse.refuse_sent();
        }
        if let (Err(what), _) | (_, Err(what)) = (of_received, of_sent) {
            directions.ended = impossible(self.control_loop.server, &what);
        }
    }

    /// Runs until the last result has arrived.
    fn run_to_end(&mut self, directions: &mut Directions) -> Result<(), SessionError> {
        if self.plan.direction.server_sends() {
            self.await_begin(directions)?;
            let receiver = Some(self.local.clone());
            self.control_loop.send(&Request::Begin { receiver })?;
        }
        if let Some(senders) = &self.control_loop.senders {
            senders.start(self.start.unwrap_or_else(monotonic_ns));
        }
        let mut sending = self.welcome.forward.len();
        if sending == 0 {
            directions.senders = Some(Vec::new());
        }
        while !self.is_complete(directions) {
            match self.control_loop.next(None)? {
                Event::Sender(senders::Event::Ended(ended)) => {
                    sending = sending.saturating_sub(1);
                    if let Err(error) = ended {
                        self.stop(
                            directions,
                            Ended::Failed(format!("a sender failed: {error}")),
                        );
                    }
                    if sending == 0 {
                        self.finish(directions)?;
                    }
                }
                Event::Sender(_) | Event::FlowReadable | Event::Timeout | Event::RoundTrip(_) => {}
                Event::Intervals(rows) => self.add_intervals(rows, directions),
                Event::RelayLost(proxy) => {
                    self.stop(directions, Ended::PeerLost(relay_lost(proxy)));
                    if self.plan.direction.server_sends() {
                        self.control_loop.send(&Request::Stop)?;
                    }
                }
                Event::Cancelled => {
                    self.stop(directions, Ended::Interrupted("interrupted".to_owned()));
                    if self.plan.direction.server_sends() {
                        self.control_loop.send(&Request::Stop)?;
                    }
                }
                Event::Reply(reply) => self.on_reply(reply, directions)?,
            }
        }
        self.exchange_clocks_at_end(directions)
    }

    /// Waits for the start of the run: the server starts its senders on command.
    fn await_begin(&mut self, directions: &mut Directions) -> Result<(), SessionError> {
        let Some(start) = self.start else {
            return Ok(());
        };
        let left = || Duration::from_nanos(start.saturating_sub(monotonic_ns()));
        while left() > NEAR {
            let until = Instant::now() + left() - NEAR;
            match self.control_loop.next(Some(until))? {
                Event::Reply(reply) => self.on_reply(reply, directions)?,
                Event::Cancelled => {
                    self.stop(directions, Ended::Interrupted("interrupted".to_owned()));
                    return self.control_loop.send(&Request::Stop);
                }
                _ => {}
            }
        }
        thread::sleep(left());
        Ok(())
    }

    fn is_complete(&self, directions: &Directions) -> bool {
        let direction = self.plan.direction;
        let (forward, reverse) = (&directions.forward, &directions.reverse);
        let forward_complete =
            !direction.client_sends() || (directions.senders.is_some() && forward.done.is_some());
        let reverse_complete =
            !direction.server_sends() || (reverse.senders_done.is_some() && reverse.done.is_some());
        forward_complete && reverse_complete
    }

    /// Stops the local senders. The first reason is kept.
    fn stop(&mut self, directions: &mut Directions, ended: Ended) {
        if directions.ended == Ended::Complete {
            directions.ended = ended;
        }
        if let Some(senders) = &self.control_loop.senders {
            senders.stop();
        }
    }

    /// Sends the counts of the local senders, which have ended, to the server.
    fn finish(&mut self, directions: &mut Directions) -> Result<(), SessionError> {
        let outcomes = match &mut self.control_loop.senders {
            Some(senders) => senders.join(),
            None => Vec::new(),
        };
        let finish = Finish {
            streams: senders::counts(&outcomes),
            quiet_ns: self.quiet_ns(),
        };
        directions.end = monotonic_ns();
        directions.senders = Some(outcomes);
        self.control_loop.send(&Request::Finish(finish))?;
        self.control_loop.await_result();
        if let Some(clock) = &mut self.control_loop.clock {
            clock.begin_burst(BURST);
        }
        Ok(())
    }

    /// How long receivers wait for stragglers: as long as the slowest exchange so far.
    fn quiet_ns(&self) -> u64 {
        let clock = self.control_loop.clock.as_ref();
        let longest = clock
            .and_then(ClockFlow::longest_round_trip)
            .unwrap_or_default()
            .max(self.control_loop.round_trip());
        let ns = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        ns.clamp(MIN_QUIET_NS, MAX_QUIET_NS)
    }

    fn add_intervals(&mut self, rows: Vec<CompletedInterval>, directions: &mut Directions) {
        for CompletedInterval { row, latencies } in rows {
            directions
                .reverse
                .add_interval(row, latencies, self.observer);
        }
        if self
            .control_loop
            .receivers
            .as_ref()
            .is_some_and(Receivers::is_done)
        {
            self.add_local_result(directions);
        }
    }

    /// Adds the result of the local receivers, which have ended, as if its messages came from the server.
    fn add_local_result(&mut self, directions: &mut Directions) {
        let Some(receivers) = self.control_loop.receivers.take() else {
            return;
        };
        directions.end = directions.end.max(receivers.last_arrival().unwrap_or(0));
        if let (Some(failure), Ended::Complete) = (receivers.failure(), &directions.ended) {
            directions.ended = Ended::Failed(failure.to_owned());
        }
        let mut upload = ResultUpload::new(receivers.into_outcome(), None);
        while let Some(reply) = upload.next_reply() {
            directions.reverse.add(reply, self.observer);
        }
    }

    /// Processes a message of the server.
    fn on_reply(&mut self, reply: Reply, directions: &mut Directions) -> Result<(), SessionError> {
        match reply {
            Reply::Refused { reason } => Err(ConnectionError::Io(io::Error::other(reason)).into()),
            Reply::Finish(finish) => {
                let finish = Finish {
                    quiet_ns: self.quiet_ns(),
                    ..finish
                };
                if let Some(receivers) = &mut self.control_loop.receivers
                    && let Err(reason) = receivers.finish(&finish)
                {
                    self.stop(directions, Ended::Failed(reason));
                }
                self.control_loop.await_result();
                Ok(())
            }
            reply @ (Reply::Sender(_)
            | Reply::SendersDone { .. }
            | Reply::Counts {
                of:
                    Histogram::Lateness
                    | Histogram::GapError
                    | Histogram::SenderStage
                    | Histogram::QdiscStage,
                ..
            }
            | Reply::Stamps {
                of: StampedEnd::Sent,
                ..
            }) => {
                directions.reverse.add(reply, self.observer);
                if let Some(Some(reason)) = directions.reverse.senders_done.clone() {
                    self.stop(directions, Ended::Limited(reason));
                }
                Ok(())
            }
            Reply::Explained(report) => {
                directions.server = Some(*report);
                Ok(())
            }
            reply => {
                if let Reply::Interval(row) = &reply
                    && let Err(what) = self.known_of_rows(directions).interval(row)
                {
                    self.stop(directions, impossible(self.control_loop.server, &what));
                    directions.impossible.get_or_insert(what);
                    return Ok(());
                }
                directions.forward.add(reply, self.observer);
                if let Some(done) = &directions.forward.done
                    && let Some(reason) = done.reason.clone()
                {
                    self.stop(directions, Ended::Limited(reason));
                } else if directions.forward.done.is_some() && directions.senders.is_none() {
                    let reason = "the server ended the session".to_owned();
                    self.stop(directions, Ended::Limited(reason));
                }
                Ok(())
            }
        }
    }

    /// Exchanges clocks once more, to measure the drift.
    fn exchange_clocks_at_end(&mut self, directions: &Directions) -> Result<(), SessionError> {
        let (Some(clock), Ended::Complete) = (&mut self.control_loop.clock, &directions.ended)
        else {
            return Ok(());
        };
        if !self.plan.direction.client_sends() {
            clock.begin_burst(BURST);
        }
        // Most pongs of a burst that began at the end of sending have arrived by now.
        self.exchange_clocks(BURST as usize / 2)
    }

    /// Ends the run after the session is lost.
    fn on_session_lost(&mut self, directions: &mut Directions, error: &SessionError) {
        let server = self.control_loop.server;
        directions.end = directions.end.max(monotonic_ns());
        if self.is_complete(directions) {
            // Only the last clock exchanges are missing.
            return;
        }
        let before = match directions.senders {
            Some(_) => " before it sent its result",
            None => "",
        };
        directions.ended =
            Ended::PeerLost(format!("the server at {server} was lost{before}: {error}"));
        if let Some(receivers) = &mut self.control_loop.receivers {
            for CompletedInterval { row, latencies } in receivers.stop_and_wait() {
                directions
                    .reverse
                    .add_interval(row, latencies, self.observer);
            }
        }
        self.add_local_result(directions);
    }
}
