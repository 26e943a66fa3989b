//! The receiving side of one stream: the loop that empties an engine into the account, grants credit,
//! answers pings and cuts the run into intervals.

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
use crate::udp::credit::Grantor;
use crate::udp::engine::Rx;
use crate::udp::engine::stats::ReceiveStats;
use crate::udp::receive::accounting::{Account, Latencies, Seen, Tally};
use crate::udp::receive::backoff::Nap;
use crate::udp::receive::packet_log::{Row, Spool};
use crate::udp::wire::header::{Header, Kind};

/// How long to wait for stragglers at least once nothing arrives any more, after the last datagram was announced, in ns.
pub const SHORTEST_QUIET_NS: u64 = 250_000_000;

/// How long to wait for stragglers at most, in ns.
pub const LONGEST_QUIET_NS: u64 = 10_000_000_000;

/// When an interval is over and no empty histogram has come back, how long to wait before looking again, in ns.
const SPARE_NS: u64 = 10_000_000;

/// Stands for a time or a count that is not known yet.
pub const UNKNOWN: u64 = u64::MAX;

/// Answers owed after one batch; more questions than this in one batch go unanswered.
const MOST_ANSWERS: usize = 16;

/// What others may tell a running receiver, and see of it.
#[derive(Debug)]
pub struct Remote {
    /// Stop at once.
    pub stop: AtomicBool,
    /// How many datagrams the sender has sent in all; [`UNKNOWN`] until it says so.
    pub sent: AtomicU64,
    /// How long to wait for stragglers, in ns.
    pub quiet: AtomicU64,
    /// When something of this run was last received, in ns.
    pub heard: AtomicU64,
}

impl Remote {
    /// Of a stream that is set up now.
    pub fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            sent: AtomicU64::new(UNKNOWN),
            quiet: AtomicU64::new(SHORTEST_QUIET_NS),
            heard: AtomicU64::new(monotonic_ns()),
        }
    }
}

impl Default for Remote {
    fn default() -> Self {
        Self::new()
    }
}

/// What a receiver tells whoever runs it.
#[derive(Debug)]
pub enum Event {
    /// An interval is over.
    Interval(Cut),
    /// The stream is over: nothing comes after this.
    Done(Box<Received>),
}

/// A stream's figures at the end of an interval.
#[derive(Debug)]
pub struct Cut {
    /// Which stream.
    pub stream: usize,
    /// Which interval, counted from the first datagram of the session.
    pub index: u64,
    /// Cumulative.
    pub tally: Tally,
    /// Of what was received since the last cut.
    pub latencies: Box<Latencies>,
    /// The stream is over, and the interval with it.
    pub last: bool,
}

/// What a stream's receiver did.
#[derive(Debug)]
pub struct Received {
    /// Which stream.
    pub stream: usize,
    /// The figures.
    pub tally: Tally,
    /// A row a packet, if they were asked for.
    pub spool: Option<Spool>,
    /// Datagrams dropped at the socket, as the kernel counts them.
    pub drops: u64,
    /// What the thread cost.
    pub cpu: CpuTime,
    /// What the engine counted.
    pub stats: ReceiveStats,
    /// Datagrams granted ahead, at the end; 0 unless lossless.
    pub window: u64,
    /// Why it ended early, if the socket failed.
    pub error: Option<io::Error>,
}

impl Received {
    /// Of a stream that received nothing.
    pub fn none(stream: usize) -> Self {
        Self {
            stream,
            tally: Tally::default(),
            spool: None,
            drops: 0,
            cpu: CpuTime::default(),
            stats: ReceiveStats::default(),
            window: 0,
            error: None,
        }
    }
}

/// What a receiver is to do.
pub struct Job {
    /// Which stream.
    pub stream: usize,
    /// The run's.
    pub token: u64,
    /// Message bytes a datagram.
    pub chunk: usize,
    /// Whether datagrams carry an intended time.
    pub paced: bool,
    /// Datagrams to grant ahead; `None` unless lossless.
    pub window: Option<u64>,
    /// Datagrams that may pile up unread; `None` where they shall not.
    pub room: Option<u64>,
    /// Time between cuts.
    pub interval: Duration,
    /// When the session's first datagram was sent, in ns; shared by its streams, [`UNKNOWN`] until then.
    pub epoch: Arc<AtomicU64>,
    /// Added to this host's clock, it is the server's, in which all stamps are: in ns.
    pub offset: Arc<AtomicI64>,
    /// Where rows go.
    pub spool: Option<Spool>,
    /// What others may tell it.
    pub remote: Arc<Remote>,
    /// Empty histograms to go on with after a cut. While there are none, no cut is made.
    pub spares: Receiver<Box<Latencies>>,
}

/// Receives until the stream is complete or quiet or is told to stop; then tells `events`, as it does of each interval.
pub fn run<R: Rx>(mut rx: R, job: Job, events: &Sender<Event>, wake: impl Fn()) {
    let before = CpuTime::of_this_thread();
    let mut desk = Desk {
        account: Account::new(job.token, job.chunk, job.paced, Box::default()),
        token: job.token,
        grantor: job.window.map(Grantor::new),
        ours: false,
        peer: None,
        owed: Vec::with_capacity(MOST_ANSWERS),
        spool: job.spool,
        drops: 0,
        offset: job.offset.clone(),
    };
    let mut clock = Intervals {
        epoch: job.epoch,
        offset: job.offset,
        length: u64::try_from(job.interval.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1),
        index: 0,
    };
    let mut nap = job.room.map(Nap::new);
    let tell = |event| {
        // Nobody listening means that the session is being torn down; the stop flag says so too.
        let _ = events.send(event);
        wake();
    };
    let mut drive = || -> io::Result<()> {
        loop {
            let count = rx.receive(|message| desk.take(&message))?;
            if count > 0 {
                desk.reply(&mut rx);
                let now = monotonic_ns();
                // Strangers keep no run alive.
                if std::mem::take(&mut desk.ours) {
                    job.remote.heard.store(now, Ordering::Relaxed);
                }
                clock.begin(&desk.account);
            }
            if clock.is_over()
                && let Ok(empty) = job.spares.try_recv()
            {
                let tally = desk.account.tally();
                let latencies = desk.account.exchange_latencies(empty);
                let index = clock.advance();
                tell(Event::Interval(Cut {
                    stream: job.stream,
                    index,
                    tally,
                    latencies,
                    last: false,
                }));
            }
            if job.remote.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let sent = job.remote.sent.load(Ordering::Relaxed);
            let quiet = job.remote.quiet.load(Ordering::Relaxed);
            let quiet = quiet.clamp(SHORTEST_QUIET_NS, LONGEST_QUIET_NS);
            let quiet_at = job.remote.heard.load(Ordering::Relaxed) + quiet;
            if sent != UNKNOWN && (desk.account.unique() >= sent || monotonic_ns() >= quiet_at) {
                return Ok(());
            }
            if count == 0 {
                if let Some(nap) = &mut nap
                    && let Some(ns) = nap.length(monotonic_ns(), desk.account.next())
                {
                    thread::sleep(Duration::from_nanos(ns));
                    continue;
                }
                let limit = if sent == UNKNOWN { u64::MAX } else { quiet_at };
                let cut_at = match clock.is_over() {
                    true => monotonic_ns() + SPARE_NS,
                    false => clock.next_at(),
                };
                rx.wait(cut_at.min(limit))?;
            }
        }
    };
    let error = drive().err();
    let (tally, latencies) = desk.account.close();
    let index = clock.index;
    tell(Event::Interval(Cut {
        stream: job.stream,
        index,
        tally,
        latencies,
        last: true,
    }));
    tell(Event::Done(Box::new(Received {
        stream: job.stream,
        tally,
        spool: desk.spool,
        drops: rx.drops(),
        cpu: CpuTime::of_this_thread() - before,
        stats: rx.stats(),
        window: desk.grantor.map_or(0, |grantor| grantor.window()),
        error,
    })));
}

/// Where datagrams are taken in, and what is owed for them.
struct Desk {
    account: Account,
    token: u64,
    grantor: Option<Grantor>,
    /// Something of this run has come since it was last asked.
    ours: bool,
    /// Where the run's data comes from, and its credit goes to.
    peer: Option<SocketAddr>,
    owed: Vec<(Header, SocketAddr)>,
    spool: Option<Spool>,
    /// Drops at the socket that the window has been shrunk for.
    drops: u32,
    /// Added to this host's clock, it is the server's: in ns.
    offset: Arc<AtomicI64>,
}

/// The server's clock now, in ns.
#[inline]
fn server_ns(offset: &AtomicI64) -> u64 {
    monotonic_ns().wrapping_add_signed(offset.load(Ordering::Relaxed))
}

impl Desk {
    #[inline]
    fn take(&mut self, message: &Message<'_>) {
        if message.truncated {
            return self.account.truncated();
        }
        let received = server_ns(&self.offset);
        if message.bytes.is_empty() {
            self.account.datagram(message.bytes, received);
        }
        let mut data = false;
        for datagram in message.datagrams() {
            let seen = self.account.datagram(datagram, received);
            self.ours |= seen != Seen::Foreign;
            match seen {
                Seen::Data(header) => {
                    data = true;
                    if let Some(spool) = &mut self.spool {
                        spool.push(Row {
                            sequence: header.sequence,
                            sent: header.sent,
                            received,
                        });
                    }
                }
                Seen::Probe(sent) => self.credit(sent, message),
                Seen::Ping(number) => self.pong(number, received, message),
                Seen::Late | Seen::Foreign => {}
            }
        }
        if data && self.grantor.is_some() {
            self.peer = message.source();
        }
        if let (Some(drops), Some(grantor)) = (message.drops, &mut self.grantor)
            && drops != self.drops
        {
            self.drops = drops;
            grantor.shrink();
        }
    }

    fn credit(&mut self, sent: u64, message: &Message<'_>) {
        let Some(peer) = message.source() else { return };
        // A stream that needs no credit asks only to see whether we are here.
        let limit = match &mut self.grantor {
            Some(grantor) => grantor.answer(sent, self.account.next()),
            None => sent,
        };
        self.owe(Header::bare(Kind::Credit, self.token, limit), peer);
    }

    fn pong(&mut self, number: u64, received: u64, message: &Message<'_>) {
        let Some(peer) = message.source() else { return };
        self.owe(
            Header {
                sent: received,
                ..Header::bare(Kind::Pong, self.token, number)
            },
            peer,
        );
    }

    fn owe(&mut self, header: Header, peer: SocketAddr) {
        if self.owed.len() < MOST_ANSWERS {
            self.owed.push((header, peer));
        }
    }

    /// Sends what is owed: one datagram of 32 bytes for each that came, at most.
    #[inline]
    fn reply<R: Rx>(&mut self, rx: &mut R) {
        for (mut header, peer) in self.owed.drain(..) {
            if header.kind == Kind::Pong {
                header.lateness = server_ns(&self.offset).saturating_sub(header.sent);
            }
            rx.send_control(&header.encode(), peer);
        }
        if let (Some(grantor), Some(peer)) = (&mut self.grantor, self.peer)
            && let Some(limit) = grantor.due(self.account.next())
        {
            rx.send_control(
                &Header::bare(Kind::Credit, self.token, limit).encode(),
                peer,
            );
        }
    }
}

/// When one interval ends and the next begins.
struct Intervals {
    epoch: Arc<AtomicU64>,
    offset: Arc<AtomicI64>,
    length: u64,
    index: u64,
}

impl Intervals {
    /// Starts the session's clock with the stamp of the first datagram of any stream.
    #[inline]
    fn begin(&self, account: &Account) {
        if self.epoch.load(Ordering::Relaxed) == UNKNOWN
            && let Some(first) = account.tally().first_sent
        {
            let _ =
                self.epoch
                    .compare_exchange(UNKNOWN, first, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// When the interval is over, in ns of this host's clock.
    #[inline]
    fn next_at(&self) -> u64 {
        let epoch = self.epoch.load(Ordering::Relaxed);
        // A stream that has seen nothing yet may wait without a deadline: something will wake it.
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

    /// Ends the interval and says which it was; those that passed unnoticed are part of it.
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

    /// A silent socket, that has the receiver stop at the fifth sleep.
    struct Silent {
        remote: Arc<Remote>,
        sleeps: u32,
    }

    impl Rx for Silent {
        fn receive(&mut self, _each: impl FnMut(Message<'_>)) -> io::Result<usize> {
            Ok(0)
        }

        fn send_control(&mut self, _datagram: &[u8], _to: SocketAddr) {}

        fn wait(&mut self, deadline: u64) -> io::Result<()> {
            // It was in the future a moment ago.
            assert!(deadline + SPARE_NS > monotonic_ns());
            self.sleeps += 1;
            if self.sleeps == 5 {
                self.remote.stop.store(true, Ordering::Relaxed);
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
    fn a_receiver_without_a_spare_histogram_sleeps_when_an_interval_is_over() {
        let remote = Arc::new(Remote::new());
        let rx = Silent {
            remote: remote.clone(),
            sleeps: 0,
        };
        let (_keeper, spares) = mpsc::channel();
        let (events, told) = mpsc::channel();
        let job = Job {
            stream: 0,
            token: 1,
            chunk: 8,
            paced: false,
            window: None,
            room: None,
            interval: Duration::from_millis(10),
            // The first interval has been over for 10 s.
            epoch: Arc::new(AtomicU64::new(
                monotonic_ns().saturating_sub(10_000_000_000),
            )),
            offset: Arc::default(),
            spool: None,
            remote,
            spares,
        };
        run(rx, job, &events, || ());
        let cuts = told.iter().take(2).collect::<Vec<_>>();
        assert!(matches!(
            cuts[..],
            [Event::Interval(Cut { last: true, .. }), Event::Done(_)]
        ));
    }
}
