//! The section of a record of `bench udp search`.

use std::io::{self, Write};

use super::chart::{Axis, Chart, Line, Lines, Series};
use super::{page, table};
use crate::report::export::columns::{SEARCH_GOAL, SEARCH_TRIAL};
use crate::report::export::headline::{self, SEARCH_CURVE, SEARCH_GOALS};
use crate::report::model::SearchRecord;
use crate::report::model::search::SearchTrial;
use crate::stats::latency::Summary;

/// Writes the section.
pub(super) fn section(record: &SearchRecord, out: &mut dyn Write) -> io::Result<()> {
    if !record.complete {
        let why = record.reason.clone();
        page::notices(true, &[why.unwrap_or_else(|| record.ended.clone())], out)?;
    }
    page::notices(false, &record.notes(), out)?;
    page::environment(&record.meta, out)?;
    table::write(
        &headline::table(SEARCH_GOAL, SEARCH_GOALS, &record.goals),
        out,
    )?;
    let curve: Vec<SearchTrial> = record.curve().cloned().collect();
    if !curve.is_empty() {
        table::write(&headline::table(SEARCH_TRIAL, SEARCH_CURVE, &curve), out)?;
    }
    page::charts(&charts(record)?, out)
}

/// The charts: latency and loss by load.
pub(super) fn charts(record: &SearchRecord) -> io::Result<Vec<Chart>> {
    let charts = [latency(record), losses(record)];
    charts.into_iter().flatten().map(Lines::draw).collect()
}

/// A unit for loads, and its size in datagrams a second.
fn unit(loads: impl Iterator<Item = f64>) -> (&'static str, f64) {
    match loads.fold(0.0, f64::max) {
        largest if largest >= 1e6 => ("million packets/s", 1e6),
        largest if largest >= 1e3 => ("thousand packets/s", 1e3),
        _ => ("packets/s", 1.0),
    }
}

fn latency(record: &SearchRecord) -> Option<Lines> {
    let mut points: Vec<(f64, Summary)> = record
        .curve()
        .filter_map(|trial| {
            let latency = trial.latency_from_intended_ns.or(trial.latency_ns)?;
            Some((trial.load_pps?, latency))
        })
        .collect();
    points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    if points.is_empty() {
        return None;
    }
    let (unit, scale) = unit(points.iter().map(|of| of.0));
    type Percentile = fn(&Summary) -> Option<u64>;
    let percentiles: [(&str, Percentile); 4] = [
        ("median", |of| of.p50),
        ("99 %", |of| of.p99),
        ("99.9 %", |of| of.p99_9),
        ("maximum", |of| of.max),
    ];
    let at = |of: &Summary, get: Percentile| get(of).map(|ns| ns as f64);
    let values: Vec<f64> = points
        .iter()
        .flat_map(|(_, of)| percentiles.map(|(_, get)| at(of, get)))
        .flatten()
        .collect();
    let lines = percentiles
        .into_iter()
        .enumerate()
        .map(|(series, (name, get))| Line {
            series: Series(series),
            name: name.to_owned(),
            points: points
                .iter()
                .map(|(load, of)| (load / scale, at(of, get)))
                .collect(),
            is_envelope: false,
        });
    Some(Lines {
        title: "Latency by load".into(),
        how: "One-way latency from the intended send, at shares of the first goal's lower bound. A line that rises to the right is a queue.".into(),
        x: Axis::from_zero("load", unit, points.iter().map(|(load, _)| load / scale)),
        y: Axis::latency("latency", values.into_iter()),
        bands: Vec::new(),
        lines: lines.collect(),
    })
}

/// The mean loss of each load, and the bounds of the goals as ends of horizontal lines.
fn losses(record: &SearchRecord) -> Option<Lines> {
    let valid = record.trials.iter().filter(|trial| trial.offered == "full");
    let mut trials: Vec<(f64, f64)> = valid
        .filter_map(|trial| Some((trial.load_pps?, trial.loss_ratio * 100.0)))
        .collect();
    trials.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    // Loads far beyond the bounds would hide them.
    let uppers = record.goals.iter().filter_map(|goal| goal.upper_pps);
    let highest = uppers.fold(0.0, f64::max) * 1.25;
    if highest > 0.0 {
        trials.retain(|(load, _)| *load <= highest);
    }
    if trials.is_empty() {
        return None;
    }
    let (unit, scale) = unit(trials.iter().map(|of| of.0));
    let means = trials.chunk_by(|one, next| one.0 == next.0).map(|of| {
        let sum: f64 = of.iter().map(|(_, loss)| loss).sum();
        (of[0].0 / scale, Some(sum / of.len() as f64))
    });
    let mut lines = vec![Line {
        series: Series(0),
        name: "mean of the trials at a load".into(),
        points: means.collect(),
        is_envelope: false,
    }];
    for (at, goal) in record.goals.iter().enumerate() {
        let loss = goal.percent();
        let ends = [Some(0.0), goal.lower_pps].into_iter().flatten();
        lines.push(Line {
            series: Series(at + 1),
            name: format!("goal of {loss} %, up to its lower bound"),
            points: ends.map(|load| (load / scale, Some(loss))).collect(),
            is_envelope: false,
        });
    }
    Some(Lines {
        title: "Loss by load".into(),
        how: "Trials whose sender offered the load. The loss rises where a goal's line ends."
            .into(),
        x: Axis::from_zero("load", unit, trials.iter().map(|(load, _)| load / scale)),
        y: Axis::from_zero("lost", "%", trials.iter().map(|(_, loss)| *loss)),
        bands: Vec::new(),
        lines,
    })
}
