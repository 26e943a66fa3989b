//! The datagrams of one stream, limited by its quota, its schedule and its credit.
//!
//! A lossless stream has credit and no schedule, a paced stream a schedule and unlimited credit, a blast stream neither. Time is
//! an argument.

use std::ops::Range;

use crate::stats::latency::Latency;
use crate::udp::credit::CreditBalance;
use crate::udp::plan::Quota;
use crate::udp::plan::sizes::SizePattern;
use crate::udp::plan::traffic::Schedule;
use crate::udp::relay_header::RelayHeader;
use crate::udp::send::pacing::{MAX_DELAY_NS, Pacer};
use crate::udp::send::steps::Steps;
use crate::udp::wire::header::{HEADER, Header, Kind};

/// How long after its end a stream may catch up with its schedule, in ns.
const CATCH_UP_NS: u64 = 1_000_000_000;

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
    /// The header in front of each datagram, which the slots contain already.
    relay: RelayHeader,
    quota: Quota,
    /// When sending stops, in ns; `u64::MAX` if the count limits it.
    end: u64,
    /// Until when datagrams that were due before the end are sent, in ns; `None` before the end.
    catch_up_until: Option<u64>,
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
            relay: RelayHeader::default(),
            quota,
            end,
            catch_up_until: None,
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

    /// With the header of a relay in front of each datagram.
    pub fn with_relay(self, relay: RelayHeader) -> Self {
        Self { relay, ..self }
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

    /// The header in front of each datagram.
    pub fn relay(&self) -> &RelayHeader {
        &self.relay
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

    /// Bytes of a full datagram, with the header of a relay.
    pub fn datagram(&self) -> usize {
        self.largest + HEADER + self.relay.len()
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
        self.fill_behind(0, slot, most, now)
    }

    /// As [`Self::fill`], behind `front` bytes of each datagram that the slot contains already.
    #[inline(always)]
    fn fill_behind(
        &mut self,
        front: usize,
        slot: &mut [u8],
        most: u64,
        now: impl Fn() -> u64,
    ) -> (usize, u64) {
        let most = most.min(self.credit()).min(self.left());
        let (mut length, mut count) = (0, 0);
        for place in slot.chunks_exact_mut(front + self.chunk + HEADER) {
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
            if let Some(place) = place.get_mut(front..).and_then(<[u8]>::first_chunk_mut) {
                header.write(place);
            }
            length += front
                + HEADER
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

    /// Stamps a message again that was refused and is submitted anew at `now`, so that its wait is lateness and not latency. Returns
    /// the sequence numbers of its datagrams.
    pub fn restamp(&mut self, message: &mut [u8], now: u64) -> Range<u64> {
        let mut sequences = self.next..self.next;
        let (front, datagram) = (self.relay.len(), self.datagram());
        let sent = now.wrapping_add_signed(self.offset);
        for place in message.chunks_mut(datagram).rev() {
            let place = place.get_mut(front..).and_then(<[u8]>::first_chunk_mut);
            let Some(place) = place else { continue };
            let Ok(mut header) = Header::decode(place) else {
                continue;
            };
            if sequences.is_empty() {
                sequences.end = header.sequence + 1;
            }
            sequences.start = header.sequence;
            let waited = sent.saturating_sub(header.sent);
            header.sent = sent;
            if self.pacer.is_some() {
                let late = header.lateness.saturating_add(waited);
                self.times.lateness.raise(header.lateness, late);
                header.lateness = late;
            }
            header.write(place);
        }
        if sequences.start == 0 && !sequences.is_empty() {
            self.times.first = Some(now);
        }
        self.times.last = now;
        sequences
    }

    /// Whether [`Self::fill_varied`] fills the slots.
    pub fn is_varied(&self) -> bool {
        self.steps.is_some() || self.sizes.is_some() || !self.relay.is_empty()
    }

    /// As [`Self::fill`], of a stream whose gaps or sizes vary, or whose datagrams go through a relay: up to the end of a burst, or one
    /// datagram of several sizes.
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
        let (length, count) = self.fill_behind(self.relay.len(), slot, most.min(alike), now);
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
        if stamp >= self.end && !self.catches_up(stamp) {
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

    /// Whether the next datagram is sent after the end, because it was due before. A sender that stalled at the end catches up, so that
    /// the stall shows in the lateness. A sender slower than its pace does not: the load would go on after the end.
    #[cold]
    #[inline(never)]
    fn catches_up(&mut self, now: u64) -> bool {
        let Some(pacer) = &self.pacer else {
            return false;
        };
        let (end, times) = (self.end, &self.times);
        let until = *self.catch_up_until.get_or_insert_with(|| {
            let kept_pace = times.last.saturating_sub(times.last_intended) <= MAX_DELAY_NS;
            end.saturating_add(if kept_pace { CATCH_UP_NS } else { 0 })
        });
        now < until && pacer.next_at() < end
    }

    /// Whether datagrams that the kernel refuses at `now` are not sent again, as the time to catch up is over.
    pub fn is_over(&self, now: u64) -> bool {
        self.is_paced() && now >= self.end.saturating_add(CATCH_UP_NS)
    }

    /// Datagrams that were due before the end and are not written, or are among the last `in_flight`; 0 before the end. `None` unless
    /// paced.
    pub fn unsent(&self, in_flight: u64) -> Option<u64> {
        let pacer = self.pacer.as_ref()?;
        if self.catch_up_until.is_none() {
            return Some(0);
        }
        let left = pacer.left_until(self.end);
        let due = match &self.steps {
            Some(steps) => steps.due_within(left),
            None => {
                u64::try_from(left.div_ceil(pacer.interval().max(1).into())).unwrap_or(u64::MAX)
            }
        };
        Some(due.min(self.left()).saturating_add(in_flight))
    }

    /// Why the stream does not send at `now`.
    pub fn idle(&mut self, now: u64) -> Idle {
        let is_past_end = now >= self.end;
        if self.left() == 0 || (is_past_end && !self.catches_up(now)) {
            return Idle::Done;
        }
        if self.credit() == 0 {
            return Idle::Credit;
        }
        match &self.pacer {
            Some(pacer) if pacer.ready_at() > now => Idle::Due(match is_past_end {
                true => pacer.ready_at(),
                false => pacer.ready_at().min(self.end),
            }),
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
mod tests;
