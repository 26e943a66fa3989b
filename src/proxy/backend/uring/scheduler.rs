//! Which bulk transfer runs while the others wait: pure.
//!
//! If each of several transfers had a chunk in flight at all times, each chunk would wake its ends. So one transfer has a
//! turn of many chunks, then the next. A source that had less than a whole chunk is no bulk transfer, and does not wait.

use std::collections::VecDeque;

use crate::proxy::chunk::turn_quantum;
use crate::proxy::relay::Direction;
use crate::proxy::slab::Key;

/// One direction of a connection.
type Flow = (Key, Direction);

/// The transfer that has its turn, and those that wait.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    current: Option<Flow>,
    /// Chunks left of its turn.
    left: usize,
    /// It started an operation since the last [`Self::next_turn`].
    is_active: bool,
    /// The connection whose turn is about to start.
    next: Option<Key>,
    waiting: VecDeque<Key>,
}

impl Scheduler {
    /// Whether a transfer may receive its next chunk. If not, its connection waits for a turn.
    pub(super) fn admits(&mut self, flow: Flow) -> bool {
        let is_current = self.current == Some(flow);
        // Transfers that wait come first.
        let is_next = self.waiting.is_empty() || self.next == Some(flow.0);
        if (self.current.is_none() && is_next) || (is_current && is_next && self.left == 0) {
            self.next = None;
            self.current = Some(flow);
            self.left = turn_quantum(self.waiting.len() + 1);
        } else if !is_current || self.left == 0 {
            self.waiting.push_back(flow.0);
            if is_current {
                self.current = None;
            }
            return false;
        }
        self.left -= 1;
        self.is_active = true;
        true
    }

    /// A transfer starts to send a chunk.
    pub(super) fn on_send(&mut self, flow: Flow) {
        self.is_active |= self.current == Some(flow);
    }

    /// Called after all events of a pass: the connection whose turn starts, unless the current turn continues. A transfer
    /// that started no operation has ended its turn.
    pub(super) fn next_turn(&mut self) -> Option<Key> {
        if !std::mem::take(&mut self.is_active) {
            self.current = None;
        }
        match self.current {
            Some(_) => None,
            None => {
                self.next = self.waiting.pop_front();
                self.next
            }
        }
    }

    /// Whether transfers wait for their turn.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::slab::Slab;

    fn flows<const N: usize>() -> [Flow; N] {
        let mut slab = Slab::new();
        [(); N].map(|()| (slab.insert(Ok::<_, ()>).unwrap(), Direction::ToServer))
    }

    #[test]
    fn a_turn_is_many_chunks_and_then_the_next_transfer_has_one() {
        let [one, other] = flows();
        let mut scheduler = Scheduler::default();
        assert!(scheduler.admits(one));
        assert!(!scheduler.admits(other));
        assert!(scheduler.has_waiting());
        let mut chunks = 1;
        while scheduler.admits(one) {
            assert_eq!(scheduler.next_turn(), None);
            scheduler.on_send(one);
            assert_eq!(scheduler.next_turn(), None);
            chunks += 1;
        }
        assert_eq!(chunks, turn_quantum(1));
        assert_eq!(scheduler.next_turn(), Some(other.0));
        assert!(scheduler.admits(other));
        assert!(!scheduler.admits(one));
    }

    #[test]
    fn a_transfer_that_starts_nothing_ends_its_turn() {
        let [one, other] = flows();
        let mut scheduler = Scheduler::default();
        assert!(scheduler.admits(one) && !scheduler.admits(other));
        // Its chunk is still in flight.
        assert_eq!(scheduler.next_turn(), None);
        assert_eq!(scheduler.next_turn(), Some(other.0));
        // The other one may be closed by now.
        assert_eq!(scheduler.next_turn(), None);
        assert!(scheduler.admits(one));
    }

    #[test]
    fn transfers_that_wait_come_first() {
        let [one, other, newcomer] = flows();
        let mut scheduler = Scheduler::default();
        assert!(scheduler.admits(one) && !scheduler.admits(other));
        while scheduler.admits(one) {}
        assert!(!scheduler.admits(newcomer));
        assert_eq!(scheduler.next_turn(), Some(other.0));
        assert!(scheduler.admits(other));
        assert_eq!(scheduler.next_turn(), None);
        assert_eq!(scheduler.next_turn(), Some(one.0));
    }

    #[test]
    fn a_single_transfer_never_waits() {
        let [one] = flows();
        let mut scheduler = Scheduler::default();
        for _ in 0..1_000 {
            assert!(scheduler.admits(one));
            assert_eq!(scheduler.next_turn(), None);
        }
        assert!(!scheduler.has_waiting());
    }
}
