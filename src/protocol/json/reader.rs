//! Where the object ends. Each byte is looked at once as it comes, and the object is read once it is whole.
//!
//! The object is flat, so its first brace outside a text ends it and any other opening one is an error.

use super::super::request::{Kind, Refusal, Request, Settings, Step};
use super::envelope::Envelope;
use super::{ErrorKind, error_line};

/// Where in the object the next byte falls.
#[derive(Debug, Clone, Copy, Default)]
enum Place {
    #[default]
    Before,
    Inside,
    Text,
    /// Behind a backslash in a text.
    Escape,
}

/// Takes one envelope.
#[derive(Debug, Default)]
pub(in super::super) struct Reader {
    bytes: Vec<u8>,
    place: Place,
}

impl Reader {
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

    fn whole(&self, rest: &[u8], settings: &Settings) -> Step {
        if settings.credentials.is_some() {
            let detail =
                "this proxy asks for a user and a password, and a JSON request has neither";
            return Step::Refuse {
                reply: error_line(ErrorKind::BadRequest, detail),
                reason: Refusal::Unauthenticated(detail.to_owned()),
            };
        }
        match rest.iter().find(|byte| !is_space(**byte)) {
            None => {}
            Some(b'{') => return bad("a second object follows, and a request is one"),
            _ => return bad("something follows the object, which is the whole request"),
        }
        match Envelope::read(&self.bytes) {
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

/// The refusal of what is no envelope.
pub(in super::super) fn bad(detail: &str) -> Step {
    Step::Refuse {
        reply: error_line(ErrorKind::BadRequest, detail),
        reason: Refusal::BadRequest(detail.to_owned()),
    }
}
