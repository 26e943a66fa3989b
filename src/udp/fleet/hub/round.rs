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
    is_started: bool,
}

impl Round {
    pub(super) fn new(since: Instant) -> Self {
        Self {
            since,
            ready: BTreeSet::new(),
            done: BTreeSet::new(),
            is_started: false,
        }
    }

    pub(super) fn ready(&mut self, rank: u32) {
        self.ready.insert(rank);
    }

    pub(super) fn is_ready(&self, rank: u32) -> bool {
        self.ready.contains(&rank)
    }

    pub(super) fn start(&mut self) {
        self.is_started = true;
    }

    /// Whether a result of the rank is awaited.
    pub(super) fn is_running(&self, rank: u32) -> bool {
        self.is_started && self.ready.contains(&rank) && !self.done.contains(&rank)
    }

    pub(super) fn done(&mut self, rank: u32) {
        self.done.insert(rank);
    }

    /// Whether each rank that takes part has a result or is lost.
    pub(super) fn is_over(&self, is_alive: impl Fn(u32) -> bool) -> bool {
        let mut running = self.ready.difference(&self.done);
        self.is_started && !running.any(|rank| is_alive(*rank))
    }

    /// Why a rank has no result; `None` if it has one. `lost` is `None` for a rank that never came, and has the reason for a lost one.
    pub(super) fn missing(&self, rank: u32, lost: Option<Option<&str>>) -> Option<String> {
        let when = match (self.done.contains(&rank), self.ready.contains(&rank)) {
            (true, _) => return None,
            (false, true) => "during the run",
            (false, false) => "before the run",
        };
        Some(match lost {
            None => "never came".to_owned(),
            Some(None) => "was not ready in time".to_owned(),
            Some(Some(reason)) => format!("{reason} {when}"),
        })
    }
}
