//! The proxy over io_uring(7): what is asked for is done when its completion says so.
//!
//! The twin of the mio half: [`worker`] is to `epoll` what this `connection` and `lane` are to those beside this folder,
//! by the same names and in the same order, around the same handshake, relay and rules. What differs is who waits. Nothing is
//! ever found not to be ready: a receive is under way until there is something to receive, into a buffer that the kernel
//! picks only then, and all of a turn is handed over by one call. [`means`] is what a thread's connections share.
//!
//! Everything is copied. A splice on io_uring goes through worker threads: see [`super::server::Options::refused`].

#![allow(unsafe_code)]

mod connection;
mod lane;
mod means;
mod pool;
pub(super) mod worker;
