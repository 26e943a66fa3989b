//! The datagrams of either end, over a connected socket of either engine.

use std::io;
use std::net::UdpSocket;
use std::time::Duration;

use crate::engine::EngineChoice;
use crate::udp::engine::stats::RingStats;

/// Longest sleep without a datagram, after which a thread checks whether it is stopped.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// How a thread waits for a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Asleep, in [`Channel::receive`] where that saves a system call. Times are as exact as a tick.
    Asleep,
    /// Asleep in [`Channel::sleep`], until an exact time.
    AsleepUntil,
    /// Spinning.
    Spinning,
}

/// The outcome of [`Channel::receive`].
#[derive(Debug)]
pub(super) enum Received {
    /// Nothing.
    Nothing,
    /// A datagram of this length.
    Datagram(usize),
    /// An error of the socket.
    Failed(io::Error),
    /// The kernel refused an earlier send.
    NotSent(io::Error),
}

/// Counters of a channel.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Calls {
    /// System calls that only send.
    pub(super) sends: u64,
    /// The other system calls.
    pub(super) receives: u64,
    /// Counters of the ring.
    pub(super) ring: Option<RingStats>,
}

/// A connected socket with a datagram to send and a received datagram.
pub(super) trait Channel {
    /// The datagram to send.
    fn outgoing(&mut self) -> &mut [u8];

    /// Sends the first bytes of the datagram to send.
    fn send(&mut self, length: usize) -> io::Result<()>;

    /// The received datagram.
    fn incoming(&mut self) -> &mut [u8];

    /// Sends the first bytes of the received datagram back.
    fn reply(&mut self, length: usize) -> io::Result<()>;

    /// Receives a datagram. With [`Waiting::Asleep`] it may sleep for a tick.
    fn receive(&mut self) -> Received;

    /// Submits queued datagrams, and sleeps until one may have arrived, for at most this time in ns, and at most a tick. Returns at once
    /// if [`Self::receive`] sleeps.
    fn sleep(&mut self, ns: u64);

    /// The socket.
    fn socket(&self) -> &UdpSocket;

    /// The counters so far.
    fn calls(&self) -> Calls;
}

/// The thread of an end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) name: &'static str,
    pub(super) engine: EngineChoice,
    pub(super) waiting: Waiting,
    /// Bytes of a datagram.
    pub(super) datagram: usize,
    /// The CPU that the thread is pinned to.
    pub(super) cpu: Option<usize>,
}
