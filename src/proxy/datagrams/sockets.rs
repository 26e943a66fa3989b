//! The sockets of a worker of datagrams, by the numbers that events carry.

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use crate::proxy::slab::Key;

/// The peers of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Clients: the listener of a thread that forwards, or the relay socket of an association.
    Client,
    /// The server of a flow, or the destinations of an association over IPv4.
    Server,
    /// The destinations of an association over IPv6.
    ServerV6,
}

/// A socket: of a flow, of an association, or the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketId {
    /// The flow or the association.
    pub key: Key,
    /// Its peers.
    pub end: End,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Client, Self::Server, Self::ServerV6];
}

impl SocketId {
    /// Bits of the number of a key.
    pub(in crate::proxy) const KEY_BITS: u32 = 56;

    /// The listener of a thread, which has one.
    pub const LISTENER: Self = Self {
        key: Key::FIRST,
        end: End::Client,
    };

    /// The socket of a flow.
    pub fn of_flow(key: Key) -> Self {
        let end = End::Server;
        Self { key, end }
    }

    /// As a number below 2^58.
    pub fn number(self) -> u64 {
        self.key.number() as u64 | (self.end as u64) << Self::KEY_BITS
    }

    /// From [`Self::number`]; `None` for a number of no socket.
    pub fn from_number(number: u64) -> Option<Self> {
        let end = *End::ALL.get((number >> Self::KEY_BITS) as usize)?;
        let key = Key::from_number((number & ((1 << Self::KEY_BITS) - 1)) as usize);
        Some(Self { key, end })
    }
}

impl Default for SocketId {
    fn default() -> Self {
        Self::LISTENER
    }
}

/// A socket with the state that a backend has of it.
#[derive(Debug)]
pub(in crate::proxy) struct Socket {
    socket: UdpSocket,
    /// It may have datagrams, and is in the queue of its thread.
    pub(super) is_ready: bool,
    /// Messages for which its next receive has room.
    pub(super) quantum: u8,
}

impl From<UdpSocket> for Socket {
    fn from(socket: UdpSocket) -> Self {
        Self {
            socket,
            is_ready: false,
            quantum: 2,
        }
    }
}

impl Socket {
    pub(in crate::proxy) fn socket(&self) -> &UdpSocket {
        &self.socket
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The open sockets of a worker.
pub(in crate::proxy) trait Sockets {
    /// The socket; `None` if it is closed.
    fn get(&self, id: SocketId) -> Option<&Socket>;

    /// The socket, to change its state.
    fn get_mut(&mut self, id: SocketId) -> Option<&mut Socket>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::slab::Slab;

    #[test]
    fn number_identifies_its_socket() {
        let mut slab = Slab::new();
        for _ in 0..3 {
            let key = slab.insert(Ok::<_, ()>).unwrap();
            for id in End::ALL.map(|end| SocketId { key, end }) {
                assert_eq!(SocketId::from_number(id.number()), Some(id));
            }
        }
        for number in [3 << SocketId::KEY_BITS, u64::MAX] {
            assert_eq!(SocketId::from_number(number), None);
        }
    }
}
