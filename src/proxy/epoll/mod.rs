//! The proxy over mio: what is asked for is done at once, as far as a socket is ready for it.
//!
//! [`worker`] is a thread's loop; [`connection`] carries out what the handshake and the relay decide, with [`lane`] as the
//! relay's hands and [`servers`] as the sockets of its server; [`means`] is what a thread's connections share. The twin over io_uring is beside this folder, by the same
//! names and in the same order.

mod connection;
mod lane;
mod means;
mod servers;
pub(super) mod worker;
