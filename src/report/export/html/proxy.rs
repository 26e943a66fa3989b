//! The section of a record of `bench proxy`.

use std::io::{self, Write};

use super::chart::{Axis, Bar, Bars, Chart, Lines, Series, Whisker};
use super::comparison::{Ratios, ratio_charts};
use super::percentiles::percentiles;
use super::{page, table};
use crate::load::result::Run;
use crate::report::export::columns::{
    PROXY_OVERHEAD, PROXY_RANK, PROXY_RATIOS, PROXY_TOTAL, ProxyRank,
};
use crate::report::export::headline::{
    self, PROXY_ADDED, PROXY_COMPARED, PROXY_RANKS, PROXY_TOTALS, proxy_notes,
};
use crate::report::figures::figure;
use crate::report::model::ProxyRecord;
use crate::report::model::proxy::{Overhead, Total};
use crate::stats::difference::Difference;
use crate::stats::spread::Spread;
use crate::units::short_ns;

/// Writes the section.
pub(super) fn section(record: &ProxyRecord, out: &mut dyn Write) -> io::Result<()> {
    let notes = proxy_notes(record);
    page::notices(true, &incomplete(record), out)?;
    page::notices(false, &notes, out)?;
    page::environment(&record.meta, out)?;
    table::write(
        &headline::table(PROXY_TOTAL, PROXY_TOTALS, &record.totals),
        out,
    )?;
    let ranks = ProxyRank::all(&record.runs);
    if !ranks.is_empty() {
        table::write(&headline::table(PROXY_RANK, PROXY_RANKS, &ranks), out)?;
    }
    if !record.overhead.is_empty() {
        table::write(
            &headline::table(PROXY_OVERHEAD, PROXY_ADDED, &record.overhead),
            out,
        )?;
    }
    if !record.comparison.is_empty() {
        table::write(
            &headline::table(PROXY_RATIOS, PROXY_COMPARED, &record.comparison),
            out,
        )?;
    }
    page::charts(&charts(record)?, out)
}

fn incomplete(record: &ProxyRecord) -> Vec<String> {
    let mut sentences = Vec::new();
    if record.interrupted {
        sentences.push("The command was interrupted.".to_owned());
    }
    let totals = record.totals.iter().filter(|total| total.incomplete > 0);
    sentences.extend(totals.map(|total| {
        let all = total.runs + total.incomplete;
        let name = full_name(total);
        let reason = record.runs.iter().find_map(|run| match is_of(run, total) {
            true if !run.complete => run.reason.clone(),
            _ => None,
        });
        let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
        format!("{name}: {} of {all} runs{reason}", total.incomplete)
    }));
    sentences
}

fn is_of(run: &Run, total: &Total) -> bool {
    (&run.scenario, &run.path, &run.setting) == (&total.scenario, &total.path, &total.setting)
}

/// Path and setting.
fn name(total: &Total) -> String {
    match &total.setting {
        Some(setting) => format!("{}, {setting}", total.path),
        None => total.path.clone(),
    }
}

fn full_name(total: &Total) -> String {
    match total.scenario == total.path {
        true => name(total),
        false => format!("{} {}", total.scenario, name(total)),
    }
}

/// The charts: rates, ratios of settings, then distributions and costs.
pub(super) fn charts(record: &ProxyRecord) -> io::Result<Vec<Chart>> {
    let mut charts = Vec::new();
    // A path with its setting has one colour in all charts.
    let mut names: Vec<String> = Vec::new();
    for total in &record.totals {
        if !names.contains(&name(total)) {
            names.push(name(total));
        }
    }
    let series =
        |total: &Total| Series(names.iter().position(|of| *of == name(total)).unwrap_or(0));
    let all: Vec<(Series, &Total)> = record.totals.iter().map(|of| (series(of), of)).collect();
    let how = "Longer is faster. The whiskers reach from the slowest to the fastest round.";
    // Datagrams are measured by themselves.
    let is_udp = record.totals.iter().any(|of| of.scenario == "udp");
    let (title, unit) = match is_udp {
        true => ("Datagrams per second with at most 0.1 % loss", "packets/s"),
        false => ("Requests per second", "requests/s"),
    };
    let requests = totals(&all, |of| of.requests_per_s, unit, 1.0);
    charts.extend(bars(title, how, "rate", unit, requests)?);
    let bulk = totals(
        &all,
        |of| of.bytes_per_s.filter(|_| of.scenario == "bulk"),
        "GB/s",
        1e9,
    );
    charts.extend(bars("Bulk transfer", how, "rate", "GB/s", bulk)?);
    for chart in ratio_charts(&compared(record, &names), "") {
        charts.push(chart.draw()?);
    }

    let mut scenarios: Vec<&str> = Vec::new();
    for total in &record.totals {
        if !scenarios.contains(&&total.scenario[..]) {
            scenarios.push(&total.scenario);
        }
    }
    // A refused connection is an alternative to an accepted one.
    if scenarios.contains(&"connect") {
        scenarios.retain(|of| *of != "blocked");
    }
    for scenario in scenarios {
        charts.extend(latency(record, &all, scenario)?);
    }
    for overhead in &record.overhead {
        charts.extend(added(overhead, &names)?);
    }
    let how = "User and kernel time of the proxy's process. Shorter is cheaper. The direct path has no proxy.";
    let one = |value: Option<f64>| value.and_then(|value| Spread::of([value]));
    let cpu = totals(&all, |of| one(of.proxy_s_per_10k), "s", 1.0);
    let (title, unit) = match is_udp {
        true => ("Proxy CPU per 10,000 datagrams", "s/10k packets"),
        false => ("Proxy CPU per 10,000 requests", "s/10k requests"),
    };
    charts.extend(bars(title, how, "CPU time", unit, cpu)?);
    let cpu = totals(&all, |of| one(of.proxy_s_per_gb), "s", 1.0);
    charts.extend(bars("Proxy CPU per GB", how, "CPU time", "s/GB", cpu)?);
    Ok(charts)
}

/// The ratios of each setting, in the colour of its proxied path.
fn compared(record: &ProxyRecord, names: &[String]) -> Vec<(Series, String, Ratios)> {
    let settings = record.comparison.iter();
    settings
        .map(|of| {
            let path = format!("proxied, {}", of.setting);
            let at = names.iter().position(|name| *name == path).unwrap_or(0);
            let ratios = vec![
                ("Rate", of.rate),
                ("99 % latency", of.latency_p99_ns),
                ("Proxy CPU time", of.proxy_cpu),
            ];
            let name = format!("{}, {}", of.scenario, of.setting);
            (Series(at), name, ratios)
        })
        .collect()
}

/// A bar for each total with the figure.
fn totals(
    all: &[(Series, &Total)],
    of: impl Fn(&Total) -> Option<Spread>,
    unit: &str,
    scale: f64,
) -> Vec<Bar> {
    let known = all.iter().filter_map(|(series, total)| {
        let spread = of(total)?;
        let median = spread.median / scale;
        Some(Bar {
            series: *series,
            name: full_name(total),
            // The axis has the whole unit; `request-response proxied, uring` and its rate fit on one line.
            text: match unit {
                "requests/s" => format!("{}/s", figure(median)),
                unit => format!("{} {unit}", figure(median)),
            },
            value: Some(median),
            whisker: (spread.count > 1).then_some(Whisker {
                low: spread.min / scale,
                high: spread.max / scale,
            }),
            is_hollow: false,
        })
    });
    known.collect()
}

/// A chart of bars from 0, if there are any.
fn bars(
    title: &str,
    how: &str,
    figure: &'static str,
    unit: &str,
    bars: Vec<Bar>,
) -> io::Result<Option<Chart>> {
    if bars.is_empty() {
        return Ok(None);
    }
    let ends = bars.iter().filter_map(|bar| {
        let whisker = bar.whisker.map(|of| of.high);
        whisker.or(bar.value)
    });
    let chart = Bars {
        title: title.to_owned(),
        how: how.to_owned(),
        x: Axis::from_zero(figure, unit, ends),
        rows: "path",
        origin: 0.0,
        bars,
    };
    chart.draw().map(Some)
}

fn latency(
    record: &ProxyRecord,
    all: &[(Series, &Total)],
    scenario: &str,
) -> io::Result<Option<Chart>> {
    let of = all.iter().filter(|(_, total)| {
        let is_beside = scenario == "connect" && total.scenario == "blocked";
        total.scenario == scenario || is_beside
    });
    let of: Vec<_> = of.collect();
    let named = of.iter().map(|(series, total)| {
        let runs = record
            .runs
            .iter()
            .filter(|run| is_of(run, total) && run.complete);
        let runs: Vec<&Run> = runs.collect();
        (*series, name(total), record.curves.compared(&runs))
    });
    let how = "Read up from a percentile: that share of the requests was answered within this time. Lower is better.";
    let beside = match of.iter().any(|(_, total)| total.scenario != scenario) {
        true => " and blocked",
        false => "",
    };
    let title = format!("Latency by percentile, {scenario}{beside}");
    let lines = percentiles(&title, how, "latency", named);
    lines.map(Lines::draw).transpose()
}

fn added(overhead: &Overhead, names: &[String]) -> io::Result<Option<Chart>> {
    let Some(added) = overhead.added_ns else {
        return Ok(None);
    };
    let path = match &overhead.setting {
        Some(setting) => format!("proxied, {setting}"),
        None => "proxied".to_owned(),
    };
    let series = Series(names.iter().position(|name| *name == path).unwrap_or(1));
    let all = [
        ("50 %", added.p50),
        ("90 %", added.p90),
        ("99 %", added.p99),
        ("99.9 %", added.p99_9),
    ];
    let ends = all
        .iter()
        .filter_map(|(_, of)| *of)
        .flat_map(|of: Difference| {
            let interval = of.interval.map(|of| [of.low, of.high]);
            interval.into_iter().flatten().chain([of.difference])
        });
    let ends: Vec<f64> = ends.collect();
    let largest = ends.iter().map(|end| end.abs()).fold(0.0, f64::max);
    let (unit, scale) = match largest {
        _ if largest >= 1e9 => ("s", 1e9),
        _ if largest >= 1e6 => ("ms", 1e6),
        _ if largest >= 1e3 => ("us", 1e3),
        _ => ("ns", 1.0),
    };
    let known = all.into_iter().filter_map(|(percentile, of)| {
        let of = of?;
        let interval = of.interval.map_or(String::new(), |interval| {
            let [low, high] = [interval.low, interval.high].map(short_ns);
            format!(" ({low} to {high})")
        });
        let contains_0 = of.interval.is_none_or(|of| of.low <= 0.0 && of.high >= 0.0);
        let verdict = match of.interval {
            Some(_) if contains_0 => ", may be 0",
            _ => "",
        };
        let text = format!("{}{interval}{verdict}", short_ns(of.difference));
        Some(Bar {
            series,
            name: percentile.to_owned(),
            text,
            value: Some(of.difference / scale),
            whisker: of.interval.map(|of| Whisker {
                low: of.low / scale,
                high: of.high / scale,
            }),
            is_hollow: contains_0,
        })
    });
    let bars: Vec<Bar> = known.collect();
    if bars.is_empty() {
        return Ok(None);
    }
    let setting = overhead.setting.as_ref().map(|of| format!(", {of}"));
    let chart = Bars {
        title: format!("Latency added by the proxy, {}{}", overhead.scenario, setting.unwrap_or_default()),
        how: "Proxied minus direct, at each percentile. The whiskers are the 95 % interval; if it contains 0, no difference is shown and the bar is hollow.".into(),
        x: Axis::from_zero("added latency", unit, ends.iter().map(|end| end / scale)),
        rows: "percentile",
        origin: 0.0,
        bars,
    };
    chart.draw().map(Some)
}
