//! The proxy over io_uring(7): what is asked for is done when its completion says so.
//!
//! The twin of `epoll`, by the same names and in the same order, around the same handshake, relay and rules. What differs
//! is who waits. Nothing is ever found not to be ready: a receive is under way until there is something to receive, into a buffer that the kernel
//! picks only then, and all of a turn is handed over by one call. [`means`] is what a thread's connections share.
//!
//! Lots are copied, unless splicing was asked for: then the ring only tells when a socket is ready, and the thread calls
//! splice(2) by itself, as the other half does. io_uring's own splice is always left to a worker thread.
//!
//! Of several bulk transfers one goes on for many lots and then the next ([`turns`]): with four streams that carries 1.25 times
//! the bytes at 0.66 of the CPU of all at once (medians of 11 interleaved rounds).
//!
//! What was tried and lost before that, as ratios to what was there (loopback, 2 cores, Linux 6.18, medians of 7 to 8 interleaved rounds):
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
//! Splicing, as ratios to copying: of what went through, and of the CPU for each byte or request. Medians of 7 to 25
//! interleaved rounds on two cores that others used too, before there were turns; from the lowest to the highest where there were several such series.
//!
//! | splicing | requests, 32 kept | bulk, 1 stream | bulk, 4 streams |
//! |---|---|---|---|
//! | a poll, then splice(2): `--forwarding splice` | 0.67 to 0.89, CPU 1.13 to 1.59 | 0.65 to 0.95, CPU 0.74 to 1.02 | 0.62 to 1.07, CPU 0.73 to 1.03 |
//! | a poll, then IORING_OP_SPLICE in, then out | 0.65, CPU 1.98 | 0.71 to 0.89, CPU 0.91 to 1.30 | 0.86 to 1.20, CPU 1.06 to 1.28 |
//! | a poll, then both in a chain (IOSQE_IO_HARDLINK) | 0.64, CPU 2.24 | 0.45 to 0.76, CPU 1.12 to 2.18 | 0.81 to 0.89, CPU 1.09 to 1.17 |
//!
//! Not tried, for what they could save at most, by a profile: registered files 2 % of a kept request (fget and fput), and each
//! connection two calls to register, and shutdown(2) needs a descriptor: io_uring hands it to worker threads. A bundle, which
//! fills several buffers by one receive, 11 % of a single bulk stream and 6 % of four (all that is neither TCP's nor sleep);
//! a lot is one buffer here.

#![allow(unsafe_code)]

mod connection;
mod lane;
mod means;
mod pool;
mod servers;
mod turns;
mod watch;
pub(super) mod worker;
