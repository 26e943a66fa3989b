//! The TCP proxy: takes a client, connects to a server for it, and brings each what the other says.
//!
//! A connection's life is decided by two pure state machines that own no socket: [`handshake`] from the client's first byte to a
//! server that is connected, by the [`rules`] of the proxy, and [`relay`] from there on. [`connection`] carries them out over
//! mio, with [`lane`] as the relay's hands; `epoll` is a thread's loop, [`server`] all threads. `uring` is all that over
//! io_uring. Around them: the
//! [`resolver`] of names, a thread's [`pipes`], the [`timers`] and the [`slab`] of its connections, its [`tally`], the [`options`], and the
//! [`facts`] that are left of a connection, which go into a [`log`]. What a proxy tells a monitor are its [`metrics`], over a
//! [`status`] server.

pub mod connection;
mod epoll;
pub mod facts;
pub mod handshake;
pub mod lane;
pub mod log;
pub mod metrics;
pub mod options;
pub mod pipes;
mod progress;
pub mod relay;
pub mod resolver;
pub mod rules;
pub mod server;
mod shared;
pub mod slab;
pub mod status;
pub mod tally;
pub mod timers;
mod uring;
