//! The order in which connections get their turns: pure.
//!
//! A connection with an event gets a slice of chunks in the next round. Connections that can continue after their slice take
//! turns of many slices, one connection at a time and one slice a round: long turns wake the ends of a bulk transfer seldom,
//! and a connection with an event waits for one slice only.

use std::collections::VecDeque;
use std::mem;

use crate::proxy::chunk::{SLICE_QUANTUM, turn_quantum};
use crate::proxy::slab::Key;

/// Connections that can continue.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    /// Those with an event.
    fresh: VecDeque<Key>,
    /// The first of `fresh`, which get their slice in this round.
    round: usize,
    /// Those that can continue after a slice.
    busy: VecDeque<Key>,
    /// Slices left in the turn of the first of `busy`.
    left: usize,
    /// `busy` had its slice of this round.
    busy_served: bool,
    /// The slice that was given last.
    slice: Slice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Slice {
    Fresh(Key),
    /// Of the first of `busy`.
    Busy,
    #[default]
    None,
}

impl Scheduler {
    /// No connection can continue.
    pub(super) fn is_idle(&self) -> bool {
        self.fresh.is_empty() && self.busy.is_empty()
    }

    /// Adds a connection that is not scheduled yet.
    pub(super) fn schedule(&mut self, key: Key) {
        self.fresh.push_back(key);
    }

    /// Starts a round, to be called before the events of the round are handled.
    pub(super) fn start_round(&mut self) {
        self.round = usize::MAX;
        self.busy_served = false;
    }

    /// The connection to serve next, until [`Self::end_turn`]; `None` at the end of the round.
    pub(super) fn next_turn(&mut self) -> Option<Key> {
        // Connections that are scheduled by turns of this round belong to the next one.
        self.round = self.round.min(self.fresh.len());
        if self.round > 0
            && let Some(key) = self.fresh.pop_front()
        {
            self.round -= 1;
            self.slice = Slice::Fresh(key);
            return Some(key);
        }
        if mem::replace(&mut self.busy_served, true) {
            return None;
        }
        let key = *self.busy.front()?;
        if self.left == 0 {
            self.left = turn_quantum(self.busy.len()) / SLICE_QUANTUM;
        }
        self.left -= 1;
        self.slice = Slice::Busy;
        Some(key)
    }

    /// The slice is over. The connection stays scheduled if it `can_continue`.
    pub(super) fn end_turn(&mut self, can_continue: bool) {
        match (mem::take(&mut self.slice), can_continue) {
            (Slice::Fresh(key), true) => self.busy.push_back(key),
            (Slice::Busy, true) if self.left > 0 => {}
            (Slice::Busy, true) => self.busy.rotate_left(1),
            (Slice::Busy, false) => {
                self.left = 0;
                self.busy.pop_front();
            }
            (Slice::Fresh(_) | Slice::None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::slab::Slab;

    fn keys<const N: usize>() -> [Key; N] {
        let mut slab = Slab::new();
        [(); N].map(|()| slab.insert(Ok::<_, ()>).unwrap())
    }

    /// The connections that get a slice in one round, each of which can continue.
    fn round(scheduler: &mut Scheduler) -> Vec<Key> {
        scheduler.start_round();
        let mut served = Vec::new();
        while let Some(key) = scheduler.next_turn() {
            served.push(key);
            scheduler.end_turn(true);
        }
        served
    }

    #[test]
    fn a_connection_with_an_event_waits_for_one_slice_only() {
        let [bulk, other, request] = keys();
        let mut scheduler = Scheduler::default();
        scheduler.schedule(bulk);
        scheduler.schedule(other);
        assert_eq!(round(&mut scheduler), [bulk, other, bulk]);
        assert_eq!(round(&mut scheduler), [bulk]);
        scheduler.schedule(request);
        scheduler.start_round();
        assert_eq!(scheduler.next_turn(), Some(request));
        scheduler.end_turn(false);
        assert_eq!(scheduler.next_turn(), Some(bulk));
        assert!(!scheduler.is_idle());
    }

    #[test]
    fn a_turn_is_many_slices_and_then_the_next_connection_has_one() {
        let [one, other] = keys();
        let mut scheduler = Scheduler::default();
        scheduler.schedule(one);
        scheduler.schedule(other);
        let mut slices = round(&mut scheduler).split_off(2);
        let turn = turn_quantum(2) / SLICE_QUANTUM;
        for _ in 1..2 * turn {
            slices.extend(round(&mut scheduler));
        }
        let (first, second) = slices.split_at(turn);
        assert!(first.iter().all(|key| *key == one));
        assert!(second.iter().all(|key| *key == other));
    }

    #[test]
    fn a_connection_that_cannot_continue_ends_its_turn() {
        let [one] = keys();
        let mut scheduler = Scheduler::default();
        scheduler.schedule(one);
        round(&mut scheduler);
        scheduler.start_round();
        assert_eq!(scheduler.next_turn(), Some(one));
        scheduler.end_turn(false);
        assert_eq!(scheduler.next_turn(), None);
        assert!(scheduler.is_idle());
    }
}
