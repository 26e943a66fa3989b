//! The sending process's side of a run: agrees on it with a server, starts the senders, and brings
//! both sides' figures together. Whether that server is another host's or a thread of this process makes no difference.

mod dialogue;
mod gathered;
mod streams;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;

use super::clock::{self, Offset};
use super::control::{Hello, Reply, Request, StreamSent, VERSION, Welcome};
use super::link::LinkError;
use super::outcome::{self, Ended, Facts};
use super::placement::{self, Cpus};
use super::plan::{Amount, Mode, Plan};
use super::sender::Sent;
use super::setup::{self, SenderSocket, SetupError};
use crate::report::dates;
use crate::report::record::{Clock, Effective, Interval, Measured, Requested};
use crate::sys::clock::{WallClock, identity, monotonic_ns};
use crate::sys::wake::Wake;
use dialogue::{Dialogue, Event};
use gathered::Gathered;
use streams::{Order, Told};

/// Tells a run from outside to end early.
#[derive(Debug, Clone)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    wake: Wake,
}

impl Cancel {
    /// Nothing is cancelled yet.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            flag: Arc::default(),
            wake: Wake::new()?,
        })
    }

    /// Ends the run it was given to, and any to come. What was measured is reported.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.wake.wake();
    }

    /// Whether it was told to.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// How the offset between two hosts' clocks is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockChoice {
    /// None on one host, where both sides read one clock; else it is estimated.
    Auto,
    /// It is estimated, even so.
    Estimate,
}

/// What a run needs to know besides its plan.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The server's control port.
    pub server: SocketAddr,
    /// Where to send from; the kernel chooses what is unspecified.
    pub bind: Option<SocketAddr>,
    /// Send buffer to ask for, in bytes.
    pub send_buffer: Option<usize>,
    /// Where the sender threads are kept.
    pub cpus: Cpus,
    /// Whether a paced sender may spin.
    pub spin: bool,
    /// How the offset is found.
    pub clock: ClockChoice,
    /// What the user asked for, for the record.
    pub requested: Requested,
}

/// Sees a run as it goes.
pub trait Observer {
    /// The first stream's socket is bound here.
    fn listening(&mut self, _local: SocketAddr) {}
    /// The senders begin.
    fn begun(&mut self) {}
    /// An interval is over.
    fn interval(&mut self, _row: &Interval) {}
    /// A datagram of `stream` was received: sequence, sent, received, in ns of the receiver's clock.
    fn packet(&mut self, _stream: usize, _row: (u64, u64, u64)) {}
}

/// Why a run measured nothing. One sentence, with the way out.
#[derive(Debug, Error)]
pub enum RunError {
    /// No TCP connection.
    #[error("cannot reach a server at {0}: {1}; is `bench serve` running there, on that port?")]
    Unreachable(SocketAddr, io::Error),
    /// The server says why.
    #[error("the server at {0} refuses the run: {1}")]
    Refused(SocketAddr, String),
    /// It stopped talking before the run began.
    #[error(
        "the server at {0} did not take part: {1}; is that a `bench serve` of the same version?"
    )]
    Control(SocketAddr, LinkError),
    /// It says something else than it should.
    #[error("the server at {0} answered out of turn; is that a `bench serve` of the same version?")]
    OutOfTurn(SocketAddr),
    /// Nothing comes back over UDP.
    #[error(
        "the server's UDP port {0} does not answer; does a firewall between the two hosts drop UDP?"
    )]
    NoUdp(SocketAddr),
    /// A socket.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// An event loop or a thread.
    #[error("cannot start sending: {0}")]
    Start(#[source] io::Error),
    /// Cancelled before anything was sent.
    #[error("interrupted before the first datagram was sent")]
    Cancelled,
}

/// Does a run, and gives what was measured: all of it, or as much as there was when it ended early.
///
/// # Errors
/// [`RunError`], when it never began.
pub fn run(
    plan: &Plan,
    setup: &Setup,
    observer: &mut impl Observer,
    cancel: &Cancel,
) -> Result<Measured, RunError> {
    setup::can_send(plan)?;
    let mut session = Session::connect(plan, setup, observer, cancel)?;
    let welcome = session.greet()?;
    let streams = session.open(&welcome)?;
    Ok(session.measure(&welcome, streams))
}

struct Session<'a, O: Observer> {
    plan: &'a Plan,
    setup: &'a Setup,
    observer: &'a mut O,
    dialogue: Dialogue<'a>,
    gathered: Gathered,
}

impl<'a, O: Observer> Session<'a, O> {
    fn connect(
        plan: &'a Plan,
        setup: &'a Setup,
        observer: &'a mut O,
        cancel: &'a Cancel,
    ) -> Result<Self, RunError> {
        let dialogue = Dialogue::begin(setup, cancel)?;
        Ok(Self {
            plan,
            setup,
            observer,
            dialogue,
            gathered: Gathered::default(),
        })
    }

    /// Agrees on the run.
    fn greet(&mut self) -> Result<Welcome, RunError> {
        let clock = match self.setup.clock {
            ClockChoice::Auto => identity(),
            ClockChoice::Estimate => None,
        };
        let hello = Hello {
            version: VERSION,
            plan: self.plan.clone(),
            clock,
            cpus: self.setup.cpus.clone(),
        };
        self.dialogue
            .send(&Request::Hello(hello))
            .map_err(|error| self.no_part(error))?;
        match self.dialogue.next().map_err(|error| self.no_part(error))? {
            Event::Reply(Reply::Welcome(welcome)) if self.is_welcome(&welcome) => Ok(welcome),
            Event::Reply(Reply::Refused { reason }) => {
                Err(RunError::Refused(self.setup.server, reason))
            }
            Event::Cancelled => Err(RunError::Cancelled),
            Event::Reply(_) | Event::Told(_) => Err(RunError::OutOfTurn(self.setup.server)),
        }
    }

    /// Whether it is one for this plan: a port a stream, and a window if credit is to be granted.
    fn is_welcome(&self, welcome: &Welcome) -> bool {
        let granted = welcome.window.is_some_and(|window| window > 0);
        welcome.ports.len() == self.plan.streams && granted == (self.plan.mode == Mode::Lossless)
    }

    fn no_part(&self, error: LinkError) -> RunError {
        RunError::Control(self.setup.server, error)
    }

    /// Binds the senders' sockets, sees that UDP gets through and relates the clocks.
    fn open(&mut self, welcome: &Welcome) -> Result<Opened, RunError> {
        let local = self.dialogue.local_addr().map_err(RunError::Start)?;
        let mut effective = self.effective(welcome);
        for (number, &port) in welcome.ports.iter().enumerate() {
            let mut to = self.setup.server;
            to.set_port(port);
            let mut from = self.setup.bind.unwrap_or(local);
            // Only one stream can have a port that was named.
            if number > 0 || self.setup.bind.is_none() {
                from.set_port(0);
            }
            let (token, window) = (welcome.token, welcome.window);
            let mut end =
                SenderSocket::new(from, to, self.plan, self.setup.send_buffer, token, window)?;
            end.manner.spin = self.setup.spin;
            if number == 0 {
                self.observer
                    .listening(end.socket.local_addr().unwrap_or(from));
                effective.gso = end.gso();
                effective.batch = end.manner.batch as usize;
                effective.segments = end.manner.segments as usize;
                effective.sndbuf = end.buffers.send;
                effective.offload_note = end.gso_note.clone().or(effective.offload_note);
            }
            let cpu = placement::of(&self.setup.cpus, number);
            end.manner.shared_cpu =
                welcome.same_clock && placement::is_shared(&self.setup.cpus, &welcome.cpus, number);
            let pings = number == 0 && !welcome.same_clock;
            self.dialogue
                .streams
                .launch(end, cpu, welcome.token, self.plan, pings)
                .map_err(RunError::Start)?;
        }
        let mut offset = Offset::default();
        let mut waiting = self.plan.streams;
        while waiting > 0 {
            match self.dialogue.next().map_err(|error| self.no_part(error))? {
                Event::Told(Told::Open { exchanges }) => {
                    waiting -= 1;
                    offset = clock::estimate(&exchanges).unwrap_or(offset);
                }
                Event::Told(Told::Unanswered(to)) => return Err(RunError::NoUdp(to)),
                Event::Told(Told::Failed(error)) => return Err(RunError::Start(error)),
                Event::Cancelled => return Err(RunError::Cancelled),
                Event::Reply(Reply::Refused { reason }) => {
                    return Err(RunError::Refused(self.setup.server, reason));
                }
                Event::Reply(Reply::Done(done)) => {
                    let reason = done
                        .reason
                        .unwrap_or_else(|| "it ended the session".to_owned());
                    return Err(RunError::Refused(self.setup.server, reason));
                }
                Event::Reply(_) | Event::Told(_) => {}
            }
        }
        let source = if welcome.same_clock {
            "same"
        } else {
            "estimated"
        };
        effective.clock = Clock {
            source: source.to_owned(),
            offset_ns: Some(offset.ns),
            error_ns: Some(offset.error_ns),
            ..Clock::default()
        };
        Ok(Opened { effective, offset })
    }

    fn effective(&self, welcome: &Welcome) -> Effective {
        Effective {
            gro: welcome.gro,
            offload_note: welcome.gro_note.clone(),
            rcvbuf: welcome.receive_buffer,
            sender_cpus: self.setup.cpus.clone(),
            receiver_cpus: welcome.cpus.clone(),
            window: welcome.window,
            spin: self.setup.spin && matches!(self.plan.mode, Mode::Paced(_)),
            ..outcome::effective(self.plan)
        }
    }

    /// Sends, waits for the results and puts them together.
    fn measure(mut self, welcome: &Welcome, opened: Opened) -> Measured {
        let Opened {
            mut effective,
            offset,
        } = opened;
        let wall = WallClock::now();
        self.dialogue.begun = true;
        self.observer.begun();
        self.dialogue.streams.order(&Order::Send {
            offset: offset.ns,
            start: monotonic_ns(),
        });
        let mut ended = match self.sending() {
            Ok(ended) => ended,
            Err(error) => Ended::PeerLost(format!(
                "the server at {} was lost: {error}",
                self.setup.server
            )),
        };
        if !matches!(ended, Ended::PeerLost(_)) && self.gathered.done.is_none() {
            if ended == Ended::Complete && !welcome.same_clock {
                effective.clock = self.clock_again(offset);
            }
            let outcome = self.results();
            if let (Ended::Complete, Some(reason)) = (
                &ended,
                self.gathered
                    .done
                    .as_ref()
                    .and_then(|done| done.reason.clone()),
            ) {
                ended = Ended::Limited(reason);
            }
            if let Err(error) = outcome {
                ended = Ended::PeerLost(format!(
                    "the server at {} was lost before it brought back its result: {error}",
                    self.setup.server
                ));
            }
        }
        let senders = self.dialogue.streams.join();
        let first = senders.iter().filter_map(|sent| sent.written.first).min();
        let gathered = self.gathered;
        outcome::assemble(Facts {
            plan: self.plan,
            requested: self.setup.requested.clone(),
            effective,
            ended,
            sent: counts(&senders, gathered.done.is_some()),
            first_sent: first.map(|first| first.wrapping_add_signed(offset.ns)),
            first_sent_at: first.map(|first| dates::rfc3339(wall.at(first))),
            senders,
            received: gathered.received(),
            last_received_at: gathered.last_received_wall().map(dates::rfc3339),
            done: gathered.done,
            client_ip: Some(welcome.client_ip.clone()),
            latencies: gathered.latencies,
            intervals: gathered.intervals,
        })
    }

    /// Until every sender has sent its share, or is stopped.
    fn sending(&mut self) -> Result<Ended, LinkError> {
        let mut ended = Ended::Complete;
        let mut waiting = self.plan.streams;
        while waiting > 0 {
            match self.dialogue.next() {
                Ok(Event::Told(Told::Sent(outcome))) => {
                    waiting -= 1;
                    if let Err(error) = outcome {
                        self.dialogue.streams.stop();
                        ended = Ended::Failed(format!("a sender failed: {error}"));
                    }
                }
                Ok(Event::Told(Told::Failed(error))) => {
                    waiting -= 1;
                    self.dialogue.streams.stop();
                    ended = Ended::Failed(format!("a sender failed: {error}"));
                }
                Ok(Event::Told(_)) => {}
                Ok(Event::Cancelled) => {
                    self.dialogue.streams.stop();
                    ended = Ended::Interrupted("interrupted".to_owned());
                }
                Ok(Event::Reply(reply)) => {
                    self.gathered.take(reply, self.observer);
                    if let Some(done) = &self.gathered.done {
                        self.dialogue.streams.stop();
                        let reason = done
                            .reason
                            .clone()
                            .unwrap_or_else(|| "the server ended the session".to_owned());
                        ended = Ended::Limited(reason);
                    }
                }
                Err(error) if self.gathered.done.is_some() => {
                    // The server has said all it had to.
                    let _ = error;
                    break;
                }
                Err(error) => {
                    self.dialogue.streams.stop();
                    return Err(error);
                }
            }
        }
        Ok(ended)
    }

    /// Asks the clock once more, to see how far it has drifted.
    fn clock_again(&mut self, before: Offset) -> Clock {
        self.dialogue.streams.order(&Order::Ping);
        let mut clock = Clock {
            source: "estimated".to_owned(),
            offset_ns: Some(before.ns),
            error_ns: Some(before.error_ns),
            ..Clock::default()
        };
        while let Ok(event) = self.dialogue.next() {
            match event {
                Event::Told(Told::Open { exchanges }) => {
                    if let Some(after) = clock::estimate(&exchanges) {
                        let (offset, drift) = clock::with_drift(before, after);
                        clock.error_ns = Some(offset.error_ns);
                        clock.drift_ns = Some(drift);
                    }
                    break;
                }
                Event::Reply(reply) => self.gathered.take(reply, self.observer),
                Event::Cancelled | Event::Told(_) => break,
            }
        }
        clock
    }

    /// Says what was sent, and takes in what was received.
    fn results(&mut self) -> Result<(), LinkError> {
        let streams = counts(&self.dialogue.streams.join(), true);
        self.dialogue.send(&Request::Finish { streams })?;
        while self.gathered.done.is_none() {
            if let Event::Reply(reply) = self.dialogue.next()? {
                self.gathered.take(reply, self.observer);
            }
        }
        Ok(())
    }
}

/// What the opening has brought.
struct Opened {
    effective: Effective,
    offset: Offset,
}

/// What each stream has sent; of a run whose receivers are lost, all of them together, since their figures
/// are known only together.
fn counts(senders: &[Sent], apart: bool) -> Vec<StreamSent> {
    let each = senders.iter().map(|sent| StreamSent {
        packets: sent.packets,
        bytes: sent.bytes,
        not_sent: sent.not_sent,
    });
    if apart {
        return each.collect();
    }
    let all = each.fold(StreamSent::default(), |all, one| StreamSent {
        packets: all.packets + one.packets,
        bytes: all.bytes + one.bytes,
        not_sent: all.not_sent + one.not_sent,
    });
    vec![all]
}

/// A warm-up of `time` as a plan of its own: the same in everything but the amount.
pub fn warm_up(plan: &Plan, time: Duration) -> Plan {
    Plan {
        amount: Amount::Time(time),
        packet_rows: false,
        ..plan.clone()
    }
}
