//! The latencies of a UDP run as a table with bars, the clocks, and notes that qualify them.

use std::io::{self, Write};

use super::layout::{INDENT, fill, list, sentence, time};
use crate::report::figures::figure;
use crate::stats::latency::Summary;
use crate::udp::result::{Clock, Run};
use crate::units::{counted, grouped, short_ns};

/// Width of a value such as `12.3 us`.
const VALUE: usize = 9;

/// Longest bar beside a single column of values, and beside each of two.
const BAR: usize = 50;
const HALF_BAR: usize = 22;

/// Writes the table: latency from the actual send and, when paced, from the intended send.
pub(super) fn latency(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let Some(actual) = run.latency_ns.filter(|figures| figures.count > 0) else {
        fill(out, "latency", ["-".to_owned()])?;
        return out_of_range(run, out);
    };
    let intended = run
        .latency_from_intended_ns
        .filter(|figures| figures.count > 0);
    let error = error_bar(&run.effective.clock);
    let what = match run.round_trip {
        Some(_) => "round trip, from the actual send",
        None => "one way, from the actual send",
    };
    let by_kernel = run.effective.timestamps == "kernel";
    table(what, &actual, intended.as_ref(), error.as_deref(), out)?;
    if by_kernel {
        let ends =
            "each latency ends when the receiver's kernel took the datagram (--timestamps kernel)";
        sentence(out, &margin(), ends)?;
    }
    round_trip(run, out)?;
    by_size(run, out)?;
    if run.effective.batch > 1 {
        let batch = format!(
            "each datagram is stamped as it is written, up to {} of them before the call that sends them",
            run.effective.batch
        );
        sentence(out, &margin(), &batch)?;
    }
    if matches!(run.mode.as_str(), "lossless" | "blast") {
        let queue =
            "mostly the run's own queue; for the latency of the path, run paced (--pps or --rate)";
        sentence(out, &margin(), queue)?;
    }
    out_of_range(run, out)
}

/// Writes whose time the round trips include.
fn round_trip(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let Some(round_trip) = &run.round_trip else {
        return Ok(());
    };
    let note = match round_trip.server_time_ns {
        Some(own) => {
            let time = |ns: Option<u64>| ns.map_or("-".to_owned(), |ns| short_ns(ns as f64));
            format!(
                "without the server's own time, p50 {} p99 {}",
                time(own.p50),
                time(own.p99)
            )
        }
        None => "with the own time of the echo server, which is unknown".to_owned(),
    };
    sentence(out, &margin(), &note)?;
    if let (Some(load), Some(rate)) = (&run.requested.under_load, round_trip.load_kb_per_s) {
        let beside = format!("beside a stream ({load}) of {} KB/s", figure(rate));
        sentence(out, &margin(), &beside)?;
    }
    let lost = run.lost.packets;
    match round_trip.requests_received {
        Some(requests) if lost > 0 => {
            let arrived = format!("{} arrived at the server", counted(requests, "request"));
            sentence(out, &margin(), &arrived)
        }
        _ => Ok(()),
    }
}

/// Writes the latency of each size of a mix.
fn by_size(run: &Run, out: &mut impl Write) -> io::Result<()> {
    if run.latency_by_size.is_empty() {
        return Ok(());
    }
    let sizes = run.latency_by_size.iter().map(|of| {
        let (p50, p99) = (time(of.latency_p50_ns), time(of.latency_p99_ns));
        format!("{} B {p50} (99 % {p99})", of.chunk)
    });
    list(out, "by size", sizes)
}

/// Writes the offset of the two hosts' clocks.
pub(super) fn clocks(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let clock = &run.effective.clock;
    match (clock.source.as_str(), error_bar(clock)) {
        ("estimated", Some(error)) => {
            let ns = |value: Option<i64>| value.map_or("-".to_owned(), |ns| short_ns(ns as f64));
            let bar = |text: Option<String>| text.map_or(String::new(), |of| format!(" ± {of}"));
            let drift_error = bar(clock.drift_error_ns.map(|ns| short_ns(ns as f64)));
            let mut drift = format!("drift {}{drift_error}", ns(clock.drift_ns));
            if let Some(ppm) = clock.drift_ppm {
                let error = bar(clock.drift_error_ppm.map(figure));
                drift += &format!(" ({}{error} ppm)", figure(ppm));
            }
            let parts = [
                format!("offset {} {error},", ns(clock.offset_ns)),
                drift,
                "(estimated; each ± above is its error)".to_owned(),
            ];
            fill(out, "clocks", parts)?;
        }
        ("estimated", None) => {
            let elsewhere = "offset estimated by the client, whose report has the error bar";
            sentence(out, &format!("{:<INDENT$}", "clocks"), elsewhere)?;
        }
        ("none", _) => {
            let unknown = "offset unknown, so one-way latency is unknown; KB/s is over the receiver's \
                           own span, from its first arrival to its last";
            sentence(out, &format!("{:<INDENT$}", "clocks"), unknown)?;
        }
        _ => {}
    }
    match &clock.note {
        Some(note) => sentence(out, &margin(), note),
        None => Ok(()),
    }
}

/// The error bar of a time between two clocks, like `± 1.20 ms`; `None` if one clock has both stamps or the error is unknown.
fn error_bar(clock: &Clock) -> Option<String> {
    let error = clock.error_ns.filter(|_| clock.source == "estimated");
    error.map(|ns| format!("± {}", short_ns(ns as f64)))
}

/// Writes the interarrival jitter.
pub(super) fn jitter(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let Some(jitter) = run.jitter_ns else {
        return Ok(());
    };
    let of = match run.effective.streams {
        0 | 1 => "(RFC 3550)".to_owned(),
        streams => format!("(RFC 3550, largest of {streams} streams)"),
    };
    fill(out, "jitter", [short_ns(jitter), of])
}

fn table(
    what: &str,
    actual: &Summary,
    intended: Option<&Summary>,
    error: Option<&str>,
    out: &mut impl Write,
) -> io::Result<()> {
    let scale = Scale::of([Some(actual), intended].into_iter().flatten(), error);
    let names = ["min", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
    let Some(intended) = intended else {
        let heading = format!("{what} (bars: log scale)");
        fill(out, "latency", [heading])?;
        for (name, ns) in names.into_iter().zip(values(actual)) {
            let row = format!("  {name:<8} {}", scale.cell(ns, BAR));
            writeln!(out, "{}", row.trim_end())?;
        }
        return Ok(());
    };
    let column = VALUE + 2 + HALF_BAR + 2;
    writeln!(
        out,
        "{:<INDENT$}{:<column$}from the intended send",
        "latency", what
    )?;
    let pairs = values(actual).into_iter().zip(values(intended));
    for (name, (left, right)) in names.into_iter().zip(pairs) {
        let left = scale.cell(left, HALF_BAR);
        let right = scale.cell(right, HALF_BAR);
        let row = format!("  {name:<8} {left:<column$}{right}");
        writeln!(out, "{}", row.trim_end())?;
    }
    sentence(out, &margin(), "(bars: one log scale for both)")
}

fn values(of: &Summary) -> [Option<u64>; 7] {
    [of.min, of.p50, of.p90, of.p99, of.p99_9, of.p99_99, of.max]
}

/// A logarithmic scale: a tail is often a thousand times the median.
struct Scale {
    /// Half the smallest value, in ns, so that the smallest value has a bar.
    from: f64,
    /// The largest value, in ns.
    to: f64,
    /// Text behind each value, with a leading space; bars are shorter by its length.
    error: String,
}

impl Scale {
    fn of<'a>(all: impl Iterator<Item = &'a Summary>, error: Option<&str>) -> Self {
        let every: Vec<u64> = all.flat_map(values).flatten().collect();
        let least = every.iter().copied().min().unwrap_or(1).max(1);
        let most = every.iter().copied().max().unwrap_or(1).max(1);
        Self {
            from: least as f64 / 2.0,
            to: most as f64,
            error: error.map(|error| format!(" {error}")).unwrap_or_default(),
        }
    }

    /// The value, its error and its bar.
    fn cell(&self, ns: Option<u64>, width: usize) -> String {
        let Some(ns) = ns else {
            return format!("{:>VALUE$}", "-");
        };
        let share = (ns.max(1) as f64 / self.from).ln() / (self.to / self.from).ln();
        let (value, error) = (short_ns(ns as f64), &self.error);
        let width = width.saturating_sub(error.chars().count());
        format!("{value:>VALUE$}{error}  {}", bar(share, width))
    }
}

/// A bar of `share` (0 to 1) of `width` characters, in eighths of a character.
fn bar(share: f64, width: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

fn out_of_range(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let histograms = [
        ("", run.latency_ns),
        ("from the intended send: ", run.latency_from_intended_ns),
    ];
    for (from, figures) in histograms {
        let Some(outside) = figures.map(|figures| figures.out_of_range) else {
            continue;
        };
        if outside.negative > 0 {
            let negative = format!(
                "{from}{} are below zero by the estimated clocks and count as 0 in the percentiles",
                grouped(outside.negative)
            );
            sentence(out, &margin(), &negative)?;
        }
        if outside.too_long > 0 {
            let too_long = format!(
                "{from}{} above 60 s are left out",
                grouped(outside.too_long)
            );
            sentence(out, &margin(), &too_long)?;
        }
    }
    Ok(())
}

fn margin() -> String {
    " ".repeat(INDENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_by_eighths() {
        assert_eq!(bar(0.0, 2), "");
        assert_eq!(bar(1.0 / 16.0, 2), "▏");
        assert_eq!(bar(0.5, 2), "█");
        assert_eq!(bar(0.75, 2), "█▌");
        assert_eq!(bar(7.0, 2), "██");
        assert_eq!(bar(f64::NAN, 2), "");
    }

    #[test]
    fn each_doubling_adds_the_same_length() {
        let mut scale = Scale {
            from: 1.0,
            to: 8.0,
            error: String::new(),
        };
        let bars = [2, 4, 8].map(|ns| scale.cell(Some(ns), 3));
        assert_eq!(bars, ["     2 ns  █", "     4 ns  ██", "     8 ns  ███"]);
        assert_eq!(scale.cell(Some(0), 3), "     0 ns  ");
        assert_eq!(scale.cell(None, 3), "        -");
        scale.error = " ± 1 ns".to_owned();
        assert_eq!(scale.cell(Some(8), 9), "     8 ns ± 1 ns  ██");
    }
}
