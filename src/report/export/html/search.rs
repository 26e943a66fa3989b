//! The section of a record of `bench udp search`.

use std::io::{self, Write};

use super::chart::{Axis, Chart, Line, Lines, Series};
use super::{page, table};
use crate::report::export::columns::{SEARCH_GOAL, SEARCH_TRIAL};
use crate::report::export::headline::{self, SEARCH_CURVE, SEARCH_GOALS};
use crate::report::model::SearchRecord;
use crate::report::model::search::SearchTrial;
use crate::stats::latency::Summary;
use crate::udp::search::MOST_GOALS;

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

/// How far the chart of losses reaches beyond the bounds, as a factor.
const BEYOND: f64 = 1.1;

/// The mean loss of each load near the bounds, and the lower bounds as ends of horizontal lines.
fn losses(record: &SearchRecord) -> Option<Lines> {
    let goals = &record.goals;
    let lowers = goals.iter().filter_map(|goal| goal.lower_pps);
    let uppers = goals.iter().filter_map(|goal| goal.upper_pps);
    let bounds: Vec<f64> = lowers.chain(uppers).collect();
    let low = bounds.iter().copied().reduce(f64::min)? / BEYOND;
    let high = bounds.iter().copied().reduce(f64::max)? * BEYOND;
    let longest = goals.iter().map(|goal| goal.goal.final_trial_s);
    let longest = longest.fold(0.0, f64::max);
    let valid = record.trials.iter().filter(|trial| trial.offered == "full");
    let of_load = |trial: &SearchTrial| Some((trial.load_pps?, trial.loss_ratio * 100.0));
    let mut trials: Vec<(f64, f64)> = valid
        .filter(|trial| trial.duration_s >= longest)
        .filter_map(of_load)
        .filter(|(load, _)| (low..=high).contains(load))
        .collect();
    if trials.is_empty() {
        return None;
    }
    trials.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let (unit, scale) = unit([high].into_iter());
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
    for (at, goal) in goals.iter().take(MOST_GOALS).enumerate() {
        let loss = goal.percent();
        let ends = [low, goal.lower_pps.unwrap_or(low)];
        lines.push(Line {
            series: Series(at + 1),
            name: format!("goal of {loss} %, up to its lower bound"),
            points: ends.map(|load| (load / scale, Some(loss))).into(),
            is_envelope: false,
        });
    }
    let highest = goals.iter().map(|goal| goal.percent());
    let losses = trials.iter().map(|(_, loss)| *loss).chain(highest);
    Some(Lines {
        title: "Loss by load".into(),
        how: "The longest trials, of those whose sender offered the load. Right of a goal's line, the loss is above it.".into(),
        x: Axis::linear("load", unit.to_owned(), low / scale, high / scale),
        y: Axis::from_zero("lost", "%", losses),
        bands: Vec::new(),
        lines,
    })
}

#[cfg(test)]
mod tests {
    use crate::report::export::html::{Html, Picture};
    use crate::report::export::text::Text;
    use crate::report::export::{Document, Exporter};
    use crate::report::sample;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_saved_numbers_are_drawn(
            numbers in prop::collection::vec(prop::num::f64::NORMAL | prop::num::f64::ZERO, 20),
            counts: [u64; 3],
            goals in 0..20_usize,
        ) {
            let mut record = sample::search::record();
            let goal = record.goals[0].clone();
            record.goals = vec![goal; goals];
            let mut next = numbers.iter().copied().cycle();
            let mut next = || next.next().unwrap();
            for goal in &mut record.goals {
                (goal.lower_pps, goal.upper_pps) = (Some(next()), Some(next()));
                (goal.goal.loss_ratio, goal.goal.final_trial_s) = (next(), next());
            }
            for trial in &mut record.trials {
                (trial.load_pps, trial.loss_ratio) = (Some(next()), next());
                trial.share = trial.share.map(|_| next());
                (trial.sent_packets, trial.lost_packets) = (counts[0], counts[1]);
                if let Some(latency) = &mut trial.latency_from_intended_ns {
                    (latency.p50, latency.max) = (Some(counts[2]), Some(counts[0]));
                }
            }
            let document = Document::UdpSearch { id: "", record: &record };
            for format in [&Html as &dyn Exporter, &Picture, &Text] {
                let mut text = Vec::new();
                format.write(&document, &mut text).unwrap();
                prop_assert!(!String::from_utf8(text).unwrap().contains("NaN"));
            }
        }
    }
}
