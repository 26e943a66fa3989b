//! The sending side of a run.
//!
//! [`senders`] starts a thread a stream. Each thread explores its [`path`] with a [`path_probe`], and then runs a [`sender`]: the loop
//! that takes the next datagram of a [`stream`] and submits it to an engine. The stream decides what may be sent, by its schedule
//! ([`pacing`]) or by the receiver's credit. [`spin`] decides whether a paced sender spins before a deadline.

pub mod pacing;
pub mod path;
pub mod path_probe;
pub mod sender;
pub mod senders;
pub mod spin;
pub mod stream;
