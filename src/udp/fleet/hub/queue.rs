//! The messages that wait for a connection. Pure.

use std::collections::{BTreeMap, VecDeque};

use crate::udp::wire::fleet::FleetReply;

/// Most messages that wait for a rank, besides results. A rank waits for the reply to each of its requests, so that more of them are
/// requests of a rank that reads no replies.
const MOST: usize = 64;

/// The messages for a connection.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    /// Entries that are not parts of results.
    others: usize,
}

/// A message, or the messages about the ranks without a result.
#[derive(Debug)]
pub(super) enum Entry {
    Reply(FleetReply),
    Missing(MissingRanks),
}

impl Entry {
    /// Bytes of a part of a result; 0 for others.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Reply(reply) => size_of(reply),
            Self::Missing(_) => 0,
        }
    }

    fn is_part(&self) -> bool {
        matches!(self, Self::Reply(FleetReply::Result { .. }))
    }
}

impl From<FleetReply> for Entry {
    fn from(reply: FleetReply) -> Self {
        Self::Reply(reply)
    }
}

/// Bytes of a part of a result, of which many wait for a slow collector; 0 for other messages, whose number is limited.
pub(super) fn size_of(reply: &FleetReply) -> usize {
    match reply {
        FleetReply::Result { part, .. } => part.len(),
        _ => 0,
    }
}

impl Queue {
    pub(super) fn push(&mut self, entry: Entry) {
        self.others += usize::from(!entry.is_part());
        self.entries.push_back(entry);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the rank sends requests and reads no replies.
    pub(super) fn is_unread(&self) -> bool {
        self.others > MOST
    }

    /// Bytes of the parts of results.
    pub(super) fn size(&self) -> usize {
        self.entries.iter().map(Entry::size).sum()
    }

    /// The next message.
    pub(super) fn pop(&mut self) -> Option<FleetReply> {
        loop {
            if let Some(Entry::Missing(ranks)) = self.entries.front_mut()
                && let Some(reply) = ranks.next()
            {
                return Some(reply);
            }
            let entry = self.entries.pop_front()?;
            self.others -= usize::from(!entry.is_part());
            if let Entry::Reply(reply) = entry {
                return Some(reply);
            }
        }
    }
}

/// The ranks without a result of a run, in order. The messages are made one after the other, as a fleet may have many ranks that never
/// came.
#[derive(Debug)]
pub(super) struct MissingRanks {
    pub(super) run: u32,
    /// The next rank.
    pub(super) rank: u32,
    pub(super) size: u32,
    /// The ranks that came, with the reason why they have no result; `None` for a rank that needs no message.
    pub(super) came: BTreeMap<u32, Option<String>>,
}

impl Iterator for MissingRanks {
    type Item = FleetReply;

    fn next(&mut self) -> Option<FleetReply> {
        while self.rank < self.size {
            let (run, rank) = (self.run, self.rank);
            self.rank += 1;
            let reason = match self.came.remove(&rank) {
                Some(None) => continue,
                Some(Some(reason)) => reason,
                None => "never came".to_owned(),
            };
            return Some(FleetReply::Missing { run, rank, reason });
        }
        None
    }
}
