//! Commands of the load generator to the origin server, in the first bytes of a connection.
//!
//! A plain echo server cannot close a connection after one answer, nor take bulk data in one direction. So a connection may
//! begin with sixteen bytes that no text begins with: `\0wbload`, a tag, and a big-endian number. Every other connection
//! is echoed.
//!
//! ```text
//! O <bytes>    answer this many bytes, then close the connection
//! S <offset>   read up to the end, compare with the payload from this offset on, answer with a receipt
//! ```
//!
//! The end is the end of the connection, or [`END`]: not every proxy forwards a half-close.

/// Bytes of a command.
pub const LENGTH: usize = 16;

const MARK: &[u8; 7] = b"\0wbload";

/// Ends the data of a [`Command::Sink`]. No byte of the payload equals its first byte.
pub const END: &[u8; 8] = b"\0wbloadE";

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Answer this many bytes, then close the connection. The server closes first, as with HTTP's `Connection: close`, so its
    /// side keeps the port in TIME-WAIT.
    Once(u64),
    /// Read all data, compare it with the payload from this offset on, and answer with a [`Receipt`].
    Sink(u64),
}

/// The first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// Possibly the beginning of a command.
    Incomplete,
    /// Not a command.
    NotCommand,
    /// A command, in the first [`LENGTH`] bytes.
    Command(Command),
}

impl Command {
    /// The encoded command.
    pub fn encode(self) -> [u8; LENGTH] {
        let (tag, number) = match self {
            Self::Once(bytes) => (b'O', bytes),
            Self::Sink(offset) => (b'S', offset),
        };
        let mut bytes = [0; LENGTH];
        bytes[..7].copy_from_slice(MARK);
        bytes[7] = tag;
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        bytes
    }

    /// Decodes the bytes of a connection so far.
    pub fn read(bytes: &[u8]) -> Parsed {
        let Some((head, _)) = bytes.split_first_chunk::<LENGTH>() else {
            let common = bytes.len().min(MARK.len());
            return match bytes.get(..common) == MARK.get(..common) {
                true => Parsed::Incomplete,
                false => Parsed::NotCommand,
            };
        };
        let [mark @ .., tag, _, _, _, _, _, _, _, _] = head;
        let [.., a, b, c, d, e, f, g, h] = *head;
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        match (mark == MARK, tag) {
            (true, b'O') => Parsed::Command(Self::Once(number)),
            (true, b'S') => Parsed::Command(Self::Sink(number)),
            _ => Parsed::NotCommand,
        }
    }
}

/// The server's confirmation of bulk data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Received bytes.
    pub received: u64,
    /// Correct bytes before the first wrong one.
    pub right: u64,
}

impl Receipt {
    /// Bytes of an encoded receipt.
    pub const LENGTH: usize = 16;

    /// The encoded receipt.
    pub fn encode(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..8].copy_from_slice(&self.received.to_be_bytes());
        bytes[8..].copy_from_slice(&self.right.to_be_bytes());
        bytes
    }

    /// Decodes a receipt.
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
        fn command_is_decoded_at_its_last_byte_and_not_before(number: u64, sink: bool, more: Vec<u8>) {
            let order = if sink { Command::Sink(number) } else { Command::Once(number) };
            let mut bytes = order.encode().to_vec();
            for cut in 0..LENGTH {
                prop_assert_eq!(Command::read(&bytes[..cut]), Parsed::Incomplete);
            }
            bytes.extend(more);
            prop_assert_eq!(Command::read(&bytes), Parsed::Command(order));
        }

        #[test]
        fn text_is_never_a_command(text in "[^\0].{0,40}") {
            prop_assert_eq!(Command::read(text.as_bytes()), Parsed::NotCommand);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            Command::read(&bytes);
        }

        #[test]
        fn receipts_arrive(received: u64, right: u64) {
            let receipt = Receipt { received, right };
            prop_assert_eq!(Receipt::read(&receipt.encode()), receipt);
        }
    }
}
