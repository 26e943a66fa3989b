//! The JSON envelope: one flat object is the whole request, and an error comes back as one line.
//!
//! ```json
//! {"server_ip": "127.0.0.1", "server_port": 9000, "message": "ping"}
//! {"error": "blocked", "detail": "10.0.0.0/8 in private.txt, line 3"}
//! ```
//!
//! The three keys are all there, once each, and no other is. What follows the object may only be white space. [`client`] tells
//! a server's answer from such a line.

pub mod client;
mod envelope;
pub(super) mod reader;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::request::Outcome;
use crate::destination::Destination;

/// What went wrong, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Policy forbids the destination.
    Blocked,
    /// The request makes no sense.
    BadRequest,
    /// The server cannot be connected to.
    Unreachable,
    /// The request or the server took too long.
    Timeout,
    /// The request has too many bytes.
    TooLarge,
    /// The proxy has as many connections as it may have.
    Busy,
}

impl ErrorKind {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::BadRequest => "bad_request",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
        }
    }
}

/// The line that a client is sent instead of a server's answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorLine {
    /// What went wrong.
    pub error: ErrorKind,
    /// The same in a sentence.
    pub detail: String,
}

impl ErrorLine {
    /// Reads a whole answer as such a line. A server's answer is relayed as it is, so one that imitates the line
    /// passes for it.
    pub fn read(answer: &[u8]) -> Option<Self> {
        serde_json::from_slice(answer.strip_suffix(b"\n")?).ok()
    }
}

/// The bytes of an [`ErrorLine`].
pub(super) fn error_line(error: ErrorKind, detail: &str) -> Vec<u8> {
    let detail = Value::from(detail);
    format!(
        "{{\"error\": \"{}\", \"detail\": {detail}}}\n",
        error.name()
    )
    .into_bytes()
}

/// What a client is told; nothing on success, where the server's answer follows.
pub(super) fn outcome(outcome: &Outcome) -> Vec<u8> {
    let fault = match outcome {
        Outcome::Connected(_) => return Vec::new(),
        Outcome::Blocked(_) => ErrorKind::Blocked,
        Outcome::TimedOut | Outcome::RequestTimeout => ErrorKind::Timeout,
        Outcome::Busy => ErrorKind::Busy,
        Outcome::Refused
        | Outcome::HostUnreachable
        | Outcome::NetworkUnreachable
        | Outcome::NameUnknown
        | Outcome::General(_) => ErrorKind::Unreachable,
    };
    error_line(fault, &outcome.detail())
}

/// The request for a message to a destination, on one line.
pub fn request(destination: &Destination, message: &str) -> Vec<u8> {
    let host = Value::from(destination.host.to_string());
    let port = destination.port;
    let message = Value::from(message);
    format!("{{\"server_ip\": {host}, \"server_port\": {port}, \"message\": {message}}}\n")
        .into_bytes()
}

#[cfg(test)]
mod tests;
