//! The completion engine: io_uring(7), Linux 6.1 or newer.
//!
//! [`UringTx`] sends each slot with its own request and frees the slot at the completion. A receiver keeps one
//! multishot request armed that fills provided buffers ([`MultishotRx`]), or submits one request per message
//! ([`SingleRx`]). Each ring belongs to one thread.

#![allow(unsafe_code)]

mod control_sends;
mod multishot;
mod port;
mod single;
mod slots;
#[cfg(test)]
mod tests;
mod tx;

pub use multishot::MultishotRx;
pub use single::SingleRx;
pub use tx::UringTx;

/// Request types: the upper half of `user_data`. The lower half is the index of a slot or message.
mod tag {
    pub(super) const SLOT: u64 = 0;
    pub(super) const RECEIVE: u64 = 1 << 32;
    pub(super) const READABLE: u64 = 2 << 32;
    pub(super) const CONTROL: u64 = 3 << 32;

    /// Splits `user_data` into type and index.
    pub(super) fn split(user_data: u64) -> (u64, usize) {
        (user_data & !0xffff_ffff, (user_data & 0xffff_ffff) as usize)
    }
}
