//! The two ends of a stream, from which an engine is constructed.

use std::net::UdpSocket;

use super::Layout;
use super::stamps::StampPolicy;
use crate::sys::eventfd::EventFd;

/// The sending end of a stream.
#[derive(Debug)]
pub struct TxEndpoint<'a> {
    /// Connected to the receiver.
    pub socket: UdpSocket,
    /// Message layout.
    pub layout: Layout,
    /// Most datagrams per [`Tx::submit`](super::Tx::submit).
    pub batch: usize,
    /// Payload, repeated through all slots.
    pub fill: &'a [u8],
    /// Which messages the kernel stamps. Without effect on zero-copy sends.
    pub stamps: Option<StampPolicy>,
    /// Ends waits.
    pub wake: &'a EventFd,
}

/// The receiving end of a stream.
#[derive(Debug)]
pub struct RxEndpoint<'a> {
    /// Bound to the port.
    pub socket: UdpSocket,
    /// Message layout. Longer messages are truncated and counted.
    pub layout: Layout,
    /// Ends waits.
    pub wake: &'a EventFd,
}
