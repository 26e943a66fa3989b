//! The wire protocol between a client and a server.
//!
//! [`header`] is the head of every datagram. [`control`] has the messages of the control connection: [`plan`], [`results`],
//! [`stats`], [`explain`], [`fleet`] and [`stages`] are the parts that they carry, and [`framing`] is their length prefix.
//!
//! Every type here belongs to the protocol alone, and is converted from and to the types of the program. A field that is added
//! to a plan, a result or a report therefore changes no message. Tests pin the bytes of every header and of every message; a
//! change of these bytes needs a new [`VERSION`]. An optional part that is absent unless the client requests it needs none: a server
//! that does not know the request ignores it.

pub mod control;
pub mod explain;
pub mod fleet;
pub mod framing;
pub mod header;
pub mod plan;
pub mod results;
pub mod stages;
pub mod stats;
mod text;

/// Version of the messages and of the datagram header. Client and server must have the same version.
pub const VERSION: u32 = 3;
