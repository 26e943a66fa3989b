//! The ranks of a merged run: the start, the spread, and a row for each.

use std::io::{self, Write};

use super::layout::{known, list, sentence, time};
use crate::report::figures::{figure, plain};
use crate::udp::result::{Fleet, Rank, Run};
use crate::units::{grouped, short_ns};

/// Most rows. Of more ranks, those with the lowest goodput are shown.
const MOST_ROWS: usize = 40;

/// Rows of a fleet with more ranks than [`MOST_ROWS`].
const SLOWEST: usize = 8;

/// Most characters of a name.
const NAME: usize = 18;

/// Writes the ranks of `run`, if it is merged.
pub(super) fn fleet(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let Some(fleet) = &run.fleet else {
        return Ok(());
    };
    writeln!(out)?;
    heading(fleet, out)?;
    spread(fleet, out)?;
    cpu(fleet, out)?;
    rows(fleet, out)
}

fn heading(fleet: &Fleet, out: &mut impl Write) -> io::Result<()> {
    let mut parts = vec![format!(
        "{} of {} with a result",
        grouped(fleet.ranks.len() as u64),
        grouped(fleet.size)
    )];
    if let Some(skew) = fleet.start_skew_ns {
        let error = fleet.start_skew_error_ns.filter(|error| *error > 0);
        let error = error.map_or(String::new(), |ns| format!(" ± {}", short_ns(ns as f64)));
        parts.push(format!("start skew {}{error}", short_ns(skew as f64)));
    }
    let phases = fleet.ranks.iter().map(|rank| rank.phase_ns).max();
    if let Some(phase) = phases.filter(|phase| *phase > 0) {
        parts.push(format!("phases up to {}", short_ns(phase as f64)));
    }
    list(out, "ranks", parts)?;
    fleet
        .missing
        .iter()
        .take(MOST_ROWS)
        .try_for_each(|missing| {
            let text = format!("rank {} {}", missing.rank, missing.reason);
            sentence(out, "MISSING     ", &text)
        })
}

fn spread(fleet: &Fleet, out: &mut impl Write) -> io::Result<()> {
    let Some(spread) = fleet.kb_per_s else {
        return Ok(());
    };
    let mut parts = vec![
        format!(
            "{} to {} KB/s a rank",
            figure(spread.min),
            figure(spread.max)
        ),
        format!("median {}", figure(spread.median)),
    ];
    parts.extend(
        fleet
            .slowest
            .as_ref()
            .map(|name| format!("slowest {}", plain(name))),
    );
    list(out, "spread", parts)
}

/// CPU time by host, if there are several.
fn cpu(fleet: &Fleet, out: &mut impl Write) -> io::Result<()> {
    let has_several = fleet.hosts.len() > 1 && fleet.hosts.len() < fleet.ranks.len();
    for host in fleet.hosts.iter().take(MOST_ROWS).filter(|_| has_several) {
        let parts = [
            format!("{}: {} ranks", plain(&host.host), host.ranks),
            format!("sending {} s", known(host.sender_s)),
            format!("receiving {} s", known(host.receiver_s)),
        ];
        list(out, "host", parts)?;
    }
    Ok(())
}

fn rows(fleet: &Fleet, out: &mut impl Write) -> io::Result<()> {
    let mut ranks: Vec<&Rank> = fleet.ranks.iter().collect();
    if ranks.len() > MOST_ROWS {
        let rate = |rank: &Rank| rank.kb_per_s.unwrap_or(0.0);
        ranks.sort_by(|one, other| rate(one).total_cmp(&rate(other)));
        ranks.truncate(SLOWEST);
        sentence(out, "", "the slowest ranks; ranks.csv and --json have all")?;
    }
    let width = ranks
        .iter()
        .map(|rank| plain(&rank.name).chars().count())
        .max();
    let width = width.unwrap_or(0).clamp(5, NAME);
    writeln!(
        out,
        "{:<width$} {:>11} {:>9} {:>10} {:>8} {:>8} {:>8}",
        "", "sent", "lost", "KB/s", "start", "p50", "p99"
    )?;
    for rank in ranks {
        // The ends of names of run folders differ.
        let name = plain(&rank.name);
        let skipped = name.chars().count().saturating_sub(NAME);
        let name: String = name.chars().skip(skipped).collect();
        let lost = match rank.lost.is_unknown {
            true => "-".to_owned(),
            false => grouped(rank.lost.packets),
        };
        let phase = i64::try_from(rank.phase_ns).unwrap_or(i64::MAX);
        let start = rank.start_ns.map(|ns| ns.saturating_sub(phase));
        let start = start.map_or("-".to_owned(), |ns| match ns < 0 {
            true => format!("-{}", short_ns(ns.unsigned_abs() as f64)),
            false => short_ns(ns as f64),
        });
        writeln!(
            out,
            "{name:<width$} {:>11} {lost:>9} {:>10} {start:>8} {:>8} {:>8}{}",
            match rank.sent.is_unknown {
                true => "-".to_owned(),
                false => grouped(rank.sent.packets),
            },
            known(rank.kb_per_s),
            time(rank.latency_p50_ns),
            time(rank.latency_p99_ns),
            if rank.complete { "" } else { " *" }
        )?;
    }
    match fleet.ranks.iter().any(|rank| !rank.complete) {
        true => sentence(out, "", "* ended early"),
        false => Ok(()),
    }
}
