//! What a person reads of `bench proxy`: a block a scenario, with what the proxy adds and how far that can be trusted.

mod doubts;
mod pairs;

use std::io::{self, Write};

use super::{Added, Compared, Overhead, Record, Run, Total};
use crate::report::text::layout::{figure, list, sentence};
use crate::stats::difference::Difference;
use crate::stats::latency::Summary;
use crate::stats::ratio::{Interval, Ratio};
use crate::units::{grouped, short_ns};

pub use pairs::between;

/// Widths: of the label, the rate, each latency.
const LABEL: usize = 18;
const RATE: usize = 13;
const LATENCY: usize = 10;

/// Writes all there is to say of a command's runs.
///
/// # Errors
/// Those of `out`.
pub fn summary(record: &Record, out: &mut impl Write) -> io::Result<()> {
    heading(record, out)?;
    for scenario in scenarios(&record.totals) {
        writeln!(out)?;
        block(record, scenario, out)?;
    }
    if !record.frame.comparison.is_empty() {
        writeln!(out)?;
        comparison(&record.frame.comparison, out)?;
    }
    errors(&record.frame.runs, out)?;
    doubts::all(record, out)
}

fn scenarios(totals: &[Total]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for total in totals {
        if !names.contains(&&total.scenario[..]) {
            names.push(&total.scenario);
        }
    }
    names
}

fn heading(record: &Record, out: &mut impl Write) -> io::Result<()> {
    let runs = &record.frame.runs;
    let Some(first) = runs.first() else {
        return Ok(());
    };
    let requests = runs.iter().find(|run| run.requested.message.is_some());
    let bulk = runs.iter().find(|run| run.scenario == "bulk");
    let proxy = runs.iter().find(|run| run.protocol.is_some());
    let rounds = runs.iter().map(|run| run.round + 1).max().unwrap_or(1);
    let mut parts = Vec::new();
    parts.extend(proxy.filter(|run| run.setting.is_none()).map(told_proxy));
    parts.extend(requests.map(|run| {
        let message = run.requested.message.unwrap_or_default();
        format!(
            "{} connections, {message} B messages",
            run.requested.connections
        )
    }));
    parts.extend(bulk.map(|run| match run.requested.connections {
        1 => "1 stream of bulk data".to_owned(),
        streams => format!("{streams} streams of bulk data"),
    }));
    parts.push(format!(
        "{rounds} rounds of {}",
        short_ns(first.requested.duration_s * 1e9)
    ));
    list(out, "", parts)
}

fn told_proxy(run: &Run) -> String {
    let asked = run.protocol.as_deref().unwrap_or_default();
    let mut told = format!("proxy asked by {asked}");
    if let Some(via) = &run.requested.via {
        told = format!("{told} at {via}");
    }
    if let Some(engine) = &run.engine {
        told = format!("{told} over {engine}");
    }
    if let Some(forwarding) = &run.forwarding {
        told = format!("{told}, forwarding {forwarding}");
    }
    match run.proxy_threads {
        Some(threads) if threads > 1 => format!("{told}, {threads} threads"),
        _ => told,
    }
}

fn block(record: &Record, scenario: &str, out: &mut impl Write) -> io::Result<()> {
    let unit = if scenario == "bulk" {
        "GB/s"
    } else {
        "requests/s"
    };
    write!(out, "{scenario:<LABEL$}{unit:>RATE$}")?;
    if scenario != "bulk" {
        for name in ["p50", "p90", "p99", "p99.9"] {
            write!(out, "{name:>LATENCY$}")?;
        }
    }
    writeln!(out, "{:>9}", "errors")?;
    for total in record
        .totals
        .iter()
        .filter(|total| total.scenario == scenario)
    {
        path(total, out)?;
        let overhead = record.overhead.iter();
        let of = |overhead: &&Overhead| {
            overhead.scenario == scenario && overhead.setting == total.setting
        };
        if total.path == "proxied"
            && let Some(overhead) = overhead.clone().find(of)
        {
            costs(overhead, out)?;
        }
        cpu(total, out)?;
    }
    Ok(())
}

fn path(total: &Total, out: &mut impl Write) -> io::Result<()> {
    let label = match &total.setting {
        Some(setting) => setting.clone(),
        None => total.path.clone(),
    };
    let rate = match (total.requests_per_s, total.bytes_per_s) {
        (Some(requests), _) => figure(requests.median),
        (None, Some(bytes)) => figure(bytes.median / 1e9),
        (None, None) => "-".to_owned(),
    };
    // A long setting has a line of its own.
    if label.chars().count() > LABEL - 4 {
        writeln!(out, "  {label}")?;
        write!(out, "{:<LABEL$}{rate:>RATE$}", "")?;
    } else {
        write!(out, "  {label:<width$}{rate:>RATE$}", width = LABEL - 2)?;
    }
    if total.scenario != "bulk" {
        for ns in percentiles(total.latency_ns.as_ref()) {
            let ns = ns.map_or("-".to_owned(), |ns| short_ns(ns as f64));
            write!(out, "{ns:>LATENCY$}")?;
        }
    }
    writeln!(out, "{:>9}", grouped(total.errors.total))
}

fn percentiles(summary: Option<&Summary>) -> [Option<u64>; 4] {
    let of = |percentile: fn(&Summary) -> Option<u64>| summary.and_then(percentile);
    [
        of(|summary| summary.p50),
        of(|summary| summary.p90),
        of(|summary| summary.p99),
        of(|summary| summary.p99_9),
    ]
}

/// What the proxy adds, and the interval's ends below each other.
fn costs(overhead: &Overhead, out: &mut impl Write) -> io::Result<()> {
    let added = overhead.added_ns.unwrap_or_default();
    let Added {
        p50,
        p90,
        p99,
        p99_9,
    } = added;
    let all = [p50, p90, p99, p99_9];
    let latencies = overhead.added_ns.is_some();
    type Row = (
        &'static str,
        fn(&Ratio) -> Option<f64>,
        fn(&Difference) -> Option<f64>,
    );
    let rows: [Row; 3] = [
        ("added", |of| Some(of.ratio), |of| Some(of.difference)),
        ("  at least", |of| low(of.interval), |of| low(of.interval)),
        ("  at most", |of| high(of.interval), |of| high(of.interval)),
    ];
    for (label, ratio, difference) in rows {
        let rate = overhead.rate.as_ref().and_then(ratio);
        let cells = all.map(|of| of.as_ref().and_then(difference));
        if rate.is_none() && cells.iter().all(Option::is_none) {
            continue;
        }
        let rate = rate.map_or("-".to_owned(), |rate| format!("{rate:.2} x"));
        write!(out, "    {label:<width$}{rate:>RATE$}", width = LABEL - 4)?;
        if latencies {
            for ns in cells {
                let ns = ns.map_or("-".to_owned(), signed);
                write!(out, "{ns:>LATENCY$}")?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

fn low(interval: Option<Interval>) -> Option<f64> {
    interval.map(|interval| interval.low)
}

fn high(interval: Option<Interval>) -> Option<f64> {
    interval.map(|interval| interval.high)
}

fn signed(ns: f64) -> String {
    let sign = if ns < 0.0 { "" } else { "+" };
    format!("{sign}{}", short_ns(ns))
}

fn cpu(total: &Total, out: &mut impl Write) -> io::Result<()> {
    let costs = [
        (total.proxy_s_per_10k, "s per 10k requests"),
        (total.proxy_s_per_gb, "s per GB"),
    ];
    for (cost, unit) in costs {
        if let Some(cost) = cost {
            let label = "proxy CPU";
            writeln!(
                out,
                "    {label:<width$}{cost:>RATE$.4} {unit}",
                width = LABEL - 4
            )?;
        }
    }
    Ok(())
}

fn comparison(rows: &[Compared], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "settings against the first, as ratios with their 95 % intervals"
    )?;
    for row in rows {
        let part = |name: &str, ratio: Option<Ratio>| {
            ratio.map(|ratio| match ratio.interval {
                Some(Interval { low, high }) => {
                    format!("{name} {:.2} x ({low:.2} to {high:.2})", ratio.ratio)
                }
                None => format!("{name} {:.2} x", ratio.ratio),
            })
        };
        let parts = [
            part("rate", row.rate),
            part("p99", row.latency_p99_ns),
            part("proxy CPU", row.proxy_cpu),
        ];
        let label = format!("  {}, {} against {}: ", row.scenario, row.setting, row.base);
        list(out, &label, parts.into_iter().flatten())?;
    }
    Ok(())
}

/// Each kind of error on each path, with what was said first.
fn errors(runs: &[Run], out: &mut impl Write) -> io::Result<()> {
    let mut told = Vec::new();
    for run in runs {
        for first in &run.first_errors {
            let kind = first.split(':').next().unwrap_or_default();
            let key = (&run.scenario, &run.path, &run.setting, kind.to_owned());
            if told.contains(&key) {
                continue;
            }
            let alike = runs.iter().filter(|of| {
                (&of.scenario, &of.path, &of.setting) == (&run.scenario, &run.path, &run.setting)
            });
            let count: u64 = alike
                .flat_map(|of| of.errors.kinds())
                .filter(|(name, _)| *name == kind)
                .map(|(_, count)| count)
                .sum();
            if told.is_empty() {
                writeln!(out)?;
            }
            let line = format!("{} {}: {} {first}", run.scenario, run.path, grouped(count));
            sentence(out, "errors", &line)?;
            told.push(key);
        }
    }
    Ok(())
}
