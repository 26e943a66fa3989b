//! The record of `bench proxy`: its `run.json`, and the settings of a comparison.
//!
//! Programs rely on the keys: add keys, never rename them.

use serde::{Deserialize, Serialize};

use super::curve::{Curves, Distributed, histogram_name};
use super::meta::Meta;
use crate::load::result::{Errors, Requested, Run};
use crate::stats::difference::Difference;
use crate::stats::latency::Summary;
use crate::stats::ratio::Ratio;
use crate::stats::spread::Spread;

/// A `run.json` of `bench proxy`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProxyRecord {
    /// Command, version and machine.
    #[serde(flatten)]
    pub meta: Meta,
    /// One entry per scenario, path and round.
    pub runs: Vec<Run>,
    /// One entry per scenario and setting except the first; empty without a comparison.
    #[serde(default)]
    pub comparison: Vec<SettingRatios>,
    /// One entry per scenario, path and setting, over all rounds.
    pub totals: Vec<Total>,
    /// One entry per scenario and setting: the proxied path against the direct path.
    pub overhead: Vec<Overhead>,
    /// A signal ended the command early.
    #[serde(default)]
    pub interrupted: bool,
    /// Latency distributions of the runs, where they are known. They are in the histogram files, not in `run.json`.
    #[serde(skip)]
    pub curves: Curves,
}

/// The complete runs of one scenario on one path with one setting.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Total {
    /// As [`Run::scenario`].
    pub scenario: String,
    /// As [`Run::path`].
    pub path: String,
    /// As [`Run::setting`].
    pub setting: Option<String>,
    /// Complete runs.
    pub runs: usize,
    /// Incomplete runs, of which only the errors count.
    pub incomplete: usize,
    /// Correctly answered requests.
    pub requests: u64,
    /// Failed requests, including those of incomplete runs.
    pub errors: Errors,
    /// Requests per second over these runs.
    pub requests_per_s: Option<Spread>,
    /// Bytes per second over these runs.
    pub bytes_per_s: Option<Spread>,
    /// Latency of all requests; with a rate, from the scheduled start.
    pub latency_ns: Option<Summary>,
    /// CPU seconds of the proxy per 10^9 bytes, over all bytes; null except for bulk.
    pub proxy_s_per_gb: Option<f64>,
    /// CPU seconds of the proxy per 10,000 requests; null for bulk.
    pub proxy_s_per_10k: Option<f64>,
    /// The load generator's CPU time as a share of its threads' wall time; the median run.
    pub load_busy: Option<f64>,
}

/// The proxied path of a scenario against the direct path.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Overhead {
    /// As [`Run::scenario`].
    pub scenario: String,
    /// As [`Run::setting`].
    pub setting: Option<String>,
    /// Rounds in which both paths are complete.
    pub rounds: usize,
    /// Requests or bytes per second, as a multiple of the direct path's.
    pub rate: Option<Ratio>,
    /// Latency of the proxied path minus that of the direct path, by percentile; null for bulk.
    pub added_ns: Option<Added>,
}

/// Latency that a proxy adds, in ns: each round's percentile is taken, then the difference of the medians over rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Added {
    /// Added to the median.
    pub p50: Option<Difference>,
    /// Added to the 90 % latency.
    pub p90: Option<Difference>,
    /// Added to the 99 % latency.
    pub p99: Option<Difference>,
    /// Added to the 99.9 % latency.
    pub p99_9: Option<Difference>,
}

/// One setting of a scenario against the first, within one command.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SettingRatios {
    /// As [`Run::scenario`].
    pub scenario: String,
    /// As [`Run::path`]: `proxied` or `blocked`; empty in records of older versions.
    #[serde(default)]
    pub path: String,
    /// The setting's name.
    pub setting: String,
    /// The first setting's name.
    pub base: String,
    /// Rounds in which both settings are complete.
    pub rounds: usize,
    /// Requests or bytes per second, as a multiple of the base's.
    pub rate: Option<Ratio>,
    /// The 99 % latency, as a multiple of the base's; null for bulk.
    pub latency_p99_ns: Option<Ratio>,
    /// The proxy's CPU time per request or byte, as a multiple of the base's.
    pub proxy_cpu: Option<Ratio>,
}

/// The runs of one setting in one of two records.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ComparedSetting {
    /// The setting's name.
    pub setting: String,
    /// Name of the setting that the ratios refer to; null for that setting.
    pub base: Option<String>,
    /// As [`Run::scenario`].
    pub scenario: String,
    /// As [`Run::path`].
    pub path: String,
    /// As [`Run::engine`].
    pub engine: Option<String>,
    /// As [`Run::protocol`].
    pub protocol: Option<String>,
    /// As [`Run::forwarding`].
    pub forwarding: Option<String>,
    /// As [`Run::proxy_threads`].
    pub proxy_threads: Option<usize>,
    /// As [`Run::requested`].
    pub requested: Requested,
    /// Complete runs.
    pub runs: usize,
    /// Incomplete runs, of which only the errors count.
    pub incomplete: usize,
    /// Correctly answered requests.
    pub requests: u64,
    /// Failed requests, including those of incomplete runs.
    pub errors: Errors,
    /// Requests per second over these runs; null for bulk.
    pub requests_per_s: Option<Spread>,
    /// Bytes per second over these runs; null for blocked.
    pub bytes_per_s: Option<Spread>,
    /// Median latency of the median run, in ns; with a rate, from the scheduled start; null for bulk.
    pub latency_p50_ns: Option<u64>,
    /// 99 % latency of the median run, in ns; with a rate, from the scheduled start; null for bulk.
    pub latency_p99_ns: Option<u64>,
    /// CPU seconds of the proxy per 10,000 requests over these runs; null for bulk.
    pub proxy_s_per_10k: Option<Spread>,
    /// CPU seconds of the proxy per 10^9 bytes over these runs; null except for bulk.
    pub proxy_s_per_gb: Option<Spread>,
    /// Share of requests answered correctly over these runs.
    pub answered: Option<Spread>,
    /// The load generator's CPU time as a share of its threads' wall time, over these runs.
    pub load_busy: Option<Spread>,
    /// Figures as multiples of the base's; null for the base.
    pub ratios: Option<Ratios>,
}

/// Figures of one setting as multiples of another's. A ratio is null where one of the two has no figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Ratios {
    /// Of requests per second, or of bulk bytes per second.
    pub rate: Option<Ratio>,
    /// Of the runs' own median latencies.
    pub latency_p50_ns: Option<Ratio>,
    /// Of the runs' own 99 % latencies.
    pub latency_p99_ns: Option<Ratio>,
    /// Of the proxy's CPU time per request or byte.
    pub proxy_cpu: Option<Ratio>,
    /// Of the share of requests answered correctly.
    pub answered: Option<Ratio>,
}

impl ComparedSetting {
    /// The scenario transfers bytes and does not count requests.
    pub fn is_bulk(&self) -> bool {
        self.scenario == "bulk"
    }
}

impl Distributed for Run {
    fn histograms(&self) -> [String; 2] {
        let setting = self.setting.as_deref().unwrap_or_default();
        let all = format!("{} {} {setting}", self.scenario, self.path);
        ["latency", "latency-intended"].map(|name| histogram_name(name, Some(&all)))
    }

    fn summaries(&self) -> [Option<&Summary>; 2] {
        [
            self.latency_ns.as_ref(),
            self.latency_from_intended_ns.as_ref(),
        ]
    }

    fn is_from_intended(&self) -> bool {
        self.requested.rate_per_s.is_some()
    }

    fn known_rate(&self) -> Option<f64> {
        self.rate().filter(|_| self.complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use proptest::prelude::*;

    proptest! {
        /// A rounded figure of a saved record equals that of the run.
        #[test]
        fn a_figure_survives_a_round_trip(figure in any::<f64>().prop_filter("JSON has no other numbers", |f| f.is_finite())) {
            let text = serde_json::to_string(&figure).unwrap();
            prop_assert_eq!(serde_json::from_str::<f64>(&text).unwrap(), figure);
        }
    }

    #[test]
    fn record_survives_a_round_trip() {
        let record = sample::proxy::record();
        let text = serde_json::to_string(&record).unwrap();
        let again: ProxyRecord = serde_json::from_str(&text).unwrap();
        let lengths = |of: &ProxyRecord| {
            [
                of.runs.len(),
                of.comparison.len(),
                of.totals.len(),
                of.overhead.len(),
            ]
        };
        assert_eq!(lengths(&again), lengths(&record));
        assert_eq!(again.meta.kind, "proxy");
        let (last, same) = (&record.runs[34], &again.runs[34]);
        assert_eq!(last.latency_ns.unwrap().p99, same.latency_ns.unwrap().p99);
        assert_eq!(last.errors, same.errors);
        assert_eq!(last.requested, same.requested);
    }
}
