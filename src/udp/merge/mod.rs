//! Runs of several ranks as one run: counts and histograms are added, never averaged. Pure.
//!
//! The merged run is that of all packets: whichever rank sent a packet, and in whichever order the ranks are added, counts, histograms
//! and interval rows are equal. A [`Merge`] holds the sums and a row for each rank; memory for histograms and intervals does not grow
//! with the number of ranks.
//!
//! Some figures of a rank cannot be added, and are null or absent in the merged run: percentiles of intervals and of the schedule,
//! stages, streams.

mod ending;
mod rows;
mod settings;
mod shared;
mod sums;

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

use super::result::{Clock, EngineStats, Fleet, HostCpu, Measured, MissingRank, Rank, Run, speeds};
use crate::dates;
use crate::stats::latency::Latency;
pub use crate::stats::saved_histogram::SavedHistogram;
use crate::stats::spread::Spread;
use crate::stats::union::Union;
use rows::Rows;
use settings::Settings;
use shared::SharedCauses;

/// Most sentences of warnings and notes of a merged run.
const MOST_SENTENCES: usize = 32;

/// Why a run cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MergeError {
    /// The runs have other settings.
    #[error(
        "{name} has other settings than {first}: {key} is {there} instead of {here}; merge runs of one command line"
    )]
    Settings {
        /// The run.
        name: String,
        /// The first run.
        first: String,
        /// The key of the setting.
        key: String,
        /// Its value in the first run.
        here: String,
        /// Its value in this run.
        there: String,
    },
    /// A run of round trips.
    #[error("{0} has round trips, which cannot be merged; merge runs without --round-trip")]
    RoundTrip(String),
    /// A run that is merged already.
    #[error("{0} is merged already; merge the runs that it was merged from")]
    Merged(String),
    /// The histogram does not have the latencies of the record.
    #[error(
        "{name} has {saved} latencies in its histogram and {recorded} in its record; it was changed after it was saved"
    )]
    Histogram {
        /// The run.
        name: String,
        /// Latencies in the histogram.
        saved: u64,
        /// Latencies in the record.
        recorded: u64,
    },
}

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
    /// Its first datagram, in ns of a clock that all ranks share; `None` if unknown.
    pub start_ns: Option<u64>,
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
    rows: Rows,
    spans: Union,
    /// Whether a rank received datagrams at an unknown time.
    has_unknown_span: bool,
    /// First and last start of a rank; unknown if that of a rank is.
    starts: Option<(u64, u64)>,
    clocks_error_ns: u64,
    ranks: Vec<Rank>,
    /// The causes of losses that the ranks of a fleet share. Saved runs may be of other times or receivers, and share none.
    shared: SharedCauses,
    /// Ranks that received datagrams and have no latencies.
    without_latency: usize,
    /// Whether a rank has stages.
    has_stages: bool,
    /// Whether a rank has latencies by size.
    has_sizes: bool,
    /// Warnings by their beginning, which names the effect: one of their texts, and the number of ranks.
    warnings: BTreeMap<String, (String, usize)>,
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
            rows: Rows::default(),
            spans: Union::default(),
            has_unknown_span: false,
            starts: None,
            clocks_error_ns: 0,
            ranks: Vec::new(),
            shared: SharedCauses::default(),
            without_latency: 0,
            has_stages: false,
            has_sizes: false,
            warnings: BTreeMap::new(),
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
        let mut explained = run.explained.clone();
        if result.rank.is_some()
            && let Some(explained) = &mut explained
        {
            self.shared.take(explained, result.host);
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
        }
        self.has_stages |= run.stages.is_some();
        self.has_sizes |= !run.latency_by_size.is_empty();
        for warning in &run.warnings {
            let effect = warning.split([':', '.', ',']).next().unwrap_or_default();
            let of_effect = self.warnings.entry(effect.to_owned());
            let (text, ranks) = of_effect.or_insert_with(|| (warning.clone(), 0));
            *ranks += 1;
            if warning < text {
                text.clone_from(warning);
            }
            if self.warnings.len() > MOST_SENTENCES {
                self.warnings.pop_last();
            }
        }
        let start = result.start_ns;
        self.add_times(run, start, is_first);
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

    fn check(&mut self, result: &RankResult<'_>) -> Result<(), MergeError> {
        let RankResult { name, run, .. } = *result;
        if run.round_trip.is_some() {
            return Err(MergeError::RoundTrip(name.to_owned()));
        }
        if run.fleet.is_some() {
            return Err(MergeError::Merged(name.to_owned()));
        }
        let pairs = [
            (result.latency, &run.latency_ns),
            (result.intended, &run.latency_from_intended_ns),
        ];
        for (histogram, summary) in pairs {
            let (saved, recorded) = (histogram.count(), summary.map_or(0, |of| of.count));
            if saved != recorded {
                let name = name.to_owned();
                return Err(MergeError::Histogram {
                    name,
                    saved,
                    recorded,
                });
            }
        }
        let settings = Settings::of(run);
        let Some((first, first_name)) = &self.first else {
            self.first = Some((settings, name.to_owned()));
            return Ok(());
        };
        match first.difference(&settings) {
            None => Ok(()),
            Some((key, here, there)) => Err(MergeError::Settings {
                name: name.to_owned(),
                first: first_name.clone(),
                key,
                here,
                there,
            }),
        }
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
        // A counter of a whole host: that of the host with the most, as ranks may share one.
        let errors = run.engine_stats.host_receive_buffer_errors;
        stats.host_receive_buffer_errors = stats.host_receive_buffer_errors.max(errors);
        if !is_first {
            let other = serde_json::to_value(run.engine_stats).unwrap_or_default();
            sums::numbers(&mut self.engine_stats, &other);
        }
    }

    fn add_times(&mut self, run: &Run, start: Option<u64>, is_first: bool) {
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
        if run.sent.packets > 0 || is_first {
            self.starts = match (is_first, self.starts, start) {
                (true, _, Some(start)) => Some((start, start)),
                (false, Some((first, last)), Some(start)) => {
                    Some((first.min(start), last.max(start)))
                }
                _ => None,
            };
        }
        match (start, run.seconds) {
            (Some(start), Some(seconds)) if seconds.is_finite() && seconds >= 0.0 => {
                let ns = (seconds * 1e9).round() as u64;
                self.spans.add(start, start.saturating_add(ns));
            }
            _ => self.has_unknown_span |= run.received.unique > 0,
        }
    }

    /// The merged run of a fleet of `size` ranks, of which `missing` have no result.
    pub fn finish(self, size: u64, missing: Vec<MissingRank>) -> Measured {
        let Self { mut run, .. } = self;
        if self.ranks.iter().any(|rank| rank.rank.is_some())
            && let Some(explained) = run.explained.take()
        {
            let mut explained = sums::add_causes(explained, self.shared.into_causes());
            shared::distribute(&mut explained, run.lost.packets);
            run.explained = Some(explained);
        }
        let (errno, errors) = (
            run.engine_stats.last_send_error,
            run.engine_stats.host_receive_buffer_errors,
        );
        run.engine_stats = EngineStats {
            last_send_error: errno,
            host_receive_buffer_errors: errors,
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
        ending::per_million(&mut run);
        (run.intervals, run.intervals_omitted) = self.rows.finish();
        let warnings = self.warnings.into_values();
        let warnings = warnings.map(|(text, ranks)| match ranks {
            1 => text,
            _ => format!("{ranks} ranks, one of them: {text}"),
        });
        run.warnings = warnings.collect();
        if self.without_latency > 0 {
            run.warnings.push(format!(
                "The clocks of {} of {} ranks are not related to that of the receiver, so the latencies are those of the other ranks.",
                self.without_latency,
                self.ranks.len()
            ));
        }
        for (is_left, what) in [
            (self.has_stages, "stages of the ranks' latencies"),
            (self.has_sizes, "ranks' latencies by size"),
        ] {
            if is_left {
                let note = format!("The {what} are in their own records.");
                run.warnings.push(note);
            }
        }
        let mut ranks = self.ranks;
        ranks.sort_by(|one, other| (one.rank, &one.name).cmp(&(other.rank, &other.name)));
        ending::end(&mut run, &ranks, &missing);
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
            stages: Vec::new(),
        }
    }
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
