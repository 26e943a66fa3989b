//! Reads one request of a connection, in the protocol that its first bytes show.

use std::sync::Arc;

use super::detect::{Detected, detect};
use super::json;
use super::request::{Kind, Outcome, Refusal, Request, Settings, Step};
use super::socks5;
use super::{connect, socks4};

/// Takes the bytes of a connection until they are a request or cannot become one.
#[derive(Debug)]
pub struct FrontEnd {
    settings: Arc<Settings>,
    reader: Reader,
    /// Bytes so far while several protocols are possible; `None` once the protocol is known.
    undetected: Option<Vec<u8>>,
    /// Whether the request is ready or refused.
    done: bool,
}

#[derive(Debug)]
enum Reader {
    /// The protocol is not yet known. Errors are JSON, which is readable for people too.
    Unknown,
    Json(json::reader::Reader),
    Socks5(socks5::reader::Reader),
    Connect(connect::reader::Reader),
    Forward,
}

impl Reader {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Json => Self::Json(json::reader::Reader::default()),
            Kind::Socks5 => Self::Socks5(socks5::reader::Reader::default()),
            Kind::Connect => Self::Connect(connect::reader::Reader::default()),
            Kind::Forward => Self::Forward,
        }
    }

    /// Refuses an invalid request in this protocol.
    fn bad(&self, detail: &str) -> Step {
        match self {
            Self::Unknown | Self::Json(_) => json::reader::bad(detail),
            Self::Socks5(reader) => reader.bad(detail),
            Self::Connect(_) => connect::reader::bad(detail),
            Self::Forward => Step::Refuse {
                reply: Vec::new(),
                reason: Refusal::BadRequest(detail.to_owned()),
            },
        }
    }
}

impl FrontEnd {
    /// The front end of a new connection.
    pub fn new(settings: &Arc<Settings>) -> Self {
        let sole = match settings.forward {
            Some(_) => Some(Kind::Forward),
            None => settings.accept.sole(),
        };
        Self {
            settings: Arc::clone(settings),
            reader: sole.map_or(Reader::Unknown, Reader::of),
            undetected: settings.forward.is_none().then(Vec::new),
            done: false,
        }
    }

    /// The protocol, as far as the first bytes or the settings determine it.
    pub const fn kind(&self) -> Option<Kind> {
        match self.reader {
            Reader::Unknown => None,
            Reader::Json(_) => Some(Kind::Json),
            Reader::Socks5(_) => Some(Kind::Socks5),
            Reader::Connect(_) => Some(Kind::Connect),
            Reader::Forward => Some(Kind::Forward),
        }
    }

    /// The user that the client named, valid or not, if users are required.
    pub fn user(&self) -> Option<&[u8]> {
        match &self.reader {
            Reader::Socks5(reader) => reader.user(),
            Reader::Connect(reader) => reader.user(),
            Reader::Unknown | Reader::Json(_) | Reader::Forward => None,
        }
    }

    /// Bytes of memory that contain an incomplete request. Requests other than JSON have a few kilobytes, which are not counted.
    pub fn memory(&self) -> usize {
        match &self.reader {
            Reader::Json(reader) => reader.memory(),
            Reader::Unknown | Reader::Socks5(_) | Reader::Connect(_) | Reader::Forward => 0,
        }
    }

    /// Takes the next bytes. Call it once without bytes at the start: a forwarded connection is ready before its client sends
    /// anything. After [`Step::Ready`], [`Step::Associate`] and [`Step::Refuse`] it ignores bytes and returns [`Step::More`].
    pub fn push(&mut self, bytes: &[u8]) -> Step {
        if self.done {
            return Step::More;
        }
        let step = match self.undetected.take() {
            None => self.read(bytes),
            Some(before) if before.is_empty() => self.begin(bytes),
            Some(before) => self.begin(&[&before, bytes].concat()),
        };
        self.done = matches!(
            step,
            Step::Ready(_) | Step::Associate(_) | Step::Refuse { .. }
        );
        step
    }

    /// Handles the end of the client's data.
    pub fn eof(&mut self) -> Step {
        if self.done {
            return Step::More;
        }
        if matches!(self.reader, Reader::Forward) {
            return self.push(&[]);
        }
        self.done = true;
        match &self.undetected {
            Some(undetected) if undetected.is_empty() => Step::Refuse {
                reply: Vec::new(),
                reason: Refusal::Closed,
            },
            _ => self
                .reader
                .bad("the connection ended before the request was complete"),
        }
    }

    /// The reply to the client once the outcome is known, in its protocol; empty if the server's bytes are the reply.
    pub fn outcome(&self, outcome: Outcome) -> Vec<u8> {
        match &self.reader {
            Reader::Unknown | Reader::Json(_) => json::outcome(&outcome),
            Reader::Socks5(reader) => reader.outcome(&outcome),
            Reader::Connect(_) => connect::outcome(&outcome),
            Reader::Forward => Vec::new(),
        }
    }

    /// Selects the reader by the first bytes and passes them to it.
    ///
    /// A client is refused in its own protocol, even if the port does not accept that. Bytes of no protocol are refused in the
    /// only protocol that the port accepts, or else in JSON.
    fn begin(&mut self, bytes: &[u8]) -> Step {
        let kind = match detect(bytes) {
            Detected::Unclear => {
                self.undetected = Some(bytes.to_vec());
                return Step::More;
            }
            Detected::Socks4 => {
                return socks4::refuse("SOCKS4 is not supported; use SOCKS5");
            }
            Detected::Socks5 => Kind::Socks5,
            Detected::Http => Kind::Connect,
            Detected::ProxyHeader => {
                let detail = "received a PROXY header, which needs --accept-proxy";
                return self.reader.bad(detail);
            }
            // The only reader reports the error.
            _ if !matches!(self.reader, Reader::Unknown) => return self.read(bytes),
            Detected::Json => Kind::Json,
            // To a plain-text answer, curl, OpenSSL and browsers report "wrong version number", the well-known sign of a port
            // without TLS. An alert would look like a TLS version or handshake problem.
            Detected::Tls => {
                let detail = "received TLS, but this port accepts plain-text requests only";
                return connect::reader::bad(detail);
            }
            Detected::Other(byte) => {
                let detail = format!("no request begins with the byte 0x{byte:02x}");
                return self.reader.bad(&detail);
            }
        };
        if self.kind() != Some(kind) {
            self.reader = Reader::of(kind);
        }
        if self.settings.accept.has(kind) {
            return self.read(bytes);
        }
        let (name, taken) = (kind.name(), self.settings.accept);
        self.reader.bad(&format!(
            "{name} is not accepted on this port, only {taken}"
        ))
    }

    fn read(&mut self, bytes: &[u8]) -> Step {
        match &mut self.reader {
            Reader::Unknown => Step::More,
            Reader::Json(reader) => reader.push(bytes, &self.settings),
            Reader::Socks5(reader) => reader.push(bytes, &self.settings),
            Reader::Connect(reader) => reader.push(bytes, &self.settings),
            Reader::Forward => forward(bytes, &self.settings),
        }
    }
}

fn forward(bytes: &[u8], settings: &Settings) -> Step {
    match &settings.forward {
        Some(destination) => Step::Ready(Request {
            kind: Kind::Forward,
            destination: destination.clone(),
            upstream: bytes.to_vec(),
            whole: false,
        }),
        None => Step::More,
    }
}
