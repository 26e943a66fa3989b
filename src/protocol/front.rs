//! One connection's request, of whichever kind its first bytes reply.

use std::sync::Arc;

use super::detect::{Detected, detect};
use super::json;
use super::request::{Kind, Outcome, Refusal, Request, Settings, Step};
use super::socks5;
use super::{connect, socks4};

/// Takes a connection's bytes as they come, until they are a request or cannot become one.
#[derive(Debug)]
pub struct FrontEnd {
    settings: Arc<Settings>,
    reader: Reader,
    /// The bytes that came while they could begin more than one protocol; `None` once it is clear which.
    unclear: Option<Vec<u8>>,
    /// The request is ready or refused.
    over: bool,
}

#[derive(Debug)]
enum Reader {
    /// Several kinds are taken and it is not clear which comes. Refusals are in JSON, which a person can read too.
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

    /// The refusal of a request that makes no sense, in the form of this kind.
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
            unclear: settings.forward.is_none().then(Vec::new),
            over: false,
        }
    }

    /// How the client speaks, as far as its first bytes or the settings tell.
    pub const fn kind(&self) -> Option<Kind> {
        match self.reader {
            Reader::Unknown => None,
            Reader::Json(_) => Some(Kind::Json),
            Reader::Socks5(_) => Some(Kind::Socks5),
            Reader::Connect(_) => Some(Kind::Connect),
            Reader::Forward => Some(Kind::Forward),
        }
    }

    /// The user that the client named, right or wrong, as far as users are asked for.
    pub fn user(&self) -> Option<&[u8]> {
        match &self.reader {
            Reader::Socks5(reader) => reader.user(),
            Reader::Connect(reader) => reader.user(),
            Reader::Unknown | Reader::Json(_) | Reader::Forward => None,
        }
    }

    /// Takes the next bytes. Push nothing once at the start: a forwarded connection is ready before its client
    /// says anything. After [`Step::Ready`] and [`Step::Refuse`] nothing more is taken, and the answer is
    /// [`Step::More`].
    pub fn push(&mut self, bytes: &[u8]) -> Step {
        if self.over {
            return Step::More;
        }
        let step = match self.unclear.take() {
            None => self.read(bytes),
            Some(before) if before.is_empty() => self.begin(bytes),
            Some(before) => self.begin(&[&before, bytes].concat()),
        };
        self.over = matches!(step, Step::Ready(_) | Step::Refuse { .. });
        step
    }

    /// The client will send nothing more.
    pub fn eof(&mut self) -> Step {
        if self.over {
            return Step::More;
        }
        if matches!(self.reader, Reader::Forward) {
            return self.push(&[]);
        }
        self.over = true;
        match &self.unclear {
            Some(unclear) if unclear.is_empty() => Step::Refuse {
                reply: Vec::new(),
                reason: Refusal::Closed,
            },
            _ => self
                .reader
                .bad("the connection ends before the request does"),
        }
    }

    /// What the client is told once it is known what became of its request, in its own protocol; empty where the
    /// server speaks for itself.
    pub fn outcome(&self, outcome: Outcome) -> Vec<u8> {
        match &self.reader {
            Reader::Unknown | Reader::Json(_) => json::outcome(&outcome),
            Reader::Socks5(reader) => reader.outcome(&outcome),
            Reader::Connect(_) => connect::outcome(&outcome),
            Reader::Forward => Vec::new(),
        }
    }

    /// Chooses the reader by the first bytes, all that came so far, and gives them to it.
    ///
    /// A client is refused in the protocol that it speaks, also where the port does not take that. What no protocol
    /// begins with is refused in the form of the only kind that the port takes, or else in JSON.
    fn begin(&mut self, bytes: &[u8]) -> Step {
        let kind = match detect(bytes) {
            Detected::Unclear => {
                self.unclear = Some(bytes.to_vec());
                return Step::More;
            }
            Detected::Socks4 => {
                return socks4::refuse("this is SOCKS4, and of SOCKS only version 5 is taken");
            }
            Detected::Socks5 => Kind::Socks5,
            Detected::Http => Kind::Connect,
            Detected::ProxyHeader => {
                let detail = "a PROXY header came, which is taken with --accept-proxy only";
                return self.reader.bad(detail);
            }
            // The reader of its only kind knows what is wrong.
            _ if !matches!(self.reader, Reader::Unknown) => return self.read(bytes),
            Detected::Json => Kind::Json,
            // curl, OpenSSL and browsers say "wrong version number" to any answer in the clear, which is known as the
            // sign of a port without TLS. An alert is shown as a fault of the TLS version or of the handshake.
            Detected::Tls => {
                let detail = "this looks like TLS, and requests come in the clear";
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
        self.reader
            .bad(&format!("{name} is not taken on this port, only {taken}"))
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
