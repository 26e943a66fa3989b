//! The record of a run, computed from the counts of both sides.

use super::costs::{cpu, engine_stats, pacing};
use super::ended::Ended;
use super::interval_rows::Rows;
use super::run::{Effective, Measured, Requested, Run};
use super::streams::{add, streams};
use super::{settings, warnings};
use crate::udp::plan::Plan;
use crate::udp::receive::accounting::Latencies;
use crate::udp::send::sender::Sent;
use crate::udp::wire::control::{Done, StreamReceived, StreamSent};

/// Everything known at the end of a run.
pub struct Facts<'a> {
    /// What was to be done.
    pub plan: &'a Plan,
    /// `forward` for the client's streams, `reverse` for the server's.
    pub direction: &'static str,
    /// As given.
    pub requested: Requested,
    /// What was in force.
    pub effective: Effective,
    /// How it ended.
    pub ended: Ended,
    /// What each stream's sender says it sent, or what it sent at least.
    pub sent: Vec<StreamSent>,
    /// Whether the senders were lost, so that it is not known what was sent last.
    pub senders_lost: bool,
    /// What each sender thread did; empty where the senders are elsewhere.
    pub senders: Vec<Sent>,
    /// The first send stamp, in ns of the server's clock.
    pub first_sent: Option<u64>,
    /// Its wall time, RFC 3339.
    pub first_sent_at: Option<String>,
    /// What each stream's receiver counted.
    pub received: Vec<StreamReceived>,
    /// The receiver's side as a whole; `None` when it was lost.
    pub done: Option<Done>,
    /// Wall time of the last arrival, RFC 3339.
    pub last_received_at: Option<String>,
    /// The sender's address.
    pub client_ip: Option<String>,
    /// All latencies.
    pub latencies: Latencies,
    /// Interval rows.
    pub intervals: Rows,
}

/// Puts the record together.
pub fn assemble(mut facts: Facts<'_>) -> Measured {
    let done = facts.done.clone().unwrap_or_default();
    let mut streams = streams(&facts);
    let mut run = Run {
        engine: facts.plan.engine.kind.name().to_owned(),
        mode: facts.plan.mode.name().to_owned(),
        direction: facts.direction.to_owned(),
        complete: facts.ended == Ended::Complete,
        ended: facts.ended.name().to_owned(),
        reason: facts.ended.reason(),
        requested: facts.requested,
        effective: facts.effective,
        first_sent_at: facts.first_sent_at,
        last_received_at: facts.last_received_at,
        client_ip: facts.client_ip,
        engine_stats: engine_stats(&facts.senders, &facts.received, &done),
        pacing: pacing(facts.plan.mode, &facts.senders),
        packet_rows_omitted: done.rows_omitted,
        ..Run::default()
    };
    for stream in &mut streams {
        add(&mut run, stream);
        stream.lost.is_unknown = facts.senders_lost;
    }
    run.lost.is_unknown = facts.senders_lost;
    if facts.done.is_none() {
        // What the receiver saw after its last row is not known, nor what it missed.
        run.lost.is_unknown = true;
        run.received.is_unknown = facts.intervals.total.unique == 0;
    }
    run.streams = match facts.done {
        Some(_) => streams,
        None => Vec::new(),
    };
    settings::at_the_end(&mut run.effective, &facts.senders);
    run.jitter_ns = facts
        .received
        .iter()
        .filter_map(|stream| stream.jitter_ns)
        .reduce(f64::max);
    run.cpu = cpu(&facts.senders, facts.done.as_ref(), &run);
    if run.effective.window.is_some() {
        run.effective.window = facts
            .received
            .iter()
            .map(|stream| stream.window)
            .min()
            .or(run.effective.window);
    }
    let last = facts
        .received
        .iter()
        .filter_map(|stream| stream.last_received)
        .max();
    // Stamps of two clocks that are not related say nothing of each other.
    let is_related = run.effective.clock.source != "none";
    if !is_related {
        facts.latencies = Latencies::default();
        for row in &mut run.intervals {
            (row.latency_p50_ns, row.latency_p99_ns, row.latency_max_ns) = (None, None, None);
        }
    }
    let first = match is_related {
        true => facts.first_sent,
        false => {
            let first = facts.received.iter();
            first.filter_map(|stream| stream.first_received).min()
        }
    };
    let latency = &facts.latencies.actual;
    if !latency.is_empty() {
        run.latency_ns = Some(latency.summary());
    }
    if !facts.latencies.intended.is_empty() {
        run.latency_from_intended_ns = Some(facts.latencies.intended.summary());
    }
    if facts.done.is_none() && facts.intervals.end_s > 0.0 {
        // The result was lost, and with it the last stamp: up to the last row is what is known.
        speeds(&mut run, facts.intervals.end_s);
    } else if let (Some(first), Some(last)) = (first, last)
        && last > first
    {
        speeds(&mut run, (last - first) as f64 / 1e9);
    }
    if latency.sum_ns() > 0 {
        let transit = latency.sum_ns() as f64 / 1e9;
        run.transit_kb_per_s = Some(run.received.bytes as f64 / 1e3 / transit);
    }
    let mut rows = facts.intervals;
    // What a lost receiver saw after its last row is not known, and neither is what it missed.
    let closing_row = match facts.done {
        Some(_) => rows.closing(&run, sending_s(&facts.senders)),
        None => None,
    };
    closing_row
        .clone()
        .into_iter()
        .for_each(|row| rows.push(row));
    run.intervals = rows.kept;
    run.intervals_omitted = rows.omitted;
    run.warnings = warnings::warnings(&run);
    let Latencies { actual, intended } = facts.latencies;
    Measured {
        run,
        latency: actual,
        latency_from_intended: intended,
        closing_row,
    }
}

/// From the first stamp of any sender to the last, in seconds; `None` where they are elsewhere or sent nothing.
fn sending_s(senders: &[Sent]) -> Option<f64> {
    let written = senders.iter().map(|sent| &sent.written);
    let first = written.clone().filter_map(|stamps| stamps.first).min()?;
    let last = written.map(|stamps| stamps.last).max()?;
    Some(last.saturating_sub(first) as f64 / 1e9)
}

fn speeds(run: &mut Run, seconds: f64) {
    let bytes = run.received.bytes as f64;
    run.seconds = Some(seconds);
    run.kb_per_s = Some(bytes / 1e3 / seconds);
    let clock = &run.effective.clock;
    if clock.source == "estimated" {
        run.seconds_error = clock.error_ns.map(|ns| ns as f64 / 1e9);
        // The shorter the time may be, the further the rate may be above: that side is the longer one.
        let shortest = run.seconds_error.map(|error| seconds - error);
        let shortest = shortest.filter(|shortest| *shortest > 0.0);
        run.kb_per_s_error =
            shortest.map(|shortest| bytes / 1e3 * (1.0 / shortest - 1.0 / seconds));
    }
    run.kib_per_s = Some(bytes / 1024.0 / seconds);
    run.gbit_per_s = Some(bytes * 8.0 / 1e9 / seconds);
    run.packets_per_s = Some(run.received.unique as f64 / seconds);
}

#[cfg(test)]
mod tests;
