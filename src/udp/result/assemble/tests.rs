use super::*;
use crate::udp::latencies::Latencies;
use crate::udp::plan::Plan;
use crate::udp::plan::tests::small_plan;
use crate::udp::result::interval::Interval;
use crate::udp::result::interval_rows::IntervalRows;
use crate::udp::result::packets::Traffic;
use crate::udp::result::run::{MAX_INTERVALS, Pacing, Stream};
use crate::udp::result::{effective, requested};
use crate::udp::wire::explain::HostReport;
use crate::udp::wire::results::{Done, StreamReceived, StreamSent};
use proptest::prelude::*;

fn inputs<'a>(plan: &'a Plan, sent: StreamSent, received: StreamReceived) -> RunInputs<'a> {
    RunInputs {
        plan,
        direction: "forward",
        requested: requested(plan),
        effective: effective(plan),
        ended: Ended::Complete,
        sent: vec![sent],
        senders_lost: false,
        senders: Vec::new(),
        first_sent: Some(1_000),
        first_sent_at: None,
        received: vec![received],
        done: Some(Done::default()),
        last_received_at: None,
        client_ip: None,
        latencies: Latencies::default(),
        intervals: IntervalRows::default(),
        hosts: None,
        stages: None,
        stamp_note: None,
        end: None,
    }
}

/// The counts of 100 datagrams of 1000 bytes, all of them received 0.5 s after the first send.
fn delivered_in_half_a_second() -> (StreamSent, StreamReceived) {
    let sent = StreamSent {
        packets: 100,
        bytes: 100_000,
        not_sent: 0,
    };
    let received = StreamReceived {
        unique: 100,
        bytes: 100_000,
        last_received: Some(1_000 + 500_000_000),
        ..StreamReceived::default()
    };
    (sent, received)
}

#[test]
fn throughput_is_bytes_over_the_time_from_the_first_send_to_the_last_arrival() {
    let plan = small_plan();
    let (sent, received) = delivered_in_half_a_second();
    let run = assemble(inputs(&plan, sent, received)).run;
    assert_eq!(run.seconds, Some(0.5));
    assert_eq!(run.kb_per_s, Some(200.0));
    assert_eq!(run.packets_per_s, Some(200.0));
    assert_eq!(run.gbit_per_s, Some(0.0016));
}

#[test]
fn the_last_burst_stands_for_its_share_of_the_time() {
    // 40 datagrams at 200 a second, and 20 of an incomplete burst, stand for 0.2 s and 0.1 s.
    for (burst, rate) in [(50, 100.0 / 0.75), (40, 100.0 / 0.6), (1, 200.0)] {
        let mut plan = small_plan();
        plan.mode = crate::udp::plan::Mode::Paced(200.0);
        plan.traffic.schedule.burst = burst;
        let (sent, received) = delivered_in_half_a_second();
        let run = assemble(inputs(&plan, sent, received)).run;
        assert_eq!(run.packets_per_s, Some(rate), "{burst}");
    }
}

#[test]
fn time_and_rate_have_an_error_bar_if_the_clock_is_estimated() {
    let plan = small_plan();
    let (sent, received) = delivered_in_half_a_second();
    let run = |source: &str, error_ns| {
        let mut inputs = inputs(&plan, sent, received.clone());
        inputs.effective.clock.source = source.to_owned();
        inputs.effective.clock.error_ns = error_ns;
        assemble(inputs).run
    };
    let known = run("estimated", Some(100_000_000));
    assert_eq!(known.seconds_error, Some(0.1));
    // 100 KB in 0.5 s are 200 KB/s, and in 0.4 s they are 250.
    assert!((known.kb_per_s_error.unwrap() - 50.0).abs() < 1e-9);
    let (wide, unknown) = (run("estimated", Some(500_000_000)), run("estimated", None));
    assert_eq!((wide.seconds_error, wide.kb_per_s_error), (Some(0.5), None));
    assert_eq!(
        (unknown.seconds_error, unknown.kb_per_s_error),
        (None, None)
    );
    for source in ["same", "none"] {
        let run = run(source, Some(0));
        assert_eq!((run.seconds_error, run.kb_per_s_error), (None, None));
    }
}

#[test]
fn a_run_of_unrelated_clocks_has_no_latency_in_its_intervals() {
    let plan = small_plan();
    let mut intervals = IntervalRows::default();
    intervals.push(Interval {
        packets: 5,
        latency_p50_ns: Some(1),
        latency_p99_ns: Some(2),
        latency_max_ns: Some(3),
        ..Interval::default()
    });
    for (source, known) in [("same", true), ("none", false)] {
        let mut inputs = inputs(&plan, StreamSent::default(), StreamReceived::default());
        inputs.effective.clock.source = source.to_owned();
        inputs.intervals = intervals.clone();
        let row = &assemble(inputs).run.intervals[0];
        let latencies = [row.latency_p50_ns, row.latency_p99_ns, row.latency_max_ns];
        assert_eq!(latencies.map(|latency| latency.is_some()), [known; 3]);
    }
}

#[test]
fn the_last_burst_is_that_of_the_stream_that_sends_last() {
    let last = |packets: &[u64]| {
        let mut run = Run {
            pacing: Some(Pacing {
                target_pps: 1.0,
                ..Pacing::default()
            }),
            ..Run::default()
        };
        run.requested.traffic.burst = Some(10);
        run.streams = packets
            .iter()
            .map(|&packets| Stream {
                sent: Traffic {
                    packets,
                    ..Traffic::default()
                },
                ..Stream::default()
            })
            .collect();
        run.sent.packets = packets.iter().sum();
        last_burst_s(&run)
    };
    assert_eq!(last(&[25]), 5.0);
    assert_eq!(last(&[30, 30]), 10.0);
    // Together they sent 105 datagrams, of which neither stream sent 5 in its last burst.
    assert_eq!(last(&[53, 52]), 2.0);
    assert_eq!(last(&[53, 50]), 3.0);
    assert_eq!(last(&[0, 0]), 0.0);
}

#[test]
fn a_run_without_an_arrival_has_no_throughput_and_no_latency() {
    let plan = small_plan();
    let sent = StreamSent {
        packets: 5,
        bytes: 5_000,
        not_sent: 0,
    };
    let run = assemble(inputs(&plan, sent, StreamReceived::default())).run;
    assert_eq!(
        (run.kb_per_s, run.seconds, run.latency_ns),
        (None, None, None)
    );
    assert_eq!(run.lost.packets, 5);
}

proptest! {
    #[test]
    fn the_accounting_identities_hold_for_any_counts(
        packets in 0u64..1_000, not_sent in 0u64..1_000, unique in 0u64..1_000,
        duplicates in 0u64..1_000, drops in 0u64..1_000, token in 0u64..9, short in 0u64..9,
    ) {
        let plan = small_plan();
        let sent = StreamSent { packets, bytes: packets * 1_000, not_sent };
        let received = StreamReceived {
            unique, duplicates, drops, foreign_token: token, foreign_short: short,
            ..StreamReceived::default()
        };
        let run = assemble(inputs(&plan, sent, received)).run;
        prop_assert_eq!(run.sent.packets, run.received.unique + run.lost.packets);
        prop_assert_eq!(run.received.packets, run.received.unique + run.received.duplicates);
        prop_assert_eq!(run.lost.packets, run.lost.not_sent + run.lost.receiver_socket + run.lost.elsewhere);
        prop_assert_eq!(run.received.foreign, token + short);
    }

    /// The rows of a run add up to its counts, with the closing row and the rows that are not kept.
    #[test]
    fn rows_add_up_to_the_run(
        parts in prop::collection::vec((0u64..50, 0u64..5, 0u64..5, -3i64..9), 0..30),
        tail in 0u64..100, more in 0u64..3, omitted in prop::bool::ANY, sending_ns in 1u64..90_000_000_000,
    ) {
        let plan = small_plan();
        let mut rows = IntervalRows::default();
        for number in 0..if omitted { MAX_INTERVALS } else { 0 } {
            rows.push(Interval { start_s: number as f64, seconds: 1.0, ..Interval::default() });
        }
        for &(unique, duplicates, reordered, missing) in &parts {
            let row = Interval {
                start_s: rows.end_s, seconds: 1.0, packets: unique + duplicates, bytes: unique * 10,
                missing, duplicates, reordered, ..Interval::default()
            };
            rows.push(row);
        }
        let sum = |of: fn(&(u64, u64, u64, i64)) -> u64| parts.iter().map(of).sum::<u64>() + more;
        let received = StreamReceived {
            unique: sum(|part| part.0), bytes: sum(|part| part.0 * 10),
            duplicates: sum(|part| part.1), reordered: sum(|part| part.2),
            ..StreamReceived::default()
        };
        let sent = StreamSent { packets: received.unique + tail, bytes: 0, not_sent: 0 };
        let mut sender = SenderOutcome::default();
        sender.times.first = Some(1_000);
        sender.times.last = 1_000 + sending_ns;
        let before = rows.clone();
        let measured = assemble(RunInputs {
            intervals: rows, senders: vec![sender], ..inputs(&plan, sent, received)
        });
        let run = &measured.run;
        prop_assert_eq!(run.intervals_omitted + run.intervals.len() as u64,
            before.omitted + before.kept.len() as u64 + u64::from(measured.closing_row.is_some()));
        let closing = measured.closing_row.clone().unwrap_or_default();
        prop_assert_eq!(before.total.unique + before.total.duplicates + closing.packets, run.received.packets);
        prop_assert_eq!(before.total.bytes + closing.bytes, run.received.bytes);
        prop_assert_eq!(before.total.duplicates + closing.duplicates, run.received.duplicates);
        prop_assert_eq!(before.total.reordered + closing.reordered, run.received.reordered);
        prop_assert_eq!(before.missing + closing.missing, i64::try_from(run.lost.packets).unwrap());
        let end_s = sending_ns as f64 / 1e9;
        prop_assert!(closing.seconds == 0.0 || (closing.start_s + closing.seconds - end_s).abs() < 1e-6);
    }

    /// No number of the peer overflows, and the record can be written and read.
    #[test]
    fn a_record_of_any_numbers_can_be_written_and_read(
        sent: [u64; 3], received: [u64; 12], done: [u64; 4], row: [u64; 4], missing: i64, times: [f64; 2],
    ) {
        let plan = small_plan();
        let [packets, bytes, not_sent] = sent;
        let sent = StreamSent { packets, bytes, not_sent };
        let [unique, bytes, duplicates, reordered, late, token, short, malformed, next, last, drops, window] = received;
        let received = StreamReceived {
            stream: 0, unique, bytes, duplicates, reordered, late, foreign_token: token, foreign_short: short,
            foreign_malformed: malformed, next, last_received: Some(last), drops, window,
            ..StreamReceived::default()
        };
        let mut whole = Done { rows_omitted: done[0], ..Done::default() };
        whole.stats.messages = done[1];
        whole.stats.syscalls = done[2];
        let [start_s, seconds] = times.map(|time| if time.is_finite() { time } else { 0.0 });
        let mut rows = IntervalRows::default();
        for _ in 0..2 {
            let [packets, bytes, duplicates, reordered] = row;
            rows.push(Interval { start_s, seconds, packets, bytes, missing, duplicates, reordered, ..Interval::default() });
        }
        let inputs = RunInputs {
            sent: vec![sent; 2], received: vec![received; 2], done: Some(whole), intervals: rows,
            first_sent: Some(done[3]), ..inputs(&plan, sent, StreamReceived::default())
        };
        let run = assemble(inputs).run;
        let text = serde_json::to_string(&run).unwrap();
        prop_assert!(serde_json::from_str::<Run>(&text).is_ok(), "{}", text);
    }
}

#[test]
fn drops_at_the_socket_are_those_of_the_explanation_and_estimates_with_gro() {
    let plan = small_plan();
    let sent = StreamSent {
        packets: 20_000,
        bytes: 20_000_000,
        not_sent: 0,
    };
    let received = StreamReceived {
        unique: 440,
        bytes: 440_000,
        drops: 600,
        ..StreamReceived::default()
    };
    let mut inputs = inputs(&plan, sent, received);
    inputs.effective.gro = true;
    inputs.effective.segments = 64;
    if let Some(done) = &mut inputs.done {
        done.stats.messages = 20;
    }
    let alone = assemble(RunInputs {
        hosts: None,
        done: inputs.done.clone(),
        sent: inputs.sent.clone(),
        received: inputs.received.clone(),
        effective: inputs.effective.clone(),
        ..self::inputs(&plan, sent, StreamReceived::default())
    });
    let lost = alone.run.lost;
    assert!(lost.receiver_socket > 0 && lost.elsewhere > 0 && alone.run.is_loss_split_estimated());
    assert!(
        alone.run.warnings[0].starts_with("About "),
        "{:?}",
        alone.run.warnings
    );
    inputs.hosts = Some(Hosts {
        sender: Some(HostReport::default()),
        receiver: Some(HostReport::default()),
        lost_exchanges: 0,
    });
    let run = assemble(inputs).run;
    let explained = run.explained.unwrap();
    let [cause] = &explained.causes[..] else {
        panic!("{explained:?}")
    };
    assert_eq!((cause.datagrams, explained.between), (19_560, Some(0)));
    for lost in [run.lost, run.streams[0].lost] {
        assert_eq!((lost.receiver_socket, lost.elsewhere), (19_560, 0));
    }
}
