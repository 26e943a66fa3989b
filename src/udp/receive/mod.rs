//! The receiving side of a run.
//!
//! [`receivers`] starts a thread a stream. Each thread runs a [`receiver`]: the loop that takes datagrams from an engine and counts
//! them in its stream's [`accounting`], which detects duplicates with a [`sequence`] window. [`backoff`] decides how long the loop
//! sleeps when nothing arrives, and [`packet_log`] keeps a row a packet. The receivers' snapshots become the run's [`intervals`], and
//! their totals become a [`result_upload`].

pub mod accounting;
pub mod backoff;
mod intervals;
pub mod packet_log;
pub mod receiver;
pub mod receivers;
pub mod result_upload;
pub mod sequence;
