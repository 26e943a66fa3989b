//! The accounting of requests and responses. Pure: time is an argument.
//!
//! The last requests have a slot each. A slot keeps its state until a later request takes it, so that a response to an answered
//! request is known as a duplicate:
//!
//! ```text
//!    expired or answered        maybe in flight          not sent yet
//!   ├───────────────────────┼──────────────────────┼───────────────────>  sequence
//!   next - slots         oldest                   next
//! ```
//!
//! Every request is answered, lost or in flight. A request is lost once it is not answered within the timeout. A later response is
//! late, and the request stays lost.

/// Fewest slots: duplicates of this many requests are detected.
const MIN_SLOTS: usize = 1 << 16;

/// Most slots, 24 bytes each.
const MAX_SLOTS: usize = 1 << 21;

/// Requests and responses counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests, including those that the kernel refused.
    pub sent: u64,
    /// Requests answered within the timeout.
    pub answered: u64,
    /// Requests not answered within the timeout.
    pub lost: u64,
    /// Further responses to an answered request.
    pub duplicates: u64,
    /// Responses to lost requests.
    pub late: u64,
    /// First responses after the response to a later request.
    pub reordered: u64,
}

/// The meaning of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// The first one to a request within the timeout: when the request was due and when it was sent, in ns.
    Answer {
        /// When the request was due.
        intended: u64,
        /// When the request was sent.
        sent: u64,
    },
    /// A further one to an answered request.
    Duplicate,
    /// One to a lost request.
    Late,
    /// One to a request that was never sent.
    Unknown,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    intended: u64,
    sent: u64,
    answered: bool,
}

/// The exchanges of a run.
#[derive(Debug)]
pub struct Exchanges {
    slots: Vec<Slot>,
    timeout: u64,
    /// The first request that may be in flight.
    oldest: u64,
    /// The latest answered request plus one.
    highest: u64,
    counts: Counts,
}

impl Exchanges {
    /// Nothing sent yet. With at most `pps` requests a second, none is lost for want of a slot before the timeout, in ns.
    pub fn new(timeout: u64, pps: f64) -> Self {
        let in_flight = (pps * timeout as f64 / 1e9) as usize;
        let slots = in_flight.clamp(MIN_SLOTS, MAX_SLOTS).next_power_of_two();
        Self::with_slots(timeout, slots)
    }

    fn with_slots(timeout: u64, slots: usize) -> Self {
        Self {
            slots: vec![Slot::default(); slots],
            timeout,
            oldest: 0,
            highest: 0,
            counts: Counts::default(),
        }
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u64 {
        self.counts.sent - self.counts.answered - self.counts.lost
    }

    /// Adds a request, and returns its sequence number. If all slots are in flight, the oldest request is lost.
    pub fn send(&mut self, intended: u64, sent: u64) -> u64 {
        let sequence = self.counts.sent;
        if sequence - self.oldest == self.slots.len() as u64 {
            self.retire();
        }
        self.counts.sent += 1;
        *self.slot(sequence) = Slot {
            intended,
            sent,
            answered: false,
        };
        sequence
    }

    /// Adds a response that arrived at `now`, in ns.
    pub fn receive(&mut self, sequence: u64, now: u64) -> Response {
        if sequence >= self.counts.sent {
            return Response::Unknown;
        }
        self.expire(now);
        let slots = self.slots.len() as u64;
        let oldest = self.oldest;
        if sequence + slots < self.counts.sent {
            self.counts.late += 1;
            return Response::Late;
        }
        let slot = self.slot(sequence);
        if slot.answered {
            self.counts.duplicates += 1;
            return Response::Duplicate;
        }
        if sequence < oldest {
            self.counts.late += 1;
            return Response::Late;
        }
        slot.answered = true;
        let (intended, sent) = (slot.intended, slot.sent);
        self.counts.answered += 1;
        if sequence < self.highest {
            self.counts.reordered += 1;
        }
        self.highest = self.highest.max(sequence + 1);
        self.expire(now);
        Response::Answer { intended, sent }
    }

    /// Counts the requests that are not answered within the timeout as lost.
    pub fn expire(&mut self, now: u64) {
        while self.oldest < self.counts.sent {
            let timeout = self.timeout;
            let slot = self.slot(self.oldest);
            if !slot.answered && now.saturating_sub(slot.sent) <= timeout {
                return;
            }
            self.retire();
        }
    }

    /// When the oldest request in flight is lost, in ns.
    pub fn expires_at(&mut self) -> Option<u64> {
        let is_open = self.oldest < self.counts.sent;
        let timeout = self.timeout;
        is_open.then(|| {
            let sent = self.slot(self.oldest).sent;
            sent.saturating_add(timeout).saturating_add(1)
        })
    }

    /// Counts every request in flight as lost: no response is awaited any more.
    pub fn close(&mut self) {
        while self.oldest < self.counts.sent {
            self.retire();
        }
    }

    fn retire(&mut self) {
        let slot = self.slot(self.oldest);
        if !slot.answered {
            self.counts.lost += 1;
        }
        self.oldest += 1;
    }

    /// The slot of a request. The number of slots is a power of two.
    #[expect(clippy::indexing_slicing, reason = "the mask is below the length")]
    fn slot(&mut self, sequence: u64) -> &mut Slot {
        let mask = self.slots.len() - 1;
        &mut self.slots[sequence as usize & mask]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_response_is_an_answer_once_and_a_duplicate_from_then_on() {
        let mut exchanges = Exchanges::with_slots(100, 8);
        assert_eq!(exchanges.send(5, 7), 0);
        let answer = Response::Answer {
            intended: 5,
            sent: 7,
        };
        assert_eq!(exchanges.receive(0, 20), answer);
        assert_eq!(exchanges.receive(0, 21), Response::Duplicate);
        assert_eq!(exchanges.receive(1, 21), Response::Unknown);
        let counts = exchanges.counts();
        assert_eq!(
            (counts.sent, counts.answered, counts.duplicates, counts.lost),
            (1, 1, 1, 0)
        );
    }

    #[test]
    fn a_response_after_the_timeout_is_late_and_its_request_lost() {
        let mut exchanges = Exchanges::with_slots(100, 8);
        exchanges.send(0, 0);
        assert_eq!(exchanges.expires_at(), Some(101));
        exchanges.expire(100);
        assert_eq!((exchanges.in_flight(), exchanges.counts().lost), (1, 0));
        exchanges.expire(101);
        assert_eq!((exchanges.in_flight(), exchanges.counts().lost), (0, 1));
        assert_eq!(exchanges.expires_at(), None);
        assert_eq!(exchanges.receive(0, 150), Response::Late);
        assert_eq!(exchanges.counts().late, 1);
    }

    #[test]
    fn an_answer_after_that_to_a_later_request_is_reordered() {
        let mut exchanges = Exchanges::with_slots(100, 8);
        (0..3).for_each(|at| {
            exchanges.send(at, at);
        });
        for sequence in [2, 0, 1] {
            exchanges.receive(sequence, 10);
        }
        assert_eq!(exchanges.counts().reordered, 2);
    }

    #[test]
    fn a_request_without_a_slot_is_an_exact_loss() {
        let mut exchanges = Exchanges::with_slots(1_000, 4);
        for at in 0..6 {
            exchanges.send(at, at);
        }
        assert_eq!((exchanges.in_flight(), exchanges.counts().lost), (4, 2));
        assert_eq!(exchanges.receive(1, 10), Response::Late);
        assert!(matches!(exchanges.receive(2, 10), Response::Answer { .. }));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Send,
        Receive(prop::sample::Index),
        Pass(u64),
    }

    proptest! {
        /// Any order of requests, responses and pauses: the counts are those of a map that forgets nothing.
        #[test]
        fn every_request_is_answered_lost_or_in_flight(events in prop::collection::vec(prop_oneof![
            Just(Event::Send),
            any::<prop::sample::Index>().prop_map(Event::Receive),
            (0u64..80).prop_map(Event::Pass),
        ], 1..300)) {
            let mut exchanges = Exchanges::with_slots(100, 512);
            let (mut now, mut answered) = (0, HashMap::<u64, bool>::new());
            let (mut stamps, mut duplicates, mut late) = (Vec::new(), 0, 0);
            for event in events {
                match event {
                    Event::Send => {
                        stamps.push(now);
                        prop_assert_eq!(exchanges.send(now, now), stamps.len() as u64 - 1);
                    }
                    Event::Receive(which) if !stamps.is_empty() => {
                        let sequence = which.index(stamps.len()) as u64;
                        let is_answered = answered.contains_key(&sequence);
                        let is_late = now - stamps[sequence as usize] > 100;
                        duplicates += u64::from(is_answered);
                        late += u64::from(!is_answered && is_late);
                        let found = exchanges.receive(sequence, now);
                        match (is_answered, is_late) {
                            (true, _) => prop_assert_eq!(found, Response::Duplicate),
                            (false, true) => prop_assert_eq!(found, Response::Late),
                            (false, false) => {
                                let sent = stamps[sequence as usize];
                                prop_assert_eq!(found, Response::Answer { intended: sent, sent });
                                answered.insert(sequence, true);
                            }
                        }
                    }
                    Event::Receive(_) => {}
                    Event::Pass(ns) => now += ns,
                }
                let counts = exchanges.counts();
                prop_assert_eq!(counts.sent, counts.answered + counts.lost + exchanges.in_flight());
            }
            exchanges.close();
            let counts = exchanges.counts();
            prop_assert_eq!((counts.sent, counts.answered), (stamps.len() as u64, answered.len() as u64));
            prop_assert_eq!((counts.duplicates, counts.late), (duplicates, late));
            prop_assert_eq!(counts.lost, counts.sent - counts.answered);
        }
    }
}
