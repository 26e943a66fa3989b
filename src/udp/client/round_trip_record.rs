//! The record of a round-trip run, computed from the outcome of the requester and of the responder.

use super::settings::Setup;
use crate::dates;
use crate::sys::clock::WallClock;
use crate::sys::socket::Buffers;
use crate::udp::plan::SpinChoice;
use crate::udp::plan::{Mode, Plan};
use crate::udp::result::RoundTrip;
use crate::udp::result::{self, Clock, Effective, Ended, IntervalRows, Measured, RunInputs};
use crate::udp::round_trip::requester::{Outcome, TIMEOUT};
use crate::udp::send::outcome::SenderOutcome;
use crate::udp::wire::control::Welcome;
use crate::udp::wire::results::{Done, StreamReceived, StreamSent};

/// The other end.
#[derive(Debug, Default)]
pub(super) struct OtherEnd {
    /// Its last message; `None` if it is an echo server or was lost.
    pub(super) done: Option<Done>,
    /// Its counts.
    pub(super) received: Option<StreamReceived>,
    /// Its welcome; `None` if it is an echo server.
    pub(super) welcome: Option<Welcome>,
    /// This host's address, as the other end sees it.
    pub(super) client_ip: Option<String>,
}

/// The record of a run.
pub(super) fn record(
    (plan, setup): (&Plan, &Setup),
    wall: &WallClock,
    (outcome, buffers): (Outcome, Buffers),
    intervals: IntervalRows,
    ended: Ended,
    other: OtherEnd,
) -> Measured {
    let counts = outcome.counts;
    let chunk = plan.chunk as u64;
    let at = |stamp: u64| dates::rfc3339(wall.at(stamp));
    let server_drops = other.received.as_ref().map_or(0, |received| received.drops);
    let received = StreamReceived {
        unique: counts.answered,
        bytes: counts.answered.saturating_mul(chunk),
        duplicates: counts.duplicates,
        reordered: counts.reordered,
        late: counts.late,
        foreign_token: outcome.foreign.token,
        foreign_short: outcome.foreign.short,
        foreign_malformed: outcome.foreign.malformed,
        next: counts.sent,
        first_sent: outcome.sent.map(|(first, _)| first),
        first_received: outcome.answered.map(|(first, _)| first),
        last_received: outcome.answered.map(|(_, last)| last),
        // A request that the server's socket dropped has no response either. Older servers report 0.
        drops: outcome.drops.saturating_add(server_drops),
        ..StreamReceived::default()
    };
    let sent = StreamSent {
        packets: counts.sent,
        bytes: counts.sent.saturating_mul(chunk),
        not_sent: outcome.not_sent,
    };
    let round_trip = RoundTrip {
        kind: match plan.mode {
            Mode::RoundTrip(Some(_)) => "open".to_owned(),
            _ => "closed".to_owned(),
        },
        echo: setup.is_echo,
        timeout_s: TIMEOUT.as_secs_f64(),
        requests_received: other.received.map(|received| received.unique),
        server_time_ns: (!outcome.server_time.is_empty()).then(|| outcome.server_time.summary()),
        load_kb_per_s: None,
    };
    let throttled = other.done.as_ref().and_then(|done| done.throttled);
    let server_cpu = other.done.as_ref().map(|done| (done.user_s, done.system_s));
    let server_cpus = other.welcome.and_then(|welcome| welcome.receiver?.cpus);
    let mut measured = result::assemble(RunInputs {
        plan,
        direction: "forward",
        requested: setup.requested.clone(),
        effective: effective(plan, setup, buffers, server_cpus),
        ended,
        sent: vec![sent],
        senders_lost: false,
        first_sent: received.first_sent,
        first_sent_at: received.first_sent.map(at),
        end: outcome.end,
        last_received_at: received.last_received.map(at),
        received: vec![received],
        // The counts of both requests and responses are this host's.
        done: Some(Done {
            user_s: server_cpu.map_or(0.0, |(user, _)| user),
            system_s: server_cpu.map_or(0.0, |(_, system)| system),
            stats: outcome.receive.into(),
            throttled,
            ..Done::default()
        }),
        client_ip: other.client_ip,
        hosts: None,
        stages: None,
        stamp_note: None,
        latencies: outcome.latencies.clone(),
        intervals,
        senders: vec![sender(outcome, sent)],
    });
    let run = &mut measured.run;
    // The same bytes travel twice, and their rate is that of the loop, not of the path.
    (run.kb_per_s, run.kib_per_s, run.gbit_per_s) = (None, None, None);
    run.transit_kb_per_s = None;
    if server_cpu.is_none() {
        let cpu = &mut run.cpu;
        (cpu.receiver_user_s, cpu.receiver_system_s) = (None, None);
        cpu.receiver_s_per_million = None;
    }
    run.round_trip = Some(round_trip);
    measured
}

fn sender(outcome: Outcome, sent: StreamSent) -> SenderOutcome {
    let mut sender = SenderOutcome {
        packets: sent.packets,
        bytes: sent.bytes,
        not_sent: sent.not_sent,
        too_long: outcome.too_long,
        // All requests that are due are sent, however late.
        unsent: Some(0),
        segments: 1,
        preemptions: outcome.preemptions,
        cpu: outcome.cpu,
        stats: outcome.send,
        ..SenderOutcome::default()
    };
    if let Some((first, last)) = outcome.sent {
        sender.times.first = Some(first);
        sender.times.last = last;
    }
    sender.times.lateness = outcome.lateness;
    sender.times.gap_error = outcome.gap_error;
    sender
}

fn effective(
    plan: &Plan,
    setup: &Setup,
    buffers: Buffers,
    server_cpus: Option<Vec<usize>>,
) -> Effective {
    Effective {
        batch: 1,
        sndbuf: buffers.send,
        rcvbuf: buffers.receive,
        sender_cpus: setup.cpus.clone(),
        receiver_cpus: server_cpus,
        relay_header: setup
            .servers
            .first()
            .and_then(|server| setup.relay_header(*server)),
        spin: plan.spin == SpinChoice::On,
        // Both stamps are this host's.
        clock: Clock {
            source: "same".to_owned(),
            offset_ns: Some(0),
            error_ns: Some(0),
            ..Clock::default()
        },
        ..result::effective(plan)
    }
}
