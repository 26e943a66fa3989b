//! The proxy over io_uring(7): what is asked for is done when its completion says so.
//!
//! The twin of `epoll`, by the same names and in the same order, around the same handshake, relay and rules. What differs is who waits. Nothing is
//! ever found not to be ready: a receive is under way until there is something to receive, into a buffer that the kernel
//! picks only then, and all of a turn is handed over by one call. [`means`] is what a thread's connections share.
//!
//! Everything is copied. A splice on io_uring goes through worker threads: see [`super::options::Options::refused`].
//!
//! What was tried and lost, as ratios to what is here (loopback, 2 cores, Linux 6.18, medians of 7 to 8 interleaved rounds):
//!
//! | instead | requests, 32 kept | bulk, 1 stream | bulk, 4 streams |
//! |---|---|---|---|
//! | the next receive in a chain behind the send | 0.95 | 0.98 | 1.07 |
//! | the same, and sleeping until more than the sends is done | 0.93 | | |
//! | receives that try before they wait | | 0.86 | 1.00 |
//! | SEND_ZC: loopback copies all the same | | 0.77 | 0.89 |
//! | all 64 buffers on offer instead of a few | | 0.98 | 0.98 |
//! | MSG_WAITALL: no progress is seen until a lot is gone | | 1.00 | 1.06 |
//!
//! A bundle would fill several buffers by one receive, and a lot is one buffer here. Registered files would cost each connection
//! two calls to register, and shutdown(2) needs a descriptor: io_uring hands it to worker threads.

#![allow(unsafe_code)]

mod connection;
mod lane;
mod means;
mod pool;
pub(super) mod worker;
