//! Runs of several load generators as one run: counts and histograms are added, never averaged. Pure.
//!
//! The merged run is that of all requests: whichever rank sent a request, and in whichever order the ranks are added, the figures are
//! equal. A [`Merge`] holds the sums and a row for each rank; memory for histograms does not grow with the number of ranks.

mod check;
mod completeness;
mod settings;

use std::collections::BTreeMap;

use super::error::ErrorKind;
use super::fleet::{Fleet, MissingRank, Rank};
use super::result::{Cpu, Measured, Run};
use crate::dates;
use crate::stats::latency::{Latency, Summary};
use crate::stats::saved_histogram::SavedHistogram;
use crate::stats::spread::Spread;
use crate::stats::union::Union;
pub use crate::udp::merge::MergeError;
use settings::Settings;

/// Most warnings of a merged run.
const MOST_WARNINGS: usize = 32;

/// The result of a rank.
#[derive(Debug, Clone, Copy)]
pub struct RankResult<'a> {
    /// The rank, if it is known.
    pub rank: Option<u64>,
    /// What the rank is called in sentences.
    pub name: &'a str,
    /// The rank's host.
    pub host: &'a str,
    /// The rank's run.
    pub run: &'a Run,
    /// Its latencies from the actual start.
    pub latency: &'a SavedHistogram,
    /// Its latencies from the scheduled start.
    pub intended: &'a SavedHistogram,
    /// From the scheduled start to the actual one.
    pub lateness: &'a SavedHistogram,
    /// When it began, in ns of a clock that all ranks share; `None` if unknown.
    pub start_ns: Option<u64>,
    /// Largest error of this time, in ns; `None` if unknown.
    pub start_error_ns: Option<u64>,
}

/// A rank, and its figures that its row lacks.
#[derive(Debug)]
struct Part {
    rank: Rank,
    start_ns: Option<u64>,
    load_user_s: Option<f64>,
    load_system_s: Option<f64>,
}

/// The sums of the ranks so far.
#[derive(Debug)]
pub struct Merge {
    /// The common start in ns; `None` for the start of the first rank.
    origin_ns: Option<u64>,
    /// Settings and name of the first rank.
    first: Option<(Settings, String)>,
    run: Run,
    latency: Latency,
    intended: Latency,
    lateness: Latency,
    spans: Union,
    /// Whether the start of a rank is unknown.
    has_unknown_start: bool,
    /// First and last start of a rank.
    starts: Option<(u64, u64)>,
    start_error_ns: Option<u64>,
    ranks: Vec<Part>,
    /// The first error of each kind, by the place of the kind: the smallest text of all ranks.
    first_errors: BTreeMap<usize, String>,
    /// Warnings by their rule: the smallest text, and the number of ranks.
    warnings: BTreeMap<String, (String, usize)>,
}

impl Merge {
    /// No rank yet. `origin_ns` is the common start, in ns of the clock of [`RankResult::start_ns`]; without one, it is the start of the
    /// first rank.
    pub fn new(origin_ns: Option<u64>) -> Self {
        Self {
            origin_ns,
            first: None,
            run: Run::default(),
            latency: Latency::new(),
            intended: Latency::new(),
            lateness: Latency::new(),
            spans: Union::default(),
            has_unknown_start: false,
            starts: None,
            start_error_ns: Some(0),
            ranks: Vec::new(),
            first_errors: BTreeMap::new(),
            warnings: BTreeMap::new(),
        }
    }

    /// Whether no rank was added.
    pub fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    /// Adds the result of a rank.
    ///
    /// # Errors
    /// [`MergeError`]; nothing is added then.
    pub fn add(&mut self, result: RankResult<'_>) -> Result<(), MergeError> {
        let RankResult { name, run, .. } = result;
        self.check(&result)?;
        if self.ranks.is_empty() {
            self.first = Some((settings::of(run), name.to_owned()));
            self.begin(run);
        } else {
            settings::shared(&mut self.run.requested, &run.requested);
        }
        let sum = &mut self.run;
        sum.complete &= run.complete;
        sum.interrupted |= run.interrupted;
        sum.requests = sum.requests.saturating_add(run.requests);
        sum.bytes = sum.bytes.saturating_add(run.bytes);
        sum.errors.add(&run.errors);
        larger_proxy(&mut sum.cpu, &run.cpu);
        let both = [sum.started_at.take(), run.started_at.clone()];
        // Instants of one format, so that their order is that of their texts.
        sum.started_at = both.into_iter().flatten().min();
        result.latency.add_to(&mut self.latency);
        result.intended.add_to(&mut self.intended);
        result.lateness.add_to(&mut self.lateness);
        self.add_sentences(run);
        self.add_times(&result);
        self.ranks.push(Part {
            rank: Rank::of(run, result.rank, name, result.host),
            start_ns: result.start_ns,
            load_user_s: run.cpu.load_user_s,
            load_system_s: run.cpu.load_system_s,
        });
        Ok(())
    }

    fn check(&self, result: &RankResult<'_>) -> Result<(), MergeError> {
        let RankResult { name, run, .. } = *result;
        if run.udp.is_some() || run.scenario == "udp" {
            return Err(MergeError::Datagrams(name.to_owned()));
        }
        if run.fleet.is_some() {
            return Err(MergeError::Merged(name.to_owned()));
        }
        if let Some((first, first_name)) = &self.first {
            first.check(first_name, name, &settings::of(run))?;
        }
        check::histograms(result)?;
        check::counts(result)
    }

    /// Takes what all ranks share from the first one.
    fn begin(&mut self, run: &Run) {
        self.run = Run {
            scenario: run.scenario.clone(),
            path: run.path.clone(),
            engine: run.engine.clone(),
            protocol: run.protocol.clone(),
            forwarding: run.forwarding.clone(),
            proxy_threads: run.proxy_threads,
            setting: run.setting.clone(),
            round: run.round,
            requested: run.requested.clone(),
            complete: true,
            ..Run::default()
        };
    }

    fn add_sentences(&mut self, run: &Run) {
        for text in &run.first_errors {
            let kind = text.split(':').next().unwrap_or_default();
            let place = ErrorKind::ALL.iter().position(|of| of.name() == kind);
            let first = self.first_errors.entry(place.unwrap_or(usize::MAX));
            let first = first.or_insert_with(|| text.clone());
            if text < first {
                first.clone_from(text);
            }
        }
        for warning in &run.warnings {
            let (rule, text) = warning.split_once(": ").unwrap_or(("", warning));
            let of_rule = self.warnings.entry(rule.to_owned());
            let (least, ranks) = of_rule.or_insert_with(|| (text.to_owned(), 0));
            *ranks += 1;
            if text < least.as_str() {
                text.clone_into(least);
            }
            if self.warnings.len() > MOST_WARNINGS {
                self.warnings.pop_last();
            }
        }
    }

    fn add_times(&mut self, result: &RankResult<'_>) {
        let errors = self.start_error_ns.zip(result.start_error_ns);
        self.start_error_ns = errors.map(|(one, other)| one.max(other));
        let Some(start) = result.start_ns else {
            self.has_unknown_start = true;
            return;
        };
        let (first, last) = self.starts.unwrap_or((start, start));
        self.starts = Some((first.min(start), last.max(start)));
        let seconds = result.run.seconds.unwrap_or_default();
        // A conversion from outside the range saturates.
        let ns = (seconds * 1e9).round() as u64;
        self.spans.add(start, start.saturating_add(ns));
    }

    /// The merged run of a fleet of `size` ranks, of which `missing` have no result.
    pub fn finish(self, size: u64, missing: Vec<MissingRank>) -> Measured {
        let Self { mut run, .. } = self;
        let mut parts = self.ranks;
        parts.sort_by(|one, other| {
            (one.rank.rank, &one.rank.name).cmp(&(other.rank.rank, &other.rank.name))
        });
        // Sums of fractions in the order of the ranks, on which they depend.
        let sum = |of: fn(&Part) -> Option<f64>| parts.iter().map(of).sum::<Option<f64>>();
        run.requested.rate_per_s = sum(|part| part.rank.rate_per_s);
        run.cpu.load_user_s = sum(|part| part.load_user_s);
        run.cpu.load_system_s = sum(|part| part.load_system_s);
        let wall = sum(|part| part.rank.seconds).unwrap_or_default();
        let wall = wall * run.requested.load_threads as f64;
        run.cpu.load_busy = run
            .cpu
            .load()
            .filter(|_| wall > 0.0)
            .map(|load| load / wall);
        let origin_ns = self.origin_ns.or(self.starts.map(|(first, _)| first));
        let ranks = parts.into_iter().map(|part| Rank {
            // Times of other hosts may be any.
            start_ns: (part.start_ns.zip(origin_ns))
                .map(|(start, origin)| start.wrapping_sub(origin).cast_signed()),
            ..part.rank
        });
        let ranks: Vec<Rank> = ranks.collect();
        if !self.has_unknown_start {
            rates(&mut run, self.spans.seconds());
        }
        costs(&mut run);
        run.latency_ns = summary(&self.latency);
        run.latency_from_intended_ns = summary(&self.intended);
        run.lateness_ns = summary(&self.lateness);
        run.first_errors = self.first_errors.into_values().collect();
        let warnings = self.warnings.into_iter();
        let warnings = warnings.map(|(rule, (text, ranks))| {
            let many = match ranks {
                1 => String::new(),
                _ => format!("{ranks} ranks, one of them: "),
            };
            match &*rule {
                "" => format!("{many}{text}"),
                rule => format!("{rule}: {many}{text}"),
            }
        });
        run.warnings = warnings.collect();
        completeness::end(&mut run, &ranks, &missing);
        run.fleet = Some(Fleet {
            size,
            slowest: slowest(&ranks),
            requests_per_s: Spread::of(ranks.iter().filter_map(|rank| rank.requests_per_s)),
            bytes_per_s: Spread::of(ranks.iter().filter_map(|rank| rank.bytes_per_s)),
            latency_p99_ns: Spread::of(
                ranks
                    .iter()
                    .filter_map(|rank| rank.latency_p99_ns.map(|ns| ns as f64)),
            ),
            start_skew_ns: self
                .starts
                .filter(|_| !self.has_unknown_start)
                .map(|(first, last)| last - first),
            start_skew_error_ns: self
                .start_error_ns
                .filter(|_| self.starts.is_some() && !self.has_unknown_start)
                .map(|ns| ns.saturating_mul(2)),
            ranks,
            missing,
        });
        Measured {
            run,
            latency: self.latency,
            latency_from_intended: self.intended,
            lateness: self.lateness,
            start_ns: self.starts.map(|(first, _)| first),
        }
    }
}

/// The start of a saved run: ns since the epoch, by the wall clock of its host.
pub fn wall_start(run: &Run) -> Option<u64> {
    run.started_at.as_deref().and_then(dates::parse_rfc3339)
}

fn summary(latency: &Latency) -> Option<Summary> {
    (latency.count() > 0).then(|| latency.summary())
}

/// Keeps the larger CPU time of the proxy. The ranks of a fleet load one proxy at one time, so its CPU time counts once.
fn larger_proxy(sum: &mut Cpu, other: &Cpu) {
    let user_first = |cpu: &Cpu| {
        (
            cpu.proxy().unwrap_or(-1.0),
            cpu.proxy_user_s.unwrap_or(-1.0),
        )
    };
    if user_first(other) > user_first(sum) {
        (sum.proxy_user_s, sum.proxy_system_s) = (other.proxy_user_s, other.proxy_system_s);
    }
    let origin_of = |cpu: &Cpu| cpu.origin_user_s.zip(cpu.origin_system_s);
    if origin_of(other) > origin_of(sum) {
        (sum.origin_user_s, sum.origin_system_s) = (other.origin_user_s, other.origin_system_s);
    }
}

/// The rates of a run of `seconds`.
fn rates(run: &mut Run, seconds: f64) {
    let per_second = |count: u64| (count > 0 && seconds > 0.0).then(|| count as f64 / seconds);
    run.seconds = Some(seconds);
    run.requests_per_s = per_second(run.requests).filter(|_| run.scenario != "bulk");
    run.bytes_per_s = per_second(run.bytes).filter(|_| run.path != "blocked");
}

/// The proxy's CPU time per byte and per request, as of a run of one rank.
fn costs(run: &mut Run) {
    let proxy = run.cpu.proxy();
    let per = |parts: f64| proxy.filter(|_| parts > 0.0).map(|proxy| proxy / parts);
    let is_bulk = run.scenario == "bulk";
    let (bytes, requests) = (run.bytes as f64 / 1e9, run.requests as f64 / 1e4);
    run.cpu.proxy_s_per_gb = per(bytes).filter(|_| is_bulk);
    run.cpu.proxy_s_per_10k = per(requests).filter(|_| !is_bulk);
}

/// The slowest complete rank: by its rate, or by its 99 % latency if a rate is requested, which all ranks keep.
fn slowest(ranks: &[Rank]) -> Option<String> {
    let complete = ranks.iter().filter(|rank| rank.complete);
    let slowness = |rank: &Rank| match rank.rate_per_s {
        Some(_) => rank.latency_p99_ns.map(|ns| ns as f64),
        None => rank.rate().map(|rate| -rate),
    };
    let known = complete.filter_map(|rank| Some((slowness(rank)?, rank)));
    // The first of several that are equal.
    let slowest = known.reduce(|one, other| if other.0 > one.0 { other } else { one });
    slowest.map(|(_, rank)| rank.name.clone())
}

#[cfg(test)]
mod tests;
