//! The costs of a run and the accuracy of its pacing, summed over the threads of both sides.

use crate::stats::latency::{Latency, NamedHistograms};
use crate::udp::engine::stats::{RingStats, ZeroCopyStats, add_some};
use crate::udp::plan::{Amount, Mode, Plan};
use crate::udp::result::{Cpu, EngineStats, Pacing, Run};
use crate::udp::send::outcome::SenderOutcome;
use crate::udp::wire::results::{Done, StreamReceived};

pub(super) fn cpu(senders: &[SenderOutcome], done: Option<&Done>, run: &Run) -> Cpu {
    let per_million =
        |seconds: f64, packets: u64| (packets > 0).then(|| seconds / packets as f64 * 1e6);
    let user: f64 = senders.iter().map(|sender| sender.cpu.user).sum();
    let thread = |ring: Option<RingStats>| {
        let ns = ring.and_then(|ring| ring.thread_cpu_ns);
        ns.unwrap_or(0) as f64 / 1e9
    };
    // The kernel's submission thread works for the sender too.
    let system: f64 = senders
        .iter()
        .map(|sender| sender.cpu.system + thread(sender.stats.ring))
        .sum();
    let throttled = senders
        .iter()
        .filter_map(|sender| sender.throttled)
        .max_by_key(|throttled| throttled.ns);
    let received = done.map(|done| {
        (
            done.user_s,
            done.system_s + thread(done.stats.ring.map(Into::into)),
        )
    });
    let receiver = done.and_then(|done| done.throttled);
    Cpu {
        receiver_throttled_periods: receiver.map(|(periods, _)| periods),
        receiver_throttled_s: receiver.map(|(_, ns)| ns as f64 / 1e9),
        sender_user_s: (!senders.is_empty()).then_some(user),
        sender_system_s: (!senders.is_empty()).then_some(system),
        receiver_user_s: received.map(|(user, _)| user),
        receiver_system_s: received.map(|(_, system)| system),
        sender_s_per_million: match senders {
            [] => None,
            _ => per_million(user + system, run.sent.packets),
        },
        receiver_s_per_million: received
            .and_then(|(user, system)| per_million(user + system, run.received.packets)),
        sender_preemptions: sum(senders.iter().map(|sender| sender.preemptions)),
        // The threads are in one control group, and read the same counters.
        sender_throttled_periods: throttled.map(|throttled| throttled.periods),
        sender_throttled_s: throttled.map(|throttled| throttled.ns as f64 / 1e9),
    }
}

/// The sum; `None` without a count.
fn sum(counts: impl Iterator<Item = u64>) -> Option<u64> {
    counts.reduce(u64::saturating_add)
}

pub(super) fn engine_stats(
    senders: &[SenderOutcome],
    received: &[StreamReceived],
    done: &Done,
) -> EngineStats {
    let mut stats = EngineStats {
        receive_syscalls: done.stats.syscalls,
        receive_messages: done.stats.messages,
        receive_eagain: done.stats.eagain,
        receive_truncated: done.stats.truncated,
        receive_waits: done.stats.waits,
        receive_icmp: done.stats.icmp.into(),
        receive_ring: done.stats.ring.map(Into::into),
        credits: done.stats.answers,
        receiver_socket_drops: received
            .iter()
            .fold(0, |sum, stream| stream.drops.saturating_add(sum)),
        host_receive_buffer_errors: done.host_receive_buffer_errors,
        ..EngineStats::default()
    };
    for sender in senders {
        stats.send_syscalls += sender.stats.syscalls;
        stats.send_messages += sender.stats.messages;
        stats.send_partial += sender.stats.partial;
        stats.send_eagain += sender.stats.eagain;
        stats.send_enobufs += sender.stats.enobufs;
        stats.send_errors += sender.stats.errors;
        stats.last_send_error = sender.stats.last_error.or(stats.last_send_error);
        stats.send_too_long += sender.too_long;
        stats.gso_fallbacks += sender.stats.fallbacks;
        stats.icmp.add(sender.stats.icmp);
        stats.send_waits += sender.stats.waits;
        add_some(&mut stats.send_ring, sender.stats.ring, RingStats::add);
        add_some(
            &mut stats.zerocopy,
            sender.stats.zerocopy,
            ZeroCopyStats::add,
        );
        stats.credit_probes += sender.probes;
    }
    stats
}

/// The accuracy of the schedule, with its histograms; `None` unless paced.
pub(super) fn pacing(plan: &Plan, senders: &[SenderOutcome]) -> Option<(Pacing, NamedHistograms)> {
    let (Mode::Paced(target_pps) | Mode::RoundTrip(Some(target_pps))) = plan.mode else {
        return None;
    };
    let burst = u64::from(plan.traffic.schedule.burst.max(1));
    let (mut lateness, mut gap_error) = (Latency::new(), Latency::new());
    let mut achieved_pps = 0.0;
    // Unknown without the result of any sender.
    let mut unsent = (!senders.is_empty()).then_some(0_u64);
    for sender in senders {
        unsent = unsent
            .zip(sender.unsent)
            .map(|(sum, of)| sum.saturating_add(of));
        lateness.merge(&sender.times.lateness);
        gap_error.merge(&sender.times.gap_error);
        // With fewer datagrams than streams, some streams send none.
        let Some(first) = sender.times.first else {
            continue;
        };
        let seconds = sender.times.last.saturating_sub(first) as f64 / 1e9;
        // The datagrams before the last burst were sent in this time, or all in the requested time if more were due in it.
        let (before, seconds) = match plan.amount {
            Amount::Time(time) if sender.unsent > Some(0) => {
                (sender.packets, seconds.max(time.as_secs_f64()))
            }
            _ => (sender.packets.saturating_sub(1) / burst * burst, seconds),
        };
        if before > 0 && seconds > 0.0 {
            achieved_pps += before as f64 / seconds;
        }
    }
    let pacing = Pacing {
        target_pps,
        achieved_pps: (achieved_pps > 0.0).then_some(achieved_pps),
        unsent,
        lateness_ns: lateness.summary(),
        gap_error_ns: gap_error.summary(),
    };
    let histograms = vec![("lateness", lateness), ("gap-error", gap_error)];
    Some((pacing, histograms))
}
