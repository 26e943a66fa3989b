//! The columns of proxy figures over several runs: totals of a path, the overhead of a proxy, and compared settings.

use crate::report::export::column::columns;
use crate::report::model::proxy::{ComparedSetting, Overhead, Ratios, SettingRatios, Total};
use crate::stats::difference::Difference;
use crate::stats::latency::Summary;
use crate::stats::ratio::{Interval, Ratio, Verdict};
use crate::stats::spread::Spread;

columns! {
    /// All rounds of a scenario, path and setting.
    pub PROXY_TOTAL: Total = |of| {
        "scenario" [""] "as in `proxy.csv`" => &of.scenario;
        "path" [""] "as in `proxy.csv`" => &of.path;
        "setting" [""] "as in `proxy.csv`" => of.setting.as_ref();
        "runs" [""] "complete runs" => of.runs;
        "incomplete" [""] "incomplete runs, of which only the errors count" => of.incomplete;
        "requests_per_s_median" ["requests/s"] "correctly answered requests per second over these runs; empty for bulk" => of.requests_per_s.map(median);
        "requests_per_s_min" ["requests/s"] "correctly answered requests per second over these runs; empty for bulk" => of.requests_per_s.map(min);
        "requests_per_s_max" ["requests/s"] "correctly answered requests per second over these runs; empty for bulk" => of.requests_per_s.map(max);
        "bytes_per_s_median" ["bytes/s"] "message bytes per second over these runs; empty for blocked" => of.bytes_per_s.map(median);
        "bytes_per_s_min" ["bytes/s"] "message bytes per second over these runs; empty for blocked" => of.bytes_per_s.map(min);
        "bytes_per_s_max" ["bytes/s"] "message bytes per second over these runs; empty for blocked" => of.bytes_per_s.map(max);
        "latency_p50_ns" ["ns"] "latency over all requests; with a rate, from the scheduled start" => percentile(of, |of| of.p50);
        "latency_p90_ns" ["ns"] "latency over all requests; with a rate, from the scheduled start" => percentile(of, |of| of.p90);
        "latency_p99_ns" ["ns"] "latency over all requests; with a rate, from the scheduled start" => percentile(of, |of| of.p99);
        "latency_p99_9_ns" ["ns"] "latency over all requests; with a rate, from the scheduled start" => percentile(of, |of| of.p99_9);
        "requests" [""] "correctly answered requests" => of.requests;
        "errors" [""] "failed requests" => of.errors.total;
        "proxy_s_per_10k" ["s/10k requests"] "CPU time of the proxy over all requests; empty for bulk" => of.proxy_s_per_10k;
        "proxy_s_per_gb" ["s/GB"] "CPU time of the proxy over all bytes; bulk only" => of.proxy_s_per_gb;
        "load_busy" [""] "the load generator's CPU time as a share of its threads' wall time; the median run" => of.load_busy;
    }
}

columns! {
    /// The proxied path of a scenario against the direct path.
    pub PROXY_OVERHEAD: Overhead = |of| {
        "scenario" [""] "as in `proxy.csv`" => &of.scenario;
        "setting" [""] "as in `proxy.csv`" => of.setting.as_ref();
        "rounds" [""] "rounds in which both paths are complete" => of.rounds;
        "rate" [""] "requests or bytes per second as a multiple of the direct path's, and its 95 % interval" => of.rate.map(ratio);
        "rate_low" [""] "requests or bytes per second as a multiple of the direct path's, and its 95 % interval" => low(of.rate);
        "rate_high" [""] "requests or bytes per second as a multiple of the direct path's, and its 95 % interval" => high(of.rate);
        "added_p50_ns" ["ns"] "latency that the proxy adds, and its 95 % interval; empty for bulk" => added(of.added_ns.and_then(|of| of.p50));
        "added_p50_low_ns" ["ns"] "latency that the proxy adds, and its 95 % interval; empty for bulk" => added_low(of.added_ns.and_then(|of| of.p50));
        "added_p50_high_ns" ["ns"] "latency that the proxy adds, and its 95 % interval; empty for bulk" => added_high(of.added_ns.and_then(|of| of.p50));
        "added_p90_ns" ["ns"] "latency that the proxy adds, and its 95 % interval; empty for bulk" => added(of.added_ns.and_then(|of| of.p90));
        "added_p90_low_ns" ["ns"] "latency that the proxy adds, and its 95 % interval; empty for bulk" => added_low(of.added_ns.and_then(|of| of.p90));
        "added_p90_high_ns" ["ns"] "latency that the proxy adds, and its 95 % interval; empty for bulk" => added_high(of.added_ns.and_then(|of| of.p90));
        "added_p99_ns" ["ns"] "latency that the proxy adds, and its 95 % interval; empty for bulk" => added(of.added_ns.and_then(|of| of.p99));
        "added_p99_low_ns" ["ns"] "latency that the proxy adds, and its 95 % interval; empty for bulk" => added_low(of.added_ns.and_then(|of| of.p99));
        "added_p99_high_ns" ["ns"] "latency that the proxy adds, and its 95 % interval; empty for bulk" => added_high(of.added_ns.and_then(|of| of.p99));
        "added_p99_9_ns" ["ns"] "latency that the proxy adds, and its 95 % interval; empty for bulk" => added(of.added_ns.and_then(|of| of.p99_9));
        "added_p99_9_low_ns" ["ns"] "latency that the proxy adds, and its 95 % interval; empty for bulk" => added_low(of.added_ns.and_then(|of| of.p99_9));
        "added_p99_9_high_ns" ["ns"] "latency that the proxy adds, and its 95 % interval; empty for bulk" => added_high(of.added_ns.and_then(|of| of.p99_9));
    }
}

columns! {
    /// A setting of a scenario against the first, within one command.
    pub PROXY_RATIOS: SettingRatios = |of| {
        "scenario" [""] "as in `proxy.csv`" => &of.scenario;
        "path" [""] "as in `proxy.csv`" => &of.path;
        "setting" [""] "the setting's name" => &of.setting;
        "base" [""] "the first setting's name" => &of.base;
        "rounds" [""] "rounds in which both settings are complete" => of.rounds;
        "rate" [""] "requests or bytes per second as a multiple of the base's, and its 95 % interval" => of.rate.map(ratio);
        "rate_low" [""] "requests or bytes per second as a multiple of the base's, and its 95 % interval" => low(of.rate);
        "rate_high" [""] "requests or bytes per second as a multiple of the base's, and its 95 % interval" => high(of.rate);
        "p99_ratio" [""] "99 % latency as a multiple of the base's, and its 95 % interval; empty for bulk" => of.latency_p99_ns.map(ratio);
        "p99_ratio_low" [""] "99 % latency as a multiple of the base's, and its 95 % interval; empty for bulk" => low(of.latency_p99_ns);
        "p99_ratio_high" [""] "99 % latency as a multiple of the base's, and its 95 % interval; empty for bulk" => high(of.latency_p99_ns);
        "cpu_ratio" [""] "the proxy's CPU time per request or byte as a multiple of the base's, and its 95 % interval" => of.proxy_cpu.map(ratio);
        "cpu_ratio_low" [""] "the proxy's CPU time per request or byte as a multiple of the base's, and its 95 % interval" => low(of.proxy_cpu);
        "cpu_ratio_high" [""] "the proxy's CPU time per request or byte as a multiple of the base's, and its 95 % interval" => high(of.proxy_cpu);
    }
}

columns! {
    /// A setting of one of two compared proxy records.
    pub PROXY_SETTING: ComparedSetting = |of| {
        "setting" [""] "the setting's name" => &of.setting;
        "base" [""] "the setting that the ratios refer to; empty for that setting" => of.base.as_ref();
        "scenario" [""] "as in `proxy.csv`" => &of.scenario;
        "path" [""] "as in `proxy.csv`" => &of.path;
        "runs" [""] "complete runs" => of.runs;
        "incomplete" [""] "incomplete runs, of which only the errors count" => of.incomplete;
        "requests_per_s_median" ["requests/s"] "correctly answered requests per second over these runs; empty for bulk" => of.requests_per_s.map(median);
        "requests_per_s_min" ["requests/s"] "correctly answered requests per second over these runs; empty for bulk" => of.requests_per_s.map(min);
        "requests_per_s_max" ["requests/s"] "correctly answered requests per second over these runs; empty for bulk" => of.requests_per_s.map(max);
        "bytes_per_s_median" ["bytes/s"] "message bytes per second over these runs; empty for blocked" => of.bytes_per_s.map(median);
        "bytes_per_s_min" ["bytes/s"] "message bytes per second over these runs; empty for blocked" => of.bytes_per_s.map(min);
        "bytes_per_s_max" ["bytes/s"] "message bytes per second over these runs; empty for blocked" => of.bytes_per_s.map(max);
        "ratio" [""] "rate as a multiple of the base's, its 95 % interval and verdict" => select(of, |of| of.rate).map(ratio);
        "ratio_low" [""] "rate as a multiple of the base's, its 95 % interval and verdict" => low(select(of, |of| of.rate));
        "ratio_high" [""] "rate as a multiple of the base's, its 95 % interval and verdict" => high(select(of, |of| of.rate));
        "verdict" [""] "rate as a multiple of the base's, its 95 % interval and verdict" => select(of, |of| of.rate).map(verdict);
        "latency_p50_ns" ["ns"] "median latency of the median run; with a rate, from the scheduled start" => of.latency_p50_ns;
        "latency_p99_ns" ["ns"] "99 % latency of the median run; with a rate, from the scheduled start" => of.latency_p99_ns;
        "p99_ratio" [""] "ratio, 95 % interval and verdict of the runs' own 99 % latencies" => select(of, |of| of.latency_p99_ns).map(ratio);
        "p99_ratio_low" [""] "ratio, 95 % interval and verdict of the runs' own 99 % latencies" => low(select(of, |of| of.latency_p99_ns));
        "p99_ratio_high" [""] "ratio, 95 % interval and verdict of the runs' own 99 % latencies" => high(select(of, |of| of.latency_p99_ns));
        "p99_verdict" [""] "ratio, 95 % interval and verdict of the runs' own 99 % latencies" => select(of, |of| of.latency_p99_ns).map(verdict);
        "proxy_s_per_10k_median" ["s/10k requests"] "CPU time of the proxy; empty for bulk" => of.proxy_s_per_10k.map(median);
        "proxy_s_per_gb_median" ["s/GB"] "CPU time of the proxy; bulk only" => of.proxy_s_per_gb.map(median);
        "cpu_ratio" [""] "ratio, 95 % interval and verdict of the proxy's CPU time" => select(of, |of| of.proxy_cpu).map(ratio);
        "cpu_ratio_low" [""] "ratio, 95 % interval and verdict of the proxy's CPU time" => low(select(of, |of| of.proxy_cpu));
        "cpu_ratio_high" [""] "ratio, 95 % interval and verdict of the proxy's CPU time" => high(select(of, |of| of.proxy_cpu));
        "cpu_verdict" [""] "ratio, 95 % interval and verdict of the proxy's CPU time" => select(of, |of| of.proxy_cpu).map(verdict);
        "requests" [""] "correctly answered requests" => of.requests;
        "errors" [""] "failed requests" => of.errors.total;
    }
}

fn median(of: Spread) -> f64 {
    of.median
}

fn min(of: Spread) -> f64 {
    of.min
}

fn max(of: Spread) -> f64 {
    of.max
}

fn percentile(of: &Total, select: fn(&Summary) -> Option<u64>) -> Option<u64> {
    of.latency_ns.as_ref().and_then(select)
}

fn select(of: &ComparedSetting, select: fn(Ratios) -> Option<Ratio>) -> Option<Ratio> {
    of.ratios.and_then(select)
}

fn ratio(of: Ratio) -> f64 {
    of.ratio
}

fn verdict(of: Ratio) -> &'static str {
    Verdict::name(of.verdict)
}

fn low(of: Option<Ratio>) -> Option<f64> {
    low_end(of?.interval)
}

fn high(of: Option<Ratio>) -> Option<f64> {
    high_end(of?.interval)
}

fn added(of: Option<Difference>) -> Option<f64> {
    Some(of?.difference)
}

fn added_low(of: Option<Difference>) -> Option<f64> {
    low_end(of?.interval)
}

fn added_high(of: Option<Difference>) -> Option<f64> {
    high_end(of?.interval)
}

fn low_end(of: Option<Interval>) -> Option<f64> {
    Some(of?.low)
}

fn high_end(of: Option<Interval>) -> Option<f64> {
    Some(of?.high)
}
