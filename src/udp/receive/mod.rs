//! The receiving side of a run.
//!
//! [`receivers`] starts a thread per stream on [`prepared`] [sockets](socket), or adds the streams to
//! [shared loops](super::shared_loops). Each stream has a [`receiver`], which takes datagrams from an engine and counts them in its
//! stream's [`accounting`]; a [`sequence`] window detects duplicates.
//! [`backoff`] decides how long the loop sleeps when its socket is empty, and [`packet_log`] keeps a record per datagram. The
//! snapshots of all receivers are merged into `intervals`, and their results become a [`result_upload`].

pub mod accounting;
mod arrivals;
pub mod backoff;
pub mod by_size;
mod interval_clock;
pub mod intervals;
pub mod packet_log;
pub mod prepared;
pub mod receiver;
pub mod receivers;
pub mod result_upload;
pub mod sequence;
mod shared;
pub mod socket;
mod stamps;
mod thread;

/// Stands for a time or a count that is not known yet.
pub const UNKNOWN: u64 = u64::MAX;
