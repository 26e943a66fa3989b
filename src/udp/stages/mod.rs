//! The stages of one-way latency: `bench udp --explain`.
//!
//! The kernel stamps a datagram before it enters the qdisc, when the driver takes it, and when the receiver's kernel takes it from
//! its device. With the sender's stamp in the datagram and the receiver's stamp when it reads the datagram, these are the stages:
//!
//! ```text
//!   written ──────> scheduled ──────> sent ──────> received ──────> read
//!          sender             qdisc         wire           receiver
//! ```
//!
//! - *sender*: from the stamp in the header to the qdisc: the rest of the batch, the system call and the network stack.
//! - *qdisc*: the queue of the sender's device. If it is full, it refuses a message, which is stamped and sent again: the wait of this
//!   message and of those behind it is lateness of the sender, and part of no stage.
//! - *wire*: from the sender's driver to the receiver's kernel: the device, the path, the other device. Between two hosts, it has the
//!   error of the clock estimate.
//! - *receiver*: the receive socket's queue and the wake-up of the thread.
//!
//! The sender computes the first two stages and the receiver the last one, each from its own clock. For the wire, each side keeps the
//! stamps of a bounded [`Sample`], and the client joins them by sequence number. In a paced run every datagram is stamped, and sent
//! as a message of its own; in other runs one in [`SPARSE`], since stamps would slow the run down. With GSO or GRO the
//! stamps of a message are those of its first datagram.
//!
//! A stage without stamps is empty, with the reason. [`trial`] measures the cost of stamps.

mod sample;
pub mod trial;

pub use sample::Sample;

/// Datagrams from one stamped datagram to the next, unless the run is paced.
pub const SPARSE: u64 = 256;

/// Why GSO and GRO are off in a paced run with stages.
pub const NO_OFFLOAD: &str = "GSO and GRO are off, so that the kernel stamps each datagram by itself (--explain); --gso on keeps them, and the losses that they cause";

/// Most stamps of a stream that each side keeps for the wire.
pub const MOST_ROWS: usize = 1 << 16;
