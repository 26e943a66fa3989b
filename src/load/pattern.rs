//! The bytes that are sent: text which is another at every place, so that an answer that is stale, swapped, shifted or cut
//! matches nowhere.
//!
//! A message is a stretch of one long text, and so is what should come back: nothing is made up or copied for a request.

/// After so many bytes the text begins anew: the largest prime below 2^16, so that a read or write which is lost or
/// doubled never leaves the rest in step.
pub const PERIOD: usize = 65_521;

/// From one message's place to the next one's. Far more than [`PERIOD`] / 3 apart, so that neighbours share nothing.
const STEP: u64 = 40_503;

/// The text.
#[derive(Debug, Clone)]
pub struct Pattern {
    bytes: Box<[u8]>,
}

impl Pattern {
    /// A text of which stretches of up to `longest` bytes can be had.
    pub fn new(longest: usize) -> Self {
        // The letters stand for themselves in JSON too.
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // Marsaglia's xorshift: any generator would do, and both ends must have the same.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut bytes: Vec<u8> = (0..PERIOD)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                LETTERS[(state >> 58) as usize]
            })
            .collect();
        for at in 0..longest {
            bytes.push(bytes[at]);
        }
        Self {
            bytes: bytes.into(),
        }
    }

    /// Where the message with this number begins.
    pub fn place(number: u64) -> usize {
        (number.wrapping_mul(STEP) % PERIOD as u64) as usize
    }

    /// `length` bytes from `place`, or as many as there are.
    #[inline]
    pub fn stretch(&self, place: usize, length: usize) -> &[u8] {
        let end = place.saturating_add(length).min(self.bytes.len());
        self.bytes.get(place..end).unwrap_or_default()
    }

    /// As many bytes as there are at once from `offset` of the endless text.
    pub fn from(&self, offset: u64) -> &[u8] {
        let place = (offset % PERIOD as u64) as usize;
        self.bytes.get(place..).unwrap_or_default()
    }

    /// How many of `bytes`, which came at `offset` of the endless text, are right, up to the first that is not.
    pub fn agrees(&self, offset: u64, bytes: &[u8]) -> usize {
        let mut right = 0;
        while let Some(rest) = bytes.get(right..).filter(|rest| !rest.is_empty()) {
            let told = self.from(offset + right as u64);
            let length = rest.len().min(told.len());
            let (rest, told) = (&rest[..length], &told[..length]);
            if rest != told {
                let same = rest.iter().zip(told).take_while(|(a, b)| a == b);
                return right + same.count();
            }
            right += length;
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_that_follow_each_other_differ_from_eight_bytes_on() {
        let pattern = Pattern::new(8);
        let mut seen = std::collections::HashSet::new();
        for number in 0..PERIOD as u64 {
            assert!(seen.insert(pattern.stretch(Pattern::place(number), 8).to_vec()));
        }
    }

    proptest! {
        #[test]
        fn the_endless_text_is_one_however_it_is_cut(offset in 0u64..1 << 40, cuts in prop::collection::vec(1usize..90_000, 1..6)) {
            let pattern = Pattern::new(1_000);
            let mut at = offset;
            for cut in cuts {
                let mut piece = Vec::new();
                while piece.len() < cut {
                    let more = pattern.from(at + piece.len() as u64);
                    piece.extend_from_slice(&more[..more.len().min(cut - piece.len())]);
                }
                prop_assert_eq!(pattern.agrees(at, &piece), cut);
                at += cut as u64;
            }
        }

        #[test]
        fn a_byte_that_is_wrong_is_found(offset: u32, length in 1usize..70_000, wrong: prop::sample::Index) {
            let pattern = Pattern::new(1 << 17);
            let mut bytes = pattern.from(offset.into())[..length].to_vec();
            let wrong = wrong.index(length);
            bytes[wrong] ^= 1;
            prop_assert_eq!(pattern.agrees(offset.into(), &bytes), wrong);
        }
    }
}
