//! A run of a fleet.

use std::collections::BTreeSet;
use std::time::Instant;

/// A run that has not ended.
#[derive(Debug)]
pub(super) struct Round {
    /// When the first rank was ready.
    pub(super) since: Instant,
    /// The ranks that were ready before the start: those that take part.
    ready: BTreeSet<u32>,
    /// The ranks whose result is complete.
    done: BTreeSet<u32>,
    /// The ranks whose result is awaited, once the run has started.
    open: BTreeSet<u32>,
    is_started: bool,
}

impl Round {
    pub(super) fn new(since: Instant) -> Self {
        Self {
            since,
            ready: BTreeSet::new(),
            done: BTreeSet::new(),
            open: BTreeSet::new(),
            is_started: false,
        }
    }

    pub(super) fn ready(&mut self, rank: u32) {
        self.ready.insert(rank);
    }

    pub(super) fn is_ready(&self, rank: u32) -> bool {
        self.ready.contains(&rank)
    }

    /// Number of ranks that are ready and not lost.
    pub(super) fn ready_ranks(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn start(&mut self) {
        self.is_started = true;
        self.open.clone_from(&self.ready);
    }

    /// A rank is lost.
    pub(super) fn lose(&mut self, rank: u32) {
        match self.is_started {
            true => self.open.remove(&rank),
            false => self.ready.remove(&rank),
        };
    }

    /// Whether the rank waits for the start, or its result is awaited.
    pub(super) fn is_pending(&self, rank: u32) -> bool {
        match self.is_started {
            true => self.open.contains(&rank),
            false => self.ready.contains(&rank),
        }
    }

    /// Whether a result of the rank is awaited.
    pub(super) fn is_running(&self, rank: u32) -> bool {
        self.open.contains(&rank)
    }

    pub(super) fn done(&mut self, rank: u32) {
        self.open.remove(&rank);
        self.done.insert(rank);
    }

    /// Whether each rank that takes part has a result or is lost.
    pub(super) fn is_over(&self) -> bool {
        self.is_started && self.open.is_empty()
    }

    /// Why a rank that came has no result; `None` if it has one. `lost` is the reason of a lost one.
    pub(super) fn missing(&self, rank: u32, lost: Option<&str>) -> Option<String> {
        let when = match (self.done.contains(&rank), self.ready.contains(&rank)) {
            (true, _) => return None,
            (false, true) => "during the run",
            (false, false) => "before the run",
        };
        Some(match lost {
            None => "was not ready in time".to_owned(),
            Some(reason) => format!("{reason} {when}"),
        })
    }
}
