//! Retransmission of messages after the loss of a connection. Pure.
//!
//! Each side keeps the numbered messages that the peer has not acknowledged. TCP keeps the order within a connection, so a count is
//! enough: over a new connection, each side reports how many numbered messages it received, and the peer retransmits the rest.

use std::collections::VecDeque;

use thiserror::Error;

/// An acknowledgement of more messages than were sent, or of fewer than were acknowledged before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the peer acknowledged {0} messages, which is not possible")]
pub struct BadCount(pub u64);

/// Encoded messages that the peer has not acknowledged.
#[derive(Debug, Default)]
pub struct Unacknowledged {
    /// The number of the first message kept, counted from 0.
    first: u64,
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Unacknowledged {
    /// Adds the next message.
    pub fn push(&mut self, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Drops the first `count` messages, which the peer has received.
    ///
    /// # Errors
    /// [`BadCount`] for more messages than were sent. A smaller count than an earlier one has no effect.
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

    /// The messages to retransmit to a peer that has received `count` messages.
    ///
    /// # Errors
    /// [`BadCount`] for more messages than were sent, or fewer than were acknowledged.
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
    fn an_acknowledgement_of_more_messages_than_were_sent_is_refused() {
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
        /// Each connection delivers a prefix of its messages and breaks; the next one continues at the receiver's count.
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
                // The connection breaks, and loses the bytes in flight.
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
