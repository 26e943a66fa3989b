//! The TCP proxy: takes a client, connects to a server for it, and brings each what the other says.
//!
//! [`relay`] decides what a connection does next, and owns nothing.

pub mod relay;
