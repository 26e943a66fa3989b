//! Messages that survive the loss of their connection. Pure: what was sent and not acknowledged is kept, and sent again.
//!
//! TCP keeps the order within a connection, so a count is enough: the side that lost its connection says how many numbered
//! messages it received, and the other sends those from there on.

use std::collections::VecDeque;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// A message of the control connection.
pub trait Message: Serialize + DeserializeOwned {
    /// Whether it is counted, and sent again over a new connection.
    fn is_numbered(&self) -> bool;

    /// How many numbered messages the other side received, if this message reports it.
    fn acknowledges(&self) -> Option<u64>;
}

/// A count that the other side cannot have reached, or had passed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the peer acknowledged {0} messages, of which it cannot know")]
pub struct BadCount(pub u64);

/// Encoded messages that the other side has not acknowledged.
#[derive(Debug, Default)]
pub struct Unacknowledged {
    /// The number of the first one kept, counted from 0.
    first: u64,
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Unacknowledged {
    /// Keeps the next message.
    pub fn push(&mut self, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Drops what the other side received: all below `count`.
    ///
    /// # Errors
    /// [`BadCount`] for more than was sent. A count that is smaller than an earlier one changes nothing.
    pub fn acknowledge(&mut self, count: u64) -> Result<(), BadCount> {
        let new = count.saturating_sub(self.first);
        if new > self.frames.len() as u64 {
            return Err(BadCount(count));
        }
        for frame in self.frames.drain(..new as usize) {
            self.bytes -= frame.len();
        }
        self.first += new;
        Ok(())
    }

    /// What the other side has to be sent again when it received `count` messages.
    ///
    /// # Errors
    /// [`BadCount`], for more than was sent or less than it had acknowledged.
    pub fn resend(&mut self, count: u64) -> Result<impl Iterator<Item = &[u8]>, BadCount> {
        if count < self.first {
            return Err(BadCount(count));
        }
        self.acknowledge(count)?;
        Ok(self.frames.iter().map(Vec::as_slice))
    }

    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_count_beyond_what_was_sent_is_refused() {
        let mut sent = Unacknowledged::default();
        sent.push(vec![1]);
        sent.push(vec![2]);
        assert_eq!(sent.acknowledge(3), Err(BadCount(3)));
        sent.acknowledge(1).unwrap();
        sent.acknowledge(0).unwrap();
        assert_eq!(sent.bytes(), 1);
        assert_eq!(sent.resend(0).map(Iterator::count), Err(BadCount(0)));
        assert_eq!(
            sent.resend(u64::MAX).map(Iterator::count),
            Err(BadCount(u64::MAX))
        );
        assert_eq!(sent.resend(1).unwrap().collect::<Vec<_>>(), [[2]]);
    }

    proptest! {
        /// A connection delivers any prefix of what was sent over it and breaks; the next begins where the receiver stands.
        #[test]
        fn each_message_arrives_once_and_in_order(steps in prop::collection::vec((0usize..20, 0usize..30, any::<bool>()), 1..50)) {
            let mut sender = Unacknowledged::default();
            let mut wire: Vec<u8> = Vec::new();
            let (mut sent, mut received) = (0u8, Vec::new());
            for (messages, delivered, acknowledged) in steps {
                for _ in 0..messages {
                    sender.push(vec![sent]);
                    wire.push(sent);
                    sent = sent.wrapping_add(1);
                }
                received.extend(wire.drain(..delivered.min(wire.len())));
                if acknowledged {
                    sender.acknowledge(received.len() as u64).unwrap();
                }
                // The connection breaks: what is on it is lost.
                wire.clear();
                for frame in sender.resend(received.len() as u64).unwrap() {
                    wire.extend(frame);
                }
            }
            received.append(&mut wire);
            let expected: Vec<u8> = (0..received.len()).map(|n| n as u8).collect();
            prop_assert_eq!(received.last().map(|last| last.wrapping_add(1)).unwrap_or(0), sent);
            prop_assert_eq!(received, expected);
        }
    }
}
