//! What takes bulk data: pure, it counts, compares with the pattern, and knows the end.

use super::order::{END, Receipt};
use super::pattern::{PERIOD, Pattern};

/// The data of one connection.
#[derive(Debug, Clone)]
pub struct Sink {
    /// Where in the pattern it begins.
    place: u64,
    /// Of all that came.
    receipt: Receipt,
    /// The last bytes from the first one on that is not the pattern's.
    tail: [u8; END.len()],
}

impl Sink {
    /// It should be the pattern from `place` on.
    pub fn new(place: u64) -> Self {
        Self {
            // Whoever ordered it may have named any number.
            place: place % PERIOD as u64,
            receipt: Receipt::default(),
            tail: [u8::MAX; END.len()],
        }
    }

    /// Takes what came; the receipt when [`END`] is the last of it.
    pub fn take(&mut self, pattern: &Pattern, mut bytes: &[u8]) -> Option<Receipt> {
        if self.receipt.right == self.receipt.received {
            let offset = self.place + self.receipt.received;
            let right = pattern.agrees(offset, bytes);
            self.receipt.right += right as u64;
            self.receipt.received += right as u64;
            bytes = bytes.get(right..).unwrap_or_default();
        }
        if bytes.is_empty() {
            return None;
        }
        self.receipt.received += bytes.len() as u64;
        for byte in bytes.iter().skip(bytes.len().saturating_sub(END.len())) {
            self.tail.rotate_left(1);
            self.tail[END.len() - 1] = *byte;
        }
        (self.tail == *END).then(|| Receipt {
            received: self.receipt.received - END.len() as u64,
            ..self.receipt
        })
    }

    /// The receipt, where the connection has ended.
    pub fn ended(&self) -> Receipt {
        self.receipt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(place: u64, bytes: &[u8], cut: usize) -> (Option<Receipt>, Receipt) {
        let pattern = Pattern::new(0);
        let mut sink = Sink::new(place);
        let mut told = None;
        for piece in bytes.chunks(cut) {
            assert_eq!(told, None, "a receipt before the end");
            told = sink.take(&pattern, piece);
        }
        (told, sink.ended())
    }

    fn text(place: u64, length: usize) -> Vec<u8> {
        Pattern::new(100_000).from(place)[..length].to_vec()
    }

    proptest! {
        #[test]
        fn the_end_is_found_however_it_is_cut(place in 0u64..60_000, length in 0usize..2_000, cut in 1usize..40) {
            let bytes = [text(place, length), END.to_vec()].concat();
            let whole = Receipt { received: length as u64, right: length as u64 };
            prop_assert_eq!(taken(place, &bytes, cut).0, Some(whole));
            // And without it, the connection's end is the end.
            prop_assert_eq!(taken(place, &bytes[..length], cut), (None, whole));
        }

        #[test]
        fn what_is_wrong_is_told_although_it_ends_well(place in 0u64..60_000, length in 1usize..2_000, wrong: prop::sample::Index, cut in 1usize..40) {
            let mut bytes = [text(place, length), END.to_vec()].concat();
            let wrong = wrong.index(length);
            bytes[wrong] ^= 1;
            let told = Receipt { received: length as u64, right: wrong as u64 };
            prop_assert_eq!(taken(place, &bytes, cut).0, Some(told));
        }

        #[test]
        fn no_bytes_are_worth_more_than_they_are(place: u64, bytes: Vec<u8>, cut in 1usize..40) {
            let pattern = Pattern::new(0);
            let mut sink = Sink::new(place);
            for piece in bytes.chunks(cut) {
                sink.take(&pattern, piece);
            }
            let Receipt { received, right } = sink.ended();
            prop_assert_eq!(received, bytes.len() as u64);
            prop_assert!(right <= received);
        }
    }

    #[test]
    fn the_pattern_never_looks_like_the_end() {
        assert!(!Pattern::new(0).from(0).contains(&END[0]));
    }
}
