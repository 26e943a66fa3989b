//! Latency by percentile, for charts. A record in a folder has the distributions that are saved beside it.

use crate::stats::latency::Summary;
use crate::udp::result::Interval;

/// A run with latency histograms.
pub trait Distributed {
    /// File names of the histograms from the actual and from the intended start. Runs of one setting share them.
    fn histograms(&self) -> [String; 2];

    /// The summaries of the same latencies.
    fn summaries(&self) -> [Option<&Summary>; 2];

    /// The latency that settings are compared by is the one from the intended start.
    fn is_from_intended(&self) -> bool;

    /// The rate that settings are compared by; `None` of an incomplete run.
    fn known_rate(&self) -> Option<f64>;

    /// Received data by interval; empty where it is not measured.
    fn intervals(&self) -> &[Interval] {
        &[]
    }
}

/// The complete run with the median rate, and its place among `runs`.
pub fn typical<'a, R: Distributed>(runs: &[&'a R]) -> Option<(usize, &'a R)> {
    let runs = runs.iter().enumerate();
    let mut known: Vec<_> = runs
        .filter_map(|(at, run)| Some((run.known_rate()?, (at, *run))))
        .collect();
    known.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    known.get(known.len() / 2).map(|(_, run)| *run)
}

/// File name of the histogram `name` of a setting: `latency-uring-batch-16.hgrm` for `uring, batch 16`.
pub fn histogram_name(name: &str, setting: Option<&str>) -> String {
    let words = setting.into_iter().flat_map(|setting| {
        setting.split(|char: char| !char.is_ascii_alphanumeric() && char != '.')
    });
    let mut name = name.to_owned();
    for word in words.filter(|word| !word.is_empty()) {
        name.push('-');
        name.push_str(&word.to_ascii_lowercase());
    }
    name + ".hgrm"
}

/// Latency by percentile.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Quantile, from 0 to 1, and value in ns; both never decrease.
    pub points: Vec<(f64, f64)>,
    /// Number of values.
    pub count: u64,
}

impl Curve {
    /// A curve of `count` values; `None` without points, and if a point is not a quantile with a finite value of 0 or more.
    pub fn new(points: Vec<(f64, f64)>, count: u64) -> Option<Self> {
        let is_valid = |&(quantile, ns): &(f64, f64)| {
            (0.0..=1.0).contains(&quantile) && ns.is_finite() && ns >= 0.0
        };
        let is_sorted = points.is_sorted_by(|one, next| one.0 <= next.0 && one.1 <= next.1);
        let is_curve = !points.is_empty() && count > 0 && is_sorted && points.iter().all(is_valid);
        is_curve.then_some(Self { points, count })
    }

    /// The percentiles of a summary; `None` without values.
    pub fn of_summary(summary: &Summary) -> Option<Self> {
        Self::of_summaries(&[*summary])
    }

    /// Each percentile's median over `summaries`.
    pub fn of_summaries(summaries: &[Summary]) -> Option<Self> {
        type Percentile = fn(&Summary) -> Option<u64>;
        let percentiles: [(f64, Percentile); 7] = [
            (0.0, |of| of.min),
            (0.5, |of| of.p50),
            (0.9, |of| of.p90),
            (0.99, |of| of.p99),
            (0.999, |of| of.p99_9),
            (0.9999, |of| of.p99_99),
            (1.0, |of| of.max),
        ];
        let points = percentiles.into_iter().filter_map(|(quantile, of)| {
            let mut values: Vec<u64> = summaries.iter().filter_map(of).collect();
            values.sort_unstable();
            Some((quantile, *values.get(values.len() / 2)? as f64))
        });
        let mut counts: Vec<u64> = summaries.iter().map(|of| of.count).collect();
        counts.sort_unstable();
        Self::new(points.collect(), *counts.get(counts.len() / 2)?)
    }
}

/// Curves by the name of their histogram's file.
#[derive(Debug, Clone, Default)]
pub struct Curves(Vec<(String, Curve)>);

impl Curves {
    /// Adds the curve of the file `name`, once.
    pub fn add(&mut self, name: String, curve: impl FnOnce(&str) -> Option<Curve>) {
        if self.get(&name).is_none()
            && let Some(curve) = curve(&name)
        {
            self.0.push((name, curve));
        }
    }

    /// The curve of the latency that `runs`, of one setting, are compared by: of the file if there is one, otherwise the median of
    /// their summaries.
    pub fn compared<R: Distributed>(&self, runs: &[&R]) -> Option<Curve> {
        let first = runs.first()?;
        let kind = usize::from(first.is_from_intended());
        let file = self.get(first.histograms().get(kind)?);
        file.cloned().or_else(|| {
            let summaries = runs.iter().filter_map(|run| *run.summaries().get(kind)?);
            Curve::of_summaries(&summaries.copied().collect::<Vec<_>>())
        })
    }

    /// The curve of the file `name`.
    pub fn get(&self, name: &str) -> Option<&Curve> {
        let mut all = self.0.iter();
        all.find(|(of, _)| of == name).map(|(_, curve)| curve)
    }
}
