//! The loads of one goal: target after target, from the bounds of the target before.

use super::goal::{Goal, TARGETS, Target};
use super::loads::{Bound, Loads, rounded};
use super::{Next, Range};

/// A load below the rate that a sender achieved when it fell short of another load.
const BELOW_LIMIT: f64 = 0.97;

/// The position of a goal in a search.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    targets: [Target; TARGETS],
    stage: usize,
    /// Bounds of the target before, where those of this target are expected; of the first target, the hint.
    expected: (Option<f64>, Option<f64>),
    /// The next step outwards, as the logarithm of a factor.
    step: f64,
    /// The load of the last step outwards, and its direction.
    outwards: Option<(f64, Direction)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Direction {
    Up,
    Down,
}

impl Cursor {
    pub(super) fn new(goal: &Goal, hint: f64) -> Self {
        let targets = goal.targets();
        Self {
            step: targets[0].log_width,
            targets,
            stage: 0,
            expected: (Some(hint), None),
            outwards: None,
        }
    }

    /// The number of the present target.
    pub(super) fn stage(&self) -> usize {
        self.stage
    }

    fn target(&self) -> &Target {
        &self.targets[self.stage]
    }

    /// All targets, the goal last.
    pub(super) fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The last target, which is the goal.
    pub(super) fn last(&self) -> &Target {
        &self.targets[TARGETS - 1]
    }

    /// The sender fell short at some load and achieved this rate: a first target expects its bounds no higher.
    pub(super) fn hint_sender_limit(&mut self, achieved: f64, range: Range) {
        let below = rounded(achieved * BELOW_LIMIT).clamp(range.min, range.max);
        if self.stage == 0 && self.expected.0.is_none_or(|expected| below < expected) {
            self.expected.0 = Some(below);
        }
    }

    /// The next trial; `None` once the last target is reached.
    pub(super) fn next(&mut self, loads: &Loads, range: Range) -> Option<Next> {
        loop {
            self.widen(loads);
            let (lower, upper) = loads.bounds(self.target());
            let upper = upper.map(|(load, _)| load);
            if let Some(load) = self.candidate(lower, upper, range) {
                let duration_s = self.target().trial_s;
                return Some(Next { load, duration_s });
            }
            if self.stage + 1 == TARGETS {
                return None;
            }
            self.stage += 1;
            self.expected = (lower, upper);
            self.outwards = None;
            self.step = self.target().log_width;
        }
    }

    /// Doubles the step if the last one found no bound on its side.
    fn widen(&mut self, loads: &Loads) {
        let Some((load, direction)) = self.outwards else {
            return;
        };
        match (loads.classify(load, self.target()), direction) {
            (Bound::Undecided, _) => return,
            (Bound::Lower, Direction::Up) | (Bound::Upper(_), Direction::Down) => self.step *= 2.0,
            _ => {}
        }
        self.outwards = None;
    }

    /// The load to try between these bounds; `None` if they are close enough, or at the ends of the range.
    fn candidate(&mut self, lower: Option<f64>, upper: Option<f64>, range: Range) -> Option<f64> {
        let is_inside = |load: f64| {
            lower.is_none_or(|lower| load > lower) && upper.is_none_or(|upper| load < upper)
        };
        if let (Some(lower), Some(upper)) = (lower, upper)
            && self.target().is_narrow(lower, upper)
        {
            return None;
        }
        // Between both bounds of the target before: after a load there, only one of them must be tried for this target.
        if let (Some(low), Some(high)) = self.expected
            && (is_inside(low) && is_inside(high))
            && !self.target().is_narrow(low, high)
        {
            let load = rounded(self.target().divide(low, high));
            return Some(load).filter(|load| is_inside(*load));
        }
        let expected = [self.expected.0, self.expected.1].into_iter().flatten();
        if let Some(load) = expected.into_iter().find(|load| is_inside(*load)) {
            return Some(load);
        }
        let middle = lower
            .zip(upper)
            .map(|(lower, upper)| self.target().divide(lower, upper));
        let up = lower.map(|lower| (lower * self.step.exp()).min(range.max));
        let down = upper.map(|upper| (upper * (-self.step).exp()).max(range.min));
        // Both bounds of the target before are on one side: the bounds of this target are expected close to that side.
        let is_below =
            |load: Option<f64>| load.zip(upper).is_some_and(|(load, upper)| load >= upper);
        let is_above =
            |load: Option<f64>| load.zip(lower).is_some_and(|(load, lower)| load <= lower);
        let (load, direction) = match (up, down, middle) {
            (Some(up), None, _) => (up, Some(Direction::Up)),
            (None, Some(down), _) => (down, Some(Direction::Down)),
            (_, Some(down), Some(middle)) if is_below(self.expected.0) && down > middle => {
                (down, Some(Direction::Down))
            }
            (Some(up), _, Some(middle)) if is_above(self.expected.1) && up < middle => {
                (up, Some(Direction::Up))
            }
            (_, _, Some(middle)) => (middle, None),
            (None, None, None) | (Some(_), Some(_), None) => return None,
        };
        let load = rounded(load).clamp(range.min, range.max);
        self.outwards = direction.map(|direction| (load, direction));
        is_inside(load).then_some(load)
    }
}
