//! Whether datagrams arrive so fast that they are collected for a moment before they are sent: pure, times are arguments.
//!
//! A thread that sends each datagram when it arrives spends most of its time in waking up and in sends of one datagram. Those that
//! arrive within [`PAUSE`] take one wake-up, and those of one flow are one run. Datagrams are not collected below 100,000 messages
//! a second, nor where messages are runs already, nor where collecting makes no runs: of many flows, or of clients that wait for
//! each answer, which it would only delay.
//!
//! CPU time of the proxy for a datagram in us (epoll, io_uring), and one-way latency (p50), of `bench udp --gso off` over loopback
//! (Linux 6.18, medians of 2 interleaved rounds of 1 s that differed by less than 3 %; all programs in real time, the sender on one
//! core, the proxy and the receiver on the other; release build without LTO):
//!
//! | | at once | collected |
//! |---|---|---|
//! | 150,000/s | 5.0, 5.1; 34 us | 3.5, 3.6; 70 us |
//! | 200,000/s | 4.2, 4.2; 60 us | 2.6, 2.7; 73 us |
//! | 300,000/s | lost 95 % | 2.0, 2.0; 200 us; lost nothing |

use std::time::Duration;

use super::record::Traffic;

/// How long datagrams are collected, which is how much later the first one is sent.
pub const PAUSE: Duration = Duration::from_micros(30);

/// Messages that arrive within [`PAUSE`] on average, from which on they are collected: 100,000 a second.
const FEWEST: u64 = 3;

/// Messages of a run on average, from which on collecting goes on.
const JOINED: u64 = 2;

/// The least time in ns over which the rate is measured.
const WINDOW: u64 = 1_000_000;

/// Windows without collecting after one in which it made no runs.
const REST: u32 = 100;

/// Mean bytes of messages from which on they are long runs.
const LONG: u64 = 8_192;

/// The rate of received messages. Times are in ns of any one clock.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the window began.
    since: u64,
    /// Received in the window.
    messages: u64,
    /// Sent in the window.
    sent: Traffic,
    /// Datagrams are collected in this window.
    collects: bool,
    /// Windows in which they are not.
    rest: u32,
}

impl Pace {
    /// Messages that were received at `now` have been sent.
    pub fn add(&mut self, now: u64, messages: usize, sent: Traffic) {
        self.messages = self.messages.saturating_add(messages as u64);
        self.sent = self.sent.and(sent);
        let time = now.saturating_sub(self.since);
        if time < WINDOW {
            return;
        }
        let pause = PAUSE.as_nanos() as u64;
        let is_fast = self.messages.saturating_mul(pause) >= time.saturating_mul(FEWEST)
            && self.sent.bytes <= self.messages.saturating_mul(LONG);
        let made_runs = self.sent.sends.saturating_mul(JOINED) <= self.messages;
        self.rest = match self.collects(now) && !made_runs {
            true => REST,
            false => self.rest.saturating_sub(1),
        };
        *self = Self {
            since: now,
            collects: is_fast && self.rest == 0,
            rest: self.rest,
            ..Self::default()
        };
    }

    /// Whether to collect datagrams at `now`.
    pub fn collects(&self, now: u64) -> bool {
        // After a time without datagrams the last window is no measure of the next.
        self.collects && now < self.since.saturating_add(2 * WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Messages of `bytes` every `gap` ns for 5 ms, so many to a send while they are collected. Returns the pace, the time of the
    /// last one, and how often they were collected.
    fn after(gap: u64, bytes: u64, joined: usize) -> (Pace, u64, u32) {
        let mut pace = Pace::default();
        let (mut now, mut collected) = (1_000_000_000, 0);
        while now < 1_005_000_000 {
            let collects = pace.collects(now);
            let messages = if collects { joined } else { 1 };
            now += gap * messages as u64;
            let sent = Traffic {
                datagrams: messages as u64,
                bytes: bytes * messages as u64,
                sends: 1,
            };
            pace.add(now, messages, sent);
            collected += u32::from(collects);
        }
        (pace, now, collected)
    }

    #[test]
    fn only_many_single_datagrams_are_collected() {
        for (gap, bytes, collects) in [
            (3_000, 1_000, true),
            (9_000, 1_000, true),
            (11_000, 1_000, false),
            (50_000, 1_000, false),
            (5_000, 60_000, false),
        ] {
            let (pace, now, _) = after(gap, bytes, 4);
            assert_eq!(pace.collects(now), collects, "{gap} {bytes}");
        }
    }

    #[test]
    fn datagrams_that_make_no_runs_are_collected_for_one_window_only() {
        let (pace, now, collected) = after(5_000, 1_000, 1);
        assert!(!pace.collects(now));
        assert!((1..=200).contains(&collected), "{collected}");
        assert!(pace.rest > REST / 2, "{}", pace.rest);
    }

    #[test]
    fn first_datagram_after_a_silence_is_not_delayed() {
        let (mut pace, now, _) = after(5_000, 1_000, 4);
        assert!(pace.collects(now));
        let later = now + 3 * WINDOW;
        assert!(!pace.collects(later));
        pace.add(later, 1, Traffic::default());
        assert!(!pace.collects(later));
    }

    proptest! {
        #[test]
        fn no_sum_overflows(acts in prop::collection::vec((any::<u64>(), any::<usize>(), any::<u64>()), 0..20)) {
            let mut pace = Pace::default();
            for (now, messages, many) in acts {
                let sent = Traffic { datagrams: many, bytes: many, sends: many };
                pace.add(now, messages, sent);
                pace.collects(now);
            }
        }
    }
}
