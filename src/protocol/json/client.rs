//! The client's side: distinguishes the server's bytes from the proxy's error line.
//!
//! Nothing frames the answer. A refusal is all that arrives: one object with the keys of an [`ErrorLine`] and a known error, and a
//! newline. A server whose whole answer is exactly such a line is mistaken for the proxy; any longer answer is not.

use super::ErrorLine;

/// Longest error line. Longer data is the server's, so no answer is buffered whole.
const MAX_LINE: usize = 64 << 10;

/// Reads the reply to a request.
#[derive(Debug, Default)]
pub struct Client {
    /// Bytes that may become a refusal.
    buffered: Vec<u8>,
    /// Whether the bytes are the server's.
    served: bool,
}

impl Client {
    /// Takes received bytes and returns those that are certainly the server's.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.buffered.extend_from_slice(bytes);
        let refusal = self.buffered.first().is_none_or(|byte| *byte == b'{');
        self.served |= !refusal || self.buffered.len() > MAX_LINE;
        if self.served {
            std::mem::take(&mut self.buffered)
        } else {
            Vec::new()
        }
    }

    /// Ends the reply and returns the rest of the server's answer.
    ///
    /// # Errors
    /// The refusal of the proxy.
    pub fn end(self) -> Result<Vec<u8>, ErrorLine> {
        match ErrorLine::read(&self.buffered) {
            Some(line) if !self.served => Err(line),
            _ => Ok(self.buffered),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::{ErrorKind, error_line};
    use proptest::prelude::*;

    /// Reads an answer in pieces of this length.
    fn receive(answer: &[u8], piece: usize) -> Result<Vec<u8>, ErrorLine> {
        let mut client = Client::default();
        let mut received = Vec::new();
        for bytes in answer.chunks(piece) {
            received.extend(client.push(bytes));
        }
        received.extend(client.end()?);
        Ok(received)
    }

    #[test]
    fn a_refusal_is_the_whole_reply() {
        let line = error_line(ErrorKind::Blocked, "10.0.0.0/8 in \"a\"");
        for piece in [1, 7, line.len()] {
            let refused = receive(&line, piece).unwrap_err();
            assert_eq!(refused.error, ErrorKind::Blocked);
            assert_eq!(refused.detail, "10.0.0.0/8 in \"a\"");
        }
    }

    #[test]
    fn almost_a_refusal_is_the_servers_answer() {
        let line = String::from_utf8(error_line(ErrorKind::Busy, "no")).unwrap();
        for answer in [
            line.trim_end().to_owned(),
            format!("RESPONSE || {line}"),
            format!("{line}{line}"),
            format!("{line}x"),
            line.replace("busy", "bored"),
            line.replace("}", ", \"more\": 1}"),
            "{\"error\": \"blocked\"}\n".to_owned(),
            "{}\n".to_owned(),
            "{".to_owned(),
            String::new(),
        ] {
            assert_eq!(receive(answer.as_bytes(), 3).unwrap(), answer.as_bytes());
        }
    }

    #[test]
    fn an_answer_is_passed_on_as_soon_as_possible() {
        let mut client = Client::default();
        assert_eq!(client.push(b""), b"");
        assert_eq!(client.push(b"R"), b"R");
        assert_eq!(client.push(b"{"), b"{");
        let mut long = Client::default();
        assert_eq!(long.push(b"{\"error\": "), b"");
        let most = vec![b'x'; MAX_LINE];
        assert_eq!(long.push(&most).len(), MAX_LINE + 10);
        assert_eq!(long.push(b"\n"), b"\n");
        assert_eq!(long.end().unwrap(), b"");
    }

    #[test]
    fn a_truncated_refusal_is_not_a_refusal() {
        let mut client = Client::default();
        assert_eq!(client.push(b"{\"error\": \"blo"), b"");
        assert_eq!(client.end().unwrap(), b"{\"error\": \"blo");
    }

    proptest! {
        #[test]
        fn an_answer_comes_whole(answer in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..50) {
            if let Ok(received) = receive(&answer, piece) {
                prop_assert_eq!(received, answer);
            }
        }
    }
}
