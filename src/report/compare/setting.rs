//! The comparison's view of a setting: its name, and the figures that a gate judges.

use crate::stats::ratio::Interval;

/// The figures of one setting, to be judged against those of its base.
pub trait Compared {
    /// The setting's name.
    fn name(&self) -> &str;

    /// The figures to judge; none for a control.
    fn judged(&self) -> Vec<Judged>;

    /// A sentence on a fault that `base` does not have, whatever the speed.
    fn new_fault(&self, _base: &Self) -> Option<String> {
        None
    }

    /// The setting is a control, which is not judged, and is slower than its base.
    fn is_slower_control(&self) -> bool {
        false
    }

    /// Sentences that qualify the figures.
    fn notes(&self, _base: &Self) -> Vec<String> {
        Vec::new()
    }
}

/// A figure that a setting is judged by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The word for a setting whose figure fell: `slower`.
    pub worse: &'static str,
    /// The figure's name.
    pub figure: &'static str,
    /// The figure as a multiple of the base's, where more is better; `None` with too few runs.
    pub interval: Option<Interval>,
}

impl Judged {
    /// A speed.
    pub fn speed(figure: &'static str, interval: Option<Interval>) -> Self {
        Self {
            worse: "slower",
            figure,
            interval,
        }
    }
}
