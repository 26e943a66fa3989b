//! What a thread's connections share: the ring, the buffers that are received into, and how a completion tells whose it is.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::squeue;

use super::pool::Pool;
use super::turns::Turns;
use super::watch::Waits;
use crate::engine::UringSettings;
use crate::proxy::handshake::TRIES;
use crate::proxy::pipes;
use crate::proxy::relay::Direction;
use crate::proxy::slab::Key;
use crate::proxy::spares::Spares;
use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;
use crate::uring::ring::{Ring, RingWithMemory};

/// Requests that are submitted at once.
const REQUESTS: u32 = 1_024;

/// Completions that need not wait for room.
const COMPLETIONS: u32 = 4_096;

/// What of a connection is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// From the source of a direction.
    Receive(Direction),
    /// To the sink of a direction.
    Send(Direction),
    /// Until the client is gone.
    Watch,
    /// To a server, by its slot: one of [`MOST_SLOTS`].
    Connect(u8),
}

/// Servers that one connection may be connecting to, with those that were given up and are under way still.
pub(super) const MOST_SLOTS: usize = 64;

const _: () = assert!(TRIES <= MOST_SLOTS);

/// Bits of a request that name the act. None is all ones.
const ACT_BITS: u32 = 8;

impl Act {
    /// All but those of servers.
    pub(super) const OF_CLIENT: [Self; 5] = [
        Self::Receive(Direction::ToServer),
        Self::Receive(Direction::ToClient),
        Self::Send(Direction::ToServer),
        Self::Send(Direction::ToClient),
        Self::Watch,
    ];

    /// What a request of `key` carries. A key is below 2^56.
    pub(super) fn of(self, key: Key) -> u64 {
        let act = match self {
            Self::Receive(Direction::ToServer) => 0,
            Self::Receive(Direction::ToClient) => 1,
            Self::Send(Direction::ToServer) => 2,
            Self::Send(Direction::ToClient) => 3,
            Self::Watch => 4,
            Self::Connect(slot) => 5 + u64::from(slot),
        };
        (key.number() as u64) << ACT_BITS | act
    }

    /// Whose it is.
    pub(super) fn whose(user_data: u64) -> Option<(Key, Self)> {
        let number = (user_data & ((1 << ACT_BITS) - 1)) as u8;
        let act = match Self::OF_CLIENT.get(usize::from(number)) {
            Some(act) => *act,
            None if usize::from(number) < Self::OF_CLIENT.len() + MOST_SLOTS => {
                Self::Connect(number - Self::OF_CLIENT.len() as u8)
            }
            None => return None,
        };
        Some((Key::from_number((user_data >> ACT_BITS) as usize), act))
    }
}

/// What the request for clients carries: no connection's.
pub(super) const ACCEPT: u64 = (1 << ACT_BITS) - 1;

/// The ring, and the memory that connections share.
pub(super) struct Means {
    pub(super) uring: RingWithMemory<Pool>,
    /// To splice through.
    pub(super) pipes: pipes::Pool,
    /// For what a sink did not take.
    pub(super) spares: Spares,
    /// Of bulk transfers.
    pub(super) turns: Turns,
    /// Connections that wait for their servers.
    pub(super) waits: Waits,
    /// Receives that found no buffer.
    pub(super) dry: Vec<Key>,
    /// The kernel took a request no more: the loop is over.
    failure: Option<io::Error>,
}

impl Means {
    /// With so many pipes at most, and a ring that `wake` wakes, of the thread that calls [`Ring::enable`].
    ///
    /// # Errors
    /// As io_uring_setup(2) and io_uring_register(2): not allowed, a kernel before 6.1, or too little memory.
    pub(super) fn new(wake: &EventFd, pipes: usize) -> io::Result<Self> {
        // The first place is for a socket, and the listener may not have it: the ring would hold it open.
        let files = [-1, wake.as_fd().as_raw_fd()];
        let settings = UringSettings::default();
        let ring = Ring::new_disabled(&settings, REQUESTS, COMPLETIONS, &files)?;
        let pool = Pool::new(&ring)?;
        Ok(Self {
            uring: RingWithMemory::new(ring, pool),
            pipes: pipes::Pool::new(pipes),
            spares: Spares::default(),
            turns: Turns::default(),
            waits: Waits::default(),
            dry: Vec::new(),
            failure: None,
        })
    }

    /// Has the kernel do this with the next [`Self::wait`].
    ///
    /// # Safety
    /// As [`Ring::push`].
    pub(super) unsafe fn ask(&mut self, request: &squeue::Entry) {
        // SAFETY: passed on to the caller.
        if let Err(error) = unsafe { self.uring.ring.push(request) } {
            self.failure.get_or_insert(error);
        }
    }

    /// Has the kernel give this up.
    pub(super) fn cancel(&mut self, user_data: u64) {
        if let Err(error) = self.uring.ring.cancel_one(user_data) {
            self.failure.get_or_insert(error);
        }
    }

    /// Submits what was asked for, and sleeps until something has come of it or it is `deadline`, in ns.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    pub(super) fn wait(&mut self, deadline: u64) -> io::Result<()> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        self.uring.memory.turn();
        // Whoever waits for their turn is not to wait for longer than what is done at once.
        let deadline = if self.turns.is_awaited() { 0 } else { deadline };
        let deadline = self.waits.turn(deadline, monotonic_ns);
        self.uring.ring.wait(deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::slab::Slab;

    #[test]
    fn a_completion_tells_whose_it_is() {
        let mut slab = Slab::new();
        for _ in 0..3 {
            let key = slab.insert(Ok::<_, ()>).unwrap();
            let servers = (0..MOST_SLOTS as u8).map(Act::Connect);
            for act in Act::OF_CLIENT.into_iter().chain(servers) {
                assert_eq!(Act::whose(act.of(key)), Some((key, act)));
            }
        }
        assert_eq!(Act::whose(ACCEPT), None);
    }
}
