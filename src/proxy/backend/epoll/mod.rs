//! The proxy over epoll(7), by mio: an operation is attempted when its socket is ready.
//!
//! Readiness is edge-triggered, so the [`super::super::relay`] records it until an attempt fails for lack of it. [`driver`]
//! is the backend of a thread with its listener, [`resources`] what its connections share, [`io`] the sockets of a connection, [`servers`] those of its server,
//! [`pump`] moves the bytes of one direction, and [`scheduler`] orders the turns.

mod driver;
mod io;
mod pump;
mod resources;
mod scheduler;
mod servers;

pub(in crate::proxy) use resources::Epoll;
