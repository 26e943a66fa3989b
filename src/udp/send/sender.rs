//! The sending side of one stream: opening, clock, and the loop that keeps an engine fed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use crate::sys::cgroup::{CpuQuota, Throttled};
use crate::sys::clock::monotonic_ns;
use crate::sys::sched_policy;
use crate::sys::tsc_clock::TscClock;
use crate::sys::usage::{self, CpuTime};
use crate::udp::engine::stats::SendStats;
use crate::udp::engine::{Path, Submit, Tx, Until};
use crate::udp::send::path::{PathError, TooLong};
use crate::udp::send::spin::{Spin, SpinChoice, WhyNot};
use crate::udp::send::stream::{Idle, Stream, Written};
use crate::udp::wire::control::SenderEffective;
use crate::udp::wire::header::{HEADER, Header, Kind};

/// The turns on the CPU that a paced sender asks the scheduler for, in ns: it is woken for microseconds, and late where a
/// thread with longer turns goes first.
const TURN_NS: u64 = 100_000;

/// A lossless sender without credit asks for it after this long, in ns, then after twice as long, and so on.
const FIRST_PROBE_NS: u64 = 10_000_000;

/// The longest it waits between questions, in ns.
const LONGEST_PROBE_NS: u64 = 640_000_000;

/// How long to wait when the kernel is short of memory, in ns.
const SHORT_NS: u64 = 100_000;

/// How long it may be so without a single message taken before the run has failed, in ns.
const LONGEST_SHORT_NS: u64 = 5_000_000_000;

/// How long a sender with a full send buffer sleeps at most before it looks again, in ns.
const FULL_NS: u64 = 100_000_000;

/// What others may tell a running sender, and see of it.
#[derive(Debug, Default)]
pub struct Remote {
    /// Stop sending as soon as possible.
    pub stop: AtomicBool,
    /// Datagrams written so far.
    pub written: AtomicU64,
    /// Added to this host's clock, it is the server's, in which all stamps are: in ns.
    pub offset: Arc<AtomicI64>,
}

impl Remote {
    /// Of a sender whose clock differs from the server's by `offset`.
    pub fn new(offset: Arc<AtomicI64>) -> Self {
        Self {
            offset,
            ..Self::default()
        }
    }
}

/// How the loop hands datagrams to the engine.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Datagrams a message.
    pub segments: u64,
    /// Datagrams a submit.
    pub batch: u64,
    /// Datagrams the receiver grants ahead at first; `None` unless lossless.
    pub window: Option<u64>,
    /// Whether segmented sends were asked for, so that the stream fails when the path refuses them.
    pub must_segment: bool,
    /// Whether no other thread of this program is kept on the sender's CPU.
    pub spin: bool,
    /// Whether a paced sender spins before a deadline.
    pub spin_choice: SpinChoice,
    /// Senders of the run.
    pub streams: usize,
    /// Whether the receiver is known to be on the same CPU.
    pub shared_cpu: bool,
    /// How long to wait for credit before giving up, in ns.
    pub credit_timeout_ns: u64,
}

/// What a stream's sender did.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// Datagrams offered to the kernel, once each.
    pub packets: u64,
    /// Message bytes in them.
    pub bytes: u64,
    /// Those among them that it refused for good.
    pub not_sent: u64,
    /// Those among `not_sent` that were too long for the path (`EMSGSIZE`).
    pub too_long: u64,
    /// Datagrams a message at the end.
    pub segments: usize,
    /// What was known of the path at the end; `None` when nothing was sent.
    pub path: Option<Path>,
    /// Whether the sender spun to the end; `None` unless paced.
    pub spin: Option<bool>,
    /// Why it did not although it might.
    pub why_no_spin: Option<WhyNot>,
    /// Times that the scheduler gave the thread's CPU to another.
    pub preemptions: u64,
    /// How often and how long its control group was stopped for lack of quota; `None` without a quota.
    pub throttled: Option<Throttled>,
    /// Stamps, lateness and gaps.
    pub written: Written,
    /// Times it asked for credit.
    pub probes: u64,
    /// What the thread cost from the first datagram to the last.
    pub cpu: CpuTime,
    /// What the engine counted.
    pub stats: SendStats,
    /// What was in force.
    pub effective: SenderEffective,
}

/// Sends the whole stream, or as much of it as there is until `remote` says stop.
///
/// # Errors
/// As the engine's; what was sent until then is in `sent` all the same.
pub fn run<T: Tx>(
    tx: &mut T,
    token: u64,
    mut stream: Stream,
    manner: Manner,
    remote: &Arc<Remote>,
) -> (Sent, io::Result<()>) {
    let mut sent = Sent::default();
    let quota = CpuQuota::of_this_thread();
    let mut spin = Spin::new(
        manner.spin_choice,
        manner.spin,
        quota.cpus(),
        manner.streams,
        usage::preemptions(),
    );
    if stream.is_paced() {
        // A kernel that does not know such turns is as late as it is.
        let _ = sched_policy::request_time_slice(TURN_NS);
    }
    let (throttled, preemptions) = (quota.throttled(), usage::preemptions());
    let before = CpuTime::of_this_thread();
    let thread_before = tx.stats().ring.and_then(|ring| ring.thread_cpu_ns);
    let ended = drive(tx, token, &mut stream, manner, &mut spin, remote, &mut sent);
    let ended = ended.and(tx.cancel_pending());
    sent.packets = stream.next() - tx.in_flight();
    sent.bytes = stream.bytes(sent.packets);
    sent.cpu = CpuTime::of_this_thread() - before;
    sent.preemptions = usage::preemptions() - preemptions;
    sent.throttled = quota
        .throttled()
        .zip(throttled)
        .map(|(now, before)| now - before);
    sent.segments = tx.segments();
    sent.path = Some(tx.path());
    if stream.is_paced() {
        sent.spin = Some(spin.is_on());
        sent.why_no_spin = spin.why_not();
    }
    sent.stats = tx.stats();
    if let Some(ring) = &mut sent.stats.ring {
        let (now, before) = (ring.thread_cpu_ns, thread_before);
        ring.thread_cpu_ns = now.map(|now| now.saturating_sub(before.unwrap_or(0)));
    }
    sent.written = stream.into_written();
    (sent, ended)
}

fn drive<T: Tx>(
    tx: &mut T,
    token: u64,
    stream: &mut Stream,
    manner: Manner,
    spin: &mut Spin,
    remote: &Remote,
    sent: &mut Sent,
) -> io::Result<()> {
    let mut probe = Probe::default();
    let (mut short_since, mut short_at) = (None, 0);
    // A burst of one asks the kernel once in any case.
    let mut clock = if manner.batch == 1 || stream.is_paced() {
        TscClock::without_counter()
    } else {
        TscClock::calibrated()
    };
    while !remote.stop.load(Ordering::Relaxed) {
        stream.set_offset(remote.offset.load(Ordering::Relaxed));
        let written = fill(tx, stream, manner, &mut clock);
        if written > 0 {
            remote.written.store(stream.next(), Ordering::Relaxed);
        }
        let flow = tx.submit(|datagrams, error| {
            sent.not_sent += datagrams;
            if error.raw_os_error() == Some(libc::EMSGSIZE) {
                sent.too_long += datagrams;
            }
        })?;
        if sent.too_long > 0 || manner.must_segment {
            takes_it(tx, stream, manner, sent)?;
        }
        match flow {
            Submit::NoFreeSlot if tx.in_flight() == 0 => {}
            Submit::Ready => {}
            // Something is under way, and ends the wait when it is done.
            Submit::WouldBlock | Submit::NoFreeSlot => {
                tx.wait(Until::WritableOr(monotonic_ns() + FULL_NS))?
            }
            Submit::NoMemory => {
                let now = monotonic_ns();
                let resolved = stream.next() - tx.in_flight();
                if resolved > short_at {
                    (short_since, short_at) = (None, resolved);
                }
                if now - *short_since.get_or_insert(now) > LONGEST_SHORT_NS {
                    return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
                }
                tx.wait(Until::Exactly(now + SHORT_NS))?;
            }
        }
        if stream.credit() < probe.low_water || flow == Submit::NoFreeSlot {
            let before = stream.credit();
            tx.poll_control(|bytes| {
                take_credit(bytes, token, stream);
            })?;
            if let Some(window) = manner.window {
                tx.acknowledge(stream.acknowledged(window));
            }
            if stream.credit() > before {
                probe = Probe {
                    // At 0 a sender whose last credit is used up would never look again.
                    low_water: (stream.credit() / 2).max(1),
                    ..Probe::default()
                };
                continue;
            }
        }
        if written > 0 || tx.in_flight() > 0 {
            continue;
        }
        let now = monotonic_ns();
        match stream.idle(now) {
            // What frees a slot is the receiver's credit, or else word from the kernel.
            Idle::No if flow == Submit::NoFreeSlot && manner.window.is_some() => {
                await_credit(tx, token, stream, &mut probe, manner, sent, now)?
            }
            Idle::No if flow == Submit::NoFreeSlot => tx.wait(Until::About(now + FULL_NS))?,
            Idle::No => {}
            Idle::Done => break,
            Idle::Due(at) => rest(tx, at, now, spin)?,
            Idle::Credit => await_credit(tx, token, stream, &mut probe, manner, sent, now)?,
        }
    }
    Ok(())
}

/// Waits for the receiver to grant more, and asks it to when that takes long.
fn await_credit<T: Tx>(
    tx: &mut T,
    token: u64,
    stream: &Stream,
    probe: &mut Probe,
    manner: Manner,
    sent: &mut Sent,
    now: u64,
) -> io::Result<()> {
    if probe.waited(now) > manner.credit_timeout_ns {
        return Err(no_credit(manner.credit_timeout_ns));
    }
    let wake_at = probe.at(now).min(stream.end());
    if now < wake_at {
        return tx.wait(Until::About(wake_at));
    }
    tx.send_control(&Header::bare(Kind::Probe, token, stream.next()).encode());
    sent.probes += 1;
    probe.back_off(now);
    Ok(())
}

fn no_credit(timeout_ns: u64) -> io::Error {
    let seconds = timeout_ns as f64 / 1e9;
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!(
            "no credit comes back: the receiver has answered nothing for {seconds} s; UDP from it to the sender may be blocked (--peer-timeout sets how long to wait)"
        ),
    )
}

/// Queues up to a batch of what may go now and says how many datagrams that is.
#[inline]
fn fill<T: Tx>(tx: &mut T, stream: &mut Stream, manner: Manner, clock: &mut TscClock) -> u64 {
    let mut written = 0;
    clock.begin();
    while written < manner.batch {
        let Some(slot) = tx.next_slot() else { break };
        let most = manner.segments.min(manner.batch - written);
        let (length, datagrams) = stream.fill(slot, most, || clock.now());
        if datagrams == 0 {
            break;
        }
        tx.queue(length, datagrams);
        written += datagrams;
    }
    written
}

/// Fails where the path does not take what was asked for: segmented sends under `--gso on`, and the very first datagrams.
/// Datagrams that become too long later are counted, and the stream goes on.
fn takes_it<T: Tx>(tx: &T, stream: &Stream, manner: Manner, sent: &Sent) -> io::Result<()> {
    let datagram = stream.datagram();
    if manner.must_segment && manner.segments > 1 && tx.segments() == 1 {
        let error = match TooLong::of(datagram, tx.path()) {
            Some(too_long) => PathError::NoSegments(too_long),
            None => {
                let errno = tx.stats().fallback_error.unwrap_or(libc::EIO);
                PathError::SegmentsRefused(io::Error::from_raw_os_error(errno))
            }
        };
        return Err(io::Error::other(error));
    }
    let resolved = stream.next() - tx.in_flight();
    if sent.too_long > 0 && sent.too_long == resolved {
        let too_long = TooLong::of(datagram, tx.path());
        let error = too_long.map_or(PathError::Refused(datagram), PathError::NoFragments);
        return Err(io::Error::other(error));
    }
    Ok(())
}

/// Waits until `at`, sleeping for most of it.
#[inline]
fn rest<T: Tx>(tx: &mut T, at: u64, now: u64, spin: &mut Spin) -> io::Result<()> {
    let lead = spin.lead_ns();
    if at.saturating_sub(now) > lead {
        return tx.wait(Until::Exactly(at - lead));
    }
    let mut now = now;
    while now < at {
        std::hint::spin_loop();
        now = monotonic_ns();
    }
    spin.ended(now - at, usage::preemptions);
    Ok(())
}

/// When a sender without credit asks for it.
#[derive(Debug, Clone, Copy)]
struct Probe {
    /// Look for credit when less than this is left.
    low_water: u64,
    /// In ns; `None` until the credit has run out.
    next: Option<u64>,
    /// When the credit ran out, in ns.
    since: Option<u64>,
    patience: u64,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            low_water: u64::MAX,
            next: None,
            since: None,
            patience: FIRST_PROBE_NS,
        }
    }
}

impl Probe {
    fn at(&mut self, now: u64) -> u64 {
        *self.next.get_or_insert(now + self.patience)
    }

    /// For how long the sender has had no credit, in ns.
    fn waited(&mut self, now: u64) -> u64 {
        now.saturating_sub(*self.since.get_or_insert(now))
    }

    fn back_off(&mut self, now: u64) {
        self.patience = (self.patience * 2).min(LONGEST_PROBE_NS);
        self.next = Some(now + self.patience);
    }
}

/// Takes in a credit, if these bytes are one of this run.
fn take_credit(bytes: &[u8], token: u64, stream: &mut Stream) -> bool {
    match Header::decode(bytes) {
        Ok(header)
            if bytes.len() == HEADER && (header.kind, header.token) == (Kind::Credit, token) =>
        {
            stream.grant(header.sequence);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::plan::Quota;

    /// A kernel that never has any memory, and is told to stop at the third try.
    struct Short<'a> {
        slot: [u8; 64],
        queued: u64,
        tries: u32,
        remote: &'a Remote,
    }

    impl Tx for Short<'_> {
        fn next_slot(&mut self) -> Option<&mut [u8]> {
            (self.queued == 0).then_some(&mut self.slot)
        }

        fn queue(&mut self, _length: usize, datagrams: u64) {
            self.queued = datagrams;
        }

        fn submit(&mut self, _refused: impl FnMut(u64, &io::Error)) -> io::Result<Submit> {
            self.tries += 1;
            if self.tries == 3 {
                self.remote.stop.store(true, Ordering::Relaxed);
            }
            Ok(Submit::NoMemory)
        }

        fn send_control(&mut self, _datagram: &[u8]) {}

        fn segments(&self) -> usize {
            1
        }

        fn path(&self) -> Path {
            Path {
                mtu: None,
                headers: 28,
            }
        }

        fn in_flight(&self) -> u64 {
            self.queued
        }

        fn poll_control(&mut self, _each: impl FnMut(&[u8])) -> io::Result<()> {
            Ok(())
        }

        fn wait(&mut self, until: Until) -> io::Result<()> {
            assert!(matches!(until, Until::Exactly(_)));
            Ok(())
        }

        fn stats(&self) -> SendStats {
            SendStats::default()
        }
    }

    #[test]
    fn a_sender_that_gets_nowhere_stops_when_told_and_has_sent_nothing() {
        let remote = Arc::new(Remote::default());
        let mut tx = Short {
            slot: [0; 64],
            queued: 0,
            tries: 0,
            remote: &remote,
        };
        let quota = Quota {
            packets: Some(10),
            last_chunk: 8,
            time: None,
        };
        let stream = Stream::new(1, 8, quota, None, false, 0);
        let manner = Manner {
            segments: 1,
            batch: 1,
            window: None,
            must_segment: false,
            spin: false,
            spin_choice: SpinChoice::Off,
            streams: 1,
            shared_cpu: false,
            credit_timeout_ns: u64::MAX,
        };
        let (sent, ended) = run(&mut tx, 1, stream, manner, &remote);
        ended.unwrap();
        assert_eq!((sent.packets, sent.bytes, tx.tries), (0, 0, 3));
    }

    /// Sends everything, and grants one datagram more each time that it is asked.
    struct OneByOne {
        slot: [u8; 64],
        queued: u64,
        sent: u64,
    }

    impl Tx for OneByOne {
        fn next_slot(&mut self) -> Option<&mut [u8]> {
            (self.queued == 0).then_some(&mut self.slot)
        }

        fn queue(&mut self, _length: usize, datagrams: u64) {
            self.queued = datagrams;
        }

        fn submit(&mut self, _refused: impl FnMut(u64, &io::Error)) -> io::Result<Submit> {
            self.sent += std::mem::take(&mut self.queued);
            Ok(Submit::Ready)
        }

        fn send_control(&mut self, _datagram: &[u8]) {}

        fn in_flight(&self) -> u64 {
            0
        }

        fn poll_control(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
            each(&Header::bare(Kind::Credit, 1, self.sent + 1).encode());
            Ok(())
        }

        fn wait(&mut self, _until: Until) -> io::Result<()> {
            Ok(())
        }

        fn stats(&self) -> SendStats {
            SendStats::default()
        }

        fn segments(&self) -> usize {
            1
        }

        fn path(&self) -> Path {
            Path {
                mtu: None,
                headers: 28,
            }
        }
    }

    #[test]
    fn credit_for_a_single_datagram_is_followed_by_a_look_for_more() {
        let mut tx = OneByOne {
            slot: [0; 64],
            queued: 0,
            sent: 0,
        };
        let quota = Quota {
            packets: Some(5),
            last_chunk: 8,
            time: None,
        };
        let stream = Stream::new(1, 8, quota, None, true, 0);
        let manner = Manner {
            segments: 1,
            batch: 1,
            window: Some(1),
            must_segment: false,
            spin: false,
            spin_choice: SpinChoice::Off,
            streams: 1,
            shared_cpu: false,
            credit_timeout_ns: 1_000_000_000,
        };
        let (sent, ended) = run(&mut tx, 1, stream, manner, &Arc::default());
        ended.unwrap();
        assert_eq!(sent.packets, 5);
    }
}
