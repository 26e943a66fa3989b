//! The load generator of the proxy benchmark, the [`origin`] server that answers it, and the client that [`send`]s one message.
//!
//! Pure parts of the generator: a [`workload`] and the state machine of its [`request`]s, the [`handshake`] with a proxy, the
//! [`command`] to the origin, the [`payload`], the [`sink`] that checks bulk data, the [`schedule`] of request starts,
//! [`request_stats`] and [`error`]s. `connection`, [`worker`] and [`bulk`] do the I/O. A [`measurement`] loads one path with all
//! threads, which publish their [`progress`]; a [`session`] runs all measurements of a [`plan`]. The runs of a [`fleet`] are one by
//! [`merge`].

pub mod advice;
pub mod bulk;
pub mod command;
mod connect;
mod connection;
pub mod error;
pub mod fleet;
pub mod handshake;
pub mod measurement;
pub mod merge;
pub mod origin;
pub mod payload;
pub mod plan;
pub mod progress;
pub mod request;
pub mod request_stats;
pub mod result;
pub mod schedule;
pub mod send;
pub mod session;
pub mod sink;
mod warnings;
pub mod worker;
pub mod workload;
