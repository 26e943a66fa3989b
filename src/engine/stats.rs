//! What the I/O of one stream cost, and what went wrong in it.

use serde::{Deserialize, Serialize};

/// Of a sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendStats {
    /// Calls that send, those that failed among them.
    pub syscalls: u64,
    /// Messages the kernel took; with GSO each holds several datagrams.
    pub messages: u64,
    /// Calls that took only some of the messages.
    pub partial: u64,
    /// Calls that found the send buffer full.
    pub eagain: u64,
    /// Calls that found the kernel or the device short of memory.
    pub enobufs: u64,
    /// Messages refused for good.
    pub errors: u64,
    /// The errno of the last refusal.
    pub last_error: Option<i32>,
    /// Times it slept.
    pub waits: u64,
}

/// Of a receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveStats {
    /// Calls that receive, those that found nothing among them.
    pub syscalls: u64,
    /// Messages received; with GRO each may hold several datagrams.
    pub messages: u64,
    /// Calls that found nothing.
    pub eagain: u64,
    /// Messages longer than the buffer.
    pub truncated: u64,
    /// Times it slept.
    pub waits: u64,
    /// Datagrams sent back.
    pub answers: u64,
}
