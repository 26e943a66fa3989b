//! The TCP proxy: takes a client, connects to a server for it, and brings each what the other says.
//!
//! [`relay`] decides what a connection does next, and owns nothing; [`lane`] is its hands, and [`connection`] all of a
//! connection's life, which begins with what a [`front`] end makes of the client's first words. `epoll` is a thread's
//! loop, [`server`] all threads. Around them: a thread's [`pipes`], the [`timers`] and the [`slab`] of its connections, and the
//! [`facts`] that are left of one.

pub mod connection;
mod epoll;
pub mod facts;
pub mod front;
pub mod lane;
pub mod pipes;
pub mod relay;
pub mod server;
pub mod slab;
pub mod timers;
