//! The summary of one UDP run.

use std::io::{self, Write};

use super::layout::{self, fill, list, maybe, sentence};
use super::{costs, explained, fleet, latency, sparkline, stages, traffic};
use crate::report::figures::{figure, percent};
use crate::udp::result::{Measured, Received, Run};
use crate::units::{counted, grouped, short_ns};

/// Writes the summary of a run.
///
/// # Errors
/// Those of `out`.
pub fn summary(measured: &Measured, out: &mut impl Write) -> io::Result<()> {
    let run = &measured.run;
    if !run.complete {
        let why = run.reason.as_deref().unwrap_or(&run.ended);
        sentence(out, "INCOMPLETE: ", why)?;
    }
    heading(run, out)?;
    writeln!(out)?;
    throughput(run, out)?;
    writeln!(out)?;
    packets(run, out)?;
    loss(run, out)?;
    traffic::marks(run, out)?;
    explained::explained(run, out)?;
    warnings(run, out)?;
    latency::latency(run, out)?;
    stages::stages(run, out)?;
    latency::clocks(run, out)?;
    latency::jitter(run, out)?;
    sparkline::sparklines(run, out)?;
    costs::pacing(run, out)?;
    costs::path(run, out)?;
    costs::cpu(run, out)?;
    costs::calls(run, out)?;
    costs::placement(run, out)?;
    fleet::fleet(run, out)?;
    writeln!(out)?;
    exercise(run, out)
}

/// Mode, engine and effective options.
fn heading(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let (asked, set) = (&run.requested, &run.effective);
    let mut parts = vec![format!("udp {} over {}", run.mode, run.engine)];
    parts.extend(
        asked
            .traffic
            .sizes
            .as_ref()
            .map(|sizes| format!("chunk {sizes}")),
    );
    parts.push(match set.mean_chunk {
        Some(mean) => format!("mean {} B data + {} B header", figure(mean), set.header),
        None => format!("{} B data + {} B header", set.chunk, set.header),
    });
    if let Some(round_trip) = &run.round_trip {
        parts.push(format!("{} loop", round_trip.kind));
        parts.push(if set.spin { "spinning" } else { "sleeping" }.to_owned());
    } else if set.batch > 0 {
        // A server's own record has no options of the sender.
        parts.push(format!("batch {}", set.batch));
        parts.push(match set.gso {
            true => format!("GSO of {} segments", set.segments),
            false => "GSO off".to_owned(),
        });
    }
    if run.round_trip.is_none() {
        parts.push(format!("GRO {}", if set.gro { "on" } else { "off" }));
    }
    match set.zerocopy.as_str() {
        "" | "off" => {}
        how => parts.push(format!("zero-copy {how}")),
    }
    // Round trips receive one datagram with each request of the ring.
    if let (Some(uring), None) = (&asked.uring, &run.round_trip) {
        parts.push(format!("{} receives", uring.receive));
        if uring.sqpoll {
            parts.push("SQPOLL".to_owned());
        }
    }
    if set.streams > 1 {
        parts.push(format!("{} streams", set.streams));
    }
    parts.extend(traffic::options(&asked.traffic));
    let is_echo = run.round_trip.as_ref().is_some_and(|of| of.echo);
    let what = if is_echo { "echo server " } else { "" };
    parts.extend(asked.to.as_ref().map(|server| format!("to {what}{server}")));
    parts.extend(asked.via.as_ref().map(|relay| format!("via {relay}")));
    list(out, "", parts)?;
    let notes = [&set.offload_note, &set.sender_note, &set.receiver_note];
    for note in notes.into_iter().flatten() {
        sentence(out, "", note)?;
    }
    Ok(())
}

fn throughput(run: &Run, out: &mut impl Write) -> io::Result<()> {
    if run.round_trip.is_some() {
        return round_trips(run, out);
    }
    let Some(rate) = run.kb_per_s.filter(|rate| rate.is_finite()) else {
        return writeln!(out, "  - KB/s");
    };
    let error = |bar: Option<String>| match run.effective.clock.source.as_str() {
        "estimated" => format!(" ± {}", bar.as_deref().unwrap_or("-")),
        _ => String::new(),
    };
    let rate_error = error(run.kb_per_s_error.map(figure));
    let time_error = error(run.seconds_error.map(|value| short_ns(value * 1e9)));
    let mut parts = Vec::new();
    let mut add = |value: Option<f64>, unit: &str| {
        parts.extend(value.map(|value| format!("{} {unit}", figure(value))));
    };
    add(run.gbit_per_s, "Gbit/s");
    add(run.packets_per_s, "packets/s");
    add(run.kib_per_s, "KiB/s");
    parts.extend(
        run.seconds
            .map(|value| format!("over {}{time_error}", short_ns(value * 1e9))),
    );
    let label = format!("  {}{rate_error} KB/s   = ", figure(rate));
    list(out, &label, parts)
}

/// The rate of the loop, not of the path.
fn round_trips(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let rate = run.packets_per_s.map_or("-".to_owned(), figure);
    let over = run.seconds.map(|seconds| short_ns(seconds * 1e9));
    let over = over.map_or(String::new(), |over| format!(" over {over}"));
    writeln!(out, "  {rate} round trips/s{over}")
}

fn packets(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let (sent, received) = (run.sent, run.received);
    let unless = |is_unknown: bool, count: u64| match is_unknown {
        true => "-".to_owned(),
        false => grouped(count),
    };
    let known = |count: u64| unless(received.is_unknown, count);
    let mut parts = vec![
        format!("sent {}", unless(sent.is_unknown, sent.packets)),
        format!("received {}", known(received.packets)),
        format!("unique {}", known(received.unique)),
    ];
    let kinds = [
        ("duplicates", received.duplicates),
        ("reordered", received.reordered),
        ("late", received.late),
    ];
    parts.extend(layout::nonzero(&kinds));
    parts.extend(foreign(received));
    list(out, "packets", parts)?;
    let bytes = [
        format!("sent {} B", unless(sent.is_unknown, sent.bytes)),
        format!("delivered {} B", known(received.bytes)),
    ];
    list(out, "data", bytes)?;
    if run.packet_rows_omitted > 0 {
        let omitted = counted(run.packet_rows_omitted, "row");
        let lacking = format!("packets.csv lacks {omitted}: the receiver had no room");
        sentence(out, "", &lacking)?;
    }
    Ok(())
}

fn foreign(received: Received) -> Option<String> {
    let kinds = [
        ("other token", received.foreign_token),
        ("too short", received.foreign_short),
        ("malformed", received.foreign_malformed),
    ];
    let kinds: Vec<_> = layout::nonzero(&kinds).collect();
    (received.foreign > 0).then(|| {
        format!(
            "foreign {} ({})",
            grouped(received.foreign),
            kinds.join(", ")
        )
    })
}

fn loss(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let lost = run.lost;
    if lost.is_unknown {
        let why = match run.sent.is_unknown {
            true => "lost -: the sender was lost before it reported all sent datagrams",
            false => "lost -: the receiver was lost before it reported all received datagrams",
        };
        return sentence(out, "loss        ", why);
    }
    if lost.packets == 0 {
        return fill(out, "loss", ["lost 0".to_owned()]);
    }
    let share = percent(lost.packets, run.sent.packets);
    let about = if run.is_loss_split_estimated() {
        "about "
    } else {
        ""
    };
    let elsewhere = match run.requested.via {
        None => "elsewhere",
        Some(_) => "through the relay or on the path",
    };
    let parts = [
        format!("lost {} ({share}):", grouped(lost.packets)),
        format!("not sent {},", grouped(lost.not_sent)),
        format!("receiver socket {about}{},", grouped(lost.receiver_socket)),
        format!("{elsewhere} {about}{}", grouped(lost.elsewhere)),
    ];
    fill(out, "loss", parts)
}

fn warnings(run: &Run, out: &mut impl Write) -> io::Result<()> {
    run.warnings
        .iter()
        .try_for_each(|warning| sentence(out, "WARNING     ", warning))
}

/// The output of the exercise that wirebench grew from.
fn exercise(run: &Run, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "first packet sent at {}", maybe(&run.first_sent_at))?;
    writeln!(
        out,
        "last packet received at {}",
        maybe(&run.last_received_at)
    )?;
    writeln!(out, "client IP {}", maybe(&run.client_ip))?;
    let Some(rate) = run.transit_kb_per_s else {
        return Ok(());
    };
    let why = "KB/s if divided by the sum of all packets' transit times: \
               these overlap, so this is not the throughput";
    sentence(out, "transit_kb_per_s ", &format!("{} {why}", figure(rate)))
}

#[cfg(test)]
mod tests;
