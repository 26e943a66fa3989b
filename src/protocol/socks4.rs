//! SOCKS versions 4 and 4a: detected and refused in their own format.
//!
//! ```text
//! client  04 command port(2) IPv4(4) user… 00     version 4a: followed by a name and 00
//! server  00 reply port(2) IPv4(4)                5a granted, 5b refused
//! ```
//!
//! Defined by Ying-Da Lee, "SOCKS: A protocol for TCP proxy across firewalls"; there is no RFC.

use super::request::{Refusal, Step};

/// "Request rejected or failed".
const REJECTED: u8 = 0x5B;

/// Refuses any request.
pub(super) fn refuse(detail: &str) -> Step {
    Step::Refuse {
        reply: vec![0, REJECTED, 0, 0, 0, 0, 0, 0],
        reason: Refusal::BadRequest(detail.to_owned()),
    }
}
