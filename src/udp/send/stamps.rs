//! The stamps of a stream's datagrams at the sender: the stages sender and qdisc, and the sample for the wire.

use std::collections::VecDeque;
use std::ops::Range;

use crate::stats::latency::Latency;
use crate::sys::clock::{StampClock, monotonic_ns};
use crate::sys::tx_timestamp::{TxStage, TxStamp};
use crate::udp::engine::Tx;
use crate::udp::stages::trial::Trial;
use crate::udp::stages::{MOST_ROWS, Sample};
use crate::udp::wire::header::Header;
use crate::udp::wire::stages::{SenderStages, StampTrial};

/// Most datagrams whose stamps are outstanding.
const MOST_PENDING: usize = 1 << 14;

/// A datagram without stamps counts as dropped when this many later ones have theirs.
const MOST_OVERTAKEN: usize = 256;

/// The stamps of a stream.
#[derive(Debug, Clone)]
pub struct SentStamps {
    /// Datagrams whose stamps were requested.
    pub requested: u64,
    /// Datagrams stamped before the qdisc.
    pub scheduled: u64,
    /// Datagrams stamped by the driver.
    pub sent: u64,
    /// Time in which stamps were read, in ns.
    pub read_ns: u64,
    /// Steps of wall time.
    pub clock_steps: u64,
    /// Datagrams that waited because the kernel refused a message.
    pub waited: u64,
    /// From the stamp in the header to the qdisc.
    pub sender: Latency,
    /// From the qdisc to the driver.
    pub qdisc: Latency,
    /// Sequence numbers and the driver's stamps, in ns of the server's clock.
    pub rows: Vec<(u64, u64)>,
    /// The cost of stamps in a trial.
    pub trial: Option<Trial>,
}

impl SentStamps {
    /// The message about the counts.
    pub fn message(&self) -> SenderStages {
        let stages = [&self.sender, &self.qdisc];
        SenderStages {
            requested: self.requested,
            scheduled: self.scheduled,
            sent: self.sent,
            read_ns: self.read_ns,
            clock_steps: self.clock_steps,
            waited: self.waited,
            sums_ns: stages.map(|of| of.sum_ns().to_string()),
            out_of_range: stages.map(|of| of.out_of_range().into()),
            trial: self.trial.map(|trial| StampTrial {
                send_ns: (trial.plain_send_ns, trial.stamped_send_ns),
                receive_ns: (trial.plain_receive_ns, trial.stamped_receive_ns),
            }),
        }
    }
}

/// Collects the stamps of a stream.
#[derive(Debug)]
pub struct StampCollector {
    every: u64,
    clock: StampClock,
    /// In order of sequence numbers.
    pending: VecDeque<Pending>,
    sample: Sample,
    stamps: SentStamps,
}

/// A datagram whose stamps are outstanding. Times are in ns of this host's clock.
#[derive(Debug, Clone, Copy)]
struct Pending {
    sequence: u64,
    /// The stamp in the header.
    written: u64,
    /// The kernel refused the message, or one before it, and the header was stamped again.
    has_waited: bool,
    /// The kernel's first stamp before the qdisc since the header was stamped.
    scheduled: Option<u64>,
    is_complete: bool,
}

impl StampCollector {
    /// For the stamps of one in `every` datagrams.
    pub fn new(every: u64, trial: Option<Trial>) -> Self {
        Self {
            every: every.max(1),
            clock: StampClock::new(),
            pending: VecDeque::with_capacity(1_024),
            sample: Sample::new(every, MOST_ROWS),
            stamps: SentStamps {
                requested: 0,
                scheduled: 0,
                sent: 0,
                read_ns: 0,
                clock_steps: 0,
                waited: 0,
                sender: Latency::small(),
                qdisc: Latency::small(),
                rows: Vec::new(),
                trial,
            },
        }
    }

    /// A message was written: datagrams of `length` bytes, with the sequence numbers from `first` to before `end`. The stamps in their headers
    /// are `offset` ns ahead of this host's clock.
    pub fn written(&mut self, message: &[u8], length: usize, first: u64, end: u64, offset: i64) {
        let Some(sequence) = first.checked_next_multiple_of(self.every) else {
            return;
        };
        if sequence >= end {
            return;
        }
        let index = (sequence - first) as usize;
        let header = message.get(index * length..).map(Header::decode);
        let Some(Ok(header)) = header else { return };
        self.stamps.requested += 1;
        if self.pending.len() >= MOST_PENDING {
            self.give_up();
        }
        self.pending.push_back(Pending {
            sequence,
            written: header.sent.wrapping_add_signed(offset.wrapping_neg()),
            has_waited: false,
            scheduled: None,
            is_complete: false,
        });
    }

    /// The kernel has refused a message or one before it, and its datagrams are stamped again at `now`. The stamps of the refused
    /// attempt are [collected](Self::collect).
    pub fn repeated(&mut self, sequences: &Range<u64>, now: u64) {
        let later = self.pending.iter_mut().rev();
        for pending in later.take_while(|of| of.sequence >= sequences.start) {
            if pending.sequence < sequences.end {
                (pending.written, pending.scheduled) = (now, None);
                pending.has_waited = true;
            }
        }
    }

    /// Reads the stamps that the kernel has taken. The server's clock is `offset` ns ahead of this host's.
    pub fn collect<T: Tx>(&mut self, tx: &mut T, offset: i64) {
        if self.pending.is_empty() {
            return;
        }
        let began = monotonic_ns();
        if self.clock.read() {
            // Outstanding stamps may be from before the step.
            self.pending.clear();
        }
        tx.take_stamps(|stamp| self.add(stamp, offset));
        self.stamps.read_ns += monotonic_ns().saturating_sub(began);
    }

    fn add(&mut self, stamp: TxStamp, offset: i64) {
        let Some(front) = self.pending.front() else {
            return;
        };
        let from_front = |key: u32| key.wrapping_sub(front.sequence as u32);
        let wanted = from_front(stamp.key);
        let Ok(index) = self
            .pending
            .binary_search_by_key(&wanted, |of| from_front(of.sequence as u32))
        else {
            return;
        };
        let at = self.clock.monotonic(stamp.realtime_ns);
        let Some(pending) = self.pending.get_mut(index) else {
            return;
        };
        match (stamp.stage, pending.scheduled) {
            (TxStage::Scheduled, None) => pending.scheduled = Some(at),
            // Each of several devices on top of each other stamps it.
            (TxStage::Scheduled, Some(_)) => {}
            (TxStage::Sent, _) if !pending.is_complete => {
                pending.is_complete = true;
                let Pending {
                    sequence,
                    written,
                    has_waited,
                    ..
                } = *pending;
                self.stamps.sent += 1;
                if let Some(left) = pending.scheduled {
                    self.stamps.waited += u64::from(has_waited);
                    self.stamps.scheduled += 1;
                    self.stamps.sender.record_between(written, left);
                    self.stamps.qdisc.record_between(left, at);
                }
                self.sample.push(sequence, at.wrapping_add_signed(offset));
                for _ in MOST_OVERTAKEN..index {
                    self.give_up();
                }
            }
            (TxStage::Sent, _) => {}
        }
        while self.pending.front().is_some_and(|of| of.is_complete) {
            self.pending.pop_front();
        }
    }

    /// Stops waiting for the stamps of the first outstanding datagram.
    fn give_up(&mut self) {
        if let Some(pending) = self.pending.pop_front()
            && let (Some(left), false) = (pending.scheduled, pending.is_complete)
        {
            self.stamps.scheduled += 1;
            self.stamps.sender.record_between(pending.written, left);
        }
    }

    /// Whether the last datagram has both stamps. A driver without stamps is not waited for.
    pub fn is_complete(&self) -> bool {
        let last = self.pending.back();
        let has_stamps = self.stamps.sent > 0 || self.stamps.requested < 10;
        last.is_none_or(|of| of.is_complete) || !has_stamps
    }

    /// The stamps so far.
    pub fn finish(mut self) -> SentStamps {
        while !self.pending.is_empty() {
            self.give_up();
        }
        SentStamps {
            rows: self.sample.into_rows(),
            clock_steps: self.clock.steps(),
            ..self.stamps
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::realtime_ns;
    use crate::udp::wire::header::Kind;

    /// A collector that has written `count` datagrams, each 1 us before now, and wall time now.
    fn collector(every: u64, count: u64) -> (StampCollector, u64) {
        let mut collector = StampCollector::new(every, None);
        let now = realtime_ns();
        let written = collector.clock.monotonic(now) - 1_000;
        for sequence in 0..count {
            let header = Header {
                sent: written.wrapping_add(500),
                ..Header::bare(Kind::Data, 1, sequence)
            };
            collector.written(&header.encode(), 32, sequence, sequence + 1, 500);
        }
        (collector, now)
    }

    fn stamp(key: u64, stage: TxStage, realtime_ns: u64) -> TxStamp {
        TxStamp {
            key: key as u32,
            stage,
            realtime_ns,
        }
    }

    #[test]
    fn each_stage_is_the_time_between_two_stamps() {
        let (mut collector, now) = collector(1, 3);
        for key in 0..3 {
            collector.add(stamp(key, TxStage::Scheduled, now), 7);
            collector.add(stamp(key, TxStage::Sent, now + 250 * key), 7);
        }
        assert!(collector.is_complete());
        let sent = collector.clock.monotonic(now) + 7;
        let stamps = collector.finish();
        assert_eq!((stamps.requested, stamps.scheduled, stamps.sent), (3, 3, 3));
        assert_eq!((stamps.sender.count(), stamps.sender.sum_ns()), (3, 3_000));
        assert_eq!(
            (stamps.qdisc.max(), stamps.qdisc.sum_ns()),
            (Some(500), 750)
        );
        assert_eq!(stamps.rows, [(0, sent), (1, sent + 250), (2, sent + 500)]);
    }

    #[test]
    fn a_datagram_sent_again_counts_once_and_a_dropped_one_has_no_qdisc() {
        let (mut collector, now) = collector(1, 2);
        collector.add(stamp(0, TxStage::Scheduled, now), 0);
        collector.add(stamp(1, TxStage::Scheduled, now), 0);
        // The qdisc refuses it at first, and takes it 100 ns later.
        let again = collector.clock.monotonic(now) + 60;
        collector.repeated(&(1..2), again);
        collector.add(stamp(1, TxStage::Scheduled, now + 100), 0);
        // A second device.
        collector.add(stamp(1, TxStage::Scheduled, now + 150), 0);
        collector.add(stamp(1, TxStage::Sent, now + 300), 0);
        collector.add(stamp(1, TxStage::Sent, now + 400), 0);
        collector.add(stamp(9, TxStage::Sent, now), 0);
        let stamps = collector.finish();
        assert_eq!((stamps.scheduled, stamps.sent), (2, 1));
        assert_eq!(
            (stamps.sender.count(), stamps.sender.max()),
            (2, Some(1_000))
        );
        assert_eq!(stamps.sender.sum_ns(), 1_000 + 40);
        assert_eq!((stamps.qdisc.count(), stamps.qdisc.max()), (1, Some(200)));
        assert_eq!(stamps.waited, 1);
    }

    #[test]
    fn the_wait_of_refused_datagrams_is_in_no_stage() {
        let (mut collector, now) = collector(1, 3);
        collector.add(stamp(0, TxStage::Scheduled, now), 0);
        collector.add(stamp(0, TxStage::Sent, now), 0);
        let again = collector.clock.monotonic(now) + 4_000;
        for earlier in [500, 0] {
            collector.repeated(&(1..3), again - earlier);
        }
        for key in 1..3 {
            collector.add(stamp(key, TxStage::Scheduled, now + 5_000), 0);
            collector.add(stamp(key, TxStage::Sent, now + 6_000), 0);
        }
        let stamps = collector.finish();
        assert_eq!(stamps.waited, 2);
        assert_eq!(stamps.sender.sum_ns(), 1_000 + 2 * 1_000);
        assert_eq!(stamps.qdisc.sum_ns(), 2 * 1_000);
    }

    #[test]
    fn outstanding_stamps_are_bounded() {
        let many = MOST_PENDING as u64 + 5;
        let (mut collector, now) = collector(1, many);
        assert_eq!(collector.pending.len(), MOST_PENDING);
        collector.add(stamp(many - 1, TxStage::Sent, now), 0);
        assert!(collector.pending.len() <= MOST_OVERTAKEN + 1);
        assert!(collector.is_complete());
    }

    #[test]
    fn only_sampled_datagrams_are_pending() {
        let (collector, _) = collector(10, 25);
        let sequences: Vec<u64> = collector.pending.iter().map(|of| of.sequence).collect();
        assert_eq!(sequences, [0, 10, 20]);
        let mut run = StampCollector::new(10, None);
        let message: Vec<u8> = (5..15)
            .flat_map(|sequence| Header::bare(Kind::Data, 1, sequence).encode())
            .collect();
        run.written(&message, 32, 5, 15, 0);
        assert_eq!(run.pending.front().map(|of| of.sequence), Some(10));
    }
}
