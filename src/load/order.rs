//! What a load generator may ask of the answering server, in the first bytes of a connection.
//!
//! A server that only ever echoes cannot end a connection after one answer, nor take bulk data in one direction. So a connection
//! may begin with sixteen bytes that no text begins with: `\0wbload`, a letter, and a number (big-endian). To all
//! others the server is the plain one that answers everything.
//!
//! ```text
//! O <bytes>   answer so many bytes as ever, and end the connection
//! S <place>   take all until the end, which should be the pattern from that place on, and answer with a receipt
//! ```
//!
//! The end is that of the connection, or [`END`]: not every proxy passes on that one side has ended while the other has not.

/// How many bytes an order has.
pub const LENGTH: usize = 16;

const MARK: &[u8; 7] = b"\0wbload";

/// The end of what a [`Order::Sink`] is to take. The pattern has no such byte as its first.
pub const END: &[u8; 8] = b"\0wbloadE";

/// An order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Answer this many bytes, then end the connection: the server is who closes first, as with HTTP's
    /// `Connection: close`, and its side keeps the port in TIME-WAIT.
    Once(u64),
    /// Take all there is, and say how much of it was right: the pattern from this place on.
    Sink(u64),
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// The beginning of an order, perhaps.
    Unclear,
    /// No order.
    Plain,
    /// This, in the first [`LENGTH`] bytes.
    Order(Order),
}

impl Order {
    /// Its bytes.
    pub fn encode(self) -> [u8; LENGTH] {
        let (letter, number) = match self {
            Self::Once(bytes) => (b'O', bytes),
            Self::Sink(place) => (b'S', place),
        };
        let mut bytes = [0; LENGTH];
        bytes[..7].copy_from_slice(MARK);
        bytes[7] = letter;
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        bytes
    }

    /// Reads all bytes of a connection so far.
    pub fn read(bytes: &[u8]) -> Beginning {
        let Some((head, _)) = bytes.split_first_chunk::<LENGTH>() else {
            let common = bytes.len().min(MARK.len());
            return match bytes.get(..common) == MARK.get(..common) {
                true => Beginning::Unclear,
                false => Beginning::Plain,
            };
        };
        let [mark @ .., letter, _, _, _, _, _, _, _, _] = head;
        let [.., a, b, c, d, e, f, g, h] = *head;
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        match (mark == MARK, letter) {
            (true, b'O') => Beginning::Order(Self::Once(number)),
            (true, b'S') => Beginning::Order(Self::Sink(number)),
            _ => Beginning::Plain,
        }
    }
}

/// What became of bulk data, as the server that took it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Bytes that came.
    pub received: u64,
    /// How many of them are right, up to the first that is not.
    pub right: u64,
}

impl Receipt {
    /// How many bytes it has.
    pub const LENGTH: usize = 16;

    /// Its bytes.
    pub fn encode(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..8].copy_from_slice(&self.received.to_be_bytes());
        bytes[8..].copy_from_slice(&self.right.to_be_bytes());
        bytes
    }

    /// From all of its bytes.
    pub fn read(bytes: &[u8; Self::LENGTH]) -> Self {
        let [a, b, c, d, e, f, g, h, right @ ..] = *bytes;
        Self {
            received: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            right: u64::from_be_bytes(right),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_order_is_read_as_soon_as_it_is_whole_and_not_before(number: u64, sink: bool, more: Vec<u8>) {
            let order = if sink { Order::Sink(number) } else { Order::Once(number) };
            let mut bytes = order.encode().to_vec();
            for cut in 0..LENGTH {
                prop_assert_eq!(Order::read(&bytes[..cut]), Beginning::Unclear);
            }
            bytes.extend(more);
            prop_assert_eq!(Order::read(&bytes), Beginning::Order(order));
        }

        #[test]
        fn text_is_never_an_order(text in "[^\0].{0,40}") {
            prop_assert_eq!(Order::read(text.as_bytes()), Beginning::Plain);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            Order::read(&bytes);
        }

        #[test]
        fn receipts_arrive(received: u64, right: u64) {
            let receipt = Receipt { received, right };
            prop_assert_eq!(Receipt::read(&receipt.encode()), receipt);
        }
    }
}
