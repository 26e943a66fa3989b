//! Finds the end of the object, then parses it. Each byte is examined once.
//!
//! The object is flat: its first closing brace outside a string ends it, and any other opening brace is an error.

use std::mem;

use super::super::request::{Kind, Refusal, Request, Settings, Step};
use super::envelope::Envelope;
use super::{ErrorKind, error_line};

/// Position of the next byte in the object.
#[derive(Debug, Clone, Copy, Default)]
enum Place {
    #[default]
    Before,
    Inside,
    Text,
    /// After a backslash in a string.
    Escape,
}

/// Reads one envelope.
#[derive(Debug, Default)]
pub(in super::super) struct Reader {
    bytes: Vec<u8>,
    place: Place,
}

impl Reader {
    /// Bytes of memory that contain the object so far.
    pub(in super::super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes the next bytes.
    pub(in super::super) fn push(&mut self, bytes: &[u8], settings: &Settings) -> Step {
        for (at, &byte) in bytes.iter().enumerate() {
            if self.bytes.len() + at >= settings.max_request {
                let most = settings.max_request;
                let detail = format!("the request has more than {most} bytes");
                let reply = error_line(ErrorKind::TooLarge, &detail);
                let reason = Refusal::TooLarge(detail);
                return Step::Refuse { reply, reason };
            }
            self.place = match (self.place, byte) {
                (Place::Before, space) if is_space(space) => Place::Before,
                (Place::Before, b'{') => Place::Inside,
                (Place::Before, _) => return bad("a JSON request starts with {"),
                (Place::Inside, b'"') => Place::Text,
                (Place::Inside, b'{' | b'[') => return bad("no value is an object or a list"),
                (Place::Inside, b'}') => {
                    let (object, rest) = bytes.split_at(at + 1);
                    self.bytes.extend_from_slice(object);
                    return self.whole(rest, settings);
                }
                (Place::Text, b'\\') => Place::Escape,
                (Place::Text, b'"') => Place::Inside,
                (Place::Escape, _) => Place::Text,
                (place, _) => place,
            };
        }
        self.bytes.extend_from_slice(bytes);
        Step::More
    }

    fn whole(&mut self, rest: &[u8], settings: &Settings) -> Step {
        if settings.credentials.is_some() {
            let detail =
                "this proxy requires a user and a password, which a JSON request cannot carry";
            return Step::Refuse {
                reply: error_line(ErrorKind::BadRequest, detail),
                reason: Refusal::Unauthenticated(detail.to_owned()),
            };
        }
        match rest.iter().find(|byte| !is_space(**byte)) {
            None => {}
            Some(b'{') => return bad("a second object follows; a connection carries one request"),
            _ => return bad("something follows the object, which is the whole request"),
        }
        // The memory is free before the server is connected.
        match Envelope::read(&mem::take(&mut self.bytes)) {
            Ok(envelope) => Step::Ready(Request {
                kind: Kind::Json,
                destination: envelope.destination,
                upstream: envelope.message.into_bytes(),
                whole: true,
            }),
            Err(detail) => bad(&detail),
        }
    }
}

/// RFC 8259, section 2.
pub(in super::super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Refuses an invalid request.
pub(in super::super) fn bad(detail: &str) -> Step {
    Step::Refuse {
        reply: error_line(ErrorKind::BadRequest, detail),
        reason: Refusal::BadRequest(detail.to_owned()),
    }
}
