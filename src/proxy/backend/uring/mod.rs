//! The proxy over io_uring(7): an operation is submitted, and its completion is an event.
//!
//! Operations wait in the kernel until their socket is ready, so no attempt fails for lack of readiness. A receive picks its
//! buffer only when there is data, and all operations of one pass of the loop are submitted by one call. [`driver`] (with [`resources`]) is the
//! backend of a thread, with its listener, ring and buffers; [`io`] are the sockets of a connection, [`servers`] those of
//! its server; [`pump`] moves the bytes of one direction; [`scheduler`] orders bulk transfers; [`hangup_poll`] notices a
//! client that hangs up while nothing is received from it.
//!
//! Messages are received into small buffers, of which there are thousands, and bulk data into few large ones
//! ([`provided_buffers`]). One size of 64 KiB, 64 of them, ran dry with many active connections. A source of single messages
//! has one multishot receive ([`pump`]). Requests a second and CPU per request as ratios to `epoll`, with 96 % intervals of
//! the medians (64 B messages on kept connections, one thread, loopback, 2 cores, Linux 6.18, 9 interleaved rounds):
//!
//! | active connections | 32 | 2,000 | 8,000 |
//! |---|---|---|---|
//! | one size | 1.00, CPU 1.06 | 0.48, CPU 2.09 | 0.15, CPU 7.67 |
//! | two sizes | 0.96 (0.92 to 1.04), CPU 1.05 (1.04 to 1.14) | 0.94 (0.93 to 1.00), CPU 1.06 (0.99 to 1.08) | 1.01 (0.96 to 1.03), CPU 1.03 (1.02 to 1.10) |
//! | and multishot | 1.03 (0.98 to 1.10), CPU 0.97 (0.96 to 1.02) | 0.97 (0.87 to 1.02), CPU 1.00 (0.97 to 1.12) | 1.02 (1.00 to 1.03), CPU 1.00 (0.96 to 1.04) |
//!
//! A stride of a whole page, where the first bytes of all small buffers share a few sets of the cache, costs 2 to 10 % more CPU
//! (6 rounds on a busy machine). Shorter passes of the loop, of 128 completions, with a submission after each made no
//! difference; passes of 32 cost more CPU with 2,000 and 8,000 connections.
//!
//! Rejected, as ratios to the design with multishot receives (7 rounds):
//!
//! | active connections | 32 | 2,000 | 8,000 |
//! |---|---|---|---|
//! | small buffers of 320 B, as dense as messages in one buffer (IOU_PBUF_RING_INC) would be | 0.98, CPU 0.99 | 0.99, CPU 1.01 | 1.01, CPU 0.97 |
//! | waits for 64 completions or 50 us (`min_wait_usec`) | 0.73, CPU 1.14 | 0.98, CPU 1.00 | 0.99, CPU 0.97 |
//!
//! To splice a chunk, the ring only polls the sockets, and the thread calls splice(2) as `epoll` does. io_uring's own splice
//! always runs on a worker thread. Splicing requires sockets that do not wait; operations of the ring wait on them all the
//! same, so a direction changes its method for one poll. `--forwarding auto` as a ratio to `epoll`, which also learns: one
//! stream 1.00 (0.70 to 1.30) at 0.95 (0.76 to 1.43) of the CPU, four 1.08 (0.85 to 1.12) at 0.79 (0.76 to 1.02). Copying
//! only: one stream 0.81 at 1.68, four 0.94 at 1.37 (7 and 9 interleaved rounds of 2 s).
//!
//! Of several bulk transfers one runs for many chunks, then the next ([`scheduler`]): with four streams that carries 1.25
//! times the bytes at 0.66 of the CPU of all at once when copying, and 1.12 times at 0.62 when splicing (medians of 11 and 9
//! interleaved rounds).
//!
//! Alternatives that were measured and rejected, as ratios to the design of that time (loopback, 2 cores, Linux 6.18,
//! medians of 7 to 8 interleaved rounds):
//!
//! | instead | requests, 32 kept | bulk, 1 stream | bulk, 4 streams |
//! |---|---|---|---|
//! | the next receive in a chain behind the send | 0.95 | 0.98 | 1.07 |
//! | as above, and sleeping until more than the sends has completed | 0.93 | | |
//! | receives that try before they wait | | 0.86 | 1.00 |
//! | SEND_ZC: loopback copies anyway | | 0.77 | 0.89 |
//! | all 64 buffers provided instead of a few | | 0.98 | 0.98 |
//! | MSG_WAITALL: no progress is visible until a chunk is sent | | 1.00 | 1.06 |
//!
//! Splicing, as ratios to copying: of the throughput, and of the CPU per byte or request. Medians of 7 to 25 interleaved
//! rounds on two shared cores, before there was a scheduler; the lowest and the highest median of several series.
//!
//! | splicing | requests, 32 kept | bulk, 1 stream | bulk, 4 streams |
//! |---|---|---|---|
//! | a poll, then splice(2): `--forwarding splice` | 0.67 to 0.89, CPU 1.13 to 1.59 | 0.65 to 0.95, CPU 0.74 to 1.02 | 0.62 to 1.07, CPU 0.73 to 1.03 |
//! | a poll, then IORING_OP_SPLICE in, then out | 0.65, CPU 1.98 | 0.71 to 0.89, CPU 0.91 to 1.30 | 0.86 to 1.20, CPU 1.06 to 1.28 |
//! | a poll, then both in a chain (IOSQE_IO_HARDLINK) | 0.64, CPU 2.24 | 0.45 to 0.76, CPU 1.12 to 2.18 | 0.81 to 0.89, CPU 1.09 to 1.17 |
//!
//! Not tried, with the most that a profile promises: registered files, 2 % of a kept request (fget of its sends), but two calls
//! to register for each connection, and shutdown(2), which needs a descriptor, as io_uring leaves it to worker threads; a
//! bundle, which fills several buffers by one receive, 11 % of a single bulk stream and 6 % of four (all that is neither
//! TCP's nor sleep). A chunk is one buffer here.

#![allow(unsafe_code)]

mod driver;
mod hangup_poll;
mod io;
mod operation;
mod provided_buffers;
mod pump;
mod resources;
mod scheduler;
mod servers;
mod waiting;

use crate::uring::{buffers, ring};
pub(in crate::proxy) use resources::Uring;
