//! The stages of the latency of a UDP run, and the cost of the stamps.

use std::io::{self, Write};

use super::layout::{INDENT, fill, sentence, time};
use crate::stats::latency::{OutOfRange, Summary};
use crate::udp::result::{Clock, Run, Stage, StampCost};
use crate::units::{grouped, short_ns};

/// Width of a figure.
const FIGURE: usize = 9;

/// Width of a number of datagrams, up to the end of the line.
const COUNT: usize = 15;

/// Writes a line for each stage, and the cost of the stamps.
pub(super) fn stages(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let Some(stages) = &run.stages else {
        return Ok(());
    };
    let names = ["p50", "p90", "p99", "p99.9", "max", "mean"];
    let heading = names.map(|name| format!("{name:>FIGURE$}")).join("");
    writeln!(out, "{:<INDENT$}{heading}{:>COUNT$}", "stages", "datagrams")?;
    let clock = &run.effective.clock;
    for (name, stage) in stages.all() {
        row(name, stage, clock, out)?;
        if let ("wire", "estimated", Some(error), Some(_)) = (
            name,
            clock.source.as_str(),
            clock.error_ns,
            stage.latency_ns,
        ) {
            let error = format!("± {} by the estimated clocks", short_ns(error as f64));
            sentence(out, &margin(), &error)?;
        }
    }
    cost(&stages.cost, out)?;
    stages
        .notes
        .iter()
        .try_for_each(|note| sentence(out, &margin(), note))
}

fn row(name: &str, stage: &Stage, clock: &Clock, out: &mut impl Write) -> io::Result<()> {
    let label = format!("  {name:<9}");
    let Some(figures) = &stage.latency_ns else {
        let reason = stage.reason.as_deref().unwrap_or("unknown");
        return sentence(out, &label, &format!("- ({reason})"));
    };
    let Summary {
        p50,
        p90,
        p99,
        p99_9,
        ..
    } = *figures;
    let outside = figures.out_of_range;
    let counted = figures.count.saturating_add(outside.negative);
    if figures.count == 0 && outside.too_long == 0 {
        let why = match (name, clock.source.as_str()) {
            ("wire", "estimated") => ", within the error of the estimated clocks",
            _ => "",
        };
        let all = grouped(counted);
        return sentence(out, &label, &format!("- (all {all} are below zero{why})"));
    }
    // A mean without the values out of range would mislead.
    let is_whole = outside == OutOfRange::default();
    let mean = figures.mean.filter(|_| is_whole);
    let mean = mean.map(|mean| mean.round() as u64);
    let figures = [p50, p90, p99, p99_9, figures.max, mean];
    let cells = figures.map(|ns| format!("{:>FIGURE$}", time(ns)));
    writeln!(out, "{label}{}{:>COUNT$}", cells.join(""), grouped(counted))?;
    let kinds = [
        (outside.negative, "below zero count as 0 in the percentiles"),
        (outside.too_long, "above 60 s are left out"),
    ];
    for (count, what) in kinds.into_iter().filter(|(count, _)| *count > 0) {
        sentence(out, &margin(), &format!("{} {what}", grouped(count)))?;
    }
    Ok(())
}

/// Writes the measured cost of the stamps.
fn cost(cost: &StampCost, out: &mut impl Write) -> io::Result<()> {
    let ns = |value: Option<f64>| value.map(short_ns);
    let mut pieces = Vec::new();
    let trials = [
        ("send", cost.plain_send_ns, cost.stamped_send_ns),
        ("receive", cost.plain_receive_ns, cost.stamped_receive_ns),
    ];
    for (what, plain, stamped) in trials {
        if let (Some(plain), Some(stamped)) = (ns(plain), ns(stamped)) {
            pieces.push(format!("{stamped} of CPU to {what} a datagram"));
            pieces.push(format!("instead of {plain},"));
        }
    }
    if !pieces.is_empty() {
        pieces.push("in a trial on loopback;".to_owned());
    }
    if let Some(read) = ns(cost.read_ns) {
        pieces.push(format!("{read} to read a datagram's stamps in the run"));
    }
    match pieces.is_empty() {
        true => Ok(()),
        false => fill(out, "stamps", pieces),
    }
}

fn margin() -> String {
    " ".repeat(INDENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::udp as sample;

    #[test]
    fn each_stage_has_a_line_or_the_reason() {
        let mut run = sample::measured().run;
        if let Some(stages) = &mut run.stages {
            stages.qdisc.latency_ns = None;
            if let Some(wire) = &mut stages.wire.latency_ns {
                wire.out_of_range.negative = 3;
            }
        }
        let mut out = Vec::new();
        stages(&run, &mut out).unwrap();
        let expected = "\
stages           p50      p90      p99    p99.9      max     mean      datagrams
  sender      500 us   900 us   990 us  1.00 ms  1.00 ms   500 us          1,000
  qdisc    - (the driver of the sender's device takes no software stamps)
  wire        500 us   900 us   990 us  1.00 ms  1.00 ms        -          1,003
           3 below zero count as 0 in the percentiles
           ± 850 ns by the estimated clocks
  receiver    500 us   900 us   990 us  1.00 ms  1.00 ms   500 us          1,000
stamps     4.30 us of CPU to send a datagram instead of 2.10 us,
           700 ns of CPU to receive a datagram instead of 600 ns,
           in a trial on loopback; 900 ns to read a datagram's stamps in the run
           3 of 100 datagrams lack a stamp.
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        if let Some(wire) = run
            .stages
            .as_mut()
            .and_then(|all| all.wire.latency_ns.as_mut())
        {
            *wire = Summary::default();
            wire.out_of_range.negative = 500;
        }
        let mut out = Vec::new();
        stages(&run, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = "
  wire     - (all 500 are below zero, within the error of the estimated clocks)
           ± 850 ns by the estimated clocks
";
        assert!(text.contains(expected), "{text}");
        run.stages = None;
        let mut out = Vec::new();
        stages(&run, &mut out).unwrap();
        assert!(out.is_empty());
    }
}
