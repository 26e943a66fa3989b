//! One measurement: threads load a path for a while, and the CPU time of all participants is read at both ends.
//!
//! ```text
//! every thread    warm up ─┐                    ┌─ sleep ─ measure ── wait for the last answers ─┐
//! this one                 └─ start ─ CPU time ─┘                                                └─ CPU time
//! ```
//! So the CPU time is spent on exactly the counted requests. The threads sleep until a start that load generators have in common, so that
//! nothing is left to do between the start and the first request.

use std::io;
use std::ops::BitOr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use super::bulk::{self, Amount};
use super::request_stats::RequestStats;
use super::schedule::Schedule;
use super::worker::{Job, Worker};
use crate::sys::clock::monotonic_ns;
use crate::sys::timer_slack;
use crate::sys::usage::CpuTime;

/// Longest sleep between two checks for a cancellation.
const CANCELLED: Duration = Duration::from_millis(100);

/// How a path is loaded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// Requests, back to back or at a rate.
    Requests {
        /// Connections of all threads.
        connections: usize,
        /// Requests a second; `None` for back to back.
        rate: Option<f64>,
        /// The first request of a schedule is later by this share of the time between two.
        phase: f64,
    },
    /// Data in one direction.
    Bulk {
        /// Connections of all threads.
        streams: usize,
        /// Bytes of all streams; `None` for as many as fit in the duration.
        bytes: Option<u64>,
    },
}

impl Load {
    fn connections(self) -> usize {
        match self {
            Self::Requests { connections, .. } => connections,
            Self::Bulk { streams, .. } => streams,
        }
    }
}

/// Duration and threads of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Time in which requests start.
    pub duration: Duration,
    /// Time of the uncounted warm-up before it.
    pub warmup: Duration,
    /// Threads of the load generator.
    pub threads: usize,
}

/// The result of a measurement.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// Latencies and errors of the requests.
    pub stats: RequestStats,
    /// When it began, in ns of the monotonic clock.
    pub began: u64,
    /// Duration in seconds: the requested one, or longer where answers came later.
    pub seconds: f64,
    /// CPU time of the load generator's threads.
    pub load: CpuTime,
    /// CPU time of the watched processes, in their order.
    pub watched: Vec<Option<CpuTime>>,
    /// The warm-up had no answers, so its errors are the result and nothing else was measured.
    pub only_warmup: bool,
    /// Whether it was cancelled.
    pub interrupted: bool,
}

/// The result of one thread.
#[derive(Default)]
struct ThreadResult {
    stats: RequestStats,
    cpu: CpuTime,
    /// When the measurement began; `None` without one.
    began: Option<u64>,
}

impl ThreadResult {
    /// Of this thread, with when it began and its CPU time before.
    fn new(stats: RequestStats, start: Option<(u64, CpuTime)>) -> Self {
        let (began, before) = start.unzip();
        Self {
            stats,
            cpu: CpuTime::of_this_thread() - before.unwrap_or_default(),
            began,
        }
    }
}

/// When a measurement starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At once.
    Now,
    /// At this time, in ns of the monotonic clock.
    At(u64),
}

/// Loads one path. `watch` returns the CPU time of the watched processes so far. `start` is called once, when every thread has warmed
/// up, may wait, and returns when to measure; `None` for no measurement.
///
/// # Errors
/// Out of threads, file descriptors or memory, or as epoll_wait(2). Errors of requests are part of the result.
pub fn run(
    job: &Job,
    load: Load,
    extent: Extent,
    mut watch: impl FnMut() -> Vec<Option<CpuTime>>,
    start: impl FnOnce() -> Option<Start>,
    cancel: &AtomicBool,
) -> io::Result<Measurement> {
    if let Some(progress) = &job.progress {
        progress.reset();
    }
    let threads = extent.threads.clamp(1, load.connections().max(1));
    let workers = (0..threads).map(|number| AnyWorker::new(job, load, number, threads));
    let workers = workers.collect::<io::Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let began = monotonic_ns();
        let before_warmup = watch();
        let (warm, is_warm) = mpsc::channel();
        let mut started = Vec::new();
        for worker in workers {
            let (go, opened) = mpsc::channel();
            let gate = StartGate {
                warm: warm.clone(),
                opened,
                cancel,
            };
            let thread = thread::Builder::new()
                .name("load".to_owned())
                .spawn_scoped(scope, move || match worker {
                    AnyWorker::Requests(worker) => requests(worker, load, extent, threads, &gate),
                    AnyWorker::Bulk(worker) => bulk(worker, load, extent, &gate),
                })?;
            // If a later thread cannot be started, the earlier ones see their senders dropped and return.
            started.push((thread, go));
        }
        drop(warm);
        // A thread that failed drops its sender instead.
        let is_warm = is_warm.iter().take(threads).fold(false, BitOr::bitor);
        let start = start();
        // Without a warm-up there can be no answers in it.
        let only_warmup = !is_warm && !extent.warmup.is_zero();
        let (began, before) = match only_warmup {
            true => (began, before_warmup),
            false => (monotonic_ns(), watch()),
        };
        for (_, go) in &started {
            let _ = go.send(start.filter(|_| !only_warmup));
        }
        let mut all = ThreadResult::default();
        let mut starts = Vec::new();
        let mut outcome = Ok(());
        for (thread, _) in started {
            match thread.join() {
                Ok(Ok(part)) => {
                    all.stats.merge(&part.stats);
                    all.cpu += part.cpu;
                    starts.extend(part.began);
                }
                Ok(Err(error)) => outcome = outcome.and(Err(error)),
                Err(_) => outcome = outcome.and(Err(io::Error::other("a thread panicked"))),
            }
        }
        outcome?;
        let began = starts.into_iter().min().unwrap_or(began);
        let watched = before.into_iter().zip(watch());
        let interrupted = cancel.load(Ordering::Relaxed);
        let ended = match interrupted && matches!(load, Load::Requests { .. }) {
            true => monotonic_ns(),
            false => ended(&all.stats, load, extent, began),
        };
        Ok(Measurement {
            began,
            seconds: ended.saturating_sub(began) as f64 / 1e9,
            load: all.cpu,
            watched: watched
                .map(|(before, after)| Some(after? - before?))
                .collect(),
            stats: all.stats,
            only_warmup,
            interrupted,
        })
    })
}

/// The end of a measurement that began at `began`.
fn ended(stats: &RequestStats, load: Load, extent: Extent, began: u64) -> u64 {
    match load {
        _ if stats.last == 0 => monotonic_ns(),
        Load::Bulk { .. } => stats.last,
        // A proxy that stopped early must not shorten the time.
        Load::Requests { .. } => stats.last.max(began + extent.duration.as_nanos() as u64),
    }
}

/// The worker of one thread.
enum AnyWorker<'a> {
    Requests(Worker<'a>),
    Bulk(bulk::Worker<'a>),
}

impl<'a> AnyWorker<'a> {
    fn new(job: &'a Job, load: Load, number: usize, threads: usize) -> io::Result<Self> {
        let all = load.connections();
        let share = all / threads + usize::from(number < all % threads);
        // Ranges do not overlap, so threads send different messages.
        let first = (number as u64) << 32;
        Ok(match load {
            Load::Requests { .. } => Self::Requests(Worker::new(job, share, first)?),
            Load::Bulk { .. } => Self::Bulk(bulk::Worker::new(job, share, first)?),
        })
    }
}

/// Starts the measurement of all threads at once, after the last warm-up.
struct StartGate<'a> {
    warm: Sender<bool>,
    opened: Receiver<Option<Start>>,
    cancel: &'a AtomicBool,
}

impl StartGate<'_> {
    /// Reports the end of the warm-up and whether it had answers, then waits for the start, and `phase_ns` longer for a common one, so
    /// that load generators of one host do not all wake at one time. Returns the start and the CPU time of this thread; `None` for no
    /// measurement.
    fn wait(&self, answered: bool, phase_ns: u64) -> Option<(u64, CpuTime)> {
        let _ = self.warm.send(answered);
        let start = self.opened.recv().unwrap_or(None)?;
        let before = CpuTime::of_this_thread();
        let Start::At(at) = start else {
            return Some((monotonic_ns(), before));
        };
        self.sleep_until(at.saturating_add(phase_ns));
        Some((monotonic_ns().saturating_sub(phase_ns), before))
    }

    fn sleep_until(&self, ns: u64) {
        let _ = timer_slack::tighten();
        while !self.cancel.load(Ordering::Relaxed) {
            let left = Duration::from_nanos(ns.saturating_sub(monotonic_ns()));
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(CANCELLED));
        }
    }
}

fn requests(
    mut worker: Worker<'_>,
    load: Load,
    extent: Extent,
    threads: usize,
    gate: &StartGate<'_>,
) -> io::Result<ThreadResult> {
    let mut stats = RequestStats::default();
    let until = monotonic_ns() + extent.warmup.as_nanos() as u64;
    worker.run(&mut Schedule::closed(until), &mut stats, gate.cancel)?;
    // From the start to the first request of this thread.
    let phase_ns = match load {
        Load::Requests {
            rate: Some(rate),
            phase,
            ..
        } => (phase * 1e9 / (rate / threads as f64)) as u64,
        _ => 0,
    };
    let start = gate.wait(stats.answered > 0, phase_ns);
    if let Some((now, _)) = start {
        stats = RequestStats::default();
        worker.publish_from(now);
        let end = now + extent.duration.as_nanos() as u64;
        let mut schedule = match load {
            Load::Requests {
                rate: Some(rate), ..
            } => Schedule::open(now + phase_ns, end, rate / threads as f64),
            _ => Schedule::closed(end),
        };
        worker.run(&mut schedule, &mut stats, gate.cancel)?;
    }
    Ok(ThreadResult::new(stats, start))
}

fn bulk(
    mut worker: bulk::Worker<'_>,
    load: Load,
    extent: Extent,
    gate: &StartGate<'_>,
) -> io::Result<ThreadResult> {
    let mut stats = RequestStats::default();
    let open = worker.open(extent.warmup, &mut stats, gate.cancel)?;
    let start = gate.wait(open, 0);
    if let Some((now, _)) = start
        && !gate.cancel.load(Ordering::Relaxed)
    {
        worker.publish_from(now);
        let amount = match load {
            Load::Bulk {
                bytes: Some(bytes),
                streams,
            } => Amount::Bytes(bytes.div_ceil(streams.max(1) as u64)),
            _ => Amount::Until(now + extent.duration.as_nanos() as u64),
        };
        worker.run(amount, &mut stats, gate.cancel)?;
    }
    Ok(ThreadResult::new(stats, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASE_NS: u64 = 5_000_000;

    /// The outcome of a thread's wait for this start.
    fn waited(start: Option<Start>, is_cancelled: bool) -> Option<u64> {
        let ((warm, is_warm), (go, opened)) = (mpsc::channel(), mpsc::channel());
        let cancel = AtomicBool::new(is_cancelled);
        let gate = StartGate {
            warm,
            opened,
            cancel: &cancel,
        };
        go.send(start).unwrap();
        let start = gate.wait(true, PHASE_NS);
        assert_eq!(is_warm.recv(), Ok(true));
        start.map(|(now, _)| now)
    }

    #[test]
    fn threads_sleep_until_the_common_start() {
        let at = monotonic_ns() + 20_000_000;
        assert!(waited(Some(Start::At(at)), false).unwrap() >= at);
        assert!(monotonic_ns() >= at + PHASE_NS);
        // A start that is over, and one that is not awaited after a cancellation.
        assert!(waited(Some(Start::At(1)), false).is_some());
        assert!(waited(Some(Start::At(u64::MAX)), true).is_some());
        assert!(waited(Some(Start::Now), false).is_some());
        assert_eq!(waited(None, false), None);
    }
}
