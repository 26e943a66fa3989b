//! The result of a search for a goal.

use super::Range;
use super::goal::Target;
use super::loads::{Cause, Loads};

/// The result for a goal (RFC 9971, 4.8). It is regular if both bounds are known and as close as the goal demands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GoalResult {
    /// The relevant lower bound.
    pub lower: Option<Lower>,
    /// The relevant upper bound.
    pub upper: Option<Upper>,
    /// The limit of the rate.
    pub limit: Limit,
}

/// A relevant lower bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lower {
    /// Datagrams a second.
    pub load: f64,
    /// Conditional throughput in datagrams a second.
    pub throughput: f64,
}

/// A relevant upper bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Upper {
    /// Datagrams a second.
    pub load: f64,
    /// Its cause.
    pub cause: Cause,
}

/// The limit of the rate of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The path loses datagrams.
    Path,
    /// The receiver's socket loses most of them.
    Receiver,
    /// The sender does not offer more.
    Sender,
    /// Nothing: the highest load of the range is a lower bound.
    Max,
    /// The lowest load of the range is an upper bound by its losses.
    Min,
    /// The search ended before the bounds were close enough.
    Unfinished,
}

impl Limit {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Receiver => "receiver",
            Self::Sender => "sender",
            Self::Max => "max",
            Self::Min => "min",
            Self::Unfinished => "unfinished",
        }
    }
}

impl GoalResult {
    /// Before the first trial.
    pub const UNKNOWN: Self = Self {
        lower: None,
        upper: None,
        limit: Limit::Unfinished,
    };

    /// Whether the goal is reached, or cannot be reached within the range.
    pub fn is_final(&self) -> bool {
        self.limit != Limit::Unfinished
    }
}

/// The result for the goal with these targets, of which the last is the goal. Before its bounds are known, the bounds are those of the
/// strictest target that has some.
pub(super) fn of(loads: &Loads, targets: &[Target], range: Range) -> GoalResult {
    let known = targets.iter().rev().find(|target| {
        let (lower, upper) = loads.bounds(target);
        let is_end =
            |load: Option<f64>| load.is_some_and(|load| load <= range.min || load >= range.max);
        let upper = upper.map(|(load, _)| load);
        (lower.is_some() && upper.is_some()) || is_end(lower) || is_end(upper)
    });
    let goal = targets.last();
    let Some(target) = known.or(goal) else {
        return GoalResult::UNKNOWN;
    };
    let (lower, upper) = loads.bounds(target);
    let limit = match (lower, upper) {
        _ if Some(target) != goal => Limit::Unfinished,
        (Some(lower), None) if lower >= range.max => Limit::Max,
        (None, Some((upper, cause))) if upper <= range.min => match cause {
            Cause::Sender => Limit::Sender,
            Cause::Loss => Limit::Min,
        },
        (Some(lower), Some((upper, cause))) if target.is_narrow(lower, upper) => match cause {
            Cause::Sender => Limit::Sender,
            Cause::Loss if loads.is_lossy_at_receiver(upper, target) => Limit::Receiver,
            Cause::Loss => Limit::Path,
        },
        _ => Limit::Unfinished,
    };
    GoalResult {
        lower: lower.map(|load| Lower {
            load,
            throughput: loads.conditional_throughput(load, target),
        }),
        upper: upper.map(|(load, cause)| Upper { load, cause }),
        limit,
    }
}
