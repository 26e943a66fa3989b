//! When a sender repeats a message that the kernel refused for lack of memory, which mostly is a full qdisc. Pure: times and counts in,
//! a time out.
//!
//! A full qdisc takes one more message when it has sent one. The time between two accepted datagrams is therefore the best pause: a
//! shorter one is refused again, and a longer one may let the queue run dry.

use std::io;

/// Shortest pause, in ns.
const SHORTEST_NS: u64 = 100_000;

/// Longest pause, in ns.
const LONGEST_NS: u64 = 10_000_000;

/// The run fails when the kernel has been short of memory for this long and taken no message, in ns.
const MAX_NS: u64 = 5_000_000_000;

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
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            last: None,
            gap: SHORTEST_NS,
        }
    }
}

/// The last refusal after which the kernel had accepted a datagram.
#[derive(Debug, Clone, Copy)]
struct Refused {
    at: u64,
    /// Datagrams that the kernel had accepted.
    accepted: u64,
}

impl Refusals {
    /// The kernel has refused a message at `now`, and `accepted` datagrams so far. Returns when to repeat it.
    ///
    /// # Errors
    /// `ENOBUFS` if it has accepted none for too long.
    pub(super) fn repeat_at(&mut self, accepted: u64, now: u64) -> io::Result<u64> {
        let pause = match self.last {
            Some(last) if accepted <= last.accepted => {
                if now.saturating_sub(last.at) > MAX_NS {
                    return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
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
        Ok(now.saturating_add(pause.clamp(SHORTEST_NS, LONGEST_NS)))
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
        let mut refusals = Refusals::default();
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
    fn a_kernel_that_accepts_nothing_is_an_error_after_five_seconds() {
        let mut refusals = Refusals::default();
        let mut now = 0;
        let error = loop {
            match refusals.repeat_at(7, now) {
                Ok(at) => {
                    assert_eq!(at, now + SHORTEST_NS);
                    now = at;
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
        assert!((MAX_NS..MAX_NS + 2 * SHORTEST_NS).contains(&now), "{now}");
        // Progress restarts the time.
        assert!(refusals.repeat_at(8, now).is_ok());
    }
}
