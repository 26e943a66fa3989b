//! The sequence window: which sequence numbers have arrived. A sliding bitmap, exact within its reach.
//!
//! ```text
//!            floor                                   next
//!              |<------------ up to 2^20 ------------->|
//!   late       | 1 1 1 0 1 1 1 1 1 0 0 1 1 1 1 1 1 0 1 | not received yet
//!              a 0 is missing; a datagram that fills it is *reordered*
//! ```
//!
//! The highest number received moves the window. A number that is missing when the floor passes it stays lost (the loss
//! threshold of RFC 7680, section 2.8.2): a datagram with this number that arrives later counts as *late*, because it cannot be
//! distinguished from a duplicate any more. An old number therefore reduces the losses only if it was missing.

/// Sequence numbers that the window reaches back: an eighth of a second at 8 million per second, 128 KiB.
pub const REACH: u64 = 1 << 20;

const WORD: u64 = u64::BITS as u64;

/// The class of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The highest number so far.
    InOrder,
    /// A new number after a higher one (RFC 4737, section 3.3).
    Reordered,
    /// A number that has arrived before.
    Duplicate,
    /// A number below the floor.
    Late,
}

/// Words of a new window: 1 KiB, which is enough for 8,192 datagrams.
const FIRST_WORDS: usize = 128;

/// The bitmap, and the counts of each class.
#[derive(Debug, Clone)]
pub struct SequenceWindow {
    /// Bit `n % 64` of word `n / 64 % len` stands for sequence number n. The bitmap grows with the numbers, up to `most` words; until
    /// then no two numbers have the same bit.
    words: Box<[u64]>,
    /// Words of the largest bitmap, a power of two.
    most: usize,
    /// One above the highest number received.
    next: u64,
    /// First arrivals.
    unique: u64,
    duplicates: u64,
    reordered: u64,
    late: u64,
}

impl Default for SequenceWindow {
    fn default() -> Self {
        Self::with_reach(REACH)
    }
}

impl SequenceWindow {
    /// An empty window that reaches back at least `reach` numbers.
    pub fn with_reach(reach: u64) -> Self {
        // One word more than the reach needs: the newest word is only partly filled.
        let most = (reach.div_ceil(WORD) + 1).next_power_of_two() as usize;
        Self {
            words: vec![0; most.min(FIRST_WORDS)].into_boxed_slice(),
            most,
            next: 0,
            unique: 0,
            duplicates: 0,
            reordered: 0,
            late: 0,
        }
    }

    /// Counts an arrival.
    #[inline]
    pub fn record(&mut self, sequence: u64) -> Arrival {
        if sequence >= self.next {
            self.advance(sequence);
            self.unique += 1;
            return Arrival::InOrder;
        }
        if sequence < self.floor() {
            self.late += 1;
            return Arrival::Late;
        }
        let bit = 1 << (sequence % WORD);
        let word = self.word(sequence / WORD);
        if *word & bit != 0 {
            self.duplicates += 1;
            return Arrival::Duplicate;
        }
        *word |= bit;
        self.unique += 1;
        self.reordered += 1;
        Arrival::Reordered
    }

    /// Moves the head to `sequence`, and empties each word that the head enters.
    #[inline]
    fn advance(&mut self, sequence: u64) {
        let bit = 1 << (sequence % WORD);
        // The last word the head has entered; none at the very start.
        let entered = self.next.div_ceil(WORD);
        let target = sequence / WORD;
        if target < entered {
            *self.word(target) |= bit;
        } else {
            if target >= self.words.len() as u64 && self.words.len() < self.most {
                self.grow(target);
            }
            // A jump past the whole window empties each word once.
            let oldest = target.saturating_sub(self.words.len() as u64 - 1);
            for index in entered.max(oldest)..target {
                *self.word(index) = 0;
            }
            *self.word(target) = bit;
        }
        self.next = sequence + 1;
    }

    /// Makes room for the word with this index, as far as the largest bitmap goes. The words so far keep their places.
    #[cold]
    fn grow(&mut self, index: u64) {
        let needed = (index + 1).next_power_of_two();
        let length = usize::try_from(needed).map_or(self.most, |needed| needed.min(self.most));
        let mut words = vec![0; length];
        for (word, old) in words.iter_mut().zip(&self.words) {
            *word = *old;
        }
        self.words = words.into_boxed_slice();
    }

    #[inline]
    fn word(&mut self, index: u64) -> &mut u64 {
        // The length is a power of two, so the mask keeps the index inside.
        let place = index as usize & (self.words.len() - 1);
        &mut self.words[place]
    }

    /// The lowest number in the window.
    pub fn floor(&self) -> u64 {
        (self.next.div_ceil(WORD)).saturating_sub(self.most as u64) * WORD
    }

    /// One above the highest number received; 0 before the first.
    #[inline]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// First arrivals.
    #[inline]
    pub fn unique(&self) -> u64 {
        self.unique
    }

    /// Further arrivals of a number.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// First arrivals after a higher number.
    pub fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Arrivals below the floor.
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Compares the window with a set of all numbers that have arrived.
    fn check_against_a_set(
        window: &mut SequenceWindow,
        arrivals: &[u64],
    ) -> Result<(), TestCaseError> {
        let mut seen = HashSet::new();
        let mut next = 0;
        for &sequence in arrivals {
            let floor = window.floor();
            let expected = match sequence {
                n if n >= next => Arrival::InOrder,
                n if n < floor => Arrival::Late,
                n if seen.contains(&n) => Arrival::Duplicate,
                _ => Arrival::Reordered,
            };
            prop_assert_eq!(window.record(sequence), expected, "{}", sequence);
            if expected != Arrival::Late {
                seen.insert(sequence);
            }
            next = next.max(sequence + 1);
        }
        prop_assert_eq!(window.unique(), seen.len() as u64);
        prop_assert_eq!(
            window.unique() + window.duplicates() + window.late(),
            arrivals.len() as u64
        );
        Ok(())
    }

    proptest! {
        #[test]
        fn near_arrivals_are_classified_exactly(arrivals in prop::collection::vec(0u64..600, 0..2_000)) {
            check_against_a_set(&mut SequenceWindow::with_reach(128), &arrivals)?;
        }

        #[test]
        fn far_jumps_are_classified_exactly(arrivals in prop::collection::vec(
            prop_oneof![0u64..300, 10_000u64..10_300, any::<u64>().prop_map(|n| n >> 16)], 0..200,
        )) {
            check_against_a_set(&mut SequenceWindow::with_reach(128), &arrivals)?;
        }

        #[test]
        fn a_window_that_grows_classifies_exactly(arrivals in prop::collection::vec(
            prop_oneof![0u64..300, 8_000u64..8_400, 16_000u64..16_500, 40_000u64..40_100, any::<u64>().prop_map(|n| n >> 40)], 0..500,
        )) {
            check_against_a_set(&mut SequenceWindow::with_reach(1 << 14), &arrivals)?;
        }

        #[test]
        fn the_window_reaches_back_at_least_as_far_as_asked(start in 0u64..5_000, reach in 2u64..500) {
            let mut window = SequenceWindow::with_reach(reach);
            window.record(start + reach);
            prop_assert_eq!(window.record(start + 1), Arrival::Reordered);
            prop_assert_eq!(window.record(start + 1), Arrival::Duplicate);
        }
    }

    #[test]
    fn a_duplicate_does_not_reduce_the_losses() {
        let mut window = SequenceWindow::default();
        for sequence in [0, 1, 3, 1, 1, 0] {
            window.record(sequence);
        }
        assert_eq!(
            (window.next(), window.unique(), window.duplicates()),
            (4, 3, 3)
        );
    }
}
