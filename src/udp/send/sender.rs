//! The sending side of one stream: the loop that takes datagrams from the stream and submits them to an engine.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::sys::cgroup::CpuQuota;
use crate::sys::clock::monotonic_ns;
use crate::sys::sched_policy;
use crate::sys::tsc_clock::TscClock;
use crate::sys::usage::{self, CpuTime};
use crate::udp::engine::{Submit, Tx, Until};
use crate::udp::path_mtu::{PathError, TooLong};
use crate::udp::plan::SpinChoice;
use crate::udp::send::credit_request::CreditRequest;
use crate::udp::send::outcome::SenderOutcome;
use crate::udp::send::refusals::Refusals;
use crate::udp::send::spin::Spin;
use crate::udp::send::stamps::StampCollector;
use crate::udp::send::stream::{Idle, Stream};
use crate::udp::wire::header::{HEADER, Header, Kind};

/// Time slice that a paced sender asks the scheduler for, in ns. The sender runs for microseconds, and would be late behind
/// threads with shorter slices.
const TIME_SLICE_NS: u64 = 100_000;

/// Most waits before a repetition. A datagram or a stamp of the kernel ends a wait early.
const MOST_WAITS: u32 = 64;

/// Longest wait for stamps after the last datagram, in ns.
const STAMPS_TIMEOUT_NS: u64 = 500_000_000;

/// Pause between two reads of stamps after the last datagram.
const STAMPS_PAUSE: Duration = Duration::from_millis(1);

/// How often a sender that waits for its start checks whether it is stopped.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// Longest wait for a full send buffer, in ns.
const FULL_NS: u64 = 100_000_000;

/// Controls a running sender from another thread, and shows its progress.
#[derive(Debug, Default)]
pub struct SenderControl {
    /// Stops the sender.
    pub stop: AtomicBool,
    /// Datagrams written so far.
    pub written: AtomicU64,
    /// The server's clock minus this host's, in ns. All stamps are in the server's clock.
    pub offset: Arc<AtomicI64>,
}

impl SenderControl {
    /// For a sender whose clock differs from the server's by `offset`.
    pub fn new(offset: Arc<AtomicI64>) -> Self {
        Self {
            offset,
            ..Self::default()
        }
    }
}

/// How the loop submits datagrams to the engine.
#[derive(Debug, Clone, Copy)]
pub struct BatchPolicy {
    /// Datagrams per message.
    pub segments: u64,
    /// Datagrams per submit.
    pub batch: u64,
    /// The receiver's credit window at the start, in datagrams; `None` unless lossless.
    pub window: Option<u64>,
    /// Whether segmented sends are required: the stream fails if the path refuses them.
    pub must_segment: bool,
    /// Whether no other thread of this program is pinned to the sender's CPU.
    pub spin: bool,
    /// Whether a paced sender spins before a deadline.
    pub spin_choice: SpinChoice,
    /// Senders of the run.
    pub streams: usize,
    /// Whether the receiver is pinned to the same CPU.
    pub shared_cpu: bool,
    /// Longest wait for credit, in ns.
    pub credit_timeout_ns: u64,
}

/// Waits for a start in the future, such as the common start of a fleet.
fn wait_for_start(start: u64, control: &SenderControl) {
    let left = || Duration::from_nanos(start.saturating_sub(monotonic_ns()));
    while !left().is_zero() && !control.stop.load(Ordering::Relaxed) {
        thread::sleep(left().min(STOP_CHECK));
    }
}

/// Sends the stream, which starts at `start` in ns, until it ends or `control` stops it. `stamps` collects the kernel's stamps, if the
/// engine requests them.
///
/// # Errors
/// As the engine's. The outcome is valid in either case.
pub fn run<T: Tx>(
    tx: &mut T,
    (mut stream, start): (Stream, u64),
    policy: BatchPolicy,
    control: &Arc<SenderControl>,
    mut stamps: Option<Box<StampCollector>>,
) -> (SenderOutcome, io::Result<()>) {
    let mut outcome = SenderOutcome::default();
    let quota = CpuQuota::of_this_thread();
    let mut spin = Spin::new(
        policy.spin_choice,
        policy.spin,
        quota.cpus(),
        policy.streams,
        usage::preemptions(),
    );
    if stream.is_paced() {
        // Older kernels do not support it, and wake the sender later.
        let _ = sched_policy::request_time_slice(TIME_SLICE_NS);
    }
    let (throttled, preemptions) = (quota.throttled(), usage::preemptions());
    // The setup above takes time, so it precedes the start.
    wait_for_start(start, control);
    let before = CpuTime::of_this_thread();
    let thread_before = tx.stats().ring.and_then(|ring| ring.thread_cpu_ns);
    let ended = drive(
        tx,
        &mut stream,
        policy,
        &mut spin,
        control,
        &mut stamps,
        &mut outcome,
    );
    let ended = ended.and(tx.cancel_pending());
    if T::STAMPS
        && let Some(mut stamps) = stamps
    {
        await_stamps(tx, &stream, &mut stamps, control);
        outcome.stamps = Some(Arc::new(stamps.finish()));
    }
    outcome.cpu = CpuTime::of_this_thread() - before;
    outcome.preemptions = usage::preemptions() - preemptions;
    outcome.throttled = quota
        .throttled()
        .zip(throttled)
        .map(|(now, before)| now - before);
    if stream.is_paced() {
        outcome.spin = Some(spin.is_on());
        outcome.why_no_spin = spin.why_not();
    }
    outcome.close(tx, stream);
    if let Some(ring) = &mut outcome.stats.ring {
        let (now, before) = (ring.thread_cpu_ns, thread_before);
        ring.thread_cpu_ns = now.map(|now| now.saturating_sub(before.unwrap_or(0)));
    }
    (outcome, ended)
}

fn drive<T: Tx>(
    tx: &mut T,
    stream: &mut Stream,
    policy: BatchPolicy,
    spin: &mut Spin,
    control: &SenderControl,
    stamps: &mut Option<Box<StampCollector>>,
    outcome: &mut SenderOutcome,
) -> io::Result<()> {
    let token = stream.token();
    let mut request = CreditRequest::default();
    let mut refusals = Refusals::new(policy.window.is_some());
    // With one datagram per batch, the kernel's clock is read once per datagram in any case.
    let mut clock = if policy.batch == 1 || stream.is_paced() {
        TscClock::without_counter()
    } else {
        TscClock::calibrated()
    };
    while !control.stop.load(Ordering::Relaxed) {
        stream.set_offset(control.offset.load(Ordering::Relaxed));
        let written = fill(tx, stream, policy, &mut clock, stamps);
        if written > 0 {
            control.written.store(stream.next(), Ordering::Relaxed);
        }
        let submitted = tx.submit(|datagrams, error| outcome.refused(datagrams, error))?;
        if T::STAMPS
            && let Some(stamps) = stamps
        {
            stamps.collect(tx, stream.offset());
        }
        if outcome.too_long > 0 || policy.must_segment {
            check_path(tx, stream, policy, outcome)?;
        }
        match submitted {
            Submit::NoFreeSlot if tx.in_flight() == 0 => {}
            Submit::Ready => {}
            // An operation is in flight, and ends the wait when it completes.
            Submit::WouldBlock | Submit::NoFreeSlot => {
                let now = monotonic_ns();
                if stream.is_over(now) {
                    break;
                }
                tx.wait(Until::WritableOr(now + FULL_NS))?;
                if stream.is_paced() {
                    restamp(tx, stream, stamps);
                }
            }
            Submit::NoMemory => {
                let now = monotonic_ns();
                if stream.is_over(now) {
                    break;
                }
                let accepted = outcome.accepted(tx, stream);
                match refusals.repeat_at(accepted, now) {
                    Some(at) => await_repetition(tx, stream, stamps, at)?,
                    None => tx.give_up(&no_memory(), |of, error| outcome.refused(of, error)),
                }
                restamp(tx, stream, stamps);
            }
        }
        if stream.credit() < request.low_water || submitted == Submit::NoFreeSlot {
            let before = stream.credit();
            tx.poll_control(|bytes| read_credit(bytes, token, stream))?;
            if let Some(window) = policy.window {
                tx.acknowledge(stream.acknowledged(window));
            }
            if stream.credit() > before {
                request = CreditRequest::after_grant(stream.credit());
                continue;
            }
        }
        if written > 0 || tx.in_flight() > 0 {
            continue;
        }
        let now = monotonic_ns();
        match stream.idle(now) {
            // A slot becomes free by the receiver's credit in lossless mode, else by a completion.
            Idle::No if submitted == Submit::NoFreeSlot && policy.window.is_some() => {
                await_credit(tx, token, stream, &mut request, policy, outcome, now)?
            }
            Idle::No if submitted == Submit::NoFreeSlot => tx.wait(Until::About(now + FULL_NS))?,
            Idle::No => {}
            Idle::Done => break,
            Idle::Due(at) => sleep_until(tx, at, now, spin)?,
            Idle::Credit => await_credit(tx, token, stream, &mut request, policy, outcome, now)?,
        }
    }
    Ok(())
}

/// Waits until `at`, when a refused message is repeated, and reads the stamps that end the wait early.
fn await_repetition<T: Tx>(
    tx: &mut T,
    stream: &Stream,
    stamps: &mut Option<Box<StampCollector>>,
    at: u64,
) -> io::Result<()> {
    for _ in 0..MOST_WAITS {
        tx.wait(Until::Exactly(at))?;
        if T::STAMPS
            && let Some(stamps) = stamps
        {
            stamps.collect(tx, stream.offset());
        }
        if monotonic_ns() >= at {
            break;
        }
    }
    Ok(())
}

/// The error of a message that is given up.
pub(super) fn no_memory() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOBUFS)
}

/// Stamps the datagrams again that the kernel has not accepted, before the next attempt: a stamp is that of the accepted attempt.
#[cold]
#[inline(never)]
pub(super) fn restamp<T: Tx>(
    tx: &mut T,
    stream: &mut Stream,
    stamps: &mut Option<Box<StampCollector>>,
) {
    let now = monotonic_ns();
    tx.queued_messages(|message| {
        let sequences = stream.restamp(message, now);
        if T::STAMPS
            && let Some(stamps) = stamps
        {
            stamps.repeated(&sequences, now);
        }
    });
}

/// Waits for the stamps of the last datagrams: they may be in the queue of the device.
fn await_stamps<T: Tx>(
    tx: &mut T,
    stream: &Stream,
    stamps: &mut StampCollector,
    control: &SenderControl,
) {
    let deadline = monotonic_ns() + STAMPS_TIMEOUT_NS;
    loop {
        stamps.collect(tx, stream.offset());
        let is_over = stamps.is_complete() || monotonic_ns() > deadline;
        if is_over || control.stop.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(STAMPS_PAUSE);
    }
}

/// Waits for credit, and requests it when the wait is long.
fn await_credit<T: Tx>(
    tx: &mut T,
    token: u64,
    stream: &Stream,
    request: &mut CreditRequest,
    policy: BatchPolicy,
    outcome: &mut SenderOutcome,
    now: u64,
) -> io::Result<()> {
    if request.waited(now) > policy.credit_timeout_ns {
        return Err(no_credit(policy.credit_timeout_ns));
    }
    let wake_at = request.at(now).min(stream.end());
    if now < wake_at {
        return tx.wait(Until::About(wake_at));
    }
    let probe = Header::bare(Kind::Probe, token, stream.next()).encode();
    tx.send_control(&stream.relay().wrap(&probe));
    outcome.probes += 1;
    request.back_off(now);
    Ok(())
}

fn no_credit(timeout_ns: u64) -> io::Error {
    let seconds = timeout_ns as f64 / 1e9;
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!(
            "no credit from the receiver for {seconds} s (--peer-timeout); UDP from the receiver to the sender may be blocked"
        ),
    )
}

/// Queues up to a batch of the datagrams that may be sent now, and returns their number.
#[inline]
pub(super) fn fill<T: Tx>(
    tx: &mut T,
    stream: &mut Stream,
    policy: BatchPolicy,
    clock: &mut TscClock,
    stamps: &mut Option<Box<StampCollector>>,
) -> u64 {
    match stream.is_varied() {
        false => fill_slots(tx, policy, clock, |slot, most, clock| {
            let filled = stream.fill(slot, most, || clock.now());
            note_stamped::<T>(stamps, stream, slot, filled);
            filled
        }),
        true => fill_slots(tx, policy, clock, |slot, most, clock| {
            let filled = stream.fill_varied(slot, most, || clock.now());
            note_stamped::<T>(stamps, stream, slot, filled);
            filled
        }),
    }
}

/// Notes which datagrams of a filled slot the kernel stamps, if the engine requests stamps.
#[inline]
fn note_stamped<T: Tx>(
    stamps: &mut Option<Box<StampCollector>>,
    stream: &Stream,
    slot: &[u8],
    (length, datagrams): (usize, u64),
) {
    if T::STAMPS
        && datagrams > 0
        && let Some(stamps) = stamps
    {
        let end = stream.next();
        let message = slot.get(stream.relay().len()..length).unwrap_or_default();
        let (first, offset) = (end - datagrams, stream.offset());
        stamps.written(message, stream.datagram(), first, end, offset);
    }
}

/// Fills free slots by `fill`, up to a batch of datagrams, and returns their number.
#[inline]
fn fill_slots<T: Tx>(
    tx: &mut T,
    policy: BatchPolicy,
    clock: &mut TscClock,
    mut fill: impl FnMut(&mut [u8], u64, &TscClock) -> (usize, u64),
) -> u64 {
    let mut written = 0;
    clock.begin();
    while written < policy.batch {
        let Some(slot) = tx.next_slot() else { break };
        let most = policy.segments.min(policy.batch - written);
        let (length, datagrams) = fill(slot, most, clock);
        if datagrams == 0 {
            break;
        }
        tx.queue(length, datagrams);
        written += datagrams;
    }
    written
}

/// Fails if the path refuses the required segmented sends (`--gso on`), or all datagrams so far. Datagrams that become too long
/// for the path later are counted, and the stream continues.
pub(super) fn check_path<T: Tx>(
    tx: &T,
    stream: &Stream,
    policy: BatchPolicy,
    outcome: &SenderOutcome,
) -> io::Result<()> {
    let (datagram, front) = (stream.datagram(), stream.relay().len());
    if policy.must_segment && policy.segments > 1 && tx.segments() == 1 {
        let error = match TooLong::of(datagram, tx.path()).map(|of| of.behind(front)) {
            Some(too_long) => PathError::NoSegments(too_long),
            None => {
                let errno = tx.stats().fallback_error.unwrap_or(libc::EIO);
                PathError::SegmentsRefused(io::Error::from_raw_os_error(errno))
            }
        };
        return Err(io::Error::other(error));
    }
    let resolved = stream.next() - tx.in_flight();
    if outcome.too_long > 0 && outcome.too_long == resolved {
        let too_long = TooLong::of(datagram, tx.path()).map(|of| of.behind(front));
        let error = too_long.map_or(PathError::Refused(datagram), PathError::NoFragments);
        return Err(io::Error::other(error));
    }
    Ok(())
}

/// Waits until `at`: sleeps, and spins for the last stretch if the sender spins.
#[inline]
fn sleep_until<T: Tx>(tx: &mut T, at: u64, now: u64, spin: &mut Spin) -> io::Result<()> {
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

/// Adds the credit of a datagram, if it is a credit of this stream.
fn read_credit(bytes: &[u8], token: u64, stream: &mut Stream) {
    let bytes = stream.relay().payload(bytes);
    if let Ok(header) = Header::decode(bytes)
        && bytes.len() == HEADER
        && (header.kind, header.token) == (Kind::Credit, token)
    {
        stream.grant(header.sequence);
    }
}

#[cfg(test)]
mod tests;
