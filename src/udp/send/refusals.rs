//! When a sender repeats a message that the kernel refused for lack of memory, which mostly is a full qdisc. Pure: times and counts in,
//! a time out.
//!
//! If the kernel accepts nothing for long, it is no full qdisc: messages are then lost as they are with other errors, each after one
//! attempt, until the kernel accepts one again.
//!
//! A full qdisc takes one more message when it has sent one. The time between two accepted datagrams is therefore the best pause: a
//! shorter one is refused again, and a longer one may let the queue run dry.

/// Shortest pause, in ns.
const SHORTEST_NS: u64 = 100_000;

/// Longest pause, in ns.
const LONGEST_NS: u64 = 10_000_000;

/// Messages are given up when the kernel has accepted none for this long, in ns.
const GIVE_UP_NS: u64 = 1_000_000_000;

/// The same for a lossless stream, which a lost message may end.
const LOSSLESS_GIVE_UP_NS: u64 = 5_000_000_000;

/// The pause after a refused repetition is this part of the time between two accepted datagrams, and the pause before it is as much
/// shorter: the sender is late by this part at most.
const PART: u64 = 8;

/// If the kernel accepts more datagrams from one refusal to the next, its queue was not full all the time.
const FEW: u64 = 4;

/// The refusals of a sender.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusals {
    /// The state since the first refusal.
    last: Option<Refused>,
    /// Estimated time between two accepted datagrams while the queue is full, in ns.
    gap: u64,
    give_up_ns: u64,
}

/// The last refusal after which the kernel had accepted a datagram.
#[derive(Debug, Clone, Copy)]
struct Refused {
    at: u64,
    /// Datagrams that the kernel had accepted.
    accepted: u64,
}

impl Refusals {
    /// Of a stream that is `lossless` or not.
    pub(super) fn new(lossless: bool) -> Self {
        Self {
            last: None,
            gap: SHORTEST_NS,
            give_up_ns: match lossless {
                true => LOSSLESS_GIVE_UP_NS,
                false => GIVE_UP_NS,
            },
        }
    }

    /// The kernel has refused a message at `now`, and has accepted `accepted` datagrams so far. Returns when to repeat the message;
    /// `None` if it is given up.
    pub(super) fn repeat_at(&mut self, accepted: u64, now: u64) -> Option<u64> {
        let pause = match self.last {
            Some(last) if accepted <= last.accepted => {
                if now.saturating_sub(last.at) > self.give_up_ns {
                    return None;
                }
                self.gap / PART
            }
            last => {
                if let Some(last) = last {
                    let (datagrams, known) = (accepted - last.accepted, self.gap);
                    let gap = now.saturating_sub(last.at) / datagrams;
                    self.gap = match datagrams {
                        // It grows in steps, since there may have been nothing to send.
                        ..=FEW => gap.min(known * 2),
                        _ => gap.min(known / 2),
                    };
                    self.gap = self.gap.min(LONGEST_NS);
                }
                self.last = Some(Refused { at: now, accepted });
                self.gap - self.gap / PART
            }
        };
        Some(now.saturating_add(pause.clamp(SHORTEST_NS, LONGEST_NS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A queue for `room` datagrams that sends one every `gap` ns.
    struct Queue {
        room: u64,
        gap: u64,
        left: u64,
        /// When the first datagram has left.
        next: u64,
    }

    impl Queue {
        fn take(&mut self, now: u64) -> bool {
            while self.left > 0 && self.next <= now {
                self.left -= 1;
                self.next += self.gap;
            }
            if self.left == self.room {
                return false;
            }
            if self.left == 0 {
                self.next = now + self.gap;
            }
            self.left += 1;
            true
        }
    }

    /// Sends for `time` ns, and returns the number of datagrams accepted and of refusals.
    fn send(mut queue: Queue, time: u64) -> (u64, u64) {
        let mut refusals = Refusals::new(false);
        let (mut accepted, mut refused, mut now) = (0, 0, 0);
        while now < time {
            match queue.take(now) {
                true => {
                    accepted += 1;
                    now += 2_000;
                }
                false => {
                    refused += 1;
                    // The wake-up is late.
                    now = refusals.repeat_at(accepted, now).unwrap() + 20_000;
                }
            }
        }
        (accepted, refused)
    }

    proptest! {
        #[test]
        fn a_full_queue_sends_at_its_rate_and_few_messages_are_repeated(gap in 20_000u64..10_000_000, room in 8u64..200) {
            let time = 400 * gap;
            let (accepted, refused) = send(Queue { room, gap, left: 0, next: 0 }, time);
            prop_assert!(accepted >= 400, "{accepted}");
            // One or two for each datagram, and no more than 10,000 a second.
            prop_assert!(refused <= 3 * accepted + 100, "{refused} refusals of {accepted}");
            prop_assert!(refused <= time / SHORTEST_NS + 1, "{refused} refusals");
        }

        #[test]
        fn a_queue_of_one_message_loses_little_of_its_rate(gap in 1_000_000u64..20_000_000) {
            let (accepted, _) = send(Queue { room: 1, gap, left: 0, next: 0 }, 400 * gap);
            prop_assert!(accepted >= 330, "{accepted}");
        }
    }

    #[test]
    fn messages_are_given_up_after_one_attempt_each_while_the_kernel_accepts_nothing() {
        for (lossless, limit) in [(false, GIVE_UP_NS), (true, LOSSLESS_GIVE_UP_NS)] {
            let mut refusals = Refusals::new(lossless);
            let mut now = 0;
            while let Some(at) = refusals.repeat_at(7, now) {
                assert_eq!(at, now + SHORTEST_NS);
                now = at;
            }
            assert!((limit..limit + 2 * SHORTEST_NS).contains(&now), "{now}");
            now += 3 * limit;
            assert_eq!(refusals.repeat_at(7, now), None);
            // Progress restarts the time.
            assert!(refusals.repeat_at(8, now).is_some());
            assert!(refusals.repeat_at(8, now + limit).is_some());
            assert_eq!(refusals.repeat_at(8, now + limit + 1), None);
        }
    }
}
