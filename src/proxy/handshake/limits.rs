//! A client over a limit, and the memory of its request.

use super::{Action, Handshake};
use crate::protocol::{FrontEnd, Outcome};
use crate::proxy::record::{BusyCause, CloseReason};

impl Handshake {
    /// The client is over a limit, and is refused as soon as its protocol is known.
    pub(in crate::proxy) fn set_over_limit(&mut self, cause: BusyCause) {
        self.over_limit = true;
        self.info.detail = Some(cause.detail().to_owned());
    }

    /// Refuses the client now.
    pub(in crate::proxy) fn refuse_as_busy(&mut self, cause: BusyCause) -> Action {
        self.info.detail = Some(cause.detail().to_owned());
        self.refuse(&Outcome::Busy, CloseReason::Busy)
    }

    /// Whether the client's PROXY header is not complete yet.
    pub(in crate::proxy) fn awaits_header(&self) -> bool {
        self.header.is_some()
    }

    /// Bytes of memory that contain the incomplete request.
    pub(in crate::proxy) fn memory(&self) -> usize {
        let header = self.header.as_ref().map_or(0, Vec::capacity);
        header + self.front.as_ref().map_or(0, FrontEnd::memory)
    }
}
