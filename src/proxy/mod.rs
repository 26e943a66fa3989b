//! The TCP proxy: takes a client, connects to a server for it, and brings each what the other says.
//!
//! [`relay`] decides what a connection does next, and owns nothing. Around it: a thread's [`pipes`], the [`timers`] and the
//! [`slab`] of its connections.

pub mod pipes;
pub mod relay;
pub mod slab;
pub mod timers;
