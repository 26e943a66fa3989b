//! Possible results pass, and each impossible number is refused.

use super::*;
use crate::udp::plan::tests::small_plan;
use crate::udp::plan::{Amount, Direction};
use proptest::prelude::*;

const START: u64 = 5_000_000_000_000;
const END: u64 = START + 2_000_000_000;
/// The server's clock is an hour behind.
const OFFSET: i64 = -3_600_000_000_000;

fn plan() -> Plan {
    Plan {
        amount: Amount::Packets(50),
        chunk: 1_000,
        streams: 1,
        ..small_plan()
    }
}

fn known(plan: &Plan) -> Known<'_> {
    Known {
        plan,
        session: (START, END),
        offset: Some((OFFSET, 1_000)),
        is_complete: true,
    }
}

fn sent() -> StreamSent {
    StreamSent {
        packets: 50,
        bytes: 50_000,
        not_sent: 0,
    }
}

fn at_server(ns: u64) -> u64 {
    ns.wrapping_add_signed(OFFSET)
}

/// 45 of 50 datagrams arrived.
fn received() -> StreamReceived {
    StreamReceived {
        unique: 45,
        bytes: 45_000,
        duplicates: 2,
        reordered: 3,
        next: 50,
        jitter_ns: Some(500.0),
        first_received: Some(at_server(START)),
        last_received: Some(at_server(END)),
        ..StreamReceived::default()
    }
}

fn latencies(count: u64) -> Latencies {
    let mut latencies = Latencies::default();
    latencies.actual.absorb(&[(1_000, count)]);
    latencies
}

fn check(stream: StreamReceived, latencies: &Latencies) -> Checked {
    let plan = plan();
    let (rows, done) = (StreamReceived::default(), Done::default());
    known(&plan).received(&[sent()], &[stream], &rows, &done, latencies)
}

#[test]
fn a_possible_result_passes() {
    assert_eq!(check(received(), &latencies(45)), Ok(()));
    assert_eq!(check(received(), &Latencies::default()), Ok(()));
    assert_eq!(check(StreamReceived::default(), &latencies(0)), Ok(()));
}

#[test]
fn each_impossible_number_of_a_receiver_is_refused() {
    let with = |change: fn(&mut StreamReceived)| {
        let mut stream = received();
        change(&mut stream);
        check(stream, &Latencies::default())
    };
    for change in [
        (|of| of.unique = 51) as fn(&mut StreamReceived),
        |of| of.next = 51,
        |of| of.unique = u64::MAX,
        |of| of.bytes = 0,
        |of| of.bytes = 45_001,
        |of| of.last_received = Some(1 << 63),
        |of| (of.first_received, of.last_received) = (Some(1 << 63), Some(1 << 63)),
        |of| of.first_received = of.last_received.map(|last| last + 1),
        |of| of.duplicates = u64::MAX,
        |of| of.drops = u64::MAX,
        |of| of.reordered = 46,
        |of| of.jitter_ns = Some(-1.0),
        |of| of.jitter_ns = Some(f64::MAX),
        |of| of.marks = vec![(0, 48)],
        |of| of.stream = 1,
    ] {
        with(change).unwrap_err();
    }
    for count in [1, 44, 46, 70_000_000_000_000_000] {
        check(received(), &latencies(count)).unwrap_err();
    }
    let mut done = Done::default();
    let (plan, rows) = (plan(), StreamReceived::default());
    let mut with = |change: fn(&mut Done)| {
        change(&mut done);
        known(&plan).received(&[sent()], &[received()], &rows, &done, &latencies(45))
    };
    with(|of| of.user_s = -1.0).unwrap_err();
    with(|of| (of.user_s, of.system_s) = (0.0, f64::MAX)).unwrap_err();
    with(|of| (of.system_s, of.stats.messages) = (0.0, u64::MAX)).unwrap_err();
    with(|of| of.stats.messages = 45).unwrap();
}

#[test]
fn a_row_lies_in_the_session() {
    let plan = plan();
    let with = |start_s, seconds, packets, bytes| {
        known(&plan).interval(&Interval {
            start_s,
            seconds,
            packets,
            bytes,
            ..Interval::default()
        })
    };
    with(0.5, 0.5, 20, 20_000).unwrap();
    for (start_s, seconds) in [
        (0.0, -1.0),
        (-1.0, 1.0),
        (0.0, 9.0),
        (f64::MAX, 1.0),
        (0.0, f64::NAN),
    ] {
        with(start_s, seconds, 1, 1_000).unwrap_err();
    }
    // Without a relation of the clocks, the end is a stamp of one clock and the start one of the other.
    let unrelated = Known {
        offset: None,
        ..known(&plan)
    };
    let of = |seconds| Interval {
        seconds,
        ..Interval::default()
    };
    unrelated.interval(&of(10.0)).unwrap();
    for seconds in [-1.0, f64::MAX, f64::NAN] {
        unrelated.interval(&of(seconds)).unwrap_err();
    }
    with(0.0, 1.0, 1, 1_001).unwrap_err();
    with(0.0, 1.0, u64::MAX, 0).unwrap_err();
}

#[test]
fn each_impossible_number_of_a_sender_is_refused() {
    let plan = Plan {
        direction: Direction::Reverse,
        ..plan()
    };
    let with = |change: fn(&mut SenderResult)| {
        let mut sender = SenderResult {
            sent: sent(),
            span: Some((at_server(START), at_server(END))),
            ..SenderResult::default()
        };
        change(&mut sender);
        let nothing = Latency::new();
        known(&plan).sent(&[sender], &[received()], [&nothing, &nothing])
    };
    with(|_| ()).unwrap();
    for change in [
        (|of| of.sent.packets = 49) as fn(&mut SenderResult),
        |of| (of.sent.packets, of.sent.bytes) = (51, 51_000),
        |of| of.sent.packets = u64::MAX,
        |of| of.sent.bytes = 44_000,
        |of| of.sent.bytes = u64::MAX,
        |of| of.sent.not_sent = 51,
        |of| of.span = Some((0, u64::MAX)),
        |of| of.cpu_s.0 = f64::MAX,
        |of| of.stats.messages = u64::MAX,
        |of| of.stream = 7,
    ] {
        with(change).unwrap_err();
    }
}

proptest! {
    /// Whatever is accepted has the identities of a run.
    #[test]
    fn an_accepted_result_has_the_identities(
        counts in prop::array::uniform6(prop_oneof![0u64..60, any::<u64>()]),
        bytes in prop_oneof![0u64..60_000, any::<u64>()],
        stamps in any::<Option<(u64, u64)>>(),
        recorded in prop_oneof![Just(0u64), 0u64..60, any::<u64>()],
    ) {
        let [unique, duplicates, reordered, late, next, drops] = counts;
        let stream = StreamReceived {
            unique, duplicates, reordered, late, next, drops, bytes,
            first_received: stamps.map(|of| of.0),
            last_received: stamps.map(|of| of.1),
            ..StreamReceived::default()
        };
        let latencies = latencies(recorded);
        if check(stream, &latencies).is_ok() {
            prop_assert!(unique <= 50 && next <= 50 && reordered <= unique);
            prop_assert!(unique.checked_add(duplicates).is_some());
            prop_assert!(bytes >= unique.saturating_sub(1) && bytes <= 1_000 * unique);
            prop_assert!(latencies.actual.count() == 0 || latencies.actual.count() == unique);
            if let Some((first, last)) = stamps {
                prop_assert!(last >= first && last - first <= END - START + SLACK_NS);
            }
        }
    }
}
