//! The summary of `bench proxy`: one block per scenario, the overhead of the proxy, errors and notes.

mod comparison;
mod datagrams;
mod ranks;

use std::io::{self, Write};

use super::layout::{known, list, sentence, time};
use crate::load::result::Run;
use crate::report::compare::proxy::notes;
use crate::report::model::ProxyRecord;
use crate::report::model::proxy::{Added, Overhead, SettingRatios, Total};
use crate::stats::difference::Difference;
use crate::stats::latency::Summary;
use crate::stats::ratio::{Interval, Ratio};
use crate::units::{grouped, short_ns};

pub(super) use comparison::settings;

/// Widths of the label, the rate and each latency.
const LABEL: usize = 18;
const RATE: usize = 13;
const LATENCY: usize = 10;

/// Writes the summary of a command.
pub(super) fn summary(record: &ProxyRecord, out: &mut impl Write) -> io::Result<()> {
    heading(record, out)?;
    for scenario in scenarios(&record.totals) {
        writeln!(out)?;
        block(record, scenario, out)?;
    }
    ranks::ranks(&record.runs, out)?;
    if !record.comparison.is_empty() {
        writeln!(out)?;
        ratios(&record.comparison, out)?;
    }
    let (errors, interruption) = (notes::errors(record), notes::interruption(record));
    if !errors.is_empty() {
        writeln!(out)?;
    }
    sentences("errors", errors, out)?;
    sentences("note", notes::notes(record), out)?;
    sentences("warning", notes::warnings(record), out)?;
    if !interruption.is_empty() {
        writeln!(out)?;
    }
    sentences("incomplete", interruption, out)
}

/// Scenario, path and setting of a run.
fn path_name(run: &Run) -> String {
    match &run.setting {
        Some(setting) => format!("{} {}, {setting}", run.scenario, run.path),
        None => format!("{} {}", run.scenario, run.path),
    }
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

fn heading(record: &ProxyRecord, out: &mut impl Write) -> io::Result<()> {
    let runs = &record.runs;
    let Some(first) = runs.first() else {
        return Ok(());
    };
    let is_udp = first.scenario == "udp";
    let requests = runs.iter().find(|run| run.requested.message.is_some());
    let bulk = runs.iter().find(|run| run.scenario == "bulk");
    let proxy = runs.iter().find(|run| run.protocol.is_some());
    let rounds = runs.iter().map(|run| run.round + 1).max().unwrap_or(1);
    let mut parts = Vec::new();
    parts.extend(proxy.filter(|run| run.setting.is_none()).map(proxy_options));
    parts.extend(is_udp.then(|| datagrams::load(first)).into_iter().flatten());
    parts.extend(requests.filter(|_| !is_udp).map(|run| {
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
    let plural = if rounds == 1 { "" } else { "s" };
    parts.push(format!(
        "{rounds} round{plural} of {}",
        short_ns(first.requested.duration_s * 1e9)
    ));
    list(out, "", parts)
}

fn proxy_options(run: &Run) -> String {
    let protocol = run.protocol.as_deref().unwrap_or_default();
    let mut text = format!("proxy protocol {protocol}");
    if let Some(via) = &run.requested.via {
        text = format!("{text} at {via}");
    }
    if let Some(engine) = &run.engine {
        text = format!("{text} over {engine}");
    }
    if let Some(forwarding) = &run.forwarding {
        text = format!("{text}, forwarding {forwarding}");
    }
    match run.proxy_threads {
        Some(threads) if threads > 1 => format!("{text}, {threads} threads"),
        _ => text,
    }
}

fn block(record: &ProxyRecord, scenario: &str, out: &mut impl Write) -> io::Result<()> {
    let unit = match scenario {
        "bulk" => "GB/s",
        "udp" => "packets/s",
        _ => "requests/s",
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
        match scenario {
            "udp" => datagrams::costs(record, total, out)?,
            _ => cpu(total, out)?,
        }
    }
    Ok(())
}

fn path(total: &Total, out: &mut impl Write) -> io::Result<()> {
    let label = match &total.setting {
        // The other path with a relay of this setting has its name.
        Some(setting) if total.scenario == "udp" && total.path == "blocked" => {
            format!("{setting}, blocked")
        }
        Some(setting) => setting.clone(),
        None => total.path.clone(),
    };
    let gigabytes = || total.bytes_per_s.map(|bytes| bytes.median / 1e9);
    let requests = total.requests_per_s.map(|requests| requests.median);
    let rate = known(requests.or_else(gigabytes));
    // A long setting is on a line of its own.
    if label.chars().count() > LABEL - 4 {
        writeln!(out, "  {label}")?;
        write!(out, "{:<LABEL$}{rate:>RATE$}", "")?;
    } else {
        write!(out, "  {label:<width$}{rate:>RATE$}", width = LABEL - 2)?;
    }
    if total.scenario != "bulk" {
        for ns in percentiles(total.latency_ns.as_ref()) {
            write!(out, "{:>LATENCY$}", time(ns))?;
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

/// Writes the overhead, and the ends of its intervals in two further lines.
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
    type Line = (
        &'static str,
        fn(&Ratio) -> Option<f64>,
        fn(&Difference) -> Option<f64>,
    );
    let lines: [Line; 3] = [
        ("added", |of| Some(of.ratio), |of| Some(of.difference)),
        ("  at least", |of| low(of.interval), |of| low(of.interval)),
        ("  at most", |of| high(of.interval), |of| high(of.interval)),
    ];
    for (label, ratio, difference) in lines {
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

fn ratios(settings: &[SettingRatios], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "settings against the first: ratios with 95 % intervals"
    )?;
    for of in settings {
        let part = |name: &str, ratio: Option<Ratio>| {
            ratio.map(|ratio| match ratio.interval {
                Some(Interval { low, high }) => {
                    format!("{name} {:.2} x ({low:.2} to {high:.2})", ratio.ratio)
                }
                None => format!("{name} {:.2} x", ratio.ratio),
            })
        };
        let parts = [
            part("rate", of.rate),
            part("p99", of.latency_p99_ns),
            part("proxy CPU", of.proxy_cpu),
        ];
        // Only this scenario has two paths through a proxy.
        let path = match (&*of.scenario, &*of.path) {
            ("udp", "blocked") => " blocked",
            _ => "",
        };
        let label = format!(
            "  {}{path}, {} against {}: ",
            of.scenario, of.setting, of.base
        );
        list(out, &label, parts.into_iter().flatten())?;
    }
    Ok(())
}

/// Writes `sentences`, each with `label`.
fn sentences(label: &str, sentences: Vec<String>, out: &mut impl Write) -> io::Result<()> {
    sentences
        .iter()
        .try_for_each(|text| sentence(out, label, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn summary_fits_a_terminal_and_has_costs_errors_and_notes() {
        let mut record = sample::proxy::record();
        record.runs[1].errors.total = 2;
        record.runs[1].errors.timeout = 2;
        record.runs[1].first_errors = vec!["timeout: no whole\x1b answer came".to_owned()];
        record.totals[0].load_busy = Some(0.99);
        record.runs[0].warnings = vec!["load generator busy: 99 %".to_owned()];
        for run in &mut record.runs[3..5] {
            run.warnings = vec!["late starts: by much".to_owned()];
        }
        record.interrupted = true;
        let last = record.runs.last_mut().unwrap();
        (last.complete, last.interrupted) = (false, true);
        let mut out = Vec::new();
        summary(&record, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
            assert!(!line.chars().any(char::is_control), "{line}");
        }
        for words in [
            "request-response",
            "added",
            "at least",
            "0.50 x",
            "s per 10k requests",
            "uring against mio",
            "request-response proxied: 2 timeout: no whole? answer came",
            "busy 99 %",
            "bulk proxied, 1 of 5 runs: late starts: by much",
            "ended by a signal after 34 complete runs",
            "blocked blocked, round 5: ",
        ] {
            assert!(text.contains(words), "no '{words}' in:\n{text}");
        }
        assert!(!text.contains("load generator busy"), "twice:\n{text}");
    }

    #[test]
    fn settings_of_scenario_udp_are_compared_on_both_paths() {
        let of = |scenario: &str, path: &str| SettingRatios {
            scenario: scenario.to_owned(),
            path: path.to_owned(),
            setting: "socks5".to_owned(),
            base: "forward".to_owned(),
            ..SettingRatios::default()
        };
        let settings = [
            of("udp", "proxied"),
            of("udp", "blocked"),
            of("blocked", "blocked"),
        ];
        let mut out = Vec::new();
        ratios(&settings, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let labels: Vec<_> = text.lines().skip(1).map(str::trim).collect();
        assert_eq!(
            labels,
            [
                "udp, socks5 against forward:",
                "udp blocked, socks5 against forward:",
                "blocked, socks5 against forward:"
            ]
        );
    }
}
