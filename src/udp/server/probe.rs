//! The response to the probe that opens a stream.

use std::net::UdpSocket;

use crate::udp::wire::header::{Header, Kind};

/// Responds to the probe that opens a stream.
pub(super) fn answer_probe(socket: &UdpSocket, header: &Header, window: Option<u64>) {
    if header.kind == Kind::Probe {
        let limit = window.unwrap_or(header.sequence);
        let credit = Header::bare(Kind::Credit, header.token, limit).encode();
        // If the response is lost, the client sends another probe.
        let _ = socket.send(&credit);
    }
}
