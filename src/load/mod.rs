//! What a proxy is measured with: the load generator, and the answering server, [`origin`].
//!
//! Pure: a [`dialogue`] is one connection's, begins with a [`handshake`] or an [`order`], and compares what comes with the [`pattern`]; a
//! [`schedule`] says when requests start, a [`tally`] what became of them, and a [`fault`] how one failed. `connection`,
//! `worker` and [`bulk`] are their hands and loops, and a [`slice`] is a stretch of measuring with all threads.

pub mod bulk;
mod connection;
pub mod dialogue;
pub mod fault;
pub mod handshake;
pub mod order;
pub mod origin;
pub mod pattern;
pub mod schedule;
pub mod slice;
pub mod tally;
pub mod worker;
