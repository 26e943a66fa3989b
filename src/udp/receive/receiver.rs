//! The receiving side of one stream: the loop that takes datagrams from an engine, counts them, grants credit, replies to pings
//! and divides the run into intervals.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Duration;

use crate::sys::clock::monotonic_ns;
use crate::sys::cmsg::Message;
use crate::sys::usage::CpuTime;
use crate::udp::credit::CreditIssuer;
use crate::udp::engine::Rx;
use crate::udp::engine::stats::ReceiveStats;
use crate::udp::receive::accounting::{Classified, Latencies, StreamAccounting, StreamCounts};
use crate::udp::receive::backoff::Backoff;
use crate::udp::receive::packet_log::{PacketLog, PacketRecord};
use crate::udp::wire::header::{Header, Kind};

/// Shortest wait for stragglers after the last arrival, in ns, once the sender's count is known.
pub const MIN_QUIET_NS: u64 = 250_000_000;

/// Longest wait for stragglers, in ns.
pub const MAX_QUIET_NS: u64 = 10_000_000_000;

/// Wait for an empty histogram when an interval has ended and none has been returned, in ns.
const EMPTY_NS: u64 = 10_000_000;

/// Stands for a time or a count that is not known yet.
pub const UNKNOWN: u64 = u64::MAX;

/// Most replies to one batch; further requests of the batch are dropped.
const MAX_REPLIES: usize = 16;

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
    /// Datagrams dropped at the socket, as the kernel counts them.
    pub drops: u64,
    /// CPU time of the thread.
    pub cpu: CpuTime,
    /// Counters of the engine.
    pub stats: ReceiveStats,
    /// Credit window at the end, in datagrams; 0 unless lossless.
    pub window: u64,
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
            drops: 0,
            cpu: CpuTime::default(),
            stats: ReceiveStats::default(),
            window: 0,
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
    /// Message bytes per datagram.
    pub chunk: usize,
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
    /// Controls the receiver.
    pub control: Arc<ReceiverControl>,
    /// Empty histograms. Each snapshot takes one; without one no snapshot is taken.
    pub empties: Receiver<Box<Latencies>>,
}

/// Receives until the stream is complete, quiet or stopped. Sends a snapshot of each interval and then the result to `events`.
pub fn run<R: Rx>(mut rx: R, config: ReceiverConfig, events: &Sender<Event>, wake: impl Fn()) {
    let before = CpuTime::of_this_thread();
    let mut state = ReceiverState {
        accounting: StreamAccounting::new(config.token, config.chunk, config.paced, Box::default())
            .with_responses(config.sent_probes),
        token: config.token,
        issuer: config.window.map(CreditIssuer::new),
        is_active: false,
        peer: None,
        replies: Vec::with_capacity(MAX_REPLIES),
        packet_log: config.packet_log,
        drops: 0,
        offset: config.offset.clone(),
    };
    let mut clock = IntervalClock {
        epoch: config.epoch,
        offset: config.offset,
        length: u64::try_from(config.interval.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1),
        index: 0,
    };
    let mut backoff = config.capacity.map(Backoff::new);
    let emit = |event| {
        // Without a reader the session is being torn down, and the stop flag is set.
        let _ = events.send(event);
        wake();
    };
    let mut drive = || -> io::Result<()> {
        loop {
            let count = rx.receive(|message| state.take(&message))?;
            if count > 0 {
                state.reply(&mut rx);
                let now = monotonic_ns();
                // Foreign datagrams do not reset the idle timer.
                if std::mem::take(&mut state.is_active) {
                    config.control.last_arrival.store(now, Ordering::Relaxed);
                }
                clock.begin(&state.accounting);
            }
            if clock.is_over()
                && let Ok(empty) = config.empties.try_recv()
            {
                let counts = state.accounting.counts();
                let latencies = state.accounting.exchange_latencies(empty);
                let index = clock.advance();
                emit(Event::Interval(IntervalSnapshot {
                    stream: config.stream,
                    index,
                    counts,
                    latencies,
                    last: false,
                }));
            }
            if config.control.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let sent = config.control.sent.load(Ordering::Relaxed);
            let quiet = config.control.quiet.load(Ordering::Relaxed);
            let quiet = quiet.clamp(MIN_QUIET_NS, MAX_QUIET_NS);
            let quiet_at = config.control.last_arrival.load(Ordering::Relaxed) + quiet;
            if sent != UNKNOWN && (state.accounting.unique() >= sent || monotonic_ns() >= quiet_at)
            {
                return Ok(());
            }
            if count == 0 {
                if let Some(backoff) = &mut backoff
                    && let Some(ns) = backoff.sleep_ns(monotonic_ns(), state.accounting.next())
                {
                    thread::sleep(Duration::from_nanos(ns));
                    continue;
                }
                let limit = if sent == UNKNOWN { u64::MAX } else { quiet_at };
                let snapshot_at = match clock.is_over() {
                    true => monotonic_ns() + EMPTY_NS,
                    false => clock.next_at(),
                };
                rx.wait(snapshot_at.min(limit))?;
            }
        }
    };
    let error = drive().err();
    let (counts, latencies) = state.accounting.close();
    emit(Event::Interval(IntervalSnapshot {
        stream: config.stream,
        index: clock.index,
        counts,
        latencies,
        last: true,
    }));
    emit(Event::Done(Box::new(Received {
        stream: config.stream,
        counts,
        packet_log: state.packet_log,
        drops: rx.drops(),
        cpu: CpuTime::of_this_thread() - before,
        stats: rx.stats(),
        window: state.issuer.map_or(0, |issuer| issuer.window()),
        error,
    })));
}

/// Counts the datagrams of a stream, and collects the replies to them.
struct ReceiverState {
    accounting: StreamAccounting,
    token: u64,
    issuer: Option<CreditIssuer>,
    /// Whether a datagram of this stream arrived since the flag was last taken.
    is_active: bool,
    /// Source of the data, and destination of the credit.
    peer: Option<SocketAddr>,
    replies: Vec<(Header, SocketAddr)>,
    packet_log: Option<PacketLog>,
    /// Drops at the socket for which the window was halved.
    drops: u32,
    /// The server's clock minus this host's, in ns.
    offset: Arc<AtomicI64>,
}

/// The server's clock now, in ns.
#[inline]
fn server_ns(offset: &AtomicI64) -> u64 {
    monotonic_ns().wrapping_add_signed(offset.load(Ordering::Relaxed))
}

impl ReceiverState {
    #[inline]
    fn take(&mut self, message: &Message<'_>) {
        if message.truncated {
            return self.accounting.truncated();
        }
        let received = server_ns(&self.offset);
        if message.bytes.is_empty() {
            self.accounting.datagram(message.bytes, received);
        }
        let mut data = false;
        for datagram in message.datagrams() {
            let classified = self.accounting.datagram(datagram, received);
            self.is_active |= !matches!(classified, Classified::Foreign | Classified::Response);
            match classified {
                Classified::Data(header) => {
                    data = true;
                    if let Some(packet_log) = &mut self.packet_log {
                        packet_log.push(PacketRecord {
                            sequence: header.sequence,
                            sent: header.sent,
                            received,
                        });
                    }
                }
                Classified::Probe(sent) => self.credit(sent, message),
                Classified::Ping(number) => self.pong(number, received, message),
                Classified::Late | Classified::Response | Classified::Foreign => {}
            }
        }
        if data && self.issuer.is_some() {
            self.peer = message.source();
        }
        if let (Some(drops), Some(issuer)) = (message.drops, &mut self.issuer)
            && drops != self.drops
        {
            self.drops = drops;
            issuer.shrink();
        }
    }

    fn credit(&mut self, sent: u64, message: &Message<'_>) {
        let Some(peer) = message.source() else { return };
        // A stream that needs no credit sends probes only to see whether the receiver is up.
        let limit = match &mut self.issuer {
            Some(issuer) => issuer.on_probe(sent, self.accounting.next()),
            None => sent,
        };
        self.queue_reply(Header::bare(Kind::Credit, self.token, limit), peer);
    }

    fn pong(&mut self, number: u64, received: u64, message: &Message<'_>) {
        let Some(peer) = message.source() else { return };
        self.queue_reply(
            Header {
                sent: received,
                ..Header::bare(Kind::Pong, self.token, number)
            },
            peer,
        );
    }

    fn queue_reply(&mut self, header: Header, peer: SocketAddr) {
        if self.replies.len() < MAX_REPLIES {
            self.replies.push((header, peer));
        }
    }

    /// Sends the queued replies: at most one datagram of 32 bytes for each that arrived.
    #[inline]
    fn reply<R: Rx>(&mut self, rx: &mut R) {
        for (mut header, peer) in self.replies.drain(..) {
            if header.kind == Kind::Pong {
                header.lateness = server_ns(&self.offset).saturating_sub(header.sent);
            }
            rx.send_control(&header.encode(), peer);
        }
        if let (Some(issuer), Some(peer)) = (&mut self.issuer, self.peer)
            && let Some(limit) = issuer.due(self.accounting.next())
        {
            rx.send_control(
                &Header::bare(Kind::Credit, self.token, limit).encode(),
                peer,
            );
        }
    }
}

/// When an interval ends and the next one begins.
struct IntervalClock {
    epoch: Arc<AtomicU64>,
    offset: Arc<AtomicI64>,
    length: u64,
    index: u64,
}

impl IntervalClock {
    /// Sets the session's epoch to the send stamp of the first datagram of any stream.
    #[inline]
    fn begin(&self, accounting: &StreamAccounting) {
        if self.epoch.load(Ordering::Relaxed) == UNKNOWN
            && let Some(first) = accounting.counts().first_sent
        {
            let _ =
                self.epoch
                    .compare_exchange(UNKNOWN, first, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// When the interval ends, in ns of this host's clock.
    #[inline]
    fn next_at(&self) -> u64 {
        let epoch = self.epoch.load(Ordering::Relaxed);
        // A stream without a datagram may wait without a deadline: its first datagram wakes it.
        if epoch == UNKNOWN {
            u64::MAX
        } else {
            let offset = self.offset.load(Ordering::Relaxed);
            epoch
                .saturating_add(self.length.saturating_mul(self.index + 1))
                .wrapping_add_signed(offset.wrapping_neg())
        }
    }

    #[inline]
    fn is_over(&self) -> bool {
        let next_at = self.next_at();
        next_at != u64::MAX && monotonic_ns() >= next_at
    }

    /// Ends the interval and returns its index. Intervals that ended unnoticed before are part of it.
    fn advance(&mut self) -> u64 {
        let elapsed = server_ns(&self.offset).saturating_sub(self.epoch.load(Ordering::Relaxed));
        let index = (elapsed / self.length).max(self.index + 1);
        self.index = index;
        index - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// An engine without datagrams that stops the receiver at the fifth sleep.
    struct Silent {
        control: Arc<ReceiverControl>,
        sleeps: u32,
    }

    impl Rx for Silent {
        fn receive(&mut self, _each: impl FnMut(Message<'_>)) -> io::Result<usize> {
            Ok(0)
        }

        fn send_control(&mut self, _datagram: &[u8], _to: SocketAddr) {}

        fn wait(&mut self, deadline: u64) -> io::Result<()> {
            // It was in the future a moment ago.
            assert!(deadline + EMPTY_NS > monotonic_ns());
            self.sleeps += 1;
            if self.sleeps == 5 {
                self.control.stop.store(true, Ordering::Relaxed);
            }
            Ok(())
        }

        fn drops(&self) -> u64 {
            0
        }

        fn stats(&self) -> ReceiveStats {
            ReceiveStats::default()
        }
    }

    #[test]
    fn a_receiver_without_an_empty_histogram_sleeps_when_an_interval_is_over() {
        let control = Arc::new(ReceiverControl::new());
        let rx = Silent {
            control: control.clone(),
            sleeps: 0,
        };
        let (_keeper, empties) = mpsc::channel();
        let (sender, events) = mpsc::channel();
        let config = ReceiverConfig {
            stream: 0,
            token: 1,
            chunk: 8,
            paced: false,
            sent_probes: false,
            window: None,
            capacity: None,
            interval: Duration::from_millis(10),
            // The first interval has been over for 10 s.
            epoch: Arc::new(AtomicU64::new(
                monotonic_ns().saturating_sub(10_000_000_000),
            )),
            offset: Arc::default(),
            packet_log: None,
            control,
            empties,
        };
        run(rx, config, &sender, || ());
        let snapshots = events.iter().take(2).collect::<Vec<_>>();
        assert!(matches!(
            snapshots[..],
            [
                Event::Interval(IntervalSnapshot { last: true, .. }),
                Event::Done(_)
            ]
        ));
    }
}
