//! The client's side: the request, and the head of the response.

use super::super::client_step::ClientStep;
use super::basic;
use super::head::{Head, MAX_HEAD, Progress};
use crate::destination::Destination;

/// A request for a connection to a destination, with credentials if the proxy requires them.
pub fn request(destination: &Destination, user: Option<(&str, &str)>) -> Vec<u8> {
    let authorization = user.map_or_else(String::new, |(user, password)| {
        format!("Proxy-Authorization: {}\r\n", basic::encode(user, password))
    });
    format!("CONNECT {destination} HTTP/1.1\r\nHost: {destination}\r\n{authorization}\r\n")
        .into_bytes()
}

/// Reads the response.
#[derive(Debug, Default)]
pub struct Client {
    head: Head,
}

impl Client {
    /// Takes bytes of the proxy. Interim responses may precede the final one (RFC 9110, section 15.2). A refusal is complete with
    /// its head; its body is ignored.
    pub fn push(&mut self, bytes: &[u8]) -> ClientStep {
        let mut rest = bytes;
        loop {
            let early = match self.head.push(rest) {
                Progress::More => return ClientStep::More,
                Progress::TooLong => {
                    return ClientStep::Bad(format!(
                        "the response's head has more than {MAX_HEAD} bytes"
                    ));
                }
                Progress::Wrong(detail) => return ClientStep::Bad(detail.to_owned()),
                Progress::Whole(early) => early,
            };
            let status = status(self.head.lines().0);
            match status {
                Some((200..=299, _)) => {
                    return ClientStep::Open {
                        early: early.to_vec(),
                    };
                }
                // 101 ends HTTP, so that no other response follows it.
                Some((100 | 102..=199, _)) => {
                    self.head = Head::default();
                    rest = early;
                }
                Some((code, detail)) => return ClientStep::Refused { code, detail },
                None => return ClientStep::Bad("the response is not HTTP/1".to_owned()),
            }
        }
    }
}

/// The code and the phrase in `HTTP/1.x CODE PHRASE` (RFC 9112, section 4).
fn status(line: &[u8]) -> Option<(u16, String)> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let ([b'0'..=b'9', b' ', code @ ..], phrase) = rest.split_first_chunk::<5>()? else {
        return None;
    };
    let digits = code.iter().all(u8::is_ascii_digit);
    let code = str::from_utf8(code).ok()?.parse().ok()?;
    let phrase = match phrase {
        [] => String::new(),
        [b' ', phrase @ ..] => String::from_utf8_lossy(phrase).into_owned(),
        _ => return None,
    };
    (digits && code >= 100).then_some((code, phrase))
}
