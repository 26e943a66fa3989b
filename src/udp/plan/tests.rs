use super::*;
use proptest::prelude::*;

/// 100 datagrams of 1000 bytes, lossless.
pub(crate) fn small_plan() -> Plan {
    Plan {
        amount: Amount::Packets(100),
        mode: Mode::Lossless,
        direction: Direction::Forward,
        chunk: 1_000,
        engine: EngineChoice::default(),
        streams: 1,
        batch: None,
        offload: Offload::Auto,
        df: Df::Auto,
        spin: SpinChoice::Auto,
        receive_buffer: None,
        send_buffer: None,
        interval: Duration::from_secs(1),
        packet_rows: false,
        interval_histograms: false,
        kernel_latency: false,
        stages: false,
    }
}

#[test]
fn each_invalid_value_has_its_error() {
    let plan = small_plan();
    assert_eq!(plan.validate(), Ok(()));
    let cases = [
        (
            Plan {
                chunk: 0,
                ..plan.clone()
            },
            PlanError::Chunk(0),
        ),
        (
            Plan {
                chunk: MAX_CHUNK + 1,
                ..plan.clone()
            },
            PlanError::Chunk(MAX_CHUNK + 1),
        ),
        (
            Plan {
                streams: 0,
                ..plan.clone()
            },
            PlanError::Streams(0),
        ),
        (
            Plan {
                batch: Some(0),
                ..plan.clone()
            },
            PlanError::Batch(0),
        ),
        (
            Plan {
                mode: Mode::Paced(0.0),
                ..plan.clone()
            },
            PlanError::Pace(0.0),
        ),
        (
            Plan {
                amount: Amount::Bytes(0),
                ..plan.clone()
            },
            PlanError::Packets(0),
        ),
        (
            Plan {
                amount: Amount::Packets(u64::MAX),
                ..plan.clone()
            },
            PlanError::Packets(u64::MAX),
        ),
        (
            Plan {
                amount: Amount::Time(Duration::ZERO),
                ..plan.clone()
            },
            PlanError::Time,
        ),
        (
            Plan {
                interval: Duration::ZERO,
                ..plan.clone()
            },
            PlanError::Interval(Duration::ZERO),
        ),
    ];
    for (plan, error) in cases {
        assert_eq!(plan.validate(), Err(error));
    }
    let one = Plan {
        offload: Offload::On,
        batch: Some(1),
        ..plan.clone()
    };
    assert_eq!(one.validate(), Err(PlanError::NothingToSegment));
    assert!(
        Plan {
            mode: Mode::Paced(f64::NAN),
            ..plan
        }
        .validate()
        .is_err()
    );
}

#[test]
fn a_round_trip_is_one_datagram_at_a_time_between_two_sockets() {
    let plan = Plan {
        mode: Mode::RoundTrip(None),
        ..small_plan()
    };
    assert_eq!(plan.validate(), Ok(()));
    assert_eq!(plan.longest_gap(), Duration::ZERO);
    let open = Plan {
        mode: Mode::RoundTrip(Some(10.0)),
        ..plan.clone()
    };
    assert_eq!(open.validate(), Ok(()));
    assert_eq!(open.longest_gap(), Duration::from_millis(100));
    assert_eq!(open.expected_time(), Some(Duration::from_secs(10)));
    let refused = |plan: Plan, option| {
        assert_eq!(plan.validate(), Err(PlanError::RoundTrip(option)));
        assert!(PlanError::RoundTrip(option).to_string().ends_with(option));
    };
    let streams = Plan {
        streams: 2,
        ..plan.clone()
    };
    refused(streams, "--streams");
    let reverse = Plan {
        direction: Direction::Reverse,
        ..plan.clone()
    };
    refused(reverse, "--reverse and --bidir");
    let bytes = Plan {
        amount: Amount::Bytes(1_000),
        ..plan.clone()
    };
    refused(bytes, "--mb");
    let mode = Mode::RoundTrip(Some(0.0));
    assert_eq!(Plan { mode, ..plan }.validate(), Err(PlanError::Pace(0.0)));
}

proptest! {
    #[test]
    fn all_streams_together_send_the_bytes_exactly(bytes in 1u64..1_000_000, chunk in 1usize..3_000, streams in 1usize..9) {
        let plan = Plan { amount: Amount::Bytes(bytes), chunk, streams, ..small_plan() };
        let total: u64 = (0..streams).map(|stream| {
            let quota = plan.quota(stream);
            match quota.packets.unwrap() {
                0 => 0,
                packets => (packets - 1) * chunk as u64 + quota.last_chunk as u64,
            }
        }).sum();
        prop_assert_eq!(total, bytes);
    }
}
