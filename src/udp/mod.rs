//! The UDP workload: datagrams from senders to receivers, all of them accounted for.
//!
//! The path of one datagram from the plan to the record:
//!
//! ```text
//!   plan ──> control ──────────────── hello, welcome ───────────────> control          TCP
//!             │ client                                        server │
//!            send::senders     a thread per stream,     receive::receivers
//!             │                or shared_loops                       │
//!             │                                                      │
//!            send::stream      next datagram, its stamp              │
//!             │  ^ send::pacing, or credit <──────────── credit ─────┤
//!            send::sender                              receive::receiver
//!             │                                                      ^
//!            engine (Tx) ───────── wire::header + chunk ───────> engine (Rx)           UDP
//!                                                                    │
//!                              receive::accounting, receive::sequence: new, duplicate, late or foreign
//!                                                                    │
//!                              receive::intervals, receive::packet_log, receive::result_upload
//!                                                                    │
//!   result <── client::results <──── wire::results ──────────────────┘                 TCP
//! ```
//!
//! - [`plan`] is a run, validated; [`placement`] has its CPUs, [`setup`] its requirements on the kernel, [`path_mtu`] those on the path.
//! - [`client`] and [`server`] are the two ends of a session. In a reverse run the server has the sending side.
//! - [`control`] is the control connection between them, [`wire`] the bytes of both TCP and UDP.
//! - [`send`] and [`receive`] are the two sides of a stream; [`engine`] is their datagram I/O.
//! - [`shared_loops`] are the threads of paced streams that have none of their own.
//! - [`credit`] is the flow control of lossless runs, [`clock_offset`] the estimate of the offset between two hosts' clocks.
//! - [`round_trip`] is the other workload: requests that are sent back.
//! - [`latencies`] and [`mark_counts`] are counted for each stream and added up.
//! - [`relay_header`] is the header of datagrams through a SOCKS5 relay.
//! - [`search`] finds the highest rate within a loss ratio, by runs at different rates.
//! - [`explain`] finds the drops of both hosts behind the losses, if requested.
//! - [`stages`] divides the latency by the stamps of both kernels, if requested.
//! - [`fleet`] starts many clients at one time, and [`merge`] makes one run of theirs.
//! - [`result`] is the record of a run, computed from the results of both sides.

pub mod client;
pub mod clock_offset;
pub mod control;
pub mod credit;
pub mod engine;
pub mod explain;
pub mod fleet;
pub mod latencies;
pub mod mark_counts;
pub mod merge;
pub mod path_mtu;
pub mod placement;
pub mod plan;
pub mod receive;
pub mod relay_header;
pub mod result;
pub mod round_trip;
pub mod search;
pub mod send;
pub mod server;
pub mod setup;
pub mod shared_loops;
pub mod stages;
pub mod wire;

use std::sync::Arc;

/// Wakes the loop that polls senders or receivers.
pub type Notify = Arc<dyn Fn() + Send + Sync>;
