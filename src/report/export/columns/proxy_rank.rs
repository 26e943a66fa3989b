//! The columns of a rank in the `ranks.csv` of `bench proxy load`.

use super::proxy::error_kinds;
use crate::load::fleet::Rank;
use crate::load::result::Run;
use crate::report::export::column::columns;

/// A rank of a merged run, or their total.
#[derive(Debug, Clone)]
pub struct ProxyRank {
    number: usize,
    scenario: String,
    path: String,
    setting: Option<String>,
    round: usize,
    rank: Rank,
}

impl ProxyRank {
    /// The ranks of each merged run and their total.
    pub fn all(runs: &[Run]) -> Vec<Self> {
        let mut rows = Vec::new();
        for (number, run) in runs.iter().enumerate() {
            let Some(fleet) = &run.fleet else {
                continue;
            };
            let mut total = Rank::of(run, None, "total", "");
            total.start_ns = fleet.start_skew_ns.and_then(|ns| i64::try_from(ns).ok());
            rows.extend(fleet.ranks.iter().chain([&total]).map(|rank| Self {
                number,
                scenario: run.scenario.clone(),
                path: run.path.clone(),
                setting: run.setting.clone(),
                round: run.round,
                rank: rank.clone(),
            }));
        }
        rows
    }
}

columns! {
    /// A rank of a merged proxy run.
    pub PROXY_RANK: ProxyRank = |of| {
        "run" [""] "number of the run within the command, from 0" => of.number;
        "scenario" [""] "as in `proxy.csv`" => &of.scenario;
        "path" [""] "as in `proxy.csv`" => &of.path;
        "setting" [""] "as in `proxy.csv`" => of.setting.as_ref();
        "round" [""] "as in `proxy.csv`" => of.round;
        "rank" [""] "the rank; empty of saved runs and of the total" => of.rank.rank;
        "name" [""] "`rank N`, the name of the saved run's folder, or `total`" => &of.rank.name;
        "host" [""] "the rank's host; of saved runs, the name of the folder" => &of.rank.host;
        "complete" [""] "`true` if the rank measured its full time and had a correct answer" => of.rank.complete;
        "start_ns" ["ns"] "from the common start to the rank's; of the total, the skew of the start: from the first rank's to the last rank's" => of.rank.start_ns;
        "connections" [""] "the rank's concurrent connections; for bulk, streams" => of.rank.connections;
        "rate_per_s" ["requests/s"] "the rank's share of the requested rate; empty for an unlimited rate" => of.rank.rate_per_s;
        "requests" [""] "as in `proxy.csv`" => of.rank.requests;
        "errors" [""] "failed requests" => of.rank.errors.total;
        "error_kinds" [""] "as in `proxy.csv`" => error_kinds(&of.rank.errors);
        "bytes" ["bytes"] "as in `proxy.csv`" => of.rank.bytes;
        "seconds" ["s"] "as in `proxy.csv`; of the total, the time in which at least one rank measured" => of.rank.seconds;
        "requests_per_s" ["requests/s"] "`requests` / `seconds`; empty for bulk" => of.rank.requests_per_s;
        "bytes_per_s" ["bytes/s"] "`bytes` / `seconds`; empty for blocked" => of.rank.bytes_per_s;
        "latency_p50_ns" ["ns"] "percentiles of the latency; from the scheduled start with a rate; empty for bulk" => of.rank.latency_p50_ns;
        "latency_p99_ns" ["ns"] "percentiles of the latency; from the scheduled start with a rate; empty for bulk" => of.rank.latency_p99_ns;
        "latency_max_ns" ["ns"] "the largest of these latencies" => of.rank.latency_max_ns;
        "load_s" ["s"] "CPU time of the rank's load generator threads" => of.rank.load_s;
        "load_busy" [""] "this time as a share of the threads' wall time" => of.rank.load_busy;
    }
}
