//! Which bulk transfer goes on while the others wait: pure.
//!
//! Each of several could have a lot under way at any time, and then each lot would wake its ends. So one has a turn of
//! many lots, and then the next. Whoever says less than a whole lot at once is no bulk transfer, and is not held back.

use std::collections::VecDeque;

use crate::proxy::lot;
use crate::proxy::relay::Direction;
use crate::proxy::slab::Key;

/// The one whose turn it is, and those who wait.
#[derive(Debug, Default)]
pub(super) struct Turns {
    first: Option<(Key, Direction)>,
    /// Lots that are left of its turn.
    left: usize,
    /// Something was asked for on its behalf since the last [`Self::next`].
    goes_on: bool,
    /// Whose turn it is to begin.
    called: Option<Key>,
    waiting: VecDeque<Key>,
}

impl Turns {
    /// Whether a lane may have its next lot. If not, its connection is among those to come.
    pub(super) fn admits(&mut self, lane: (Key, Direction)) -> bool {
        let is_first = self.first == Some(lane);
        // Nobody comes before those who wait.
        let is_next = self.waiting.is_empty() || self.called == Some(lane.0);
        if (self.first.is_none() && is_next) || (is_first && is_next && self.left == 0) {
            self.called = None;
            self.first = Some(lane);
            self.left = lot::turn(self.waiting.len() + 1);
        } else if !is_first || self.left == 0 {
            self.waiting.push_back(lane.0);
            if is_first {
                self.first = None;
            }
            return false;
        }
        self.left -= 1;
        self.goes_on = true;
        true
    }

    /// A lane's lot is on its way out.
    pub(super) fn sends(&mut self, lane: (Key, Direction)) {
        self.goes_on |= self.first == Some(lane);
    }

    /// Once all that is done was seen to: whose turn it is now, unless it goes on. Who did nothing has had it.
    pub(super) fn next(&mut self) -> Option<Key> {
        if !std::mem::take(&mut self.goes_on) {
            self.first = None;
        }
        match self.first {
            Some(_) => None,
            None => {
                self.called = self.waiting.pop_front();
                self.called
            }
        }
    }

    /// Somebody waits for the one whose turn it is.
    pub(super) fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::slab::Slab;

    fn lanes<const N: usize>() -> [(Key, Direction); N] {
        let mut slab = Slab::new();
        [(); N].map(|()| (slab.insert(Ok::<_, ()>).unwrap(), Direction::ToServer))
    }

    #[test]
    fn one_goes_on_for_its_turn_and_then_the_next() {
        let [one, other] = lanes();
        let mut turns = Turns::default();
        assert!(turns.admits(one));
        assert!(!turns.admits(other));
        assert!(turns.is_awaited());
        let mut lots = 1;
        while turns.admits(one) {
            assert_eq!(turns.next(), None);
            turns.sends(one);
            assert_eq!(turns.next(), None);
            lots += 1;
        }
        assert_eq!(lots, lot::turn(1));
        assert_eq!(turns.next(), Some(other.0));
        assert!(turns.admits(other));
        assert!(!turns.admits(one));
    }

    #[test]
    fn who_does_nothing_has_had_its_turn() {
        let [one, other] = lanes();
        let mut turns = Turns::default();
        assert!(turns.admits(one) && !turns.admits(other));
        // Its lot is under way still.
        assert_eq!(turns.next(), None);
        assert_eq!(turns.next(), Some(other.0));
        // Nor does one that is gone by now.
        assert_eq!(turns.next(), None);
        assert!(turns.admits(one));
    }

    #[test]
    fn nobody_comes_before_those_who_wait() {
        let [one, other, newcomer] = lanes();
        let mut turns = Turns::default();
        assert!(turns.admits(one) && !turns.admits(other));
        while turns.admits(one) {}
        assert!(!turns.admits(newcomer));
        assert_eq!(turns.next(), Some(other.0));
        assert!(turns.admits(other));
        assert_eq!(turns.next(), None);
        assert_eq!(turns.next(), Some(one.0));
    }

    #[test]
    fn alone_it_goes_on_for_ever() {
        let [one] = lanes();
        let mut turns = Turns::default();
        for _ in 0..1_000 {
            assert!(turns.admits(one));
            assert_eq!(turns.next(), None);
        }
        assert!(!turns.is_awaited());
    }
}
