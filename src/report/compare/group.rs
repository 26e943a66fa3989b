//! Groups of runs with equal settings, and the figures over the runs of a group.

use std::collections::HashMap;

use super::labels::Described;
use super::setting::Compared;
use crate::stats::difference::Difference;
use crate::stats::ratio::Ratio;
use crate::stats::spread::Spread;

/// A run that can be compared with runs of other settings, or with runs of equal settings in another record.
pub trait Comparable: Sized {
    /// The options that make runs alike: everything requested except the amount and the addresses.
    type Settings: Described + Clone + PartialEq;
    /// The figures of one setting, as saved.
    type Compared: Compared;

    /// The settings of this run.
    fn settings(&self) -> Self::Settings;

    /// The run reached its end and counts.
    fn is_complete(&self) -> bool;

    /// The round that the run belongs to; `None` where the n-th run of a setting belongs to round n.
    fn round(&self) -> Option<usize> {
        None
    }

    /// Both runs requested the same amount.
    fn is_as_much_as(&self, other: &Self) -> bool;

    /// Options of the runs of two records that weaken their comparison, a sentence each.
    fn caveats(_base: &[Self], _new: &[Self]) -> Vec<String> {
        Vec::new()
    }

    /// The figures of the setting `name`, without ratios.
    fn figures(name: String, group: &Group<'_, Self>) -> Self::Compared;

    /// Adds ratios to the setting called `base`, each computed by `ratio`.
    fn add_ratios(
        compared: &mut Self::Compared,
        base: &str,
        ratio: &dyn Fn(Figure<Self>) -> Option<Ratio>,
    );
}

/// A figure of a run; `None` if unknown.
pub type Figure<R> = fn(&R) -> Option<f64>;

/// How the runs of two groups belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pairing {
    /// The groups took turns: a run and the base's run of its round share the machine's drift.
    Rounds,
    /// The groups are of two commands.
    None,
}

/// The runs of one setting, in the order of their rounds, incomplete runs included.
#[derive(Debug, Clone)]
pub struct Group<'a, R> {
    /// At least one.
    pub runs: Vec<&'a R>,
}

/// Groups `runs` by `key`, in the order of each key's first run.
pub(super) fn group_by<R, K: PartialEq>(
    runs: &[R],
    key: impl Fn(&R) -> K,
) -> Vec<(K, Group<'_, R>)> {
    let mut groups: Vec<(K, Group<'_, R>)> = Vec::new();
    for run in runs {
        let key = key(run);
        match groups.iter_mut().find(|(of, _)| *of == key) {
            Some((_, group)) => group.runs.push(run),
            None => groups.push((key, Group { runs: vec![run] })),
        }
    }
    groups
}

/// The setting `name`, with its ratios to the setting `base_name`.
pub(super) fn against<R: Comparable>(
    (name, group): (String, &Group<'_, R>),
    (base_name, base): (&str, &Group<'_, R>),
    pairing: Pairing,
) -> R::Compared {
    let mut compared = R::figures(name, group);
    R::add_ratios(&mut compared, base_name, &|figure| {
        group.ratio(base, figure, pairing)
    });
    compared
}

impl<'a, R: Comparable> Group<'a, R> {
    /// The complete runs.
    pub fn complete(&self) -> impl Iterator<Item = &'a R> {
        self.runs.iter().copied().filter(|run| run.is_complete())
    }

    /// Spread over the complete runs that have the figure.
    pub fn spread(&self, figure: Figure<R>) -> Option<Spread> {
        let values = self.complete().filter_map(figure);
        Spread::of(values.filter(|value| value.is_finite()))
    }

    /// Sum over all complete runs.
    pub fn total(&self, count: fn(&R) -> u64) -> u64 {
        let counts = self.complete().map(count);
        counts.fold(0, u64::saturating_add)
    }

    /// The base's run and this group's run of each round in which both are complete.
    pub(super) fn rounds(&self, base: &Self) -> Vec<(&'a R, &'a R)> {
        let mut by_round = HashMap::new();
        for (round, run) in self.complete_by_round() {
            by_round.entry(round).or_insert(run);
        }
        base.complete_by_round()
            .filter_map(|(round, base)| Some((base, *by_round.get(&round)?)))
            .collect()
    }

    fn complete_by_round(&self) -> impl Iterator<Item = (usize, &'a R)> {
        let numbered = self.runs.iter().copied().enumerate();
        numbered
            .filter(|(_, run)| run.is_complete())
            .map(|(number, run)| (run.round().unwrap_or(number), run))
    }

    /// The figure as a multiple of `base`'s; `None` if a run has no figure, as without that run its setting would look better
    /// than it is.
    pub(super) fn ratio(
        &self,
        base: &Self,
        figure: impl Fn(&R) -> Option<f64>,
        pairing: Pairing,
    ) -> Option<Ratio> {
        let values = |of: &Self| of.complete().map(&figure).collect::<Option<Vec<_>>>();
        match pairing {
            Pairing::Rounds => Ratio::paired(self.figures_by_round(base, figure)?),
            Pairing::None => Ratio::unpaired(values(base)?, values(self)?),
        }
    }

    /// The figure minus `base`'s, over rounds; `None` if a run has no figure.
    pub(super) fn difference(
        &self,
        base: &Self,
        figure: impl Fn(&R) -> Option<f64>,
    ) -> Option<Difference> {
        Difference::paired(self.figures_by_round(base, figure)?)
    }

    fn figures_by_round(
        &self,
        base: &Self,
        figure: impl Fn(&R) -> Option<f64>,
    ) -> Option<Vec<(f64, f64)>> {
        let rounds = self.rounds(base);
        let figures = rounds
            .iter()
            .map(|(base, run)| figure(base).zip(figure(run)));
        figures.collect()
    }
}
