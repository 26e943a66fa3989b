//! The messages of a fleet: many clients that start at one time, and whose results one of them collects.
//!
//! Each rank has a control connection for the fleet beside those of its sessions. It lasts from the first run to the last one.
//!
//! ```text
//!   rank                                    server
//!   join: version, fleet, rank, size  --->           (a key is proved before, as for a session)
//!                                     <---  roster: the collector, the ranks that never came
//!   clock                             --->           only of ranks without a session
//!                                     <---  clock
//!   ready: run                        --->           the rank's session is open
//!                                     <---  start: when, by the server's clock
//!   result: run, parts                --->
//!                                     <---  result, missing, end: run                     to the collector
//!   saved: run                        --->           of the collector
//!                                     <---  saved: run, or unsaved                        to each rank that keeps its results
//! ```
//!
//! A server without fleets refuses the first message as an unknown variant, which the client explains.

use serde::{Deserialize, Serialize};

use super::text;

/// Most ranks of a fleet.
pub const MAX_RANKS: u32 = 100_000;

/// Most bytes of a part of a result. As a JSON string it has at most twice as many, so that a message is not too long.
pub const MAX_PART: usize = 24 * 1024;

/// A message of a rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum FleetRequest {
    /// Joins the fleet.
    Join(FleetJoin),
    /// Shows that the rank is alive.
    Alive,
    /// Requests the server's clock, for ranks without a session, which estimates it.
    Clock {
        /// When the request was sent, in ns of the rank's clock.
        sent_ns: u64,
    },
    /// The rank can start a run.
    Ready {
        /// Number of the run within the command, from 0.
        run: u32,
    },
    /// A part of the rank's result of a run.
    Result {
        /// Number of the run.
        run: u32,
        /// A part of the text, in order; empty for the collector's own result.
        part: String,
        /// Whether it is the last part.
        last: bool,
    },
    /// The collector has saved the merged result of a run. Only if the roster says that results are confirmed.
    Saved {
        /// Number of the run.
        run: u32,
    },
}

/// Joins a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetJoin {
    /// [`VERSION`](super::VERSION).
    pub version: u32,
    /// Names the fleet at the server.
    pub fleet: String,
    /// The rank, from 0.
    pub rank: u32,
    /// Number of ranks.
    pub size: u32,
    /// Whether the rank has a session. The receiver's host has none.
    pub sends: bool,
    /// The rank's host.
    pub host: String,
    /// Stands for the options of the command, which all ranks share.
    pub options: String,
    /// Longest wait for other ranks, in ms.
    pub wait_ms: u64,
    /// Whether the rank keeps its results until the collector has saved them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub keeps: bool,
}

/// For keys that older versions lack.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A message to a rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum FleetReply {
    /// The fleet is complete, or the wait is over.
    Roster {
        /// The rank that collects the results.
        collector: u32,
        /// Ranks with a session that have come.
        senders: u32,
        /// Whether results are confirmed: all ranks keep theirs until then. An older server has no such messages.
        #[serde(default, skip_serializing_if = "is_false")]
        confirms: bool,
    },
    /// The server's clock.
    Clock {
        /// That of the request.
        sent_ns: u64,
        /// When the request was read, in ns of the server's clock.
        at_ns: u64,
        /// [`crate::sys::clock::identity`] of the server.
        clock: Option<String>,
    },
    /// A run starts.
    Start {
        /// Number of the run.
        run: u32,
        /// When, in ns of the server's clock.
        at_ns: u64,
    },
    /// A part of a rank's result, for the collector.
    Result {
        /// Number of the run.
        run: u32,
        /// The rank.
        rank: u32,
        /// A part of the text, in order.
        part: String,
        /// Whether it is the last part.
        last: bool,
    },
    /// A rank has no result of a run, for the collector.
    Missing {
        /// Number of the run.
        run: u32,
        /// The rank.
        rank: u32,
        /// The predicate of a sentence about the rank.
        #[serde(deserialize_with = "text::plain")]
        reason: String,
    },
    /// All results of a run were sent to the collector.
    End {
        /// Number of the run.
        run: u32,
    },
    /// The collector has saved the merged result of a run.
    Saved {
        /// Number of the run.
        run: u32,
    },
    /// The collector is lost: no further result is saved.
    Unsaved {
        /// The predicate of a sentence about the collector.
        reason: String,
    },
}
