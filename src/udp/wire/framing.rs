//! Framing of the control connection: a length of four bytes in network byte order, then JSON of that length.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Most bytes of JSON in a message, and thus in a receive buffer. Longer results are split.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Bytes of the length prefix.
const LENGTH: usize = 4;

/// Why bytes are not a message.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The length exceeds [`MAX_MESSAGE`].
    #[error("a message of {0} bytes exceeds the limit of {MAX_MESSAGE}")]
    TooLong(u32),
    /// The JSON is not a message.
    #[error("a message is invalid: {0}")]
    Invalid(#[from] serde_json::Error),
}

/// Decodes messages from a stream of bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    taken: usize,
}

impl Decoder {
    /// Adds bytes from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The JSON of the next complete message.
    ///
    /// # Errors
    /// [`FrameError::TooLong`], as soon as the length is known.
    pub fn next_json(&mut self) -> Result<Option<&[u8]>, FrameError> {
        if self.taken == self.bytes.len() && self.bytes.capacity() > MAX_MESSAGE {
            // A server has many connections, and each has a long message at most for a short time.
            *self = Self::default();
        }
        let rest = &self.bytes[self.taken..];
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length);
        if length as usize > MAX_MESSAGE {
            return Err(FrameError::TooLong(length));
        }
        let Some(json) = rest.get(..length as usize) else {
            return Ok(None);
        };
        self.taken += LENGTH + length as usize;
        Ok(Some(json))
    }

    /// The next complete message.
    ///
    /// # Errors
    /// [`FrameError`]. Bytes after an invalid message are not decoded.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let before = self.taken;
        let Some(json) = self.next_json()? else {
            return Ok(None);
        };
        let message = serde_json::from_slice(json);
        if message.is_err() {
            // Keeps the invalid message first in the buffer.
            self.taken = before;
        }
        Ok(Some(message?))
    }
}

/// Appends a message to `out`.
///
/// # Errors
/// [`FrameError::TooLong`], `out` is unchanged then.
pub fn encode(message: &impl Serialize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
    if json.len() > MAX_MESSAGE {
        return Err(FrameError::TooLong(length));
    }
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&json);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_oversized_message_is_refused_by_its_length() {
        let mut decoder = Decoder::default();
        decoder.push(&(MAX_MESSAGE as u32 + 1).to_be_bytes());
        assert!(matches!(decoder.next_json(), Err(FrameError::TooLong(_))));
        let mut out = vec![1];
        assert!(encode(&"x".repeat(MAX_MESSAGE), &mut out).is_err());
        assert_eq!(out, [1]);
    }

    #[test]
    fn a_message_has_its_length_in_network_byte_order_before_its_json() {
        let mut out = Vec::new();
        encode(&"ab", &mut out).unwrap();
        assert_eq!(out, b"\0\0\0\x04\"ab\"");
    }

    proptest! {
        #[test]
        fn messages_survive_any_split(messages in prop::collection::vec(".{0,40}", 0..20), step in 1usize..30) {
            let mut wire = Vec::new();
            for message in &messages {
                encode(message, &mut wire).unwrap();
            }
            let mut decoder = Decoder::default();
            let mut decoded: Vec<String> = Vec::new();
            for bytes in wire.chunks(step) {
                decoder.push(bytes);
                while let Some(message) = decoder.next_message().unwrap() {
                    decoded.push(message);
                }
            }
            prop_assert_eq!(decoded, messages);
        }

        #[test]
        fn no_bytes_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let mut decoder = Decoder::default();
            for piece in pieces {
                decoder.push(&piece);
                while let Ok(Some(_)) = decoder.next_message::<serde_json::Value>() {}
            }
        }
    }
}
