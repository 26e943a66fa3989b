//! One slice of measuring: a path is loaded for a while, by some threads, and the CPU time of all who take part is read at both ends.
//!
//! ```text
//! every thread    warm up ─┐            ┌─ measure ── wait for the last answers ─┐
//! this one                 └─ CPU time ─┘                                        └─ CPU time
//! ```
//! So the requests that are counted are exactly those that the CPU time was spent on.

use std::io;
use std::ops::BitOr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use super::bulk::{self, Amount};
use super::schedule::Schedule;
use super::tally::Tally;
use super::worker::{Job, Worker};
use crate::sys::clock::monotonic_ns;
use crate::sys::usage::CpuTime;

/// How a path is loaded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// With requests, as many as come of it or at this rate a second.
    Requests {
        /// Connections, over all threads.
        connections: usize,
        /// Requests a second; as many as can be where there is none.
        rate: Option<f64>,
    },
    /// With data in one direction.
    Bulk {
        /// Connections, over all threads.
        streams: usize,
        /// Bytes, over all streams; as many as can be in the time where there are none.
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

/// How long, and by how many.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Time in which requests are started.
    pub duration: Duration,
    /// Time before that, of which nothing is counted.
    pub warmup: Duration,
    /// Threads.
    pub threads: usize,
}

/// What a slice came to.
#[derive(Debug, Clone)]
pub struct Slice {
    /// What became of the requests.
    pub tally: Tally,
    /// How long it took, in seconds: the time asked for, and longer where answers came later.
    pub seconds: f64,
    /// CPU time of the load generator's threads.
    pub load: CpuTime,
    /// Of those watched, in their order.
    pub watched: Vec<Option<CpuTime>>,
    /// Nothing came of the warm-up, so the slice is that.
    pub only_warmup: bool,
    /// It was cancelled before its end.
    pub cut: bool,
}

/// What a thread hands over.
#[derive(Default)]
struct Part {
    tally: Tally,
    cpu: CpuTime,
}

/// Loads one path. `watch` tells what the processes that are watched have cost so far.
///
/// # Errors
/// Out of threads, file descriptors or memory, or as epoll_wait(2). What the other end does is no error.
pub fn run(
    job: &Job,
    load: Load,
    extent: Extent,
    mut watch: impl FnMut() -> Vec<Option<CpuTime>>,
    cancel: &AtomicBool,
) -> io::Result<Slice> {
    let threads = extent.threads.clamp(1, load.connections().max(1));
    let workers = (0..threads).map(|number| Any::new(job, load, number, threads));
    let workers = workers.collect::<io::Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let began = monotonic_ns();
        let before_warmup = watch();
        let (warm, is_warm) = mpsc::channel();
        let mut started = Vec::new();
        for worker in workers {
            let (go, gate) = mpsc::channel();
            let signals = Signals {
                warm: warm.clone(),
                gate,
                cancel,
            };
            let thread = thread::Builder::new()
                .name("load".to_owned())
                .spawn_scoped(scope, move || match worker {
                    Any::Requests(worker) => requests(worker, load, extent, threads, &signals),
                    Any::Bulk(worker) => bulk(worker, load, extent, &signals),
                })?;
            // Where the next cannot be had, these find their gates gone.
            started.push((thread, go));
        }
        drop(warm);
        // A thread that fails hangs up instead.
        let is_warm = is_warm.iter().take(threads).fold(false, BitOr::bitor);
        // Without a warm-up nothing can have come of it.
        let only_warmup = !is_warm && !extent.warmup.is_zero();
        let (began, before) = match only_warmup {
            true => (began, before_warmup),
            false => (monotonic_ns(), watch()),
        };
        for (_, go) in &started {
            let _ = go.send(!only_warmup);
        }
        let mut all = Part::default();
        let mut outcome = Ok(());
        for (thread, _) in started {
            match thread.join() {
                Ok(Ok(part)) => {
                    all.tally.merge(&part.tally);
                    all.cpu += part.cpu;
                }
                Ok(Err(error)) => outcome = outcome.and(Err(error)),
                Err(_) => outcome = outcome.and(Err(io::Error::other("a thread panicked"))),
            }
        }
        outcome?;
        let watched = before.into_iter().zip(watch());
        let cut = cancel.load(Ordering::Relaxed);
        let ended = match cut && matches!(load, Load::Requests { .. }) {
            true => monotonic_ns(),
            false => ended(&all.tally, load, extent, began),
        };
        Ok(Slice {
            seconds: ended.saturating_sub(began) as f64 / 1e9,
            load: all.cpu,
            watched: watched
                .map(|(before, after)| Some(after? - before?))
                .collect(),
            tally: all.tally,
            only_warmup,
            cut,
        })
    })
}

/// When a slice that began then was over.
fn ended(tally: &Tally, load: Load, extent: Extent, began: u64) -> u64 {
    match load {
        _ if tally.last == 0 => monotonic_ns(),
        Load::Bulk { .. } => tally.last,
        // A proxy that died early does not look fast for that.
        Load::Requests { .. } => tally.last.max(began + extent.duration.as_nanos() as u64),
    }
}

/// A thread's part of the work.
enum Any<'a> {
    Requests(Worker<'a>),
    Bulk(bulk::Worker<'a>),
}

impl<'a> Any<'a> {
    fn new(job: &'a Job, load: Load, number: usize, threads: usize) -> io::Result<Self> {
        let all = load.connections();
        let share = all / threads + usize::from(number < all % threads);
        // Far enough apart that no two threads send the same.
        let first = (number as u64) << 32;
        Ok(match load {
            Load::Requests { .. } => Self::Requests(Worker::new(job, share, first)?),
            Load::Bulk { .. } => Self::Bulk(bulk::Worker::new(job, share, first)?),
        })
    }
}

/// How a thread agrees with the others on when to begin.
struct Signals<'a> {
    warm: Sender<bool>,
    gate: Receiver<bool>,
    cancel: &'a AtomicBool,
}

impl Signals<'_> {
    /// Says that the warm-up is over and whether anything came of it; waits, and tells whether to measure.
    fn meet(&self, answered: bool) -> bool {
        let _ = self.warm.send(answered);
        self.gate.recv().unwrap_or(false)
    }
}

fn requests(
    mut worker: Worker<'_>,
    load: Load,
    extent: Extent,
    threads: usize,
    signals: &Signals<'_>,
) -> io::Result<Part> {
    let mut tally = Tally::default();
    let until = monotonic_ns() + extent.warmup.as_nanos() as u64;
    worker.run(&mut Schedule::closed(until), &mut tally, signals.cancel)?;
    let mut before = CpuTime::default();
    if signals.meet(tally.answered > 0) {
        before = CpuTime::of_this_thread();
        tally = Tally::default();
        let now = monotonic_ns();
        let end = now + extent.duration.as_nanos() as u64;
        let mut schedule = match load {
            Load::Requests {
                rate: Some(rate), ..
            } => Schedule::open(now, end, rate / threads as f64),
            _ => Schedule::closed(end),
        };
        worker.run(&mut schedule, &mut tally, signals.cancel)?;
    }
    Ok(Part {
        tally,
        cpu: CpuTime::of_this_thread() - before,
    })
}

fn bulk(
    mut worker: bulk::Worker<'_>,
    load: Load,
    extent: Extent,
    signals: &Signals<'_>,
) -> io::Result<Part> {
    let mut tally = Tally::default();
    let open = worker.open(extent.warmup, &mut tally, signals.cancel)?;
    let mut before = CpuTime::default();
    if signals.meet(open) && !signals.cancel.load(Ordering::Relaxed) {
        before = CpuTime::of_this_thread();
        let amount = match load {
            Load::Bulk {
                bytes: Some(bytes),
                streams,
            } => Amount::Bytes(bytes.div_ceil(streams.max(1) as u64)),
            _ => Amount::Until(monotonic_ns() + extent.duration.as_nanos() as u64),
        };
        worker.run(amount, &mut tally, signals.cancel)?;
    }
    Ok(Part {
        tally,
        cpu: CpuTime::of_this_thread() - before,
    })
}
