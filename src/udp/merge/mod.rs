//! Runs of several ranks as one run: counts and histograms are added, never averaged. Pure.
//!
//! The merged run is that of all packets: whichever rank sent a packet, and in whichever order the ranks are added, counts, histograms
//! and interval rows are equal. A [`Merge`] holds the sums and a row for each rank; memory for histograms and intervals does not grow
//! with the number of ranks.
//!
//! Some figures of a rank cannot be added, and are null or absent in the merged run: percentiles of intervals and latencies by size.

pub(crate) mod check;
mod completeness;
mod named;
mod rows;
mod sentences;
pub(crate) mod settings;
mod shared;
mod stages;
mod sums;

use std::collections::BTreeMap;

use serde_json::Value;

use super::result::{
    Clock, EngineStats, Fleet, HostCpu, Measured, MissingRank, NamedHistograms, Rank, Run, Stream,
    speeds,
};
use crate::dates;
use crate::stats::latency::{Latency, Summary};
pub use crate::stats::saved_histogram::SavedHistogram;
use crate::stats::spread::Spread;
use crate::stats::union::Union;
pub use check::MergeError;
use named::Named;
use rows::Rows;
use sentences::Sentences;
use settings::Settings;
use shared::{Place, ReceiverErrors, SharedCauses};
use stages::MergedStages;

/// Most sentences of warnings and notes of a merged run.
const MOST_SENTENCES: usize = 32;

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
    /// Its latencies from the actual send.
    pub latency: &'a SavedHistogram,
    /// Its latencies from the intended send.
    pub intended: &'a SavedHistogram,
    /// Its histograms of the schedule and the stages, by name.
    pub more: &'a BTreeMap<String, SavedHistogram>,
    /// Its first datagram, in ns of a clock that all ranks share; `None` if unknown.
    pub start_ns: Option<u64>,
    /// From the common start to the rank's first send by its schedule, in ns. The skew is without it.
    pub phase_ns: u64,
}

/// The sums of the ranks so far.
#[derive(Debug)]
pub struct Merge {
    /// The common start in ns, to which rows are aligned.
    origin_ns: u64,
    /// Settings and name of the first rank.
    first: Option<(Settings, String)>,
    run: Run,
    engine_stats: Value,
    latency: Latency,
    intended: Latency,
    /// The histograms of the schedule and the stages.
    named: Named,
    /// Ranks whose schedule has a lateness.
    paced: usize,
    stages: MergedStages,
    /// Rank, name of the rank, and stream.
    streams: Vec<(Option<u64>, Stream)>,
    rows: Rows,
    spans: Union,
    /// Whether a rank received datagrams at an unknown time.
    has_unknown_span: bool,
    /// First and last start of a rank; unknown if that of a rank is.
    starts: Option<(u64, u64)>,
    clocks_error_ns: u64,
    ranks: Vec<Rank>,
    /// The causes of losses that ranks share.
    shared: SharedCauses,
    receiver_errors: ReceiverErrors,
    /// Ranks that received datagrams and have no latencies.
    without_latency: usize,
    /// Those among them whose clock is not related to that of the receiver.
    unrelated: usize,
    /// Whether a rank has latencies by size.
    has_sizes: bool,
    /// Warnings by their beginning, which names the effect.
    warnings: Sentences,
    hosts: BTreeMap<String, HostCpu>,
}

impl Merge {
    /// No rank yet. Rows are aligned to `origin_ns`, the common start, in ns of the clock of [`RankResult::start_ns`].
    pub fn new(origin_ns: u64) -> Self {
        Self {
            origin_ns,
            first: None,
            run: Run::default(),
            engine_stats: Value::Null,
            latency: Latency::new(),
            intended: Latency::new(),
            named: Named::default(),
            paced: 0,
            stages: MergedStages::default(),
            streams: Vec::new(),
            rows: Rows::default(),
            spans: Union::default(),
            has_unknown_span: false,
            starts: None,
            clocks_error_ns: 0,
            ranks: Vec::new(),
            shared: SharedCauses::default(),
            receiver_errors: ReceiverErrors::default(),
            without_latency: 0,
            unrelated: 0,
            has_sizes: false,
            warnings: Sentences::default(),
            hosts: BTreeMap::new(),
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
        let is_first = self.ranks.is_empty();
        if is_first {
            self.first = Some((Settings::of(run), name.to_owned()));
        }
        let place = place(&result);
        self.receiver_errors.add(run, place);
        let mut explained = run.explained.clone();
        if let Some(explained) = &mut explained {
            self.shared.take(explained, place);
        }
        if is_first {
            self.begin(run);
            self.run.explained = explained;
        } else {
            settings::add_shares(&mut self.run.requested, &run.requested);
            sums::effective(&mut self.run.effective, &run.effective);
            sums::cpu(&mut self.run.cpu, &run.cpu);
            if let (Some(sum), Some(pacing)) = (&mut self.run.pacing, &run.pacing) {
                sums::pacing(sum, pacing);
            }
            let sum = self.run.explained.take();
            self.run.explained = sums::explained(sum, explained.as_ref());
        }
        self.add_counts(run, is_first);
        result.latency.add_to(&mut self.latency);
        result.intended.add_to(&mut self.intended);
        if result.latency.counts.is_empty() && run.received.unique > 0 {
            self.without_latency += 1;
            self.unrelated += usize::from(run.effective.clock.source == "none");
        }
        self.named.add(result.more);
        let pacing = run.pacing.as_ref();
        self.paced += usize::from(pacing.is_some_and(|of| of.lateness_ns != Summary::default()));
        run.stages.iter().for_each(|of| self.stages.add(of));
        self.streams.extend(run.streams.iter().map(|stream| {
            let rank = Some(name.to_owned());
            (
                result.rank,
                Stream {
                    rank,
                    ..stream.clone()
                },
            )
        }));
        self.has_sizes |= !run.latency_by_size.is_empty();
        for warning in &run.warnings {
            let effect = warning.split([':', '.', ',']).next().unwrap_or_default();
            self.warnings.add(effect.to_owned(), warning);
        }
        let start = result.start_ns;
        self.add_times(run, start);
        self.add_start(&result, is_first);
        let offset_ns = start.map(|start| start.wrapping_sub(self.origin_ns).cast_signed());
        let offset_s = offset_ns.unwrap_or(0) as f64 / 1e9;
        self.rows
            .add(&run.intervals, run.intervals_omitted, offset_s);
        let rank = rank_row(&result, offset_ns);
        let host = self.hosts.entry(rank.host.clone());
        let of_host = host.or_insert_with(|| HostCpu {
            host: rank.host.clone(),
            ranks: 0,
            sender_s: Some(0.0),
            receiver_s: Some(0.0),
        });
        of_host.ranks += 1;
        of_host.sender_s = sums::known(of_host.sender_s, rank.sender_s);
        of_host.receiver_s = sums::known(of_host.receiver_s, rank.receiver_s);
        debug_assert_eq!(rank.name, name);
        self.ranks.push(rank);
        Ok(())
    }

    /// Whether a result can be added.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn check(&self, result: &RankResult<'_>) -> Result<(), MergeError> {
        let RankResult { name, run, .. } = *result;
        if run.round_trip.is_some() {
            return Err(MergeError::RoundTrip(name.to_owned()));
        }
        if run.fleet.is_some() {
            return Err(MergeError::Merged(name.to_owned()));
        }
        if let Some((first, first_name)) = &self.first {
            first.check(first_name, name, &Settings::of(run))?;
        }
        check::histograms(result)?;
        check::counts(result)
    }

    /// Takes what all ranks share from the first one.
    fn begin(&mut self, run: &Run) {
        self.engine_stats = serde_json::to_value(run.engine_stats).unwrap_or_default();
        self.run = Run {
            engine: run.engine.clone(),
            mode: run.mode.clone(),
            direction: run.direction.clone(),
            requested: run.requested.clone(),
            effective: run.effective.clone(),
            setting: run.setting.clone(),
            pacing: run.pacing.clone(),
            cpu: run.cpu,
            complete: true,
            ..Run::default()
        };
    }

    fn add_counts(&mut self, run: &Run, is_first: bool) {
        let sum = &mut self.run;
        sum.complete &= run.complete;
        sums::traffic(&mut sum.sent, &run.sent);
        sums::received(&mut sum.received, &run.received);
        sums::lost(&mut sum.lost, &run.lost);
        sums::marks(&mut sum.marks, run.marks.as_ref());
        let omitted = &mut sum.packet_rows_omitted;
        *omitted = omitted.saturating_add(run.packet_rows_omitted);
        sum.jitter_ns = [sum.jitter_ns, run.jitter_ns]
            .into_iter()
            .flatten()
            .reduce(f64::max);
        sum.client_ip = match is_first {
            true => run.client_ip.clone(),
            false => sum
                .client_ip
                .take()
                .filter(|ip| Some(ip) == run.client_ip.as_ref()),
        };
        let stats = &mut sum.engine_stats;
        stats.last_send_error = stats.last_send_error.max(run.engine_stats.last_send_error);
        if !is_first {
            let other = serde_json::to_value(run.engine_stats).unwrap_or_default();
            sums::numbers(&mut self.engine_stats, &other);
        }
    }

    fn add_times(&mut self, run: &Run, start: Option<u64>) {
        let text = &mut self.run;
        for (text, of, earlier) in [
            (&mut text.first_sent_at, &run.first_sent_at, true),
            (&mut text.last_received_at, &run.last_received_at, false),
        ] {
            // Instants of one format, so that their order is that of their texts.
            let both = [text.take(), of.clone()].into_iter().flatten();
            *text = if earlier { both.min() } else { both.max() };
        }
        self.clocks_error_ns = self
            .clocks_error_ns
            .max(run.effective.clock.error_ns.unwrap_or(0));
        match (start, run.seconds) {
            (Some(start), Some(seconds)) if seconds.is_finite() && seconds >= 0.0 => {
                let ns = (seconds * 1e9).round() as u64;
                self.spans.add(start, start.saturating_add(ns));
            }
            _ => self.has_unknown_span |= run.received.unique > 0,
        }
    }

    fn add_start(&mut self, result: &RankResult<'_>, is_first: bool) {
        if result.run.sent.packets == 0 && !is_first {
            return;
        }
        let start = result
            .start_ns
            .map(|start| start.saturating_sub(result.phase_ns));
        self.starts = match (is_first, self.starts, start) {
            (true, _, Some(start)) => Some((start, start)),
            (false, Some((first, last)), Some(start)) => Some((first.min(start), last.max(start))),
            _ => None,
        };
    }

    /// The merged run of a fleet of `size` ranks, of which `missing` have no result.
    pub fn finish(self, size: u64, missing: Vec<MissingRank>) -> Measured {
        let Self { mut run, .. } = self;
        let is_fleet = self.ranks.iter().any(|rank| rank.rank.is_some());
        if (is_fleet || !self.shared.is_empty())
            && let Some(explained) = run.explained.take()
        {
            let mut explained = sums::add_causes(explained, self.shared.into_causes());
            shared::distribute(&mut explained, run.lost.packets);
            run.explained = Some(explained);
        }
        run.engine_stats = EngineStats {
            last_send_error: run.engine_stats.last_send_error,
            host_receive_buffer_errors: self.receiver_errors.sum(),
            ..serde_json::from_value(self.engine_stats).unwrap_or_default()
        };
        if !self.latency.is_empty() {
            run.latency_ns = Some(self.latency.summary());
        }
        if !self.intended.is_empty() {
            run.latency_from_intended_ns = Some(self.intended.summary());
        }
        if !self.spans.is_empty() && !self.has_unknown_span {
            speeds(&mut run, self.spans.seconds());
        }
        if self.latency.sum_ns() > 0 && self.without_latency == 0 {
            let transit = self.latency.sum_ns() as f64 / 1e9;
            run.transit_kb_per_s = Some(run.received.bytes as f64 / 1e3 / transit);
        }
        sums::per_million(&mut run);
        (run.intervals, run.intervals_omitted) = self.rows.finish();
        let schedule = schedule(&mut run, &self.named, self.paced);
        let (stages, stage_histograms) = self.stages.finish(&self.named).unzip();
        run.stages = stages;
        run.streams = streams(self.streams);
        run.warnings = self.warnings.into_texts().collect();
        let (all, unrelated) = (self.ranks.len(), self.unrelated);
        if unrelated > 0 {
            run.warnings.push(format!(
                "The clocks of {unrelated} of {all} ranks are not related to that of the receiver, so the latencies are those of the other ranks."
            ));
        }
        if self.without_latency > unrelated {
            let lost = self.without_latency - unrelated;
            run.warnings.push(format!(
                "{lost} of {all} ranks have no latencies, as their receivers were lost before they reported them."
            ));
        }
        if self.has_sizes {
            let note = "The ranks' latencies by size are in their own records.";
            run.warnings.push(note.to_owned());
        }
        let mut ranks = self.ranks;
        ranks.sort_by(|one, other| (one.rank, &one.name).cmp(&(other.rank, &other.name)));
        completeness::end(&mut run, &ranks, &missing);
        let rates = ranks.iter().filter(|rank| rank.complete);
        let slowest = rates
            .filter_map(|rank| Some((rank.kb_per_s?, rank)))
            .min_by(|one, other| one.0.total_cmp(&other.0));
        let clock: &Clock = &run.effective.clock;
        let is_related = clock.source != "none";
        run.fleet = Some(Fleet {
            size,
            slowest: slowest.map(|(_, rank)| rank.name.clone()),
            kb_per_s: Spread::of(ranks.iter().filter_map(|rank| rank.kb_per_s)),
            start_skew_ns: self
                .starts
                .filter(|_| is_related)
                .map(|(first, last)| last - first),
            start_skew_error_ns: is_related.then(|| self.clocks_error_ns.saturating_mul(2)),
            hosts: self.hosts.into_values().collect(),
            ranks,
            missing,
        });
        Measured {
            run,
            latency: self.latency,
            latency_from_intended: self.intended,
            start_ns: self.starts.map(|(first, _)| first),
            closing_row: None,
            stages: stage_histograms.unwrap_or_default(),
            schedule,
        }
    }
}

/// The histograms of a run that are known by name, as they are saved and sent.
pub fn more(measured: &Measured) -> BTreeMap<String, SavedHistogram> {
    let mut all = named::saved(&measured.schedule);
    all.append(&mut named::saved(&measured.stages));
    all
}

/// Where and when a rank measured: the ranks of a fleet at one time.
fn place<'a>(result: &RankResult<'a>) -> Place<'a> {
    let start = result.start_ns.unwrap_or(0);
    let seconds = result.run.seconds.unwrap_or(0.0);
    match result.rank {
        Some(_) => Place {
            host: Some(result.host),
            span: (0, u64::MAX),
        },
        None => Place {
            host: None,
            span: (start, start.saturating_add((seconds * 1e9) as u64)),
        },
    }
}

/// The percentiles of the schedule, if all of the `paced` ranks have histograms. Returns these, merged.
fn schedule(run: &mut Run, named: &Named, paced: usize) -> NamedHistograms {
    let Some(pacing) = &mut run.pacing else {
        return Vec::new();
    };
    let mut histograms = Vec::new();
    for (name, figures) in [
        ("lateness", &mut pacing.lateness_ns),
        ("gap-error", &mut pacing.gap_error_ns),
    ] {
        if let Some(latency) = named.whole(name, paced) {
            *figures = latency.summary();
            histograms.push((name, latency.clone()));
        }
    }
    histograms
}

/// The streams of all ranks, numbered in the order of the ranks.
fn streams(mut streams: Vec<(Option<u64>, Stream)>) -> Vec<Stream> {
    streams.sort_by(|(one_rank, one), (other_rank, other)| {
        (one_rank, &one.rank, one.stream).cmp(&(other_rank, &other.rank, other.stream))
    });
    let streams = streams.into_iter().enumerate();
    streams
        .map(|(stream, (_, of_rank))| Stream { stream, ..of_rank })
        .collect()
}

/// The common start of saved runs: ns since the epoch, by the wall clock of each sender.
pub fn wall_start(run: &Run) -> Option<u64> {
    run.first_sent_at.as_deref().and_then(dates::parse_rfc3339)
}

fn rank_row(result: &RankResult<'_>, start_ns: Option<i64>) -> Rank {
    let (run, cpu) = (result.run, &result.run.cpu);
    let latency = run.latency_ns.unwrap_or_default();
    Rank {
        rank: result.rank,
        name: result.name.to_owned(),
        host: result.host.to_owned(),
        complete: run.complete,
        ended: run.ended.clone(),
        reason: run.reason.clone(),
        start_ns,
        phase_ns: result.phase_ns,
        sent: run.sent,
        received: run.received,
        lost: run.lost,
        seconds: run.seconds,
        kb_per_s: run.kb_per_s,
        latency_p50_ns: latency.p50,
        latency_p99_ns: latency.p99,
        latency_max_ns: latency.max,
        sender_s: sums::known(cpu.sender_user_s, cpu.sender_system_s),
        receiver_s: sums::known(cpu.receiver_user_s, cpu.receiver_system_s),
    }
}

#[cfg(test)]
mod tests;
