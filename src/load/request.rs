//! The state machine of requests on one connection, direct or through a proxy: the bytes to send, and the check of the answer.
//!
//! Pure: bytes in, decisions out. The expected answer is never assembled: each received piece is compared with the prefix and
//! the payload. A request on a kept connection allocates nothing.

use super::error::{ErrorKind, RequestError};
use super::handshake::{Handshake, Progress};
use super::origin::PREFIX;
use super::workload::{RequestKind, Workload};
use crate::protocol::json::{ErrorKind as JsonErrorKind, ErrorLine};

/// Longest JSON error line that is kept for the report.
const MAX_LINE: usize = 4_096;

/// Result of the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The answer is incomplete. There may be something to send.
    Incomplete,
    /// The answer is complete and correct.
    Answered,
    /// The answer is complete and correct, and the connection is closed or may be.
    Closed,
}

/// The state of a connection's current request.
#[derive(Debug)]
pub struct RequestState {
    stage: Stage,
    /// Bytes to send before the message.
    head: Vec<u8>,
    /// Bytes sent of head, message and tail.
    sent: usize,
    /// Offset of the message in the payload.
    offset: usize,
    /// Bytes received of the answer.
    received: usize,
    /// The answer begins with [`PREFIX`]: the first one on a connection does.
    prefixed: bool,
}

#[derive(Debug)]
enum Stage {
    /// The proxy has not yet connected.
    Handshake(Handshake),
    /// The request is sent and its answer received.
    Answer,
    /// The received bytes may be a JSON error line.
    ErrorLine(Vec<u8>),
    /// The answer is complete.
    Answered,
}

impl RequestState {
    /// The first request on a new connection, with the message at `offset` of the payload.
    pub fn new(workload: &Workload, offset: usize) -> Self {
        let (stage, head) = match Handshake::start(&workload.route) {
            Some((handshake, request)) => (Stage::Handshake(handshake), request),
            None => (Stage::Answer, workload.head.clone()),
        };
        Self {
            stage,
            head,
            sent: 0,
            offset,
            received: 0,
            prefixed: true,
        }
    }

    /// Starts the next request on a kept connection.
    #[inline]
    pub fn start_next(&mut self, offset: usize) {
        self.stage = Stage::Answer;
        self.head.clear();
        self.sent = 0;
        self.offset = offset;
        self.received = 0;
        self.prefixed = false;
    }

    /// The bytes to send now, in up to three pieces; all are empty where there is nothing to send.
    #[inline]
    pub fn outgoing<'a>(&'a self, workload: &'a Workload) -> [&'a [u8]; 3] {
        let all = match self.stage {
            Stage::Handshake(_) => [&self.head[..], &[], &[]],
            Stage::Answer => {
                let message = workload.payload.slice(self.offset, workload.message);
                [&self.head[..], message, workload.tail]
            }
            Stage::ErrorLine(_) | Stage::Answered => return [&[]; 3],
        };
        let mut skip = self.sent;
        all.map(|piece| {
            let from = skip.min(piece.len());
            skip -= from;
            piece.get(from..).unwrap_or_default()
        })
    }

    /// Records that the first `bytes` bytes of [`Self::outgoing`] are sent.
    #[inline]
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// Takes received bytes.
    ///
    /// # Errors
    /// The bytes are not the expected answer.
    pub fn receive(&mut self, workload: &Workload, bytes: &[u8]) -> Result<Step, RequestError> {
        match &mut self.stage {
            Stage::Answer => self.answer(workload, bytes),
            Stage::Handshake(handshake) => {
                let progress = handshake.receive(bytes)?;
                self.on_handshake(workload, progress)
            }
            Stage::ErrorLine(line) => {
                line.extend_from_slice(bytes);
                self.error_line(workload, false)
            }
            // A refusal may be longer than its first line.
            Stage::Answered if workload.request_kind == RequestKind::Refused => Ok(Step::Answered),
            Stage::Answered => Err(RequestError::new(
                ErrorKind::Corrupt,
                "bytes followed the complete answer",
            )),
        }
    }

    /// Handles the end of the connection.
    ///
    /// # Errors
    /// The answer is incomplete.
    pub fn on_eof(&mut self, workload: &Workload) -> Result<Step, RequestError> {
        let early = |detail: &str| Err(RequestError::new(ErrorKind::ClosedEarly, detail));
        match &self.stage {
            Stage::Handshake(_) => early("the connection closed before the proxy replied"),
            Stage::Answer => {
                let (expected, received) = (self.expected(workload), self.received);
                early(&format!(
                    "the connection closed after {received} of {expected} bytes of the answer"
                ))
            }
            Stage::ErrorLine(_) => self.error_line(workload, true),
            Stage::Answered => Ok(Step::Closed),
        }
    }

    fn on_handshake(
        &mut self,
        workload: &Workload,
        progress: Progress,
    ) -> Result<Step, RequestError> {
        match progress {
            Progress::More(reply) => {
                if !reply.is_empty() {
                    self.head = reply;
                    self.sent = 0;
                }
                Ok(Step::Incomplete)
            }
            Progress::Open(_) if workload.request_kind == RequestKind::Refused => Err(
                RequestError::new(ErrorKind::NotRefused, "the proxy reports a connection"),
            ),
            Progress::Open(early) => {
                self.stage = Stage::Answer;
                self.head.clone_from(&workload.head);
                self.sent = 0;
                if early.is_empty() {
                    return Ok(Step::Incomplete);
                }
                Err(RequestError::new(
                    ErrorKind::Corrupt,
                    "bytes came before any request was sent",
                ))
            }
            Progress::Refused { forbidden, detail } => self.refused(workload, forbidden, detail),
        }
    }

    fn refused(
        &mut self,
        workload: &Workload,
        forbidden: bool,
        detail: String,
    ) -> Result<Step, RequestError> {
        if workload.request_kind == RequestKind::Refused && forbidden {
            self.stage = Stage::Answered;
            return Ok(Step::Answered);
        }
        Err(RequestError::new(ErrorKind::RefusedByProxy, detail))
    }

    fn expected(&self, workload: &Workload) -> usize {
        workload.message + if self.prefixed { PREFIX.len() } else { 0 }
    }

    #[inline]
    fn answer(&mut self, workload: &Workload, bytes: &[u8]) -> Result<Step, RequestError> {
        let prefix = if self.prefixed { PREFIX } else { &[] };
        let message = workload.payload.slice(self.offset, workload.message);
        let mut rest = bytes;
        for (piece, start) in [(prefix, 0), (message, prefix.len())] {
            let done = self.received.saturating_sub(start).min(piece.len());
            let expected = piece.get(done..).unwrap_or_default();
            let length = expected.len().min(rest.len());
            let (received, after) = rest.split_at(length);
            if expected.get(..length) != Some(received) {
                return self.unexpected(workload, bytes);
            }
            self.received += length;
            rest = after;
        }
        if !rest.is_empty() {
            return self.unexpected(workload, bytes);
        }
        if self.received < self.expected(workload) {
            return Ok(Step::Incomplete);
        }
        self.stage = Stage::Answered;
        Ok(Step::Answered)
    }

    /// Handles bytes that are not the answer.
    fn unexpected(&mut self, workload: &Workload, bytes: &[u8]) -> Result<Step, RequestError> {
        // The payload has no brace, so an error line differs from an answer in its first byte.
        if workload.is_json() && self.received == 0 && bytes.first() == Some(&b'{') {
            self.stage = Stage::ErrorLine(bytes.to_vec());
            return self.error_line(workload, false);
        }
        let received = self.received;
        Err(RequestError::new(
            ErrorKind::Corrupt,
            format!("the answer differs at about byte {received}"),
        ))
    }

    fn error_line(&mut self, workload: &Workload, ended: bool) -> Result<Step, RequestError> {
        let Stage::ErrorLine(bytes) = &self.stage else {
            return Ok(Step::Incomplete);
        };
        let Some(line) = ErrorLine::read(bytes) else {
            return match ended || bytes.len() > MAX_LINE {
                true => Err(RequestError::new(
                    ErrorKind::Corrupt,
                    "received neither an answer nor an error line",
                )),
                false => Ok(Step::Incomplete),
            };
        };
        let forbidden = line.error == JsonErrorKind::Blocked;
        let detail = format!("{}: {}", line.error.name(), line.detail);
        self.refused(workload, forbidden, detail)
    }

    /// Whether another request may follow on this connection.
    #[inline]
    pub fn can_continue(&self, workload: &Workload) -> bool {
        matches!(self.stage, Stage::Answered) && workload.is_keep_alive()
    }
}

#[cfg(test)]
mod tests;
