//! The datagrams of one stream, limited by its quota, its schedule and its credit.
//!
//! A lossless stream has credit and no schedule, a paced stream a schedule and unlimited credit, a blast stream neither. Time is
//! an argument.

use crate::stats::latency::Latency;
use crate::udp::credit::CreditBalance;
use crate::udp::plan::Quota;
use crate::udp::plan::sizes::SizePattern;
use crate::udp::plan::traffic::Schedule;
use crate::udp::send::pacing::Pacer;
use crate::udp::send::steps::Steps;
use crate::udp::wire::header::{HEADER, Header, Kind};

/// Why a stream does not send now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// The quota is used up.
    Done,
    /// The next datagram is due at this time, in ns.
    Due(u64),
    /// The credit is used up.
    Credit,
    /// The stream can send.
    No,
}

/// The sending state of a stream.
#[derive(Debug)]
pub struct Stream {
    token: u64,
    /// Message bytes of the next datagrams.
    chunk: usize,
    /// Message bytes of the largest datagram.
    largest: usize,
    /// Sizes of the datagrams; `None` if all have `chunk`.
    sizes: Option<SizePattern>,
    quota: Quota,
    /// When sending stops, in ns; `u64::MAX` if the count limits it.
    end: u64,
    pacer: Option<Pacer>,
    /// Bursts and random gaps of the pacer's schedule.
    steps: Option<Steps>,
    balance: Option<CreditBalance>,
    /// The receiver's clock minus the sender's, in ns.
    offset: i64,
    next: u64,
    times: SendTimes,
}

/// The send times of a stream. Stamps are in ns of the sender's clock.
#[derive(Debug, Clone)]
pub struct SendTimes {
    /// The first stamp.
    pub first: Option<u64>,
    /// The last stamp.
    pub last: u64,
    /// When the datagram with the last stamp was due.
    last_intended: u64,
    /// Time from when each datagram was due to its stamp. Empty unless paced.
    pub lateness: Latency,
    /// Deviation of each gap from the scheduled gap. Empty unless paced.
    pub gap_error: Latency,
}

impl Default for SendTimes {
    fn default() -> Self {
        Self {
            first: None,
            last: 0,
            last_intended: 0,
            lateness: Latency::small(),
            gap_error: Latency::small(),
        }
    }
}

impl Stream {
    /// A stream that starts at `start`, in ns. `pace` is datagrams per second and a shift of the schedule in ns; a `lossless`
    /// stream needs credit.
    pub fn new(
        token: u64,
        chunk: usize,
        quota: Quota,
        pace: Option<(f64, u64)>,
        lossless: bool,
        start: u64,
    ) -> Self {
        let end = quota.time.map_or(u64::MAX, |time| {
            start.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        });
        Self {
            token,
            chunk,
            largest: chunk,
            sizes: None,
            quota,
            end,
            pacer: pace.map(|(pps, shift)| Pacer::new(pps, start.saturating_add(shift))),
            steps: None,
            balance: lossless.then(CreditBalance::default),
            offset: 0,
            next: 0,
            times: SendTimes {
                lateness: Latency::new(),
                gap_error: Latency::new(),
                ..SendTimes::default()
            },
        }
    }

    /// As stream number `stream` of a run with this schedule. Without effect on a stream without a pace.
    pub fn with_schedule(mut self, schedule: Schedule, stream: usize, is_reverse: bool) -> Self {
        self.steps = self
            .pacer
            .as_ref()
            .and_then(|pacer| Steps::new(schedule, pacer.interval(), stream, is_reverse));
        if self.steps.is_some() {
            self.pacer = self.pacer.map(Pacer::by_steps);
        }
        self
    }

    /// With datagrams of several sizes, the largest of which is the chunk.
    pub fn with_sizes(self, sizes: Option<SizePattern>) -> Self {
        Self { sizes, ..self }
    }

    /// With histograms that grow with the number of their distinct values.
    pub fn with_small_histograms(self) -> Self {
        Self {
            times: SendTimes::default(),
            ..self
        }
    }

    /// Writes stamps in a clock that is `offset` ns ahead of the sender's.
    pub fn set_offset(&mut self, offset: i64) {
        self.offset = offset;
    }

    /// The token of the stream.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// The offset of the clock in which stamps are written, in ns.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Adds a credit. Without effect on a stream that needs none.
    pub fn grant(&mut self, limit: u64) {
        if let Some(balance) = &mut self.balance {
            balance.grant(limit);
        }
    }

    /// How many datagrams the credit still allows.
    #[inline]
    pub fn credit(&self) -> u64 {
        self.balance
            .as_ref()
            .map_or(u64::MAX, |balance| balance.available(self.next))
    }

    /// When sending stops, in ns; `u64::MAX` if the count limits it.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether the stream has a schedule.
    pub fn is_paced(&self) -> bool {
        self.pacer.is_some()
    }

    /// Bytes of a full datagram.
    pub fn datagram(&self) -> usize {
        self.largest + HEADER
    }

    /// How many datagrams the receiver has read at least, given its credit window at the start: it never grants more ahead.
    pub fn acknowledged(&self, window: u64) -> u64 {
        self.balance
            .as_ref()
            .map_or(0, |balance| balance.limit().saturating_sub(window))
    }

    /// Datagrams that the quota's count still allows.
    #[inline]
    fn left(&self) -> u64 {
        self.quota
            .packets
            .map_or(u64::MAX, |packets| packets.saturating_sub(self.next))
    }

    /// Fills `slot` with the datagrams that may be sent now, at most `most`, each stamped as it is written. Returns the number of
    /// bytes and of datagrams.
    #[inline]
    pub fn fill(&mut self, slot: &mut [u8], most: u64, now: impl Fn() -> u64) -> (usize, u64) {
        let most = most.min(self.credit()).min(self.left());
        let (mut length, mut count) = (0, 0);
        for place in slot.chunks_exact_mut(self.chunk + HEADER) {
            if count == most {
                break;
            }
            let stamp = now();
            let Some(lateness) = self.take(stamp) else {
                break;
            };
            let last = self.left() == 1;
            let header = Header {
                kind: Kind::Data,
                last,
                sequence: self.next,
                token: self.token,
                sent: stamp.wrapping_add_signed(self.offset),
                lateness,
            };
            if let Some(front) = place.first_chunk_mut() {
                header.write(front);
            }
            length += HEADER
                + if last {
                    self.quota.last_chunk
                } else {
                    self.chunk
                };
            self.next += 1;
            count += 1;
        }
        (length, count)
    }

    /// Whether [`Self::fill_varied`] fills the slots.
    pub fn is_varied(&self) -> bool {
        self.steps.is_some() || self.sizes.is_some()
    }

    /// As [`Self::fill`], of a stream whose gaps or sizes vary: up to the end of a burst, or one datagram.
    pub fn fill_varied(
        &mut self,
        slot: &mut [u8],
        most: u64,
        now: impl Fn() -> u64,
    ) -> (usize, u64) {
        let mut alike = self.steps.as_ref().map_or(u64::MAX, Steps::left);
        if let Some(sizes) = &self.sizes {
            self.chunk = sizes.size(self.next);
            alike = 1;
        }
        let (length, count) = self.fill(slot, most.min(alike), now);
        if count > 0
            && let (Some(steps), Some(pacer)) = (&mut self.steps, &mut self.pacer)
            && let Some(gap) = steps.take(count)
        {
            pacer.step(gap);
        }
        (length, count)
    }

    /// Takes the next datagram off the schedule, if it may be sent at `stamp`, and returns its lateness in ns.
    #[inline]
    fn take(&mut self, stamp: u64) -> Option<u64> {
        if stamp >= self.end {
            return None;
        }
        let lateness = match &mut self.pacer {
            None => 0,
            Some(pacer) => {
                let intended = pacer.take(stamp)?;
                self.times.paced(intended, stamp);
                stamp.saturating_sub(intended)
            }
        };
        self.times.first.get_or_insert(stamp);
        self.times.last = stamp;
        Some(lateness)
    }

    /// Why the stream does not send at `now`.
    pub fn idle(&self, now: u64) -> Idle {
        if self.left() == 0 || now >= self.end {
            return Idle::Done;
        }
        if self.credit() == 0 {
            return Idle::Credit;
        }
        match &self.pacer {
            Some(pacer) if pacer.ready_at() > now => Idle::Due(pacer.ready_at().min(self.end)),
            _ => Idle::No,
        }
    }

    /// The sequence number of the next datagram: the number of datagrams written.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Message bytes in the first `packets` datagrams.
    pub fn bytes(&self, packets: u64) -> u64 {
        let full = |packets: u64| match &self.sizes {
            Some(sizes) => sizes.bytes(packets),
            None => packets.saturating_mul(self.chunk as u64),
        };
        match self.quota.packets {
            Some(all) if all == packets && all > 0 => full(all - 1) + self.quota.last_chunk as u64,
            _ => full(packets),
        }
    }

    /// The send times.
    pub fn into_times(self) -> SendTimes {
        self.times
    }
}

impl SendTimes {
    #[inline]
    fn paced(&mut self, intended: u64, stamp: u64) {
        self.lateness.record_between(intended, stamp);
        if self.first.is_some() {
            // Stamps of one burst may be out of order by a ns or two.
            let gap = stamp.saturating_sub(self.last);
            let due = intended.saturating_sub(self.last_intended);
            self.gap_error.record(gap.abs_diff(due));
        }
        self.last_intended = intended;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::plan::sizes::Sizes;
    use std::cell::Cell;
    use std::time::Duration;

    const CHUNK: usize = 8;
    const DATAGRAM: usize = CHUNK + HEADER;

    fn counted(packets: u64, last_chunk: usize) -> Quota {
        Quota {
            packets: Some(packets),
            last_chunk,
            time: None,
        }
    }

    #[test]
    fn the_last_datagram_is_marked_and_may_be_short() {
        let mut stream = Stream::new(9, CHUNK, counted(3, 5), None, false, 0);
        let mut slot = [0; DATAGRAM * 8];
        assert_eq!(stream.fill(&mut slot, 8, || 50), (3 * DATAGRAM - 3, 3));
        let last: Vec<bool> = slot
            .chunks(DATAGRAM)
            .take(3)
            .map(|bytes| Header::decode(bytes).unwrap().last)
            .collect();
        assert_eq!(last, [false, false, true]);
        assert_eq!(stream.idle(50), Idle::Done);
        assert_eq!((stream.bytes(3), stream.bytes(2)), (2 * 8 + 5, 16));
    }

    #[test]
    fn a_lossless_stream_sends_as_far_as_its_credit() {
        let mut stream = Stream::new(9, CHUNK, counted(100, CHUNK), None, true, 0);
        let mut slot = [0; DATAGRAM * 8];
        assert_eq!(stream.fill(&mut slot, 8, || 1), (0, 0));
        assert_eq!(stream.idle(1), Idle::Credit);
        stream.grant(3);
        stream.grant(2);
        assert_eq!(stream.fill(&mut slot, 8, || 1).1, 3);
        assert_eq!(stream.credit(), 0);
    }

    #[test]
    fn a_paced_stream_sends_due_datagrams_with_their_lateness() {
        let mut stream = Stream::new(
            9,
            CHUNK,
            counted(100, CHUNK),
            Some((1e6, 500)),
            false,
            1_000,
        );
        let mut slot = [0; DATAGRAM * 8];
        assert_eq!(stream.idle(1_000), Idle::Due(1_500));
        assert_eq!(stream.fill(&mut slot, 8, || 3_700).1, 3);
        let lateness: Vec<u64> = slot
            .chunks(DATAGRAM)
            .take(3)
            .map(|b| Header::decode(b).unwrap().lateness)
            .collect();
        assert_eq!(lateness, [2_200, 1_200, 200]);
        assert_eq!(stream.idle(3_700), Idle::Due(4_500));
        let times = stream.into_times();
        assert_eq!(times.lateness.sum_ns(), 2_200 + 1_200 + 200);
        assert_eq!(times.gap_error.count(), 2);
    }

    #[test]
    fn datagrams_of_several_sizes_have_a_slot_each() {
        let sizes = SizePattern::new(&Sizes::Range(3, 8));
        let mut stream =
            Stream::new(9, CHUNK, counted(9, 2), None, false, 0).with_sizes(Some(sizes.clone()));
        assert_eq!(stream.datagram(), DATAGRAM);
        let mut slot = [0; DATAGRAM * 8];
        let mut sum = 0;
        for sequence in 0..9 {
            let expected = if sequence == 8 {
                2
            } else {
                sizes.size(sequence)
            };
            let filled = stream.fill_varied(&mut slot, 8, || 0);
            assert_eq!(filled, (expected + HEADER, 1));
            sum += expected as u64;
        }
        assert_eq!(stream.idle(0), Idle::Done);
        assert_eq!((stream.bytes(9), stream.bytes(8)), (sum, sum - 2));
    }

    #[test]
    fn a_slot_ends_with_a_burst() {
        let pace = Some((1e6, 0));
        let schedule = Schedule {
            burst: 5,
            ..Schedule::default()
        };
        let mut stream = Stream::new(9, CHUNK, counted(100, CHUNK), pace, false, 0)
            .with_schedule(schedule, 0, false);
        assert!(stream.is_varied());
        let mut slot = [0; DATAGRAM * 8];
        assert_eq!(stream.fill_varied(&mut slot, 3, || 0).1, 3);
        assert_eq!(stream.fill_varied(&mut slot, 8, || 0).1, 2);
        assert_eq!(stream.idle(0), Idle::Due(5_000));
        assert_eq!(stream.fill_varied(&mut slot, 8, || 4_999).1, 0);
        assert_eq!(stream.fill_varied(&mut slot, 8, || 5_100).1, 5);
        let lateness = Header::decode(&slot).unwrap().lateness;
        assert_eq!(lateness, 100);
        assert_eq!(stream.idle(5_100), Idle::Due(10_000));
        let plain = Stream::new(9, CHUNK, counted(100, CHUNK), None, false, 0);
        assert!(!plain.with_schedule(schedule, 0, false).is_varied());
    }

    #[test]
    fn a_time_limit_ends_a_stream_within_a_slot() {
        let quota = Quota {
            packets: None,
            last_chunk: CHUNK,
            time: Some(Duration::from_nanos(10)),
        };
        let mut stream = Stream::new(9, CHUNK, quota, None, false, 100);
        let clock = Cell::new(104);
        let mut slot = [0; DATAGRAM * 8];
        let filled = stream.fill(&mut slot, 8, || clock.replace(clock.get() + 2));
        assert_eq!(filled.1, 3);
        assert_eq!(stream.idle(110), Idle::Done);
        assert_eq!(stream.idle(109), Idle::No);
    }

    #[test]
    fn stamps_are_written_in_the_receivers_clock() {
        let mut stream = Stream::new(9, CHUNK, counted(1, CHUNK), None, false, 0);
        stream.set_offset(-40);
        let mut slot = [0; DATAGRAM];
        stream.fill(&mut slot, 1, || 100);
        assert_eq!(Header::decode(&slot).unwrap().sent, 60);
        assert_eq!(stream.into_times().first, Some(100));
    }
}
