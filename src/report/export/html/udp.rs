//! The section of a record of `bench udp`.

use std::io::{self, Write};

use super::chart::{Axis, Bar, Bars, Chart, Line, Lines, Series};
use super::comparison::{self, Setting};
use super::percentiles::percentiles;
use super::{over_time, page, table};
use crate::report::export::headline::{self, udp_notes};
use crate::report::export::rate::Rate;
use crate::report::export::{losses as loss_causes, observed};
use crate::report::figures::{figure, percent};
use crate::report::model::{Curve, Distributed, UdpRecord, typical};
use crate::stats::latency::Summary;
use crate::udp::result::{Explained, Run};
use crate::units::grouped;

/// Writes the section.
pub(super) fn section(record: &UdpRecord, out: &mut dyn Write) -> io::Result<()> {
    let (bad, notes): (Vec<String>, _) = udp_notes(record)
        .into_iter()
        .partition(|note| note.contains("incomplete: "));
    // The notice has the word already.
    let bad: Vec<String> = bad
        .iter()
        .map(|note| note.replacen("incomplete: ", "", 1))
        .collect();
    page::notices(true, &bad, out)?;
    page::notices(false, &notes, out)?;
    page::notices(false, &observed::notes(&record.runs), out)?;
    page::environment(&record.meta, out)?;
    table::write(&headline::udp_table(record), out)?;
    if record.runs.len() > 1 {
        let observed = observed::table(&record.runs);
        if !observed.rows.is_empty() {
            table::write(&observed, out)?;
        }
    }
    page::charts(&charts(record)?, out)
}

/// The charts, those of a typical run last.
pub(super) fn charts(record: &UdpRecord) -> io::Result<Vec<Chart>> {
    if !record.comparison.is_empty() {
        return comparison::charts(&settings(record));
    }
    let mut charts = Vec::new();
    let is_repeated = record.runs.len() > 1;
    if is_repeated {
        charts.push(repeats(&record.runs).draw()?);
    }
    let runs: Vec<&Run> = record.runs.iter().collect();
    if let Some((number, run)) = typical(&runs).or_else(|| Some((0, *runs.first()?))) {
        let curves = run
            .histograms()
            .map(|name| record.curves.get(&name).cloned());
        for mut chart in run_charts(run, curves)? {
            if is_repeated && !chart.title.starts_with("Latency by") {
                chart.title += &format!(", run {number}");
            }
            charts.push(chart);
        }
    }
    Ok(charts)
}

fn settings(record: &UdpRecord) -> Vec<Setting> {
    let settings = record.comparison.iter();
    settings
        .map(|setting| {
            let runs = record.runs.iter();
            let runs: Vec<&Run> = runs
                .filter(|run| run.setting.as_ref() == Some(&setting.setting) && run.complete)
                .collect();
            let intervals = typical(&runs).map(|(_, run)| run.intervals.clone());
            let curve = record.curves.compared(&runs);
            Setting::of_udp(setting, curve, intervals.unwrap_or_default())
        })
        .collect()
}

fn repeats(runs: &[Run]) -> Lines {
    let rate = Rate::of_runs(runs);
    let (name, title) = match rate {
        Rate::RoundTrips => (rate.name(), "Round trips of each run"),
        Rate::Goodput => (rate.name(), "Goodput of each run"),
    };
    let (unit, scale) = rate.axis_unit(runs.iter().filter_map(|run| rate.value(run)));
    let known = |run: &Run| rate.value(run).map(|rate| rate / scale);
    let steps = runs.iter().enumerate().flat_map(|(number, run)| {
        let at = number as f64;
        [
            (at - 0.4, known(run)),
            (at + 0.4, known(run)),
            (at + 0.5, None),
        ]
    });
    let last = runs.len().saturating_sub(1) as f64;
    Lines {
        title: title.into(),
        how: "A level line means that the runs agree; a slope is drift. An incomplete run may be missing.".into(),
        x: Axis::linear("run", "number".into(), 0.0, last).widened(0.5),
        y: Axis::from_zero(name, unit, runs.iter().filter_map(known)),
        bands: Vec::new(),
        lines: vec![Line {
            series: Series(0),
            name: name.into(),
            points: steps.collect(),
            is_envelope: false,
        }],
    }
}

/// Charts of a run, whose latency from the actual and from the intended send has `curves`.
fn run_charts(run: &Run, curves: [Option<Curve>; 2]) -> io::Result<Vec<Chart>> {
    let mut charts = Vec::new();
    let [actual, intended] = curves;
    let of = |summary: &Option<Summary>| Curve::of_summary(summary.as_ref()?);
    let named = [
        (
            Series(0),
            "from the actual send",
            actual.or_else(|| of(&run.latency_ns)),
        ),
        (
            Series(1),
            "from the intended send",
            intended.or_else(|| of(&run.latency_from_intended_ns)),
        ),
    ];
    let how = "Read up from a percentile: that share of the datagrams took at most this long. A steep right end is a long tail.";
    charts.extend(percentiles("Latency by percentile", how, "latency", named));
    if let Some(stages) = &run.stages {
        let all = stages.all().into_iter().enumerate();
        let named = all.map(|(at, (name, stage))| (Series(at), name, of(&stage.latency_ns)));
        let how = "By kernel timestamps: the sender up to its qdisc, the qdisc up to the driver, the wire up to the receiver's kernel, and the receiver up to its stamp.";
        charts.extend(percentiles("Stages of the latency", how, "time", named));
    }
    charts.extend(over_time::latency(run));
    charts.extend(over_time::rate(run));
    charts.extend(over_time::missing(run));
    let mut charts: Vec<Chart> = charts
        .into_iter()
        .map(Lines::draw)
        .collect::<Result<_, _>>()?;
    if let Some(losses) = losses(run) {
        charts.push(losses.draw()?);
    }
    if let Some(pacing) = &run.pacing {
        charts.push(pace(pacing.target_pps, pacing.achieved_pps).draw()?);
        let named = [
            (Series(0), "late by", Curve::of_summary(&pacing.lateness_ns)),
            (
                Series(1),
                "gap off by",
                Curve::of_summary(&pacing.gap_error_ns),
            ),
        ];
        let how = "Read up from a percentile: that share of the datagrams left at most this late, or this far off the intended gap.";
        let lines = percentiles("Accuracy of the schedule", how, "deviation", named);
        charts.extend(lines.map(Lines::draw).transpose()?);
    }
    Ok(charts)
}

/// Losses by cause; `None` if they are unknown or there are none.
fn losses(run: &Run) -> Option<Bars> {
    let lost = run.lost;
    if lost.is_unknown || lost.packets == 0 {
        return None;
    }
    let (causes, how) = match &run.explained {
        Some(explained) => explained_causes(explained),
        None => (
            vec![
                ("not sent".to_owned(), lost.not_sent),
                ("receiver's socket".to_owned(), lost.receiver_socket),
                ("elsewhere".to_owned(), lost.elsewhere),
            ],
            format!(
                "Not sent: refused by the sender's kernel. Receiver's socket: its buffer was full. Elsewhere: {}on the path.",
                match run.requested.via {
                    None => "",
                    Some(_) => "through the relay or ",
                }
            ),
        ),
    };
    let axis = Axis::of_counts("lost", "datagrams", causes.iter().map(|of| of.1 as f64));
    let bars = causes.into_iter().enumerate().map(|(at, (cause, count))| {
        let share = match count {
            0 => String::new(),
            _ => format!(" ({})", percent(count, run.sent.packets)),
        };
        Bar {
            series: Series(at),
            name: cause,
            text: format!("{}{share}", grouped(count)),
            value: Some(count as f64),
            whisker: None,
            is_hollow: false,
        }
    });
    Some(Bars {
        title: "Losses by cause".into(),
        how,
        x: axis,
        rows: "cause",
        origin: 0.0,
        bars: bars.collect(),
    })
}

/// Each cause with its datagrams, those without a cause last, and the kernel's reasons and the notes as text.
fn explained_causes(explained: &Explained) -> (Vec<(String, u64)>, String) {
    let causes = explained.causes.iter();
    let named = causes
        .clone()
        .map(|cause| (loss_causes::name(cause).to_owned(), cause.datagrams));
    let rest = [
        ("on the way between", explained.between),
        ("unexplained", explained.unexplained),
    ];
    let rest = rest
        .into_iter()
        .filter_map(|(name, datagrams)| Some((name.to_owned(), datagrams?)));
    let reasons = causes.filter_map(|cause| {
        let reasons = cause.reasons.iter();
        let reasons: Vec<String> = reasons
            .map(|of| format!("{} in {} ({})", of.reason, of.place, grouped(of.drops)))
            .collect();
        let name = loss_causes::name(cause);
        (!reasons.is_empty()).then(|| format!("{name}: {}.", reasons.join(", ")))
    });
    let how = [
        "Causes on either host, as its kernel counts them; the rest was lost between the hosts."
            .to_owned(),
    ];
    let how: Vec<String> = how
        .into_iter()
        .chain(reasons)
        .chain(explained.notes.iter().cloned())
        .collect();
    (named.chain(rest).collect(), how.join(" "))
}

fn pace(requested: f64, achieved: Option<f64>) -> Bars {
    let rows = [("requested", Some(requested)), ("achieved", achieved)];
    let bars = rows.into_iter().enumerate().map(|(at, (name, rate))| {
        let text = rate.map(|rate| format!("{} packets/s", figure(rate)));
        Bar {
            series: Series(at),
            name: name.to_owned(),
            text: text.unwrap_or_default(),
            value: rate,
            whisker: None,
            is_hollow: false,
        }
    });
    Bars {
        title: "Pacing".into(),
        how: "Equal bars mean that the sender kept the requested rate.".into(),
        x: Axis::from_zero("rate", "packets/s", rows.iter().filter_map(|of| of.1)),
        rows: "rate",
        origin: 0.0,
        bars: bars.collect(),
    }
}
