//! The receiving side of one stream: the loop that takes datagrams from an engine, counts them, grants credit, replies to pings
//! and divides the run into intervals.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Duration;

use crate::sys::clock::monotonic_ns;
use crate::sys::usage::CpuTime;
use crate::udp::credit::CreditIssuer;
use crate::udp::engine::Rx;
use crate::udp::engine::stats::ReceiveStats;
use crate::udp::latencies::Latencies;
use crate::udp::mark_counts::MarkCounts;
use crate::udp::plan::sizes::SizePattern;
use crate::udp::receive::UNKNOWN;
use crate::udp::receive::accounting::{StreamAccounting, StreamCounts};
use crate::udp::receive::arrivals::Arrivals;
use crate::udp::receive::backoff::Backoff;
use crate::udp::receive::by_size::LatencyBySize;
use crate::udp::receive::interval_clock::IntervalClock;
use crate::udp::receive::packet_log::PacketLog;
use crate::udp::receive::stamps::{ReceivedStamps, RxStamps};
use crate::udp::relay_header::RelayHeader;

/// Shortest wait for stragglers after the last arrival, in ns, once the sender's count is known.
pub const MIN_QUIET_NS: u64 = 250_000_000;

/// Longest wait for stragglers, in ns.
pub const MAX_QUIET_NS: u64 = 10_000_000_000;

/// Wait for an empty histogram when an interval has ended and none has been returned, in ns.
const EMPTY_NS: u64 = 10_000_000;

/// Controls a running receiver from another thread, and shows its progress.
#[derive(Debug)]
pub struct ReceiverControl {
    /// Stops the receiver.
    pub stop: AtomicBool,
    /// Datagrams that the sender has sent in all; [`UNKNOWN`] until its count arrives.
    pub sent: AtomicU64,
    /// How long to wait for stragglers, in ns.
    pub quiet: AtomicU64,
    /// When a datagram of this stream last arrived, in ns.
    pub last_arrival: AtomicU64,
}

impl ReceiverControl {
    /// For a stream that is set up now.
    pub fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            sent: AtomicU64::new(UNKNOWN),
            quiet: AtomicU64::new(MIN_QUIET_NS),
            last_arrival: AtomicU64::new(monotonic_ns()),
        }
    }
}

impl Default for ReceiverControl {
    fn default() -> Self {
        Self::new()
    }
}

/// An event of a receiver.
#[derive(Debug)]
pub enum Event {
    /// An interval has ended.
    Interval(IntervalSnapshot),
    /// The stream has ended. The last event.
    Done(Box<Received>),
}

/// The counts of a stream at the end of an interval.
#[derive(Debug)]
pub struct IntervalSnapshot {
    /// The stream, counted from 0.
    pub stream: usize,
    /// The interval, counted from the session's first datagram.
    pub index: u64,
    /// Cumulative counts.
    pub counts: StreamCounts,
    /// Latencies since the last snapshot.
    pub latencies: Box<Latencies>,
    /// Datagrams with the mark CE so far, if marks are counted.
    pub ce: Option<u64>,
    /// Whether the stream ends with this interval.
    pub last: bool,
}

/// The result of a stream's receiver.
#[derive(Debug)]
pub struct Received {
    /// The stream, counted from 0.
    pub stream: usize,
    /// The counts.
    pub counts: StreamCounts,
    /// The packet log, if the plan asks for one.
    pub packet_log: Option<PacketLog>,
    /// The latency of each size of a mix.
    pub by_size: Option<LatencyBySize>,
    /// The marks of the datagrams, if the plan asks for them.
    pub marks: Option<MarkCounts>,
    /// Datagrams dropped at the socket, as the kernel counts them.
    pub drops: u64,
    /// CPU time of the thread.
    pub cpu: CpuTime,
    /// Counters of the engine.
    pub stats: ReceiveStats,
    /// Credit window at the end, in datagrams; 0 unless lossless.
    pub window: u64,
    /// The kernel's stamps, if the plan requests them.
    pub stamps: Option<ReceivedStamps>,
    /// Why the receiver ended early, if the socket failed.
    pub error: Option<io::Error>,
}

impl Received {
    /// The result of a stream that received nothing.
    pub fn none(stream: usize) -> Self {
        Self {
            stream,
            counts: StreamCounts::default(),
            packet_log: None,
            by_size: None,
            marks: None,
            drops: 0,
            cpu: CpuTime::default(),
            stats: ReceiveStats::default(),
            window: 0,
            stamps: None,
            error: None,
        }
    }
}

/// Configuration of a receiver.
pub struct ReceiverConfig {
    /// The stream, counted from 0.
    pub stream: usize,
    /// The stream's token.
    pub token: u64,
    /// The header in front of each datagram.
    pub relay: RelayHeader,
    /// Message bytes per datagram, the largest of several sizes.
    pub chunk: usize,
    /// Sizes of the datagrams; `None` if all have `chunk`.
    pub sizes: Option<SizePattern>,
    /// Whether datagrams carry an intended time.
    pub paced: bool,
    /// Whether this end opened the flow by probes: responses to them may still arrive.
    pub sent_probes: bool,
    /// Credit window in datagrams; `None` unless lossless.
    pub window: Option<u64>,
    /// Datagrams that the receive buffer holds, for a receiver that may back off; `None` for one that may not.
    pub capacity: Option<u64>,
    /// Length of an interval.
    pub interval: Duration,
    /// Send stamp of the session's first datagram, in ns; shared by its streams, [`UNKNOWN`] until then.
    pub epoch: Arc<AtomicU64>,
    /// The server's clock minus this host's, in ns. All stamps are in the server's clock.
    pub offset: Arc<AtomicI64>,
    /// The packet log to write.
    pub packet_log: Option<PacketLog>,
    /// Takes the latency of each size of a mix.
    pub by_size: Option<LatencyBySize>,
    /// Whether the marks of the datagrams are counted.
    pub count_marks: bool,
    /// The kernel's stamps, if the plan requests them.
    pub stamps: Option<RxStamps>,
    /// Controls the receiver.
    pub control: Arc<ReceiverControl>,
    /// Empty histograms. The receiver takes the first, and each snapshot another one; without one no snapshot is taken.
    pub empties: Receiver<Box<Latencies>>,
}

/// Receives until the stream is complete, quiet or stopped. Sends a snapshot of each interval and then the result to `events`.
pub fn run<R: Rx>(mut rx: R, config: ReceiverConfig, events: &Sender<Event>, wake: impl Fn()) {
    let before = CpuTime::of_this_thread();
    let emit = |event| {
        // Without a reader the session is being torn down, and the stop flag is set.
        let _ = events.send(event);
        wake();
    };
    let mut backoff = config.capacity.map(Backoff::new);
    let mut receiver = StreamReceiver::new(config);
    let mut drive = || -> io::Result<()> {
        loop {
            match receiver.turn(&mut rx, emit)? {
                Turn::Ended => return Ok(()),
                Turn::Received => {}
                Turn::Empty => {
                    if let Some(backoff) = &mut backoff
                        && let Some(ns) = backoff.sleep_ns(monotonic_ns(), receiver.next())
                    {
                        thread::sleep(Duration::from_nanos(ns));
                        continue;
                    }
                    rx.wait(receiver.deadline())?;
                }
            }
        }
    };
    let error = drive().err();
    receiver.end(&rx, CpuTime::of_this_thread() - before, error, emit);
}

/// The outcome of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Datagrams were received; more may be queued.
    Received,
    /// No datagram was queued.
    Empty,
    /// The stream is complete, quiet or stopped.
    Ended,
}

/// The receiver of a stream, without its thread and its engine.
pub struct StreamReceiver {
    stream: usize,
    control: Arc<ReceiverControl>,
    empties: Receiver<Box<Latencies>>,
    arrivals: Arrivals,
    /// The kernel's stamps; `None` unless the plan requests them.
    stamps: Option<Box<RxStamps>>,
    clock: IntervalClock,
    /// End of a prolonged wait for stragglers, in ns; 0 without.
    prolonged: u64,
}

impl StreamReceiver {
    /// Nothing is received yet. The first of the empty histograms is taken.
    pub fn new(config: ReceiverConfig) -> Self {
        let latencies = config.empties.try_recv().unwrap_or_default();
        Self {
            stream: config.stream,
            control: config.control,
            empties: config.empties,
            arrivals: Arrivals {
                accounting: StreamAccounting::new(
                    config.token,
                    config.chunk,
                    config.paced,
                    latencies,
                )
                .with_responses(config.sent_probes)
                .with_sizes(config.sizes),
                token: config.token,
                relay: config.relay,
                issuer: config.window.map(CreditIssuer::new),
                is_active: false,
                peer: None,
                replies: Vec::new(),
                packet_log: config.packet_log,
                by_size: config.by_size,
                marks: config.count_marks.then(MarkCounts::default),
                drops: 0,
                offset: config.offset.clone(),
            },
            stamps: config.stamps.map(Box::new),
            clock: IntervalClock {
                epoch: config.epoch,
                offset: config.offset,
                length: u64::try_from(config.interval.as_nanos())
                    .unwrap_or(u64::MAX)
                    .max(1),
                index: 0,
            },
            prolonged: 0,
        }
    }

    /// Receives one batch, and ends the interval and the stream if they are over.
    ///
    /// # Errors
    /// As [`Rx::receive`].
    #[inline]
    pub fn turn<R: Rx>(&mut self, rx: &mut R, emit: impl Fn(Event)) -> io::Result<Turn> {
        let arrivals = &mut self.arrivals;
        let count = match &mut self.stamps {
            None if arrivals.is_plain() => rx.receive(|message| arrivals.take(&message))?,
            stamps => {
                if let Some(stamps) = stamps {
                    stamps.begin_batch();
                }
                rx.receive(|message| arrivals.take_observed(&message, stamps))?
            }
        };
        if count > 0 {
            arrivals.reply(rx);
            let now = monotonic_ns();
            // Foreign datagrams do not reset the idle timer.
            if mem::take(&mut arrivals.is_active) {
                self.control.last_arrival.store(now, Ordering::Relaxed);
            }
            self.clock.begin(&arrivals.accounting);
        }
        if self.clock.is_over()
            && let Ok(empty) = self.empties.try_recv()
        {
            let counts = arrivals.accounting.counts();
            let ce = arrivals.marks.as_ref().map(MarkCounts::ce);
            let latencies = arrivals.accounting.exchange_latencies(empty);
            let index = self.clock.advance();
            emit(Event::Interval(IntervalSnapshot {
                stream: self.stream,
                index,
                counts,
                latencies,
                ce,
                last: false,
            }));
        }
        if self.control.stop.load(Ordering::Relaxed) {
            return Ok(Turn::Ended);
        }
        let sent = self.control.sent.load(Ordering::Relaxed);
        if sent != UNKNOWN && (self.arrivals.accounting.unique() >= sent || self.is_quiet(rx)) {
            return Ok(Turn::Ended);
        }
        Ok(match count {
            0 => Turn::Empty,
            _ => Turn::Received,
        })
    }

    /// Whether the wait for stragglers is over. An engine that is behind prolongs it, up to [`MAX_QUIET_NS`].
    #[inline]
    fn is_quiet<R: Rx>(&mut self, rx: &R) -> bool {
        let now = monotonic_ns();
        if now < self.quiet_at() {
            return false;
        }
        let longest = self.control.last_arrival.load(Ordering::Relaxed) + MAX_QUIET_NS;
        let is_prolonged = now < longest && rx.is_behind();
        if is_prolonged {
            self.prolonged = now + MIN_QUIET_NS;
        }
        !is_prolonged
    }

    /// When the wait for stragglers ends, in ns.
    #[inline]
    fn quiet_at(&self) -> u64 {
        let quiet = self.control.quiet.load(Ordering::Relaxed);
        let quiet = quiet.clamp(MIN_QUIET_NS, MAX_QUIET_NS);
        let quiet_at = self.control.last_arrival.load(Ordering::Relaxed) + quiet;
        quiet_at.max(self.prolonged)
    }

    /// When the next turn is due without a datagram, in ns.
    pub fn deadline(&self) -> u64 {
        let limit = match self.control.sent.load(Ordering::Relaxed) {
            UNKNOWN => u64::MAX,
            _ => self.quiet_at(),
        };
        let snapshot_at = match self.clock.is_over() {
            true => monotonic_ns() + EMPTY_NS,
            false => self.clock.next_at(),
        };
        snapshot_at.min(limit)
    }

    /// One above the highest sequence number received.
    fn next(&self) -> u64 {
        self.arrivals.accounting.next()
    }

    /// Sends the last snapshot and the result. `cpu` is the CPU time of the receiver.
    pub fn end<R: Rx>(self, rx: &R, cpu: CpuTime, error: Option<io::Error>, emit: impl Fn(Event)) {
        let arrivals = self.arrivals;
        let (counts, latencies) = arrivals.accounting.close();
        emit(Event::Interval(IntervalSnapshot {
            stream: self.stream,
            index: self.clock.index,
            counts,
            latencies,
            ce: arrivals.marks.as_ref().map(MarkCounts::ce),
            last: true,
        }));
        emit(Event::Done(Box::new(Received {
            stream: self.stream,
            counts,
            packet_log: arrivals.packet_log,
            by_size: arrivals.by_size,
            marks: arrivals.marks,
            drops: rx.drops(),
            cpu,
            stats: rx.stats(),
            window: arrivals.issuer.map_or(0, |issuer| issuer.window()),
            stamps: self.stamps.map(|stamps| stamps.finish()),
            error,
        })));
    }
}

#[cfg(test)]
mod tests;
