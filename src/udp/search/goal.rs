//! Goals, and the targets on the way to each.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most goals of a search.
pub const MOST_GOALS: usize = 8;

/// Narrowest and widest relative width of an interval. Loads have six digits.
pub const WIDTHS: (f64, f64) = (0.000_1, 0.5);

/// Shortest trial. In less time a sender has no rate.
const SHORTEST_S: f64 = 0.01;

/// Longest sum of trials at one load.
const LONGEST_S: f64 = 86_400.0;

/// A goal of a search (RFC 9971, 4.6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// Goal loss ratio: the largest share of lost datagrams of a good trial.
    pub loss_ratio: f64,
    /// Goal exceed ratio: the largest share of trial time at a lower bound that may have more loss.
    pub exceed_ratio: f64,
    /// Goal width: upper bound minus lower bound, over the upper bound.
    pub width: f64,
    /// Goal initial trial duration in seconds.
    pub initial_trial_s: f64,
    /// Goal final trial duration in seconds.
    pub final_trial_s: f64,
    /// Goal duration sum in seconds: trial time that classifies a load.
    pub duration_sum_s: f64,
}

/// Why a goal is not valid.
#[derive(Debug, Error, PartialEq)]
pub enum GoalError {
    /// Not a share below 1.
    #[error("a loss ratio of {} % cannot be searched for; choose 0 % to less than 100 %", .0 * 100.0)]
    Loss(f64),
    /// Not a share below 1.
    #[error("an exceed ratio of {} % accepts every load; choose 0 % to less than 100 %", .0 * 100.0)]
    Exceed(f64),
    /// Out of range.
    #[error("a width of {} % is out of range; choose {} % to {} %", .0 * 100.0, WIDTHS.0 * 100.0, WIDTHS.1 * 100.0)]
    Width(f64),
    /// A trial too short, or longer than a later one or the sum.
    #[error(
        "trials of {first} s at first, then {last} s, {sum} s at each load cannot be run; choose at least {SHORTEST_S} s and at most {LONGEST_S} s, each at least as long as the one before"
    )]
    Durations {
        /// Initial trial duration.
        first: f64,
        /// Final trial duration.
        last: f64,
        /// Duration sum.
        sum: f64,
    },
}

/// Targets of a goal. The last one is the goal.
pub(super) const TARGETS: usize = 3;

/// Two loads of six digits may be this much further apart than intended, as the logarithm of their ratio.
const ROUNDING: f64 = 1.5e-5;

/// The loss ratio that classifies a load, and the width of the interval between its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Target {
    pub(super) loss_ratio: f64,
    pub(super) exceed_ratio: f64,
    /// The logarithm of the ratio of the bounds.
    pub(super) log_width: f64,
    pub(super) trial_s: f64,
    pub(super) sum_s: f64,
}

impl Target {
    /// Whether two bounds are close enough.
    pub(super) fn is_narrow(&self, lower: f64, upper: f64) -> bool {
        (upper / lower).ln() <= self.log_width + ROUNDING
    }

    /// The load that divides an interval: a whole number of widths above its lower end, a power of two, so that repeated division ends at
    /// one width.
    pub(super) fn divide(&self, lower: f64, upper: f64) -> f64 {
        let widths = ((upper / lower).ln() - ROUNDING) / self.log_width;
        let half = widths.log2().ceil().max(1.0) - 1.0;
        lower * (self.log_width * half.exp2()).exp()
    }
}

impl Goal {
    /// Checks the goal.
    ///
    /// # Errors
    /// [`GoalError`], with the first invalid value.
    pub fn validate(&self) -> Result<(), GoalError> {
        if !(0.0..1.0).contains(&self.loss_ratio) {
            return Err(GoalError::Loss(self.loss_ratio));
        }
        if !(0.0..1.0).contains(&self.exceed_ratio) {
            return Err(GoalError::Exceed(self.exceed_ratio));
        }
        if !(WIDTHS.0..=WIDTHS.1).contains(&self.width) {
            return Err(GoalError::Width(self.width));
        }
        let times = [
            SHORTEST_S,
            self.initial_trial_s,
            self.final_trial_s,
            self.duration_sum_s,
            LONGEST_S,
        ];
        // A comparison with NaN is false.
        if !times.windows(2).all(|pair| pair[0] <= pair[1]) {
            return Err(GoalError::Durations {
                first: self.initial_trial_s,
                last: self.final_trial_s,
                sum: self.duration_sum_s,
            });
        }
        Ok(())
    }

    /// The targets, the least strict first: the widths halve, and the sums grow by a constant factor from one initial trial.
    pub(super) fn targets(&self) -> [Target; TARGETS] {
        let growth = self.duration_sum_s / self.initial_trial_s;
        // Narrower than the goal by the largest rounding error.
        let log_width = -(1.0 - self.width).ln() - ROUNDING * 1.1;
        std::array::from_fn(|at| {
            let before_last = TARGETS - 1 - at;
            let share = at as f64 / (TARGETS - 1) as f64;
            let sum_s = match before_last {
                0 => self.duration_sum_s,
                _ => self.initial_trial_s * growth.powf(share),
            };
            Target {
                loss_ratio: self.loss_ratio,
                exceed_ratio: self.exceed_ratio,
                log_width: log_width * (1_u32 << before_last) as f64,
                trial_s: self.final_trial_s.min(sum_s),
                sum_s,
            }
        })
    }
}
