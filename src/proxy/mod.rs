//! The TCP proxy: takes a client, connects to a server for it, and brings each what the other says.
//!
//! A connection's life is decided by two pure state machines that own no socket: [`handshake`] from the client's first byte to a
//! server that is connected, by the [`rules`] of the proxy, and [`relay`] from there on. `epoll` and `uring` are twins that
//! carry them out: in each, `connection` is one client and its server, `lane` the relay's hands, and `worker` a thread's loop.
//! [`server`] is all threads.
//!
//! Around them: the [`resolver`] of names, the [`timers`], the [`slab`] and the `pipes` of a thread's connections, its [`tally`],
//! the [`options`], and the [`facts`] that are left of a connection, which go into a [`log`]. What a proxy tells a monitor are
//! its [`metrics`], over a [`status`] server.

pub mod capacity;
mod epoll;
pub mod facts;
pub mod handshake;
mod life;
pub mod listeners;
pub mod log;
mod lot;
pub mod metrics;
pub mod options;
mod pipes;
pub mod relay;
pub mod resolver;
pub mod rules;
pub mod server;
mod shared;
mod shop;
pub mod slab;
mod spares;
pub mod status;
pub mod tally;
pub mod timers;
mod uring;
