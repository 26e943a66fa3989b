//! What every request of a path has in common: the route, the kind of request, and the bytes around its message.

use super::command::Command;
use super::handshake::Route;
use super::payload::Payload;
use crate::protocol::json;
use crate::protocol::{Destination, Kind};

/// How requests use connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Many requests on one connection, each answered before the next is sent.
    KeepAlive,
    /// One request on a connection, which the server closes after the answer.
    OneShot,
    /// A request that the proxy is expected to refuse.
    Refused,
}

/// The requests of one path, shared by all its connections.
#[derive(Debug, Clone)]
pub struct Workload {
    pub(super) payload: Payload,
    pub(super) route: Route,
    pub(super) request_kind: RequestKind,
    pub(super) message: usize,
    /// Sent before the message: a command to the origin, or the JSON envelope up to its message.
    pub(super) head: Vec<u8>,
    /// Sent after the message: the rest of the JSON envelope.
    pub(super) tail: &'static [u8],
}

impl Workload {
    /// Messages of `message` bytes on `route`.
    pub fn new(route: Route, request_kind: RequestKind, message: usize) -> Self {
        let (head, tail) = match &route {
            Route::Proxied(Kind::Json, destination, _) => envelope(destination),
            _ if request_kind == RequestKind::OneShot => {
                (Command::Once(message as u64).encode().to_vec(), &b""[..])
            }
            _ => (Vec::new(), &b""[..]),
        };
        Self {
            payload: Payload::new(message),
            route,
            request_kind,
            message,
            head,
            tail,
        }
    }

    /// Bytes of a message.
    pub fn message(&self) -> usize {
        self.message
    }

    /// How requests use connections.
    pub fn request_kind(&self) -> RequestKind {
        self.request_kind
    }

    /// How the server is reached.
    pub fn route(&self) -> &Route {
        &self.route
    }

    pub(super) fn is_json(&self) -> bool {
        matches!(self.route, Route::Proxied(Kind::Json, ..))
    }

    /// Whether a connection carries more than one request. A JSON request is a whole connection.
    pub(super) fn is_keep_alive(&self) -> bool {
        self.request_kind == RequestKind::KeepAlive && !self.is_json()
    }
}

/// A JSON request without its message: the bytes before the message and the bytes after it.
fn envelope(destination: &Destination) -> (Vec<u8>, &'static [u8]) {
    const TAIL: &[u8] = b"\"}\n";
    let mut head = json::request(destination, "");
    head.truncate(head.len() - TAIL.len());
    (head, TAIL)
}
