//! The client's side of what comes back: the server's bytes as they are, or the proxy's one line.
//!
//! Nothing frames the answer, so what tells the two apart is that a refusal is all that comes: one object of the keys of an
//! [`ErrorLine`], one of the known faults, and a newline at the end. A server whose whole answer is such a line, to the letter,
//! passes for the proxy. One that says anything more does not.

use super::ErrorLine;

/// Most bytes of a line that a proxy refuses with. More are a server's, so that no answer has to be kept whole.
const MAX_LINE: usize = 64 << 10;

/// Takes what comes back for a request.
#[derive(Debug, Default)]
pub struct Client {
    /// What may yet become a refusal.
    held: Vec<u8>,
    /// It cannot become one any more.
    served: bool,
}

impl Client {
    /// Takes the next bytes, and gives those that are the server's for certain.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let refusal = self.held.first().is_none_or(|byte| *byte == b'{');
        self.served |= !refusal || self.held.len() > MAX_LINE;
        if self.served {
            std::mem::take(&mut self.held)
        } else {
            Vec::new()
        }
    }

    /// No more comes: the rest of the server's answer.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub fn end(self) -> Result<Vec<u8>, ErrorLine> {
        match ErrorLine::read(&self.held) {
            Some(line) if !self.served => Err(line),
            _ => Ok(self.held),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::{ErrorKind, error_line};
    use proptest::prelude::*;

    /// In pieces of so many bytes.
    fn heard(answer: &[u8], piece: usize) -> Result<Vec<u8>, ErrorLine> {
        let mut client = Client::default();
        let mut said = Vec::new();
        for bytes in answer.chunks(piece) {
            said.extend(client.push(bytes));
        }
        said.extend(client.end()?);
        Ok(said)
    }

    #[test]
    fn a_refusal_is_all_that_comes() {
        let line = error_line(ErrorKind::Blocked, "10.0.0.0/8 in \"a\"");
        for piece in [1, 7, line.len()] {
            let refused = heard(&line, piece).unwrap_err();
            assert_eq!(refused.error, ErrorKind::Blocked);
            assert_eq!(refused.detail, "10.0.0.0/8 in \"a\"");
        }
    }

    #[test]
    fn what_only_resembles_a_refusal_is_the_servers() {
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
            assert_eq!(heard(answer.as_bytes(), 3).unwrap(), answer.as_bytes());
        }
    }

    #[test]
    fn an_answer_is_given_on_as_soon_as_it_is_one() {
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
    fn a_refusal_cut_short_is_none() {
        let mut client = Client::default();
        assert_eq!(client.push(b"{\"error\": \"blo"), b"");
        assert_eq!(client.end().unwrap(), b"{\"error\": \"blo");
    }

    proptest! {
        #[test]
        fn an_answer_comes_whole(answer in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..50) {
            if let Ok(said) = heard(&answer, piece) {
                prop_assert_eq!(said, answer);
            }
        }
    }
}
