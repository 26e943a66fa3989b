//! The costs of a UDP run and its resources: schedule, CPU, system calls, placement, buffers.

use std::io::{self, Write};

use super::layout::{list, nonzero, sentence, time};
use crate::report::figures::figure;
use crate::stats::latency::Summary;
use crate::udp::result::{CpuTrial, Run};
use crate::units::{counted, grouped};

/// Writes how closely a paced run followed its schedule.
pub(super) fn pacing(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let Some(pacing) = &run.pacing else {
        return Ok(());
    };
    let target = pacing.target_pps;
    let mut parts = vec![format!("target {} packets/s", figure(target))];
    if let Some(achieved) = pacing.achieved_pps {
        let share = figure(achieved / target * 100.0);
        let random = match &run.requested.traffic.gap {
            Some(_) => " with random gaps",
            None => "",
        };
        parts.push(format!("achieved {} ({share} %){random}", figure(achieved)));
    }
    if let Some(unsent) = pacing.unsent.filter(|&unsent| unsent > 0) {
        parts.push(format!("unsent {}", grouped(unsent)));
    }
    for (name, figures) in [
        ("lateness", &pacing.lateness_ns),
        ("gap error", &pacing.gap_error_ns),
    ] {
        // Saved runs of older versions are merged without percentiles.
        if figures.p50.is_some() {
            parts.push(format!("{name} {}", middle_and_tail(figures)));
        }
    }
    list(out, "pacing", parts)?;
    match &run.effective.spin_note {
        Some(note) => sentence(out, "", note),
        None => Ok(()),
    }
}

/// Writes the path MTU and the received ICMP errors.
pub(super) fn path(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let (set, stats) = (&run.effective, &run.engine_stats);
    if let Some(mtu) = set.path_mtu {
        let parts = [format!("MTU {} B", grouped(mtu)), format!("DF {}", set.df)];
        list(out, "path", parts)?;
    }
    for (side, icmp) in [("sender", stats.icmp), ("receiver", stats.receive_icmp)] {
        if icmp.total() > 0 {
            let kinds = nonzero(&icmp.kinds()).collect::<Vec<_>>().join(", ");
            sentence(out, "icmp", &format!("to the {side}: {kinds}"))?;
        }
    }
    Ok(())
}

fn middle_and_tail(figures: &Summary) -> String {
    format!("p50 {} p99 {}", time(figures.p50), time(figures.p99))
}

/// Writes the CPU time of sender and receiver.
pub(super) fn cpu(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let cpu = run.cpu;
    let sender = cpu.sender_user_s.zip(cpu.sender_system_s);
    let receiver = cpu.receiver_user_s.zip(cpu.receiver_system_s);
    let sides = [
        ("cpu", "sender", sender, cpu.sender_s_per_million),
        ("", "receiver", receiver, cpu.receiver_s_per_million),
    ];
    for (label, side, times, per_million) in sides {
        let Some((user, system)) = times else {
            writeln!(out, "{label:<11}{side:<9}-")?;
            continue;
        };
        let mut parts = vec![format!(
            "{} s user + {} s system",
            figure(user),
            figure(system)
        )];
        parts.extend(per_million.map(|s| format!("{} s per million packets", figure(s))));
        let seconds = run.seconds.filter(|seconds| *seconds > 0.0);
        parts.extend(seconds.map(|seconds| {
            let share = (user + system) / seconds * 100.0;
            format!("{} % of a core", figure(share))
        }));
        list(out, &format!("{label:<11}{side:<9}"), parts)?;
    }
    Ok(())
}

/// Writes system calls and I/O errors.
pub(super) fn calls(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let stats = run.engine_stats;
    let has_sender = run.effective.batch > 0;
    let mut send = vec![
        format!("send {}", grouped(stats.send_syscalls)),
        format!("messages {}", grouped(stats.send_messages)),
    ];
    send.extend(nonzero(&[
        ("partial", stats.send_partial),
        ("EAGAIN", stats.send_eagain),
        ("ENOBUFS", stats.send_enobufs),
        ("refused", stats.send_errors),
    ]));
    send.extend(stats.last_send_error.map(|code| {
        let error = io::Error::from_raw_os_error(code);
        format!("the last for '{error}'")
    }));
    send.extend(nonzero(&[
        ("waits", stats.send_waits),
        ("credit probes", stats.credit_probes),
    ]));
    if has_sender {
        list(out, "syscalls", send)?;
    }

    let mut receive = vec![
        format!("receive {}", grouped(stats.receive_syscalls)),
        format!("messages {}", grouped(stats.receive_messages)),
    ];
    receive.extend(nonzero(&[
        ("EAGAIN", stats.receive_eagain),
        ("truncated", stats.receive_truncated),
        ("waits", stats.receive_waits),
        ("credits", stats.credits),
        ("drops at the socket", stats.receiver_socket_drops),
        (
            "UdpRcvbufErrors of the whole host",
            stats.host_receive_buffer_errors.unwrap_or(0),
        ),
    ]));
    let label = if has_sender { "" } else { "syscalls" };
    list(out, &format!("{label:<11}"), receive)?;
    rings(run, out)?;
    zerocopy(run, out)
}

/// Writes the io_uring counters.
fn rings(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let stats = run.engine_stats;
    let sides = [
        ("rings", "send", stats.send_ring),
        ("", "receive", stats.receive_ring),
    ];
    for (label, side, ring) in sides {
        let Some(ring) = ring else { continue };
        let mut parts = vec![
            format!("{side} {} entries", grouped(ring.size.into())),
            format!("SQEs {}", grouped(ring.sqes)),
            format!("CQEs {}", grouped(ring.cqes)),
        ];
        parts.extend(nonzero(&[
            ("re-arms", ring.rearms),
            ("CQ overflows", ring.cq_overflows),
        ]));
        parts.extend(ring.thread_cpu_ns.map(|ns| {
            let seconds = ns as f64 / 1e9;
            format!("submission thread {} s of CPU", figure(seconds))
        }));
        list(out, &format!("{label:<11}"), parts)?;
    }
    Ok(())
}

/// Writes how many zero-copy sends the kernel copied.
fn zerocopy(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let Some(stats) = run.engine_stats.zerocopy else {
        return Ok(());
    };
    let mut parts = vec![counted(stats.messages, "message")];
    parts.push(match run.effective.zerocopy.as_str() {
        "splice" => "their pages moved to the receiver".to_owned(),
        _ if stats.copied == 0 => "none copied by the kernel".to_owned(),
        _ => format!(
            "{} of them copied by the kernel anyway",
            grouped(stats.copied)
        ),
    });
    list(out, "zero-copy", parts)
}

/// Writes the threads' CPUs and the socket buffer sizes.
pub(super) fn placement(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let (asked, set) = (&run.requested, &run.effective);
    if set.batch == 0 {
        // A server's own record has no options of the sender.
        let receive = format!("receive {}, as read back", size(set.rcvbuf, asked.rcvbuf));
        return list(out, "buffers", [receive]);
    }
    let mut placed = vec![
        format!("sender {}", cpus(set.sender_cpus.as_deref())),
        format!("receiver {}", cpus(set.receiver_cpus.as_deref())),
    ];
    placed.extend(set.cpu_trials.iter().flatten().map(tried));
    list(out, "placement", placed)?;
    let sizes = [
        format!("send {}", size(set.sndbuf, asked.sndbuf)),
        format!("receive {}", size(set.rcvbuf, asked.rcvbuf)),
        "as read back".to_owned(),
    ];
    list(out, "buffers", sizes)
}

/// A placement that was tried, and its rate.
fn tried(trial: &CpuTrial) -> String {
    let (sender, receiver) = (trial.sender_cpus.as_deref(), trial.receiver_cpus.as_deref());
    let place = match sender == receiver {
        true => format!("both {}", cpus(sender)),
        false => format!("{} and {}", cpus(sender), cpus(receiver)),
    };
    let rate = grouped(trial.packets_per_s.round() as u64);
    format!("{place} {rate} packets/s in a trial")
}

fn cpus(list: Option<&[usize]>) -> String {
    match list {
        None | Some([]) => "where the kernel chose".to_owned(),
        Some(list) => {
            let list: Vec<_> = list.iter().map(usize::to_string).collect();
            format!("on CPU {}", list.join(" "))
        }
    }
}

fn size(bytes: usize, asked: Option<usize>) -> String {
    let size = format!("{} B", grouped(bytes as u64));
    match asked.filter(|asked| *asked != bytes) {
        Some(asked) => format!("{size} (asked {} B)", grouped(asked as u64)),
        None => size,
    }
}
