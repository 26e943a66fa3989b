//! Kernel timestamps of a sender's datagrams.
//!
//! Datagrams whose sequence number is a multiple of [`StampPolicy::every`] are sampled: the first sampled datagram of a message
//! makes the kernel stamp the message. The engine counts datagrams as the stream does, so the sequence number of a datagram is the
//! number of datagrams queued before it.

use std::collections::VecDeque;

use crate::sys::tx_control::TxControl;
use crate::sys::tx_timestamp::{Keys, TxStamp};

/// Which messages are stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StampPolicy {
    /// Datagrams from one sampled datagram to the next.
    pub every: u64,
    /// Who numbers stamped messages.
    pub keys: Keys,
}

/// Most stamped messages whose stamps are outstanding, if the kernel counts them.
const MOST_COUNTED: usize = 1 << 16;

/// Requests the stamps of messages, and translates their keys to sequence numbers.
#[derive(Debug)]
pub(super) struct Stamping {
    every: u64,
    /// Whether further messages are stamped.
    is_on: bool,
    /// Sampled datagrams by the kernel's count; `None` if the program chooses the keys.
    counted: Option<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    sequences: VecDeque<u32>,
    /// The kernel's number of the first.
    first: u32,
}

impl Stamping {
    pub(super) fn new(policy: StampPolicy) -> Self {
        Self {
            every: policy.every.max(1),
            is_on: true,
            counted: (policy.keys == Keys::Counted).then(Counted::default),
        }
    }

    /// The control data of a message with the datagrams from `first` to before `end`, if it is to be stamped.
    pub(super) fn control(&self, first: u64, end: u64) -> Option<TxControl> {
        let sampled = self.sampled(first, end)?;
        Some(TxControl::new(match self.counted {
            None => Some(sampled as u32),
            Some(_) => None,
        }))
    }

    fn sampled(&self, first: u64, end: u64) -> Option<u64> {
        let sampled = first.checked_next_multiple_of(self.every)?;
        (self.is_on && sampled < end).then_some(sampled)
    }

    /// The kernel has taken this message.
    pub(super) fn taken(&mut self, first: u64, end: u64) {
        let sampled = self.sampled(first, end);
        if let (Some(counted), Some(sampled)) = (&mut self.counted, sampled) {
            if counted.sequences.len() == MOST_COUNTED {
                counted.sequences.pop_front();
                counted.first = counted.first.wrapping_add(1);
            }
            counted.sequences.push_back(sampled as u32);
        }
    }

    /// A send has failed. A kernel that counts may have counted the message, so later keys are unknown.
    pub(super) fn failed(&mut self) {
        if let Some(counted) = &mut self.counted {
            self.is_on = false;
            counted.sequences.clear();
        }
    }

    /// Messages no longer have the datagrams of a slot. Stamps end.
    pub(super) fn stop(&mut self) {
        self.is_on = false;
    }

    /// The stamp with the lower half of the sampled datagram's sequence number as its key; `None` if the number is unknown.
    pub(super) fn translate(&self, stamp: TxStamp) -> Option<TxStamp> {
        let Some(counted) = &self.counted else {
            return Some(stamp);
        };
        let index = stamp.key.wrapping_sub(counted.first) as usize;
        let key = *counted.sequences.get(index)?;
        Some(TxStamp { key, ..stamp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{EngineChoice, EngineKind};
    use crate::sys::eventfd::EventFd;
    use crate::sys::tx_timestamp::{self, TxStage};
    use crate::sys::{error_queue, socket};
    use crate::udp::engine::endpoint::TxEndpoint;
    use crate::udp::engine::open::{WithTx, available, open_tx};
    use crate::udp::engine::{Layout, Tx};
    use std::io;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    fn stamping(every: u64, keys: Keys) -> Stamping {
        Stamping::new(StampPolicy { every, keys })
    }

    fn stamp(key: u32) -> TxStamp {
        TxStamp {
            key,
            stage: TxStage::Sent,
            realtime_ns: 5,
        }
    }

    #[test]
    fn a_message_with_a_sampled_datagram_is_stamped() {
        let stamping = stamping(100, Keys::Chosen);
        for (first, end, expected) in [(0, 1, true), (1, 100, false), (90, 101, true)] {
            assert_eq!(
                stamping.control(first, end).is_some(),
                expected,
                "{first} {end}"
            );
        }
        assert!(stamping.control(u64::MAX, u64::MAX).is_none());
        assert_eq!(stamping.translate(stamp(7)), Some(stamp(7)));
    }

    /// Sends 10 datagrams of 4 bytes in 5 messages.
    struct SendTen {
        expected: Vec<(u32, TxStage)>,
    }

    impl WithTx for SendTen {
        fn run(self, mut tx: impl Tx) -> io::Result<()> {
            let mut sent = 0;
            let mut stamps = Vec::new();
            let deadline = Instant::now() + Duration::from_secs(10);
            while stamps.len() < self.expected.len() && Instant::now() < deadline {
                while sent < 10 && tx.next_slot().is_some() {
                    tx.queue(8, 2);
                    sent += 2;
                }
                tx.submit(|_, error| panic!("{error}"))?;
                tx.take_stamps(|stamp| stamps.push((stamp.key, stamp.stage)));
            }
            assert_eq!(stamps, self.expected);
            Ok(())
        }
    }

    #[test]
    fn both_engines_report_the_sequence_numbers_of_stamped_datagrams() {
        let Ok(kernels) = tx_timestamp::keys() else {
            println!("skipped: no timestamps of sent messages here");
            return;
        };
        for kind in [EngineKind::Mio, EngineKind::Uring] {
            let choice = EngineChoice {
                kind,
                ..EngineChoice::default()
            };
            if let Err(error) = available(&choice) {
                println!("skipped: {error}");
                continue;
            }
            for keys in [Keys::Counted, kernels] {
                let receiver = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
                let sender = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
                sender.connect(receiver.local_addr().unwrap()).unwrap();
                error_queue::enable(&sender).unwrap();
                tx_timestamp::enable(sender.as_fd()).unwrap();
                let wake = EventFd::new().unwrap();
                let endpoint = TxEndpoint {
                    socket: sender,
                    layout: Layout {
                        messages: 2,
                        bytes: 8,
                        datagram: 4,
                        fragments: false,
                    },
                    batch: 4,
                    fill: b"fill",
                    stamps: Some(StampPolicy { every: 3, keys }),
                    wake: &wake,
                };
                let expected = [0, 3, 6, 9]
                    .into_iter()
                    .flat_map(|key| [TxStage::Scheduled, TxStage::Sent].map(|stage| (key, stage)));
                let expected = expected.collect();
                open_tx(&choice, endpoint, SendTen { expected }).unwrap();
            }
        }
    }

    #[test]
    fn counted_keys_are_translated_until_a_send_fails() {
        let mut stamping = stamping(10, Keys::Counted);
        for first in [0, 5, 10, 20] {
            stamping.taken(first, first + 5);
        }
        assert_eq!(stamping.translate(stamp(0)), Some(stamp(0)));
        assert_eq!(stamping.translate(stamp(2)), Some(stamp(20)));
        assert_eq!(stamping.translate(stamp(3)), None);
        stamping.failed();
        assert_eq!(stamping.translate(stamp(0)), None);
        assert!(stamping.control(0, 1).is_none());
    }
}
