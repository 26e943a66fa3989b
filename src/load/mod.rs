//! What a proxy is measured with: the load generator, and the answering server, [`origin`]; and a client that [`send`]s it one message.
//!
//! Of the generator are pure: a [`dialogue`], which is one connection's, begins with a [`handshake`] or an [`order`], and compares what
//! comes with the [`pattern`], as a [`sink`] does with bulk data; a [`schedule`], which says when requests start, a [`tally`] of
//! what became of them, and a [`fault`]. `connection`, [`worker`] and [`bulk`] are their hands and loops, a
//! [`slice`](mod@slice) is a stretch of measuring with all threads, and a [`session`] all of a [`plan`].

pub mod bulk;
mod connect;
mod connection;
pub mod dialogue;
pub mod fault;
pub mod handshake;
pub mod order;
pub mod origin;
pub mod pattern;
pub mod plan;
pub mod result;
pub mod schedule;
pub mod send;
pub mod session;
pub mod sink;
pub mod slice;
pub mod tally;
mod warnings;
pub mod worker;
