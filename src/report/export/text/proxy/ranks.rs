//! The ranks of merged runs: for each path, the start, the spread, and a row for each rank over all rounds.

use std::io::{self, Write};

use super::path_name;
use crate::load::fleet::{Fleet, Rank};
use crate::load::result::Run;
use crate::report::export::text::layout::{known, list, sentence, time};
use crate::report::figures::{figure, plain};
use crate::stats::spread::Spread;
use crate::units::{grouped, short_ns};

/// Most rows. Of more ranks, those with the lowest rate are shown.
const MOST_ROWS: usize = 40;

/// Rows of a fleet with more ranks than [`MOST_ROWS`].
const SLOWEST: usize = 8;

/// Most characters of a name.
const NAME: usize = 18;

/// A rank over all rounds: its figures are medians, its counts are sums.
struct Row<'a> {
    name: &'a str,
    requests: u64,
    errors: u64,
    rate: Option<f64>,
    p50: Option<u64>,
    p99: Option<u64>,
    busy: Option<f64>,
    is_incomplete: bool,
}

/// Writes the ranks of the merged runs.
pub(super) fn ranks(runs: &[Run], out: &mut impl Write) -> io::Result<()> {
    let merged: Vec<&Run> = runs.iter().filter(|run| run.fleet.is_some()).collect();
    let mut paths: Vec<String> = Vec::new();
    for run in &merged {
        if !paths.contains(&path_name(run)) {
            paths.push(path_name(run));
        }
    }
    for path in paths {
        let rounds = merged.iter().copied().filter(|run| path_name(run) == path);
        let rounds: Vec<&Run> = rounds.collect();
        writeln!(out)?;
        of_path(&path, &rounds, out)?;
    }
    Ok(())
}

fn of_path(path: &str, rounds: &[&Run], out: &mut impl Write) -> io::Result<()> {
    let fleets: Vec<&Fleet> = rounds.iter().filter_map(|run| run.fleet.as_ref()).collect();
    heading(path, &fleets, out)?;
    for run in rounds.iter().filter(|run| !run.complete) {
        let reason = run.reason.as_deref().unwrap_or("it ended early");
        let text = format!("round {}: {reason}", run.round.saturating_add(1));
        sentence(out, "INCOMPLETE", &text)?;
    }
    let is_bulk = rounds.iter().any(|run| run.scenario == "bulk");
    spread(&fleets, is_bulk, out)?;
    rows(rounds, &fleets, is_bulk, out)
}

fn heading(path: &str, fleets: &[&Fleet], out: &mut impl Write) -> io::Result<()> {
    let fewest = fleets.iter().map(|fleet| fleet.ranks.len() as u64).min();
    let size = fleets.iter().map(|fleet| fleet.size).max();
    let mut parts = vec![
        path.to_owned(),
        format!(
            "{} of {} with a result",
            grouped(fewest.unwrap_or(0)),
            grouped(size.unwrap_or(0))
        ),
    ];
    // The largest of all rounds.
    if let Some(skew) = fleets.iter().filter_map(|fleet| fleet.start_skew_ns).max() {
        let errors = fleets.iter().filter_map(|fleet| fleet.start_skew_error_ns);
        let error = errors.max().filter(|error| *error > 0);
        let error = error.map_or(String::new(), |ns| format!(" ± {}", short_ns(ns as f64)));
        parts.push(format!("start skew {}{error}", short_ns(skew as f64)));
    }
    list(out, "ranks", parts)
}

fn spread(fleets: &[&Fleet], is_bulk: bool, out: &mut impl Write) -> io::Result<()> {
    let of = |fleet: &Fleet| match is_bulk {
        true => fleet.bytes_per_s.map(|of| scaled(of, 1e-9)),
        false => fleet.requests_per_s,
    };
    let unit = if is_bulk { "GB/s" } else { "requests/s" };
    // Of repeated runs, that with the largest spread.
    let spreads = fleets.iter().filter_map(|fleet| Some((of(fleet)?, *fleet)));
    let ratio = |of: &Spread| of.max / of.min;
    let widest = spreads.max_by(|one, other| ratio(&one.0).total_cmp(&ratio(&other.0)));
    let Some((rate, fleet)) = widest else {
        return Ok(());
    };
    let mut parts = vec![
        format!("{} to {} {unit} a rank", figure(rate.min), figure(rate.max)),
        format!("median {}", figure(rate.median)),
    ];
    parts.extend(fleet.latency_p99_ns.filter(|_| !is_bulk).map(|p99| {
        let [least, most] = [p99.min, p99.max].map(short_ns);
        format!("p99 {least} to {most}")
    }));
    let slowest = fleet.slowest.as_ref();
    parts.extend(slowest.map(|name| format!("slowest {}", plain(name))));
    list(out, "spread", parts)
}

fn scaled(of: Spread, scale: f64) -> Spread {
    Spread {
        count: of.count,
        min: of.min * scale,
        median: of.median * scale,
        max: of.max * scale,
    }
}

fn rows(rounds: &[&Run], fleets: &[&Fleet], is_bulk: bool, out: &mut impl Write) -> io::Result<()> {
    let mut all: Vec<&Rank> = fleets.iter().flat_map(|fleet| &fleet.ranks).collect();
    all.sort_by(|one, other| (one.rank, &one.name).cmp(&(other.rank, &other.name)));
    let groups = all.chunk_by(|one, other| (one.rank, &one.name) == (other.rank, &other.name));
    let mut rows: Vec<Row<'_>> = groups.map(|of| row(&of[0].name, of, is_bulk)).collect();
    if rows.len() > MOST_ROWS {
        let rate = |row: &Row<'_>| row.rate.unwrap_or(0.0);
        rows.sort_by(|one, other| rate(one).total_cmp(&rate(other)));
        rows.truncate(SLOWEST);
        sentence(out, "", "the slowest ranks; ranks.csv and --json have all")?;
    }
    let totals: Vec<Rank> = rounds
        .iter()
        .map(|run| Rank::of(run, None, "total", ""))
        .collect();
    let totals: Vec<&Rank> = totals.iter().collect();
    let is_incomplete = rows.iter().any(|row| row.is_incomplete);
    rows.push(Row {
        is_incomplete: false,
        ..row("total", &totals, is_bulk)
    });
    let width = rows.iter().map(|row| plain(row.name).chars().count()).max();
    let width = width.unwrap_or(0).clamp(5, NAME);
    let unit = if is_bulk { "GB/s" } else { "requests/s" };
    writeln!(
        out,
        "{:<width$} {:>12} {unit:>11} {:>8} {:>8} {:>8} {:>5}",
        "", "requests", "p50", "p99", "errors", "busy"
    )?;
    for row in rows {
        // The ends of names of run folders differ.
        let name = plain(row.name);
        let skipped = name.chars().count().saturating_sub(NAME);
        let name: String = name.chars().skip(skipped).collect();
        let busy = row
            .busy
            .map_or("-".to_owned(), |busy| format!("{:.0} %", busy * 100.0));
        writeln!(
            out,
            "{name:<width$} {:>12} {:>11} {:>8} {:>8} {:>8} {busy:>5}{}",
            grouped(row.requests),
            known(row.rate),
            time(row.p50),
            time(row.p99),
            grouped(row.errors),
            if row.is_incomplete { " *" } else { "" }
        )?;
    }
    if is_incomplete {
        sentence(out, "", "* incomplete")?;
    }
    if rounds.len() > 1 {
        let text = format!("sums and medians of {} rounds", rounds.len());
        sentence(out, "", &text)?;
    }
    Ok(())
}

fn row<'a>(name: &'a str, of: &[&Rank], is_bulk: bool) -> Row<'a> {
    let sum = |count: fn(&Rank) -> u64| {
        of.iter()
            .map(|rank| count(rank))
            .fold(0, u64::saturating_add)
    };
    let median = |value: &dyn Fn(&Rank) -> Option<f64>| {
        Spread::of(of.iter().filter_map(|rank| value(rank))).map(|spread| spread.median)
    };
    let ns = |value: Option<f64>| value.map(|ns| ns as u64);
    Row {
        name,
        requests: sum(|rank| rank.requests),
        errors: sum(|rank| rank.errors.total),
        rate: median(&|rank| match is_bulk {
            true => rank.bytes_per_s.map(|bytes| bytes / 1e9),
            false => rank.requests_per_s,
        }),
        p50: ns(median(&|rank| rank.latency_p50_ns.map(|ns| ns as f64))),
        p99: ns(median(&|rank| rank.latency_p99_ns.map(|ns| ns as f64))),
        busy: median(&|rank| rank.load_busy),
        is_incomplete: of.iter().any(|rank| !rank.complete),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn shown(runs: &[Run]) -> String {
        let mut out = Vec::new();
        ranks(runs, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in text.lines() {
            assert!(
                line.chars().count() <= 80 && line == line.trim_end(),
                "{line}"
            );
        }
        text
    }

    #[test]
    fn each_path_has_its_ranks_their_spread_and_their_total() {
        let text = shown(&[sample::proxy::merged(2).run]);
        for words in [
            "ranks      connect proxied, 2 of 3 with a result, start skew 1 ns ± 2.00 us",
            "INCOMPLETE round 1: rank 2 is missing (rank 2 never came)",
            "spread     10,000 to 10,000 requests/s a rank",
            "\nrank 1",
            "\ntotal ",
        ] {
            assert!(text.contains(words), "no '{words}' in:\n{text}");
        }
        assert_eq!(shown(&[]), "");
    }

    #[test]
    fn rounds_are_one_row_and_the_slowest_of_many_ranks_are_shown() {
        let two = [sample::proxy::merged(1).run, sample::proxy::merged(1).run];
        let text = shown(&two);
        assert!(text.contains("rank 0          200 "), "{text}");
        assert!(text.contains("sums and medians of 2 rounds"), "{text}");
        let text = shown(&[sample::proxy::merged(50).run]);
        assert!(text.contains("the slowest ranks"), "{text}");
        assert_eq!(text.matches("\nrank ").count(), SLOWEST, "{text}");
    }
}
