//! Datagrams sent, received and lost, of a run, a stream or a rank.

use serde::{Deserialize, Serialize};

use super::counts::nullable_counts;

/// Packets and message bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(from = "TrafficInFile", into = "TrafficInFile")]
pub struct Traffic {
    /// Whether the sender was lost before it reported its counts, so that the counts here are lower bounds. Both are null in the file
    /// then.
    pub is_unknown: bool,
    /// Datagrams.
    pub packets: u64,
    /// Message bytes, without headers.
    pub bytes: u64,
}

nullable_counts!(TrafficInFile for Traffic: packets, bytes);

/// The datagrams that arrived at the receiver's sockets.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(from = "ReceivedInFile", into = "ReceivedInFile")]
pub struct Received {
    /// Whether the receiver was lost before it reported a count. All counts are null in the file then.
    pub is_unknown: bool,
    /// `unique + duplicates`.
    pub packets: u64,
    /// Message bytes of the unique datagrams.
    pub bytes: u64,
    /// First arrivals.
    pub unique: u64,
    /// Further arrivals of a sequence number.
    pub duplicates: u64,
    /// First arrivals after a higher sequence number (RFC 4737).
    pub reordered: u64,
    /// Arrivals below the sequence window, which count as lost (RFC 7680, 3.8.4) and are counted nowhere else.
    pub late: u64,
    /// Datagrams of no stream of this run: the sum of the three counts below.
    pub foreign: u64,
    /// Foreign datagrams with another token.
    pub foreign_token: u64,
    /// Foreign datagrams shorter than a header.
    pub foreign_short: u64,
    /// Foreign datagrams with an invalid header, or a header that contradicts the datagram.
    pub foreign_malformed: u64,
}

nullable_counts!(ReceivedInFile for Received: packets, bytes, unique, duplicates, reordered, late, foreign, foreign_token, foreign_short, foreign_malformed);

/// The datagrams that did not arrive, by where they were lost as far as the kernel reports it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(from = "LostInFile", into = "LostInFile")]
pub struct Lost {
    /// Whether a side was lost before the end, so that the losses are unknown. All counts are null in the file then.
    pub is_unknown: bool,
    /// `sent.packets - received.unique`: the sum of the three below.
    pub packets: u64,
    /// Refused for good by the sender's kernel.
    pub not_sent: u64,
    /// Dropped at the receiver's socket because its buffer was full. With GRO the kernel counts messages of several datagrams, and
    /// this is an estimate.
    pub receiver_socket: u64,
    /// Lost elsewhere.
    pub elsewhere: u64,
}

nullable_counts!(LostInFile for Lost: packets, not_sent, receiver_socket, elsewhere);
