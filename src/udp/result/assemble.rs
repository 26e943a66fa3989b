//! The record of a run, computed from the counts of both sides.

use super::by_size::by_size;
use super::causes::{LossInputs, claims, explain};
use super::costs::{cpu, engine_stats, pacing};
use super::ended::Ended;
use super::explained::Explained;
use super::inputs::{Hosts, RunInputs};
use super::interval::Interval;
use super::marks::Marks;
use super::measured::Measured;
use super::run::Run;
use super::stage_inputs::{StageInputs, stages};
use super::streams::{add, assign_to_socket, streams};
use super::tail::silent_tail;
use super::{settings, warnings};
use crate::udp::latencies::Latencies;
use crate::udp::plan::{Direction, Plan};
use crate::udp::send::outcome::SenderOutcome;

/// Computes the record of a run.
pub fn assemble(mut inputs: RunInputs<'_>) -> Measured {
    let done = inputs.done.clone().unwrap_or_default();
    let mut streams = streams(&inputs);
    let (pacing, schedule) = pacing(inputs.plan, &inputs.senders).unzip();
    let mut run = Run {
        engine: inputs.plan.engine.kind.name().to_owned(),
        mode: inputs.plan.mode.name().to_owned(),
        direction: inputs.direction.to_owned(),
        complete: inputs.ended == Ended::Complete,
        ended: inputs.ended.name().to_owned(),
        reason: inputs.ended.reason(),
        requested: inputs.requested,
        effective: inputs.effective,
        first_sent_at: inputs.first_sent_at,
        last_received_at: inputs.last_received_at,
        client_ip: inputs.client_ip,
        engine_stats: engine_stats(&inputs.senders, &inputs.received, &done),
        pacing,
        marks: Marks::of(inputs.plan.traffic.ip, &inputs.received),
        packet_rows_omitted: done.rows_omitted,
        ..Run::default()
    };
    for stream in &mut streams {
        add(&mut run, stream);
        stream.lost.is_unknown = inputs.senders_lost;
    }
    (run.sent.is_unknown, run.lost.is_unknown) = (inputs.senders_lost, inputs.senders_lost);
    if inputs.done.is_none() {
        // The receiver's counts after its last row are unknown.
        run.lost.is_unknown = true;
        run.received.is_unknown = inputs.intervals.total.unique == 0;
    }
    run.streams = match inputs.done {
        Some(_) => streams,
        None => Vec::new(),
    };
    settings::at_the_end(&mut run.effective, &inputs.senders);
    run.jitter_ns = inputs
        .received
        .iter()
        .filter_map(|stream| stream.jitter_ns)
        .reduce(f64::max);
    run.cpu = cpu(&inputs.senders, inputs.done.as_ref(), &run);
    if run.effective.window.is_some() {
        run.effective.window = inputs
            .received
            .iter()
            .map(|stream| stream.window)
            .min()
            .or(run.effective.window);
    }
    let last = inputs
        .received
        .iter()
        .filter_map(|stream| stream.last_received)
        .max()
        .map(|last| inputs.end.map_or(last, |end| end.max(last)));
    // Stamps of two unrelated clocks cannot be subtracted.
    let is_related = run.effective.clock.source != "none";
    if !is_related {
        inputs.latencies = Latencies::default();
        inputs
            .intervals
            .kept
            .iter_mut()
            .for_each(Interval::clear_latency);
    }
    let first = match is_related {
        true => inputs.first_sent,
        false => {
            let first = inputs.received.iter();
            first.filter_map(|stream| stream.first_received).min()
        }
    };
    if let (true, Some(done)) = (is_related, &inputs.done) {
        run.latency_by_size = by_size(&done.by_size);
    }
    let latency = &inputs.latencies.actual;
    if !latency.is_empty() {
        run.latency_ns = Some(latency.summary());
    }
    if !inputs.latencies.intended.is_empty() {
        run.latency_from_intended_ns = Some(inputs.latencies.intended.summary());
    }
    if inputs.done.is_none() && inputs.intervals.end_s > 0.0 {
        // The result was lost, and with it the last stamp. The end of the last row is known.
        speeds(&mut run, inputs.intervals.end_s);
    } else if let (Some(first), Some(last)) = (first, last)
        && last > first
    {
        let seconds = (last - first) as f64 / 1e9 + last_burst_s(&run);
        speeds(&mut run, seconds);
    }
    if latency.sum_ns() > 0 {
        let transit = latency.sum_ns() as f64 / 1e9;
        run.transit_kb_per_s = Some(run.received.bytes as f64 / 1e3 / transit);
    }
    let mut rows = inputs.intervals;
    // The counts of a lost receiver after its last row are unknown.
    let closing_row = match inputs.done {
        Some(_) => rows.closing(&run, sending_s(&inputs.senders)),
        None => None,
    };
    closing_row
        .clone()
        .into_iter()
        .for_each(|row| rows.push(row));
    run.intervals = rows.kept;
    run.intervals_omitted = rows.omitted;
    run.engine_stats.receive_unstamped = inputs.stages.as_ref().and_then(StageInputs::unstamped);
    let tail = silent_tail(&run, &inputs.senders, &inputs.received);
    let mut stage_histograms = Vec::new();
    if let (Some(stamps), true) = (inputs.stages, inputs.plan.stages) {
        let (clock, note) = (&run.effective.clock, inputs.stamp_note.as_deref());
        let (stages, histograms) = stages(inputs.plan, stamps, clock, note);
        run.stages = Some(stages);
        stage_histograms = histograms;
    }
    let plan = inputs.plan;
    run.explained = inputs.hosts.and_then(|hosts| explained(&run, hosts, plan));
    if let Some(explained) = &run.explained {
        let at_socket = explained.causes.iter();
        let at_socket = at_socket.filter(|cause| cause.cause == claims::RECEIVER_SOCKET);
        let at_socket = at_socket.fold(0, |sum, cause| cause.datagrams.saturating_add(sum));
        assign_to_socket(&mut run, at_socket);
    }
    run.warnings = warnings::warnings(&run);
    run.warnings.extend(tail);
    let Latencies { actual, intended } = inputs.latencies;
    Measured {
        run,
        latency: actual,
        latency_from_intended: intended,
        start_ns: first,
        closing_row,
        stages: stage_histograms,
        schedule: schedule.unwrap_or_default(),
    }
}

/// Longest UDP payload over IPv4, to which GRO joins datagrams.
const MAX_PAYLOAD: usize = 65_507;

/// The losses by cause; `None` if they are unknown.
fn explained(run: &Run, hosts: Hosts, plan: &Plan) -> Option<Explained> {
    if run.lost.is_unknown {
        return None;
    }
    let (set, stats) = (&run.effective, &run.engine_stats);
    let most = MAX_PAYLOAD / plan.smallest_datagram();
    let segments = match stats.gso_fallbacks {
        0 => set.segments,
        _ => most,
    };
    // Each datagram was received by itself, as where the path divides segmented messages.
    let is_single = stats.receive_messages >= run.received.packets;
    let coalesced = match set.gro {
        _ if is_single => 1,
        true => segments.max(most),
        false => segments,
    };
    Some(explain(LossInputs {
        lost: run.lost.packets,
        not_sent: run.lost.not_sent,
        socket_drops: stats.receiver_socket_drops,
        repeats: stats.send_enobufs,
        partial_sends: stats.send_partial,
        other_partial_sends: {
            let others = [stats.send_eagain, stats.send_errors, stats.icmp.total()];
            others.into_iter().fold(0, u64::saturating_add)
        },
        segments: segments.max(1) as u64,
        coalesced: coalesced.max(1) as u64,
        both_directions: plan.direction == Direction::Both,
        lost_exchanges: hosts.lost_exchanges,
        sender: hosts.sender,
        receiver: hosts.receiver,
    }))
}

/// From the first stamp of any sender to the last, in seconds; `None` if the senders are at the other side or sent nothing.
fn sending_s(senders: &[SenderOutcome]) -> Option<f64> {
    let times = senders.iter().map(|sent| &sent.times);
    let first = times.clone().filter_map(|stamps| stamps.first).min()?;
    let last = times.map(|stamps| stamps.last).max()?;
    Some(last.saturating_sub(first) as f64 / 1e9)
}

/// The time for which the datagrams of the last burst stand at the mean pace, in seconds. Without it, the first burst would count and its
/// gap would not.
fn last_burst_s(run: &Run) -> f64 {
    let (Some(burst), Some(pacing)) = (run.requested.traffic.burst, &run.pacing) else {
        return 0.0;
    };
    let burst = u64::from(burst.max(1));
    // The bursts of the streams take turns, so the last one belongs to the last of the streams with the most bursts.
    let alone = [run.sent.packets];
    let streams = run.streams.iter().map(|stream| stream.sent.packets);
    let last = streams
        .chain(alone.into_iter().filter(|_| run.streams.is_empty()))
        .filter(|packets| *packets > 0)
        .max_by_key(|packets| packets.div_ceil(burst));
    let datagrams = last.map_or(0, |packets| (packets - 1) % burst + 1);
    datagrams as f64 / pacing.target_pps
}

/// Sets the rates of a run with this duration.
pub(in crate::udp) fn speeds(run: &mut Run, seconds: f64) {
    let bytes = run.received.bytes as f64;
    run.seconds = Some(seconds);
    run.kb_per_s = Some(bytes / 1e3 / seconds);
    let clock = &run.effective.clock;
    if clock.source == "estimated" {
        run.seconds_error = clock.error_ns.map(|ns| ns as f64 / 1e9);
        // The error of the rate is larger towards the shorter time.
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
