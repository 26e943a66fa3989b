//! The completion engine: io_uring(7), Linux 6.1 or newer.
//!
//! [`UringTx`] sends each slot as a request of its own and takes the slot back at its completion. A receiver either
//! has one request that goes on filling provided buffers ([`MultishotRx`]) or makes a request a message
//! ([`SingleRx`]). A ring belongs to one thread, and keeps account of what the kernel still holds; the
//! proxy's io_uring half uses it too, and its buffers.

#![allow(unsafe_code)]

pub(crate) mod buffers;
mod multishot;
mod outbox;
pub(crate) mod ring;
mod single;
#[cfg(test)]
mod tests;
pub(in crate::engine) mod tx;

pub use multishot::MultishotRx;
pub use single::SingleRx;
pub use tx::UringTx;

/// What a completion belongs to: the upper half of its `user_data`. The lower half says which of them.
mod owner {
    pub(super) const SLOT: u64 = 0;
    pub(super) const RECEIVE: u64 = 1 << 32;
    pub(super) const READABLE: u64 = 2 << 32;
    pub(super) const LETTER: u64 = 3 << 32;

    /// Splits `user_data` up.
    pub(super) fn of(user_data: u64) -> (u64, usize) {
        (user_data & !0xffff_ffff, (user_data & 0xffff_ffff) as usize)
    }
}
