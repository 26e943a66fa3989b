//! The receiver of bulk data: counts bytes, compares them with the payload and detects the end. Pure.

use super::command::{END, Receipt};
use super::payload::{PERIOD, Payload};

/// The data of one connection.
#[derive(Debug, Clone)]
pub struct Sink {
    /// Offset of the data in the payload.
    offset: u64,
    /// Counts of the received bytes.
    receipt: Receipt,
    /// The last bytes since the first wrong one.
    tail: [u8; END.len()],
}

impl Sink {
    /// Expects the payload from `offset` on.
    pub fn new(offset: u64) -> Self {
        Self {
            // The client may send any number.
            offset: offset % PERIOD as u64,
            receipt: Receipt::default(),
            tail: [u8::MAX; END.len()],
        }
    }

    /// Takes received bytes. Returns the receipt when they end in [`END`].
    pub fn receive(&mut self, payload: &Payload, mut bytes: &[u8]) -> Option<Receipt> {
        if self.receipt.right == self.receipt.received {
            let offset = self.offset + self.receipt.received;
            let right = payload.matching_prefix(offset, bytes);
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

    /// The receipt of the bytes so far, for a connection that closed without [`END`].
    pub fn receipt(&self) -> Receipt {
        self.receipt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(offset: u64, bytes: &[u8], cut: usize) -> (Option<Receipt>, Receipt) {
        let payload = Payload::new(0);
        let mut sink = Sink::new(offset);
        let mut receipt = None;
        for piece in bytes.chunks(cut) {
            assert_eq!(receipt, None, "a receipt before the end");
            receipt = sink.receive(&payload, piece);
        }
        (receipt, sink.receipt())
    }

    fn text(offset: u64, length: usize) -> Vec<u8> {
        Payload::new(100_000).from_offset(offset)[..length].to_vec()
    }

    proptest! {
        #[test]
        fn the_end_is_found_in_any_split(offset in 0u64..60_000, length in 0usize..2_000, cut in 1usize..40) {
            let bytes = [text(offset, length), END.to_vec()].concat();
            let whole = Receipt { received: length as u64, right: length as u64 };
            prop_assert_eq!(taken(offset, &bytes, cut).0, Some(whole));
            // Without END, the close of the connection is the end.
            prop_assert_eq!(taken(offset, &bytes[..length], cut), (None, whole));
        }

        #[test]
        fn a_wrong_byte_is_counted_although_the_end_is_valid(offset in 0u64..60_000, length in 1usize..2_000, wrong: prop::sample::Index, cut in 1usize..40) {
            let mut bytes = [text(offset, length), END.to_vec()].concat();
            let wrong = wrong.index(length);
            bytes[wrong] ^= 1;
            let receipt = Receipt { received: length as u64, right: wrong as u64 };
            prop_assert_eq!(taken(offset, &bytes, cut).0, Some(receipt));
        }

        #[test]
        fn correct_bytes_never_exceed_received_bytes(offset: u64, bytes: Vec<u8>, cut in 1usize..40) {
            let payload = Payload::new(0);
            let mut sink = Sink::new(offset);
            for piece in bytes.chunks(cut) {
                sink.receive(&payload, piece);
            }
            let Receipt { received, right } = sink.receipt();
            prop_assert_eq!(received, bytes.len() as u64);
            prop_assert!(right <= received);
        }
    }

    #[test]
    fn the_payload_never_contains_the_first_byte_of_the_end() {
        assert!(!Payload::new(0).from_offset(0).contains(&END[0]));
    }
}
