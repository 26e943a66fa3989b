//! The operations of a connection, and how a completion identifies its operation.

use crate::proxy::handshake::MAX_ATTEMPTS;
use crate::proxy::relay::Direction;
use crate::proxy::slab::Key;

/// An operation of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Operation {
    /// From the source of a direction.
    Receive(Direction),
    /// To the sink of a direction.
    Send(Direction),
    /// A poll that notices when the client hangs up.
    HangUpPoll,
    /// To a server, by its slot, which is less than [`MAX_SLOTS`].
    Connect(u8),
}

/// Most attempts to connect in flight for one connection, including those that were given up.
pub(super) const MAX_SLOTS: usize = 64;

const _: () = assert!(MAX_ATTEMPTS <= MAX_SLOTS);

/// Bits of `user_data` that identify the operation of a connection. No operation has all of them set.
const OPERATION_BITS: u32 = 8;

/// The `user_data` of accepting, which belongs to no connection.
pub(super) const ACCEPT: u64 = (1 << OPERATION_BITS) - 1;

impl Operation {
    /// All operations but [`Self::Connect`].
    pub(super) const OF_CLIENT: [Self; 5] = [
        Self::Receive(Direction::ToServer),
        Self::Receive(Direction::ToClient),
        Self::Send(Direction::ToServer),
        Self::Send(Direction::ToClient),
        Self::HangUpPoll,
    ];

    /// The `user_data` of this operation of `key`, which is less than 2^56.
    pub(super) fn user_data(self, key: Key) -> u64 {
        let number = match self {
            Self::Receive(Direction::ToServer) => 0,
            Self::Receive(Direction::ToClient) => 1,
            Self::Send(Direction::ToServer) => 2,
            Self::Send(Direction::ToClient) => 3,
            Self::HangUpPoll => 4,
            Self::Connect(slot) => 5 + u64::from(slot),
        };
        (key.number() as u64) << OPERATION_BITS | number
    }

    /// The operation with this `user_data`.
    pub(super) fn from_user_data(user_data: u64) -> Option<(Key, Self)> {
        let number = (user_data & ((1 << OPERATION_BITS) - 1)) as u8;
        let operation = match Self::OF_CLIENT.get(usize::from(number)) {
            Some(operation) => *operation,
            None if usize::from(number) < Self::OF_CLIENT.len() + MAX_SLOTS => {
                Self::Connect(number - Self::OF_CLIENT.len() as u8)
            }
            None => return None,
        };
        let key = Key::from_number((user_data >> OPERATION_BITS) as usize);
        Some((key, operation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::slab::Slab;

    #[test]
    fn a_completion_identifies_its_operation() {
        let mut slab = Slab::new();
        for _ in 0..3 {
            let key = slab.insert(Ok::<_, ()>).unwrap();
            let connects = (0..MAX_SLOTS as u8).map(Operation::Connect);
            for operation in Operation::OF_CLIENT.into_iter().chain(connects) {
                let user_data = operation.user_data(key);
                assert_eq!(Operation::from_user_data(user_data), Some((key, operation)));
            }
        }
        assert_eq!(Operation::from_user_data(ACCEPT), None);
    }
}
