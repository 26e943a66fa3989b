//! Runs that are alike, and the figures that are taken from them.

use super::gate::Judged;
use super::labels::Described;
use crate::stats::ratio::Ratio;
use crate::stats::spread::Spread;

/// A run that can stand beside another record's runs of the same settings.
pub trait Comparable: Sized {
    /// What makes runs alike: all that was asked for but how much of it, and of whom.
    type Settings: Described + Clone + PartialEq;
    /// What the runs of one setting come to, as it stands in the files.
    type Row: Row;

    /// Those of this run.
    fn settings(&self) -> Self::Settings;

    /// Whether it reached its end, and counts.
    fn is_complete(&self) -> bool;

    /// Whether as much was asked of both.
    fn is_as_much_as(&self, other: &Self) -> bool;

    /// The row of `base` and that of `new`, which are called `names`, with the ratios of the one to the other.
    fn pair(names: [String; 2], base: &Group<'_, Self>, new: &Group<'_, Self>) -> [Self::Row; 2];
}

/// What the runs of one setting come to, of which a base's stands beside it.
pub trait Row {
    /// What it is called.
    fn name(&self) -> &str;

    /// The figures it is judged by; none where it is no part of what is measured.
    fn judged(&self) -> Vec<Judged>;

    /// In a sentence, what is wrong with it that was not with `base`, however much slower it may be.
    fn broken(&self, _base: &Self) -> Option<String> {
        None
    }

    /// Whether it is a control, which has no part in what is judged, and slower than its base all the same.
    fn is_slower_control(&self) -> bool {
        false
    }

    /// In sentences, what a reader of its figures must know.
    fn notes(&self, _base: &Self) -> Vec<String> {
        Vec::new()
    }
}

/// A figure of a run; `None` where it has none.
pub type Figure<R> = fn(&R) -> Option<f64>;

/// The runs of one setting, in the order of their rounds.
#[derive(Debug, Clone)]
pub struct Group<'a, R: Comparable> {
    /// The setting.
    pub settings: R::Settings,
    /// All of them, complete or not; never none.
    pub runs: Vec<&'a R>,
}

/// Puts together which of `runs` are alike, in the order in which each kind first occurs.
pub(super) fn groups<R: Comparable>(runs: &[R]) -> Vec<Group<'_, R>> {
    let mut groups: Vec<Group<'_, R>> = Vec::new();
    for run in runs {
        let settings = run.settings();
        match groups.iter_mut().find(|group| group.settings == settings) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group {
                settings,
                runs: vec![run],
            }),
        }
    }
    groups
}

impl<'a, R: Comparable> Group<'a, R> {
    /// Those that count.
    pub fn complete(&self) -> impl Iterator<Item = &'a R> {
        self.runs.iter().copied().filter(|run| run.is_complete())
    }

    /// Of the complete runs that have the figure.
    pub fn spread(&self, figure: Figure<R>) -> Option<Spread> {
        let values = self.complete().filter_map(figure);
        Spread::of(values.filter(|value| value.is_finite()))
    }

    /// Of every complete run, or none at all: a run of which nothing arrived has no goodput, and to leave
    /// it out would make its setting look better than it is.
    fn values(&self, figure: Figure<R>) -> Option<Vec<f64>> {
        self.complete().map(figure).collect()
    }

    /// A count, over all complete runs.
    pub fn total(&self, count: fn(&R) -> u64) -> u64 {
        let counts = self.complete().map(count);
        counts.fold(0, u64::saturating_add)
    }

    /// As a multiple of `base`, with which it took turns: only rounds count in which both are complete.
    pub(super) fn in_rounds(&self, base: &Self, figure: Figure<R>) -> Option<Ratio> {
        let rounds = base.runs.iter().zip(&self.runs);
        let complete = rounds.filter(|(base, new)| base.is_complete() && new.is_complete());
        let figures = complete.map(|(base, new)| figure(base).zip(figure(new)));
        Ratio::paired(figures.collect::<Option<_>>()?)
    }

    /// As a multiple of `base`, of another command.
    pub fn apart(&self, base: &Self, figure: Figure<R>) -> Option<Ratio> {
        Ratio::unpaired(base.values(figure)?, self.values(figure)?)
    }
}
