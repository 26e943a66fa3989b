//! The outcome of a stream's sender, and its message.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::sys::cgroup::Throttled;
use crate::sys::clock::WallClock;
use crate::sys::usage::CpuTime;
use crate::udp::engine::stats::SendStats;
use crate::udp::engine::{Path, Tx};
use crate::udp::send::spin::NoSpin;
use crate::udp::send::stamps::SentStamps;
use crate::udp::send::stream::{SendTimes, Stream};
use crate::udp::wire::results::StreamSent;
use crate::udp::wire::results::{ScheduleTotals, SenderEffective, SenderResult};

/// The outcome of a stream's sender.
#[derive(Debug, Clone, Default)]
pub struct SenderOutcome {
    /// Datagrams offered to the kernel, once each.
    pub packets: u64,
    /// Message bytes in these datagrams.
    pub bytes: u64,
    /// Datagrams among them that the kernel refused for good.
    pub not_sent: u64,
    /// Datagrams among `not_sent` that were too long for the path (`EMSGSIZE`).
    pub too_long: u64,
    /// Datagrams that were due before the end of the run and were never offered to the kernel; `None` unless paced, or if the other
    /// side does not report them.
    pub unsent: Option<u64>,
    /// The datagrams of `not_sent` by errno; empty for the server's senders, whose host reports them.
    pub refused: BTreeMap<i32, u64>,
    /// Datagrams per kernel message at the end.
    pub segments: usize,
    /// The path at the end; `None` when nothing was sent.
    pub path: Option<Path>,
    /// Whether the sender spun until the end; `None` unless paced.
    pub spin: Option<bool>,
    /// Why the sender did not spin, or stopped spinning.
    pub why_no_spin: Option<NoSpin>,
    /// Times that the scheduler gave the thread's CPU to another thread.
    pub preemptions: u64,
    /// Throttling of the thread's control group; `None` without a CPU quota.
    pub throttled: Option<Throttled>,
    /// Send stamps, lateness and gaps.
    pub times: SendTimes,
    /// Requests for credit.
    pub probes: u64,
    /// CPU time of the thread from the first datagram to the last.
    pub cpu: CpuTime,
    /// Counters of the engine.
    pub stats: SendStats,
    /// The settings in force.
    pub effective: SenderEffective,
    /// The kernel's stamps, if the plan requests stages; `None` for the server's senders, whose stamps are messages.
    pub stamps: Option<Arc<SentStamps>>,
}

impl SenderOutcome {
    /// The kernel has refused datagrams for good.
    pub fn refused(&mut self, datagrams: u64, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(0);
        self.not_sent += datagrams;
        *self.refused.entry(errno).or_default() += datagrams;
        if errno == libc::EMSGSIZE {
            self.too_long += datagrams;
        }
    }

    /// Datagrams of a running stream that the kernel has accepted.
    pub fn accepted<T: Tx>(&self, tx: &T, stream: &Stream) -> u64 {
        (stream.next() - tx.in_flight()).saturating_sub(self.not_sent)
    }

    /// Adds the figures of a stream that has ended, and of its engine.
    pub fn close<T: Tx>(&mut self, tx: &T, stream: Stream) {
        self.packets = stream.next() - tx.in_flight();
        self.bytes = stream.bytes(self.packets);
        self.unsent = stream.unsent(tx.in_flight());
        self.segments = tx.segments();
        self.path = Some(tx.path());
        self.stats = tx.stats();
        self.times = stream.into_times();
    }

    /// The datagrams and bytes sent.
    pub fn sent(&self) -> StreamSent {
        StreamSent {
            packets: self.packets,
            bytes: self.bytes,
            not_sent: self.not_sent,
        }
    }

    /// The message about stream number `stream`. The histograms of `times` are sent apart.
    pub fn into_message(self, stream: usize, wall: &WallClock) -> SenderResult {
        let schedule = [&self.times.lateness, &self.times.gap_error];
        SenderResult {
            schedule: schedule
                .iter()
                .any(|of| !of.is_empty())
                .then(|| ScheduleTotals {
                    sums_ns: schedule.map(|of| of.sum_ns().to_string()),
                    out_of_range: schedule.map(|of| of.out_of_range().into()),
                }),
            stream,
            sent: self.sent(),
            span: self.times.first.map(|first| (first, self.times.last)),
            first_sent_wall: self.times.first.map(|first| wall.at(first)),
            probes: self.probes,
            cpu_s: (self.cpu.user, self.cpu.system),
            stats: self.stats.into(),
            too_long: self.too_long,
            unsent: self.unsent,
            segments: self.segments,
            path: self.path.map(|path| (path.mtu, path.headers)),
            spin: self.spin,
            why_no_spin: self.why_no_spin.map(Into::into),
            preemptions: self.preemptions,
            throttled: self
                .throttled
                .map(|throttled| (throttled.periods, throttled.ns)),
            effective: self.effective,
            stages: self.stamps.map(|stamps| stamps.message()),
        }
    }
}

/// The refused datagrams of all senders by errno.
pub fn refused(outcomes: &[SenderOutcome]) -> BTreeMap<i32, u64> {
    let mut all = BTreeMap::new();
    for (errno, datagrams) in outcomes.iter().flat_map(|outcome| &outcome.refused) {
        *all.entry(*errno).or_default() += datagrams;
    }
    all
}

impl From<SenderResult> for SenderOutcome {
    fn from(result: SenderResult) -> Self {
        let mut times = SendTimes::default();
        if let Some((first, last)) = result.span {
            times.first = Some(first);
            times.last = last;
        }
        let (user, system) = result.cpu_s;
        Self {
            packets: result.sent.packets,
            bytes: result.sent.bytes,
            not_sent: result.sent.not_sent,
            too_long: result.too_long,
            unsent: result.unsent,
            refused: BTreeMap::new(),
            segments: result.segments,
            path: result.path.map(|(mtu, headers)| Path { mtu, headers }),
            spin: result.spin,
            why_no_spin: result.why_no_spin.map(Into::into),
            preemptions: result.preemptions,
            throttled: result
                .throttled
                .map(|(periods, ns)| Throttled { periods, ns }),
            times,
            probes: result.probes,
            cpu: CpuTime { user, system },
            stats: result.stats.into(),
            effective: result.effective,
            stamps: None,
        }
    }
}
