//! A bounded sample of stamps by sequence number.

/// The stamps of the datagrams whose sequence number is a multiple of a distance. When it is full, the distance doubles, so two
/// samples of one stream have common datagrams whatever their sizes.
#[derive(Debug, Clone)]
pub struct Sample {
    rows: Vec<(u64, u64)>,
    every: u64,
    most: usize,
}

impl Sample {
    /// A sample of one in `every` datagrams, and at most `most`.
    pub fn new(every: u64, most: usize) -> Self {
        Self {
            rows: Vec::new(),
            every: every.max(1),
            most: most.max(1),
        }
    }

    /// Adds a datagram, if it is part of the sample.
    #[inline]
    pub fn push(&mut self, sequence: u64, ns: u64) {
        if !sequence.is_multiple_of(self.every) {
            return;
        }
        if self.rows.len() >= self.most {
            self.every = self.every.saturating_mul(2);
            let every = self.every;
            self.rows.retain(|(of, _)| of.is_multiple_of(every));
        }
        if sequence.is_multiple_of(self.every) && self.rows.len() < self.most {
            self.rows.push((sequence, ns));
        }
    }

    /// Sequence numbers and stamps in ns.
    pub fn into_rows(self) -> Vec<(u64, u64)> {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_full_sample_keeps_multiples_of_a_larger_distance(every in 1u64..9, most in 1usize..50, count in 0u64..2_000) {
            let mut sample = Sample::new(every, most);
            (0..count).for_each(|sequence| sample.push(sequence, sequence + 1));
            let distance = sample.every;
            let rows = sample.into_rows();
            prop_assert!(rows.len() <= most);
            let expected: Vec<_> = (0..count).filter(|of| of % distance == 0).map(|of| (of, of + 1)).collect();
            prop_assert_eq!(rows, expected);
        }

        #[test]
        fn any_sequence_numbers_are_bounded(sequences in prop::collection::vec(any::<u64>(), 0..200)) {
            let mut sample = Sample::new(1, 3);
            sequences.iter().for_each(|of| sample.push(*of, 0));
            sample.push(0, 1);
            prop_assert!(sample.into_rows().len() <= 3);
        }
    }
}
