//! The JSON envelope: one flat object is the whole request, and one line is an error reply.
//!
//! ```json
//! {"server_ip": "127.0.0.1", "server_port": 9000, "message": "ping"}
//! {"error": "blocked", "detail": "10.0.0.0/8 in private.txt, line 3"}
//! ```
//!
//! All three keys occur once, and no others. Only white space may follow the object. [`client`] distinguishes a server's answer
//! from an error line.

pub mod client;
mod envelope;
pub(super) mod reader;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::request::Outcome;
use crate::destination::Destination;

/// The error of an error line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Policy forbids the destination.
    Blocked,
    /// The request is invalid.
    BadRequest,
    /// The server cannot be connected to.
    Unreachable,
    /// The request or the server timed out.
    Timeout,
    /// The request is too large.
    TooLarge,
    /// The proxy is at its connection limit.
    Busy,
}

impl ErrorKind {
    /// The value in the error line.
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

/// The line that a client receives instead of a server's answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorLine {
    /// The error.
    pub error: ErrorKind,
    /// The error in a sentence.
    pub detail: String,
}

impl ErrorLine {
    /// Parses a complete answer as an error line. A server's answer is relayed unchanged, so an imitation is mistaken for one.
    pub fn read(answer: &[u8]) -> Option<Self> {
        serde_json::from_slice(answer.strip_suffix(b"\n")?).ok()
    }
}

/// An encoded [`ErrorLine`].
pub(super) fn error_line(error: ErrorKind, detail: &str) -> Vec<u8> {
    let detail = Value::from(detail);
    format!(
        "{{\"error\": \"{}\", \"detail\": {detail}}}\n",
        error.name()
    )
    .into_bytes()
}

/// The reply to the client; empty on success, where the server's answer follows.
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

/// An encoded request, on one line.
pub fn request(destination: &Destination, message: &str) -> Vec<u8> {
    let host = Value::from(destination.host.to_string());
    let port = destination.port;
    let message = Value::from(message);
    format!("{{\"server_ip\": {host}, \"server_port\": {port}, \"message\": {message}}}\n")
        .into_bytes()
}

#[cfg(test)]
mod tests;
