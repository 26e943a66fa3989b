//! One connection's dialogue with the server, through a proxy or not: what is to be sent, and whether what comes is right.
//!
//! Pure: bytes in, decisions out. The expected answer is never put together: it is compared piece by piece, as it comes, with
//! the prefix and the text it should repeat. A request on a connection that is kept costs no allocation.

use super::fault::{Failure, Fault};
use super::handshake::{Handshake, Progress, Route};
use super::order::Order;
use super::origin::PREFIX;
use super::pattern::Pattern;
use crate::protocol::json::{self, ErrorLine, Fault as JsonFault};
use crate::protocol::{Destination, Kind};

/// Most of a JSON error line that is kept to be told.
const MOST_LINE: usize = 4_096;

/// What is said on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// Request upon request, each answered before the next.
    Kept,
    /// One request, whose answer ends the connection.
    Once,
    /// A request that the proxy is to refuse.
    Refusal,
}

/// What all connections of a path have in common.
#[derive(Debug, Clone)]
pub struct Script {
    pattern: Pattern,
    route: Route,
    exchange: Exchange,
    message: usize,
    /// Around the message, in JSON.
    head: Vec<u8>,
    tail: &'static [u8],
    /// The prefix is part of each answer, not only of a connection's first.
    whole: bool,
}

impl Script {
    /// Messages of `message` bytes on `route`.
    pub fn new(route: Route, exchange: Exchange, message: usize) -> Self {
        let is_json = matches!(route, Route::Asked(Kind::Json, ..));
        let (head, tail) = match &route {
            Route::Asked(Kind::Json, destination, _) => envelope(destination),
            _ if exchange == Exchange::Once => {
                (Order::Once(message as u64).encode().to_vec(), &b""[..])
            }
            _ => (Vec::new(), &b""[..]),
        };
        Self {
            pattern: Pattern::new(message),
            route,
            exchange,
            message,
            head,
            tail,
            whole: is_json || exchange == Exchange::Once,
        }
    }

    /// Bytes of a message.
    pub fn message(&self) -> usize {
        self.message
    }

    /// What is said on a connection.
    pub fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// How the server is reached.
    pub fn route(&self) -> &Route {
        &self.route
    }

    fn is_json(&self) -> bool {
        matches!(self.route, Route::Asked(Kind::Json, ..))
    }
}

/// A JSON request without its message: what is before it and behind it.
fn envelope(destination: &Destination) -> (Vec<u8>, &'static [u8]) {
    const TAIL: &[u8] = b"\"}\n";
    let mut head = json::request(destination, "");
    head.truncate(head.len() - TAIL.len());
    (head, TAIL)
}

/// What has come of the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on; there may be something to be sent.
    More,
    /// The answer is whole, and right.
    Answered,
    /// The answer is whole and right, and the connection has ended or may be ended.
    Over,
}

/// The dialogue.
#[derive(Debug)]
pub struct Dialogue {
    stage: Stage,
    /// To be sent before the message.
    lead: Vec<u8>,
    /// How much of lead, message and tail is sent.
    sent: usize,
    /// Where in the pattern the message is.
    place: usize,
    /// How much of the answer came.
    came: usize,
    /// The answer begins with the prefix.
    prefixed: bool,
}

#[derive(Debug)]
enum Stage {
    /// The proxy is asked.
    Asking(Handshake),
    /// The answer is waited for.
    Request,
    /// Something else comes that may be a JSON error line.
    Line(Vec<u8>),
    /// It is answered.
    Rest,
}

impl Dialogue {
    /// On a new connection, with its first message from `place` of the pattern.
    pub fn new(script: &Script, place: usize) -> Self {
        let (stage, lead) = match Handshake::begin(&script.route) {
            Some((handshake, lead)) => (Stage::Asking(handshake), lead),
            None => (Stage::Request, script.head.clone()),
        };
        Self {
            stage,
            lead,
            sent: 0,
            place,
            came: 0,
            prefixed: true,
        }
    }

    /// The next message on a connection that is kept.
    #[inline]
    pub fn next(&mut self, place: usize) {
        self.stage = Stage::Request;
        self.lead.clear();
        self.sent = 0;
        self.place = place;
        self.came = 0;
        self.prefixed = false;
    }

    /// What is to be sent now, in up to three pieces; all of them empty where there is nothing.
    #[inline]
    pub fn outgoing<'a>(&'a self, script: &'a Script) -> [&'a [u8]; 3] {
        let all = match self.stage {
            Stage::Asking(_) => [&self.lead[..], &[], &[]],
            Stage::Request => {
                let message = script.pattern.stretch(self.place, script.message);
                [&self.lead[..], message, script.tail]
            }
            Stage::Line(_) | Stage::Rest => return [&[]; 3],
        };
        let mut skip = self.sent;
        all.map(|piece| {
            let from = skip.min(piece.len());
            skip -= from;
            piece.get(from..).unwrap_or_default()
        })
    }

    /// So many bytes of [`Self::outgoing`] are sent.
    #[inline]
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// Takes what came.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&mut self, script: &Script, bytes: &[u8]) -> Result<Step, Failure> {
        match &mut self.stage {
            Stage::Request => self.answer(script, bytes),
            Stage::Asking(handshake) => {
                let progress = handshake.take(bytes)?;
                self.asked(script, progress)
            }
            Stage::Line(line) => {
                line.extend_from_slice(bytes);
                self.line(script, false)
            }
            // Of a refusal there may be more than its first line.
            Stage::Rest if script.exchange == Exchange::Refusal => Ok(Step::Answered),
            Stage::Rest => Err(Failure::new(
                Fault::Corrupt,
                "more came than the whole answer",
            )),
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// The answer had not.
    pub fn end(&mut self, script: &Script) -> Result<Step, Failure> {
        let early = |what: &str| Err(Failure::new(Fault::ClosedEarly, what));
        match &self.stage {
            Stage::Asking(_) => early("it ended before the proxy had replied"),
            Stage::Request => {
                let whole = self.expected(script);
                let came = self.came;
                early(&format!(
                    "it ended after {came} of {whole} bytes of the answer"
                ))
            }
            Stage::Line(_) => self.line(script, true),
            Stage::Rest => Ok(Step::Over),
        }
    }

    fn asked(&mut self, script: &Script, progress: Progress) -> Result<Step, Failure> {
        match progress {
            Progress::More(say) => {
                if !say.is_empty() {
                    self.lead = say;
                    self.sent = 0;
                }
                Ok(Step::More)
            }
            Progress::Open(_) if script.exchange == Exchange::Refusal => Err(Failure::new(
                Fault::NotRefused,
                "the proxy says that it is connected",
            )),
            Progress::Open(early) => {
                self.stage = Stage::Request;
                self.lead.clone_from(&script.head);
                self.sent = 0;
                if early.is_empty() {
                    return Ok(Step::More);
                }
                Err(Failure::new(
                    Fault::Corrupt,
                    "something came before anything was asked",
                ))
            }
            Progress::Refused { forbidden, detail } => self.refused(script, forbidden, detail),
        }
    }

    fn refused(
        &mut self,
        script: &Script,
        forbidden: bool,
        detail: String,
    ) -> Result<Step, Failure> {
        if script.exchange == Exchange::Refusal && forbidden {
            self.stage = Stage::Rest;
            return Ok(Step::Answered);
        }
        Err(Failure::new(Fault::RefusedByProxy, detail))
    }

    fn expected(&self, script: &Script) -> usize {
        script.message + if self.prefixed { PREFIX.len() } else { 0 }
    }

    #[inline]
    fn answer(&mut self, script: &Script, bytes: &[u8]) -> Result<Step, Failure> {
        let prefix = if self.prefixed { PREFIX } else { &[] };
        let message = script.pattern.stretch(self.place, script.message);
        let mut rest = bytes;
        for (piece, from) in [(prefix, 0), (message, prefix.len())] {
            let told = self.came.saturating_sub(from).min(piece.len());
            let told = piece.get(told..).unwrap_or_default();
            let length = told.len().min(rest.len());
            let (here, behind) = rest.split_at(length);
            if told.get(..length) != Some(here) {
                return self.other(script, bytes);
            }
            self.came += length;
            rest = behind;
        }
        if !rest.is_empty() {
            return self.other(script, bytes);
        }
        if self.came < self.expected(script) {
            return Ok(Step::More);
        }
        self.stage = Stage::Rest;
        Ok(Step::Answered)
    }

    /// What came is not the answer.
    fn other(&mut self, script: &Script, bytes: &[u8]) -> Result<Step, Failure> {
        // The answer's own letters do not begin an error line.
        if script.is_json() && self.came == 0 && bytes.first() == Some(&b'{') {
            self.stage = Stage::Line(bytes.to_vec());
            return self.line(script, false);
        }
        let came = self.came;
        Err(Failure::new(
            Fault::Corrupt,
            format!("the answer is another one from its byte {came} on, or near that"),
        ))
    }

    fn line(&mut self, script: &Script, ended: bool) -> Result<Step, Failure> {
        let Stage::Line(line) = &self.stage else {
            return Ok(Step::More);
        };
        let Some(told) = ErrorLine::read(line) else {
            return match ended || line.len() > MOST_LINE {
                true => Err(Failure::new(
                    Fault::Corrupt,
                    "neither an answer came nor an error line",
                )),
                false => Ok(Step::More),
            };
        };
        let forbidden = told.error == JsonFault::Blocked;
        let detail = format!("{}: {}", told.error.name(), told.detail);
        self.refused(script, forbidden, detail)
    }

    /// Whether another message may follow on this connection.
    #[inline]
    pub fn goes_on(&self, script: &Script) -> bool {
        matches!(self.stage, Stage::Rest) && !script.whole && script.exchange == Exchange::Kept
    }
}

#[cfg(test)]
mod tests;
