//! Datagram engines: the I/O interface of senders and receivers.
//!
//! The traits are completion-shaped, so that both readiness ([`mio`]) and completion ([`uring`]) interfaces fit. A
//! sender fills a free slot, queues and submits it, and learns later whether the kernel refused it. A slot in flight is
//! not touched. With GSO a slot holds several datagrams end to end. Engines count ([`stats`]) and make no decisions.

pub mod endpoint;
mod errors;
pub mod mio;
pub mod offload;
pub mod open;
pub mod stamps;
pub mod stats;
pub mod uring;
pub mod zerocopy;

use std::io;
use std::net::{SocketAddr, UdpSocket};

use crate::sys::cmsg::Message;
use crate::sys::socket;
use crate::sys::tx_timestamp::TxStamp;
use stats::{ReceiveStats, SendStats};

/// Message layout of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Messages per system call.
    pub messages: usize,
    /// Most bytes per message.
    pub bytes: usize,
    /// Bytes of a full datagram. A message may hold several.
    pub datagram: usize,
    /// Whether the sender may fragment datagrams longer than the path MTU after segmented sends are refused.
    pub fragments: bool,
}

impl Layout {
    /// Most datagrams per message.
    fn segments(self) -> usize {
        (self.bytes / self.datagram.max(1)).max(1)
    }
}

/// Fills `slot` with copies of `pattern`, end to end.
fn repeat(pattern: &[u8], slot: &mut [u8]) {
    let (mut filled, length) = (pattern.len().min(slot.len()), slot.len());
    slot[..filled].copy_from_slice(&pattern[..filled]);
    // The copies so far are copied at once: a byte at a time, slots of megabytes take a tenth of a second.
    while 0 < filled && filled < length {
        let more = filled.min(length - filled);
        slot.copy_within(..more, filled);
        filled += more;
    }
}

/// Current properties of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// Path MTU in bytes of IP packet, if the kernel knows it.
    pub mtu: Option<usize>,
    /// Bytes of the IP and UDP headers.
    pub headers: usize,
}

impl Path {
    /// Queries a connected socket with a system call.
    pub fn of(socket: &UdpSocket) -> Self {
        Self {
            mtu: socket::path_mtu(socket).ok(),
            headers: socket::headers(socket),
        }
    }
}

/// Result of [`Tx::submit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submit {
    /// The kernel accepted everything queued.
    Ready,
    /// The send buffer is full. Wait until the socket is writable.
    WouldBlock,
    /// All slots are in use by the kernel or the receiver. Wait for a completion or a credit.
    NoFreeSlot,
    /// The kernel or the device is out of memory, and gives no notification. Retry after a short delay.
    NoMemory,
}

/// End of a sender's wait, besides a received datagram or a wake-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Roughly this time, in ns; some ms late is fine.
    About(u64),
    /// This time in ns, as exact as the kernel allows.
    Exactly(u64),
    /// The socket is writable, or roughly this time in ns.
    WritableOr(u64),
}

/// The sending end of a stream.
pub trait Tx {
    /// Whether the kernel stamps datagrams. Constant, so that other senders have no code for stamps.
    const STAMPS: bool = false;

    /// The next free slot, to be filled with datagrams end to end; `None` if all slots are in use. A slot keeps its
    /// previous contents where they are not overwritten.
    fn next_slot(&mut self) -> Option<&mut [u8]>;

    /// Queues the slot returned by [`Self::next_slot`]: its first `length` bytes, which hold `datagrams` datagrams.
    fn queue(&mut self, length: usize, datagrams: u64);

    /// Passes queued slots to the kernel. Calls `refused` for datagrams that will never be sent, with their number and
    /// the reason.
    ///
    /// # Errors
    /// Only if the socket is unusable.
    fn submit(&mut self, refused: impl FnMut(u64, &io::Error)) -> io::Result<Submit>;

    /// Passes the bytes of the messages that are queued and that the kernel does not have, in order. The caller may rewrite their
    /// headers before the next [`Self::submit`].
    fn queued_messages(&mut self, each: impl FnMut(&mut [u8]));

    /// Gives up the first of these messages: `refused` is called as by [`Self::submit`].
    fn give_up(&mut self, error: &io::Error, refused: impl FnMut(u64, &io::Error));

    /// The receiver has read the first `seen` datagrams, so slots whose pages it shares are free again.
    fn acknowledge(&mut self, _seen: u64) {}

    /// Sends a short datagram at once, outside the slots. If there is no room the datagram is lost, as on the path.
    fn send_control(&mut self, datagram: &[u8]);

    /// Cancels datagrams that are not sent yet. Afterwards [`Self::in_flight`] is the number of datagrams that will
    /// never be sent.
    ///
    /// # Errors
    /// Only if the socket is unusable.
    fn cancel_pending(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Datagrams per message. When a segmented send is refused with `EMSGSIZE`, `EINVAL` or `EIO`, its datagrams and
    /// all later ones are sent singly, in order, and this becomes 1.
    fn segments(&self) -> usize;

    /// Queries the path with a system call.
    fn path(&self) -> Path;

    /// Datagrams queued or in flight, whose outcome is unknown.
    fn in_flight(&self) -> u64;

    /// Passes received control datagrams to `each`, without waiting.
    ///
    /// # Errors
    /// Only if the socket is unusable.
    fn poll_control(&mut self, each: impl FnMut(&[u8])) -> io::Result<()>;

    /// Passes the stamps of sent datagrams to `each`, without waiting. The key of a stamp is the lower half of the datagram's
    /// sequence number.
    fn take_stamps(&mut self, _each: impl FnMut(TxStamp)) {}

    /// Waits for a received datagram, a wake-up, or the condition of `until`. A stamp may end the wait too.
    ///
    /// # Errors
    /// As epoll_wait(2) or io_uring_enter(2).
    fn wait(&mut self, until: Until) -> io::Result<()>;

    /// The counters so far.
    fn stats(&self) -> SendStats;
}

/// The receiving end of a stream.
pub trait Rx {
    /// Passes received messages to `each`, at most one batch, without waiting. Returns their number.
    ///
    /// # Errors
    /// Only if the socket is unusable.
    fn receive(&mut self, each: impl FnMut(Message<'_>)) -> io::Result<usize>;

    /// Sends one datagram to `to`. If there is no room the datagram is lost, as on the path.
    fn send_control(&mut self, datagram: &[u8], to: SocketAddr);

    /// Waits for a datagram, a wake-up, or roughly `deadline` in ns.
    ///
    /// # Errors
    /// As epoll_wait(2) or io_uring_enter(2).
    fn wait(&mut self, deadline: u64) -> io::Result<()>;

    /// Whether the socket has datagrams although [`Self::receive`] returned none: a thread of the kernel that reads the socket for
    /// the engine may lack a CPU.
    fn is_behind(&self) -> bool {
        false
    }

    /// Datagrams dropped at the socket so far, as counted by the kernel.
    fn drops(&self) -> u64;

    /// The counters so far.
    fn stats(&self) -> ReceiveStats;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_of_any_length_repeats_the_pattern() {
        for length in 0..40 {
            let mut slot = vec![0; length];
            repeat(b"abcde", &mut slot);
            let expected: Vec<u8> = b"abcde".iter().copied().cycle().take(length).collect();
            assert_eq!(slot, expected);
        }
        let mut slot = [7; 3];
        repeat(b"", &mut slot);
        assert_eq!(slot, [7; 3]);
    }
}
