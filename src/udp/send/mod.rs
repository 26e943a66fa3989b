//! The sending side of a run.
//!
//! [`senders`] starts a `task` per stream, on a thread or on `shared` loops. Each task probes its path with a [`path_probe`], sets its
//! [`socket`] up, and runs a [`sender`]: the loop that takes the next datagrams of a [`stream`] and submits them to an engine. The
//! stream is limited by its schedule ([`pacing`], and [`steps`] of bursts and random gaps) or by the receiver's credit. Senders without
//! credit request it (`credit_request`). `refusals` are repeated as fast as a full qdisc accepts them. [`spin`] decides whether a paced
//! sender spins before a deadline. Each task ends with an [`outcome`].

mod credit_request;
pub mod outcome;
pub mod pacing;
pub mod path_probe;
mod refusals;
pub mod sender;
pub mod senders;
mod shared;
pub mod socket;
pub mod spin;
pub mod stamps;
pub mod steps;
pub mod stream;
pub(in crate::udp) mod task;
