//! Warnings: effects of the measuring program or its host on the result. Pure: a record in, sentences out.
//!
//! Each rule is a function that returns a sentence or nothing; [`warnings`] lists the rules.

use crate::udp::result::Run;
use crate::units::{counted, grouped, short_ns, were};

/// The sentences that apply to `run`, most important first.
pub(super) fn warnings(run: &Run) -> Vec<String> {
    let rules: [fn(&Run) -> Option<String>; 13] = [
        silent_group,
        throttled,
        receiver_throttled,
        late,
        slow,
        unsent,
        refused,
        too_long,
        segments_refused,
        receiver_socket,
        unstamped,
        too_brief,
        preempted_client,
    ];
    rules.iter().filter_map(|rule| rule(run)).collect()
}

/// Nothing arrived from a multicast group.
fn silent_group(run: &Run) -> Option<String> {
    let group = run.requested.traffic.multicast.as_ref()?;
    let is_silent = run.sent.packets > 0 && run.received.unique == 0 && !run.received.is_unknown;
    let hops = match run.requested.traffic.ttl {
        Some(_) => "",
        None => "; a router needs a --ttl of 2 or more",
    };
    is_silent.then(|| {
        format!(
            "No datagram to the group {group} arrived. Switches and routers forward a group only to ports where they have seen its members (IGMP, MLD){hops}."
        )
    })
}

/// The sender was throttled by its CPU quota.
fn throttled(run: &Run) -> Option<String> {
    let periods = run.cpu.sender_throttled_periods.filter(|&n| n > 0)?;
    let seconds = run.cpu.sender_throttled_s?;
    Some(format!(
        "The CPU quota of the sender's control group stopped its threads in {}, {seconds:.2} s in all. This raises the latency from the intended send and causes a burst after each stop; raise the quota, lower the rate, or use --spin off.",
        counted(periods, "period"),
    ))
}

/// The receiver was throttled by its CPU quota.
fn receiver_throttled(run: &Run) -> Option<String> {
    let periods = run.cpu.receiver_throttled_periods.filter(|&n| n > 0)?;
    let seconds = run.cpu.receiver_throttled_s?;
    if run.requested.to.is_none() && run.cpu.sender_throttled_periods.is_some_and(|n| n > 0) {
        // Both ends are in one process, and `throttled` names its quota.
        return None;
    }
    let (end, waits) = match run.mode.as_str() {
        "round-trip" => ("server", "Requests"),
        _ => ("receiver", "Datagrams"),
    };
    Some(format!(
        "The CPU quota of the {end}'s control group stopped its threads in {}, {seconds:.2} s in all. {waits} that arrive during a stop wait in the socket, which raises the latency and may fill the receive buffer; raise the quota or lower the rate.",
        counted(periods, "period"),
    ))
}

/// Datagrams were late by more than the gap between two of them, so that several were sent at once.
fn late(run: &Run) -> Option<String> {
    let pacing = run.pacing.as_ref()?;
    let p99 = pacing.lateness_ns.p99?;
    let gap = gap_ns(run)?;
    if p99 <= late_ns(run)? {
        return None;
    }
    let preempted = match run.cpu.sender_preemptions {
        _ if run.lost.not_sent > 0 => format!(
            " {} that this host refused {} among them, without a latency.",
            counted(run.lost.not_sent, "datagram"),
            were(run.lost.not_sent)
        ),
        Some(times) if times > 0 => format!(
            " Other threads preempted it {}{}.",
            counted(times, "time"),
            match run.effective.spin {
                true => "; without spinning (--spin off) it gets its CPU back sooner",
                false => "; it needs a CPU with less other work",
            }
        ),
        _ => String::new(),
    };
    let loss = match run.lost.elsewhere {
        0 => "",
        _ => ", and a queue on the path may have dropped some of them for that reason",
    };
    Some(format!(
        "The sender was late: 1 % of the datagrams were sent {} or more after their time, with a gap of {} between two {}. Latency from the intended send includes this. Late datagrams were sent closer together than planned{loss}.{preempted}",
        short_ns(p99 as f64),
        short_ns(gap as f64),
        match run.requested.traffic.burst {
            Some(_) => "bursts",
            None => "datagrams",
        },
    ))
}

/// Lateness that an idle machine does not reach at 99 %, in ns. At higher rates several datagrams are sent at once in any case.
const MAX_LATE_NS: u64 = 500_000;

/// The lateness in ns above which datagrams are sent closer together than planned.
pub(in crate::udp) fn late_ns(run: &Run) -> Option<u64> {
    Some(MAX_LATE_NS.max(gap_ns(run)?))
}

/// The mean gap from one datagram or burst to the next, over all streams.
fn gap_ns(run: &Run) -> Option<u64> {
    let target = run.pacing.as_ref()?.target_pps;
    let burst = f64::from(run.requested.traffic.burst.unwrap_or(1));
    (target > 0.0).then(|| (1e9 / target * burst) as u64)
}

/// The sender did not reach its pace.
fn slow(run: &Run) -> Option<String> {
    let pacing = run.pacing.as_ref()?;
    let achieved = pacing.achieved_pps?;
    let share = achieved / pacing.target_pps;
    // The sum of random gaps has a standard error, and a few datagrams have no meaningful rate.
    let bursts = run.sent.packets / u64::from(run.requested.traffic.burst.unwrap_or(1).max(1));
    let error = match run.requested.traffic.seed {
        Some(_) => 4.0 / (bursts.max(1) as f64).sqrt(),
        None => 0.0,
    };
    if share >= 0.98 - error || run.sent.packets < 1_000 {
        return None;
    }
    let stats = &run.engine_stats;
    let reason = match (stats.send_enobufs, stats.send_eagain) {
        (0, 0) => "this host stalled, or cannot send faster".to_owned(),
        (0, full) => format!("its send buffer was full {}", counted(full, "time")),
        (full, _) => format!("the queue of its device was full {}", counted(full, "time")),
    };
    Some(format!(
        "The sender reached only {:.1} % of the requested pace: {reason}. The load on the path was lower than planned.",
        share * 100.0
    ))
}

/// Datagrams were due before the end and never sent.
fn unsent(run: &Run) -> Option<String> {
    let unsent = run.pacing.as_ref()?.unsent.filter(|&unsent| unsent > 0)?;
    let due = run.sent.packets.saturating_add(unsent);
    Some(format!(
        "Datagrams that were due were never sent: {} of {}, {:.1} %. They are in no figure of latency or lateness.",
        grouped(unsent),
        grouped(due),
        unsent as f64 / due as f64 * 100.0,
    ))
}

/// The sender's kernel refused datagrams: it was short of memory for so long that they were given up, or it may not send them.
fn refused(run: &Run) -> Option<String> {
    let stats = &run.engine_stats;
    let packets = run.lost.not_sent.saturating_sub(stats.send_too_long);
    let cause = match stats.last_send_error? {
        libc::ENOBUFS => {
            "(ENOBUFS), as its device or the qdisc accepted nothing for a second or longer"
        }
        libc::EPERM => {
            "(EPERM), as a rule of its firewall or a full table of tracked connections makes it do"
        }
        _ => return None,
    };
    (packets > 0).then(|| {
        format!(
            "{} {} not sent: the sender's kernel refused them {cause}.",
            counted(packets, "datagram"),
            were(packets),
        )
    })
}

/// Datagrams became too long for the path during the run.
fn too_long(run: &Run) -> Option<String> {
    let packets = run.engine_stats.send_too_long;
    if packets == 0 {
        return None;
    }
    let mtu = match run.effective.path_mtu {
        Some(mtu) => format!("the path MTU of {mtu} B"),
        None => "the path MTU".to_owned(),
    };
    Some(format!(
        "{} of {}{} B {} not sent because of {mtu}, and --df {} forbids fragments.",
        counted(packets, "datagram"),
        match run.requested.traffic.sizes {
            Some(_) => "up to ",
            None => "",
        },
        run.effective.datagram,
        were(packets),
        run.effective.df,
    ))
}

/// Segmented sends stopped during the run, so that the run has two parts.
fn segments_refused(run: &Run) -> Option<String> {
    (run.engine_stats.gso_fallbacks > 0).then(|| {
        "The path refused segmented sends during the run: throughput and CPU time are those of a run with GSO at first and without it later.".to_owned()
    })
}

/// The receive buffer overflowed.
fn receiver_socket(run: &Run) -> Option<String> {
    let lost = run.lost.receiver_socket;
    if lost > 0 && run.mode == "round-trip" {
        return Some(format!(
            "{} {} lost at the socket of the server or of this host and not on the path, because its receive buffer was full; use a larger --rcvbuf or a lower --pps.",
            match lost {
                1 => "1 request or response".to_owned(),
                _ => format!("{} requests or responses", grouped(lost)),
            },
            were(lost),
        ));
    }
    (lost > 0).then(|| {
        format!(
            "{}{} {} lost at the receiver's socket and not on the path, because its buffer of {} B was full; use a larger --rcvbuf, a lower rate, or the lossless mode.",
            if run.is_loss_split_estimated() { "About " } else { "" },
            counted(lost, "datagram"),
            were(lost),
            grouped(run.effective.rcvbuf as u64),
        )
    })
}

/// Receive stamps are those of the program for some datagrams.
fn unstamped(run: &Run) -> Option<String> {
    let missing = run.engine_stats.receive_unstamped.filter(|&n| n > 0)?;
    (run.effective.timestamps == "kernel").then(|| {
        format!(
            "{} {} not stamped by the kernel before the read, which is the end of their latency, as with --timestamps user.",
            counted(missing, "datagram"),
            were(missing),
        )
    })
}

/// The clocks of the hosts are not known well enough for the duration, and so for the rates.
fn too_brief(run: &Run) -> Option<String> {
    let (seconds, error) = (run.seconds?, run.seconds_error?);
    (run.mode != "round-trip" && error > seconds / 10.0).then(|| {
        format!(
            "The goodput is uncertain: the run took {}, and the clocks of the two hosts are known to ± {}. A longer run (--mb or --duration) makes this error a smaller share.",
            short_ns(seconds * 1e9),
            short_ns(error * 1e9),
        )
    })
}

/// The spinning client of round trips did not have its CPU alone, which the 99 % round trip shows.
fn preempted_client(run: &Run) -> Option<String> {
    let times = run.cpu.sender_preemptions?;
    let is_often = times >= 10 && times.saturating_mul(100) >= run.sent.packets;
    (run.mode == "round-trip" && run.effective.spin && is_often).then(|| {
        format!(
            "Other threads preempted the spinning client {}, more than once in 100 requests: with --busy-poll each end needs a CPU that no other thread uses. Leave out --busy-poll, or choose CPUs with --cpus.",
            counted(times, "time")
        )
    })
}

#[cfg(test)]
mod tests;
