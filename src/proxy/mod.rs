//! The proxy of TCP connections: accepts a client, connects to a server on its behalf, and relays bytes in both directions.
//! Datagrams are forwarded by [`datagrams`], apart from that, and those of SOCKS5 clients by [`associations`].
//!
//! Two pure state machines, which own no socket, decide what a connection does: [`handshake`] from the client's first byte
//! to a connected server, following the [`rules`] of the proxy; then [`relay`].
//!
//! The way of one byte from a client to its server:
//!
//! ```text
//!   listeners -> worker -> connection -> handshake -> relay     decide
//!                   |           |                       |
//!                backend: epoll or uring: accept, connect, receive, send, splice
//! ```
//!
//! 1. A `worker`, one for each socket of [`listeners`], accepts the client and creates a `connection`, whose phase, deadline
//!    and record are its `state`.
//! 2. The `backend` reports that the client sent a byte. While the request is read, the byte goes to the [`handshake`]; the
//!    [`resolver`] looks names up, and the backend connects to the server.
//! 3. From then on the [`relay`] decides for each direction whether to receive, send, wait or shut down. A pump of the
//!    backend receives the byte as part of a `chunk`, into one of the thread's buffers or `pipes`, and sends it. Which of
//!    the two a bulk transfer uses is learnt by [`forwarding`].
//! 4. When both directions have ended, the connection becomes a [`record`], which the [`counters`] count and the
//!    [`access_log`] writes.
//!
//! The connections of a thread are in a [`slab`], their deadlines in [`timers`], and other resources in its `context`. All
//! threads together are a [`server`], whose [`options`] and [`capacity`] are common to both backends. Its [`metrics`] are
//! published by an [`admin`] server.

pub mod access_log;
pub mod admin;
pub mod associations;
mod backend;
mod buffers;
pub mod capacity;
mod chunk;
mod connection;
mod context;
pub mod counters;
pub mod datagrams;
pub mod forwarding;
pub mod handshake;
mod limits;
pub mod listeners;
pub mod metrics;
pub mod options;
mod pipes;
mod progress;
pub mod record;
pub mod relay;
mod request_memory;
pub mod resolver;
pub mod rules;
pub mod server;
mod shared;
pub mod slab;
mod state;
pub mod timers;
mod worker;
