//! io_uring(7): the ring with the memory its requests point to, setup flags, and provided buffers.
//!
//! Used by the io_uring backends of UDP runs and of the proxy. Requires Linux 6.1.

#![allow(
    unsafe_code,
    reason = "requests carry pointers, and buffers are shared with the kernel"
)]

pub(crate) mod buffers;
pub(crate) mod recvmsg;
pub(crate) mod ring;
pub mod setup;
pub mod stats;
pub(crate) mod trial;
pub mod unavailable;

pub use setup::available;
pub use stats::RingStats;
pub use unavailable::Unavailable;
