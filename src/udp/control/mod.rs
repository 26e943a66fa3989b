//! The control connection: the TCP connection over which a client and a server agree on a run and exchange its results.
//!
//! A [`connection`] carries the messages of [`super::wire::control`]. It begins with a [`greeting`], which proves the [`key`] where
//! there is one. [`retransmission`] keeps the messages that the peer has not acknowledged, so that a new connection can replace a lost one.

pub mod connection;
pub mod greeting;
pub mod key;
pub mod retransmission;
