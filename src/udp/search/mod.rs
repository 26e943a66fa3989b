//! The highest rate at which a path loses no more than a goal allows: multiple loss ratio search, by the terms of RFC 9971.
//!
//! A [`Search`] is pure: it names the next trial, and takes its [`Trial`] result. Its results depend on nothing else, so that tests
//! search simulated paths, and `tools/search` compares them with an independent implementation.
//!
//! - A [`Goal`] is a loss ratio with the demands on its proof. Its targets get stricter: a short trial a load and a wide interval at
//!   first, then longer trials and narrower intervals around the bounds of the target before. All goals share all trials.
//! - Trials classify a load for a target (`loads`) as a lower bound, an upper bound or undecided, by RFC 9971, appendix A. An undecided
//!   load gets a further trial.
//! - A cursor (`cursor`) for each goal selects loads: the first hint, outwards from it in doubling steps, then halves of the interval.
//! - A trial whose sender did not offer its load ([`Offered`]) is no loss of the path. If it recurs, the load is an upper bound of the
//!   sender.

mod cursor;
mod goal;
mod loads;
mod measure;
mod result;
#[cfg(test)]
mod tests;

use cursor::Cursor;
pub use goal::{Goal, GoalError, MOST_GOALS, WIDTHS};
use loads::Loads;
pub use loads::{Bound, Cause, Offered, Trial, rounded};
pub use measure::{NoTrial, Outcome, outcome};
pub use result::{GoalResult, Limit, Lower, Upper};

/// Loads that a search may try, in datagrams a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

/// The next trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Next {
    /// Datagrams a second.
    pub load: f64,
    /// Sending time in seconds.
    pub duration_s: f64,
}

/// A search for several goals.
#[derive(Debug, Clone)]
pub struct Search {
    range: Range,
    cursors: Vec<Cursor>,
    loads: Loads,
}

impl Search {
    /// A search for `goals`, which begins at the load `hint`: the rate that the path forwarded at the highest load, say.
    pub fn new(goals: &[Goal], range: Range, hint: f64) -> Self {
        let hint = rounded(hint.clamp(range.min, range.max)).clamp(range.min, range.max);
        Self {
            range,
            cursors: goals.iter().map(|goal| Cursor::new(goal, hint)).collect(),
            loads: Loads::default(),
        }
    }

    /// The next trial; `None` if every goal is reached, or cannot be reached within the range. Goals whose targets are the least
    /// strict come first, so that every goal has early bounds.
    pub fn next_trial(&mut self) -> Option<Next> {
        let (loads, range) = (&self.loads, self.range);
        let mut candidates: Vec<_> = self
            .cursors
            .iter_mut()
            .filter_map(|cursor| {
                let next = cursor.next(loads, range)?;
                Some((cursor.stage(), next))
            })
            .collect();
        candidates.sort_by_key(|(stage, _)| *stage);
        candidates.first().map(|(_, next)| *next)
    }

    /// Adds the result of a trial.
    pub fn add(&mut self, trial: Trial) {
        if let Offered::Short { achieved } = trial.offered {
            for cursor in &mut self.cursors {
                cursor.hint_sender_limit(achieved, self.range);
            }
        }
        self.loads.add(trial);
    }

    /// The final classification of a load for each goal.
    pub fn classify(&self, load: f64) -> Vec<Bound> {
        let finals = self.cursors.iter().map(Cursor::last);
        finals
            .map(|target| self.loads.classify(load, target))
            .collect()
    }

    /// The results so far, one for each goal.
    pub fn results(&self) -> Vec<GoalResult> {
        let cursors = self.cursors.iter();
        cursors
            .map(|cursor| result::of(&self.loads, cursor.targets(), self.range))
            .collect()
    }
}
