//! The summary of a search.

use std::io::{self, Write};

use super::layout::{INDENT, list, sentence, time};
use crate::report::figures::{figure, percent};
use crate::report::model::SearchRecord;
use crate::report::model::search::{SearchGoal, SearchTrial};
use crate::units::short_ns;

/// Writes the bounds of each goal, the latency curve and the notes.
pub(super) fn summary(record: &SearchRecord, out: &mut impl Write) -> io::Result<()> {
    if !record.complete {
        let why = record.reason.as_deref().unwrap_or(&record.ended);
        sentence(out, "INCOMPLETE: ", why)?;
    }
    heading(record, out)?;
    writeln!(out)?;
    for of in &record.goals {
        goal(of, record.complete, out)?;
    }
    writeln!(out)?;
    let indent = " ".repeat(INDENT);
    let mut label = "latency";
    for trial in record.curve() {
        curve(label, trial, out)?;
        label = &indent;
    }
    for note in record.notes() {
        sentence(out, "note", &note)?;
    }
    let trials = record.trials.len();
    writeln!(
        out,
        "trials     {trials} in {}",
        short_ns(record.seconds * 1e9)
    )
}

fn heading(record: &SearchRecord, out: &mut impl Write) -> io::Result<()> {
    let asked = &record.requested;
    let mut parts = vec!["udp search".to_owned()];
    if let Some(set) = &record.effective {
        parts.push(format!("{} B data + {} B header", set.chunk, set.header));
        parts.push(format!("GSO {}", if set.gso { "on" } else { "off" }));
    }
    parts.extend(asked.via.as_ref().map(|relay| format!("via {relay}")));
    if asked.streams > 1 {
        parts.push(format!("{} streams", asked.streams));
    }
    if asked.direction == "reverse" {
        parts.push("reverse".to_owned());
    }
    parts.extend(asked.to.as_ref().map(|server| format!("to {server}")));
    list(out, "", parts)
}

fn goal(of: &SearchGoal, is_complete: bool, out: &mut impl Write) -> io::Result<()> {
    let label = format!("  loss {} %", of.percent());
    let label = format!("{label:<14} ");
    let mut parts = Vec::new();
    let mut add = |value: Option<f64>, what: &str| {
        parts.extend(value.map(|value| format!("{} {what}", figure(value))));
    };
    add(of.lower_pps, "packets/s");
    add(of.lower_kb_per_s, "KB/s");
    add(of.lower_gbit_per_s, "Gbit/s");
    if of.lower_pps.is_none() {
        parts.push("no lower bound".to_owned());
    }
    parts.push(match of.upper_pps {
        Some(upper) => format!("upper bound {}", figure(upper)),
        None => "no upper bound".to_owned(),
    });
    if is_complete || of.is_limit_measured() {
        parts.push(format!("limit: {}", of.limit));
    }
    // Without losses the conditional throughput is the lower bound.
    if of.goal.loss_ratio > 0.0 {
        parts.extend(
            of.throughput_pps
                .map(|pps| format!("conditional throughput {}", figure(pps))),
        );
    }
    list(out, &label, parts)
}

fn curve(label: &str, trial: &SearchTrial, out: &mut impl Write) -> io::Result<()> {
    let share = (trial.share.unwrap_or_default() * 100.0).round();
    let load = trial.load_pps.map_or("-".to_owned(), figure);
    let mut parts = vec![format!("at {share} % ({load} packets/s)")];
    let latency = trial.latency_from_intended_ns.or(trial.latency_ns);
    let latency = latency.unwrap_or_default();
    for (name, ns) in [
        ("p50", latency.p50),
        ("p99", latency.p99),
        ("p99.9", latency.p99_9),
        ("max", latency.max),
    ] {
        parts.push(format!("{name} {}", time(ns)));
    }
    if trial.lost_packets > 0 {
        parts.push(format!(
            "lost {}",
            percent(trial.lost_packets, trial.sent_packets)
        ));
    }
    list(out, label, parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn bounds_come_first_and_notes_name_the_sender() {
        let mut record = sample::search::record();
        let text = |record: &SearchRecord| {
            let mut out = Vec::new();
            summary(record, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let found = text(&record);
        let lines: Vec<&str> = found.lines().collect();
        assert!(
            lines[2].starts_with("  loss 0 %     100,000 packets/s, 100,000 KB/s"),
            "{found}"
        );
        for words in [
            "limit: path",
            "limit: sender",
            "at 95 % (95,000 packets/s)",
            "1 of 7 trials",
        ] {
            assert!(found.contains(words), "no {words} in {found}");
        }
        assert!(
            lines.iter().all(|line| line.chars().count() <= 80),
            "{found}"
        );
        record.complete = false;
        record.reason = Some("the user stopped the search".to_owned());
        record.goals = vec![SearchGoal {
            limit: "max".to_owned(),
            ..SearchGoal::default()
        }];
        let found = text(&record);
        assert!(!found.contains("limit:"), "{found}");
        assert!(found.starts_with("INCOMPLETE: the user stopped"), "{found}");
        assert!(found.contains("no lower bound, no upper bound"), "{found}");
    }
}
