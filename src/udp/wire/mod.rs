//! The wire protocol between a client and a server.
//!
//! [`header`] is the head of every datagram. [`control`] has the messages of the control connection, and [`framing`] their length
//! prefix. These types are the protocol's own: a field added to a result or a report does not change a byte here.

pub mod control;
pub mod framing;
pub mod header;
