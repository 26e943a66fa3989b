//! One connection's request, of whichever kind its first byte says.

use std::sync::Arc;

use super::connect;
use super::json;
use super::request::{Kind, Outcome, Refusal, Request, Settings, Step};
use super::socks5;

/// Takes a connection's bytes as they come, until they are a request or cannot become one.
#[derive(Debug)]
pub struct FrontEnd {
    settings: Arc<Settings>,
    reader: Reader,
    /// Any byte came.
    begun: bool,
    /// The request is ready or refused.
    over: bool,
}

#[derive(Debug)]
enum Reader {
    /// No byte yet, or one that begins nothing: a client that no kind is known of is told as in JSON, which
    /// a person can read too.
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
                say: Vec::new(),
                why: Refusal::BadRequest(detail.to_owned()),
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
            begun: false,
            over: false,
        }
    }

    /// How the client speaks, as far as its first byte or the settings tell.
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
        if let (Some(&first), false) = (bytes.first(), self.begun) {
            self.begun = true;
            if let Err(detail) = self.begin(first) {
                self.over = true;
                return self.reader.bad(&detail);
            }
        }
        let step = match &mut self.reader {
            Reader::Unknown => Step::More,
            Reader::Json(reader) => reader.push(bytes, &self.settings),
            Reader::Socks5(reader) => reader.push(bytes, &self.settings),
            Reader::Connect(reader) => reader.push(bytes, &self.settings),
            Reader::Forward => forward(bytes, &self.settings),
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
        if self.begun {
            return self
                .reader
                .bad("the connection ends before the request does");
        }
        Step::Refuse {
            say: Vec::new(),
            why: Refusal::Closed,
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

    /// Chooses the reader by the first byte, where there is a choice.
    fn begin(&mut self, first: u8) -> Result<(), String> {
        if !matches!(self.reader, Reader::Unknown) {
            return Ok(());
        }
        let kind = match first {
            b'{' => Kind::Json,
            space if json::reader::is_space(space) => Kind::Json,
            5 => Kind::Socks5,
            b'A'..=b'Z' => Kind::Connect,
            4 => return Err("this is SOCKS4, and only SOCKS5 is taken".to_owned()),
            0x16 => return Err("this looks like TLS, and requests come in the clear".to_owned()),
            _ => return Err(format!("no request begins with the byte 0x{first:02x}")),
        };
        // A kind that is known but not taken is told so in its own form.
        self.reader = Reader::of(kind);
        if self.settings.accept.has(kind) {
            Ok(())
        } else {
            Err(format!("{} is not taken on this port", kind.name()))
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
