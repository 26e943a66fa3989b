//! When requests are sent. Pure: time is an argument.
//!
//! A closed loop has one request in flight: the next one is sent when the response has arrived, or when the request is lost. An open
//! loop sends requests at their times, whether or not responses arrive.

use std::time::Duration;

use super::exchanges::Exchanges;
use crate::udp::plan::{Amount, Plan};

/// The next step of a requester.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send a request that was due at this time, in ns.
    Send(u64),
    /// Wait for responses, at most until this time, in ns.
    Wait(u64),
    /// All requests are sent, and each is answered or lost.
    Done,
}

/// The schedule of the requests.
#[derive(Debug)]
pub struct Schedule {
    start: u64,
    /// Requests a second; `None` for a closed loop.
    pps: Option<f64>,
    /// Requests left; `None` if time limits the run.
    left: Option<u64>,
    /// No request is due from this time on, in ns.
    end: u64,
    /// Requests so far.
    next: u64,
}

impl Schedule {
    /// The schedule of `plan`, from `start` on, in ns.
    pub fn new(plan: &Plan, pps: Option<f64>, start: u64) -> Self {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            start,
            pps,
            left: plan.packets(),
            end: match plan.amount {
                Amount::Time(time) => start.saturating_add(ns(time)),
                Amount::Bytes(_) | Amount::Packets(_) => u64::MAX,
            },
            next: 0,
        }
    }

    /// Sends no further request from `now` on, in ns.
    pub fn stop(&mut self, now: u64) {
        if self.left != Some(0) {
            self.left = Some(0);
            self.end = self.end.min(now);
        }
    }

    /// End of the requests, in ns: the requested time, the stop, or the time at which an open loop would send one more request.
    /// `None` in a closed loop with a number of requests, whose end is that of its last exchange.
    pub fn end(&self) -> Option<u64> {
        match self.end {
            u64::MAX => self.pps.map(|pps| self.next_at(pps)),
            end => Some(end),
        }
    }

    /// The next step at `now`, in ns.
    pub fn step(&mut self, exchanges: &mut Exchanges, now: u64) -> Step {
        exchanges.expire(now);
        let expires_at = exchanges.expires_at();
        let due = self.due(now);
        match (due, expires_at) {
            (None, None) => Step::Done,
            (None, Some(expires_at)) => Step::Wait(expires_at),
            (Some(due), _) if self.pps.is_some() => {
                if due <= now {
                    return self.send(due);
                }
                Step::Wait(expires_at.map_or(due, |expires_at| expires_at.min(due)))
            }
            (Some(due), None) => self.send(due),
            (Some(_), Some(expires_at)) => Step::Wait(expires_at),
        }
    }

    fn send(&mut self, due: u64) -> Step {
        self.next += 1;
        self.left = self.left.map(|left| left - 1);
        Step::Send(due)
    }

    /// When the next request is due; `None` after the last one.
    fn due(&self, now: u64) -> Option<u64> {
        let due = match self.pps {
            None => now,
            Some(pps) => self.next_at(pps),
        };
        (self.left != Some(0) && due < self.end).then_some(due)
    }

    /// When the next request of an open loop is due. A product, as a sum of gaps would drift.
    fn next_at(&self, pps: f64) -> u64 {
        let since = (self.next as f64 * 1e9 / pps) as u64;
        self.start.saturating_add(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::plan::tests::small_plan;
    use proptest::prelude::*;

    fn plan(amount: Amount) -> Plan {
        Plan {
            amount,
            ..small_plan()
        }
    }

    #[test]
    fn a_closed_loop_waits_for_the_response_or_the_timeout() {
        let mut exchanges = Exchanges::new(1_000, 0.0);
        let mut schedule = Schedule::new(&plan(Amount::Packets(2)), None, 0);
        assert_eq!(schedule.step(&mut exchanges, 10), Step::Send(10));
        exchanges.send(10, 11);
        assert_eq!(schedule.step(&mut exchanges, 12), Step::Wait(1_012));
        exchanges.receive(0, 50);
        assert_eq!(schedule.step(&mut exchanges, 51), Step::Send(51));
        exchanges.send(51, 52);
        assert_eq!(schedule.step(&mut exchanges, 53), Step::Wait(1_053));
        assert_eq!(schedule.step(&mut exchanges, 1_053), Step::Done);
        assert_eq!(exchanges.counts().lost, 1);
    }

    #[test]
    fn an_open_loop_sends_at_the_intended_times_whether_or_not_responses_arrive() {
        let mut exchanges = Exchanges::new(1_000_000_000, 1_000.0);
        let time = Amount::Time(Duration::from_micros(2_500));
        let mut schedule = Schedule::new(&plan(time), Some(1_000.0), 0);
        let ms = 1_000_000;
        assert_eq!(schedule.step(&mut exchanges, 0), Step::Send(0));
        exchanges.send(0, 0);
        assert_eq!(schedule.step(&mut exchanges, 5), Step::Wait(ms));
        // Late: both requests are sent at once, with the times at which they were due.
        assert_eq!(schedule.step(&mut exchanges, 3 * ms), Step::Send(ms));
        exchanges.send(ms, 3 * ms);
        assert_eq!(schedule.step(&mut exchanges, 3 * ms), Step::Send(2 * ms));
        exchanges.send(2 * ms, 3 * ms);
        assert_eq!(
            schedule.step(&mut exchanges, 3 * ms),
            Step::Wait(1_000_000_001)
        );
    }

    #[test]
    fn a_stopped_schedule_awaits_only_the_responses_in_flight() {
        let mut exchanges = Exchanges::new(1_000, 0.0);
        let time = Amount::Time(Duration::from_secs(1));
        let mut schedule = Schedule::new(&plan(time), None, 0);
        schedule.step(&mut exchanges, 0);
        exchanges.send(0, 0);
        schedule.stop(1);
        assert_eq!(schedule.step(&mut exchanges, 1), Step::Wait(1_001));
        exchanges.receive(0, 2);
        assert_eq!(schedule.step(&mut exchanges, 3), Step::Done);
    }

    #[test]
    fn requests_end_after_their_time_at_a_stop_or_a_gap_after_the_last_one() {
        let end = |amount, pps, requests, stop: Option<u64>| {
            let mut exchanges = Exchanges::new(1_000, 0.0);
            let mut schedule = Schedule::new(&plan(amount), pps, 7);
            for _ in 0..requests {
                schedule.step(&mut exchanges, u64::MAX - 1);
            }
            stop.into_iter().for_each(|now| {
                schedule.stop(now);
                // The thread repeats the stop until its exchanges have ended.
                schedule.stop(now + 1);
            });
            schedule.end()
        };
        let (time, packets) = (Amount::Time(Duration::from_nanos(500)), Amount::Packets(3));
        for pps in [None, Some(1e7)] {
            assert_eq!(end(time, pps, 0, None), Some(507));
            assert_eq!(end(time, pps, 0, Some(300)), Some(300));
            assert_eq!(end(time, pps, 0, Some(900)), Some(507));
        }
        assert_eq!(end(packets, Some(1e7), 3, None), Some(307));
        assert_eq!(end(packets, Some(1e7), 3, Some(900)), Some(307));
        assert_eq!(end(packets, None, 1, None), None);
        assert_eq!(end(packets, None, 1, Some(20)), Some(20));
    }

    proptest! {
        /// A run ends after exactly its requests, whichever of them are answered and however late the thread wakes.
        #[test]
        fn every_request_is_sent_once(
            packets in 1u64..60,
            pps in prop::option::of(1_000.0f64..1e7),
            answers in prop::collection::vec((any::<bool>(), 1u64..200_000), 60),
        ) {
            let mut exchanges = Exchanges::new(100_000, pps.unwrap_or(0.0));
            let mut schedule = Schedule::new(&plan(Amount::Packets(packets)), pps, 7);
            let (mut now, mut sent, mut last) = (7, 0, 0);
            let mut answers = answers.into_iter().cycle();
            loop {
                match schedule.step(&mut exchanges, now) {
                    Step::Send(due) => {
                        prop_assert!(due <= now && due >= last);
                        last = due;
                        exchanges.send(due, now);
                        sent += 1;
                        prop_assert!(pps.is_some() || exchanges.in_flight() == 1);
                    }
                    Step::Wait(until) => {
                        prop_assert!(until > now);
                        let (answered, late) = answers.next().unwrap();
                        now = until.min(now + late);
                        if answered && sent > 0 {
                            exchanges.receive(sent - 1, now);
                        }
                    }
                    Step::Done => break,
                }
            }
            let counts = exchanges.counts();
            prop_assert_eq!((sent, counts.sent), (packets, packets));
            prop_assert_eq!(counts.answered + counts.lost, packets);
        }
    }
}
