use super::sizes::Sizes;
use super::*;
use crate::engine::EngineKind;
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
        traffic: TrafficOptions::default(),
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
    let mut uring = plan.clone();
    uring.engine.kind = EngineKind::Uring;
    assert_eq!(uring.validate(), Ok(()));
    uring.engine.uring.sqpoll = true;
    refused(uring, "--zerocopy and the options of io_uring");
    let mode = Mode::RoundTrip(Some(0.0));
    assert_eq!(Plan { mode, ..plan }.validate(), Err(PlanError::Pace(0.0)));
}

#[test]
fn a_group_receives_from_the_client_and_grants_no_credit() {
    let to = |group: &str, mode, direction| {
        let plan = Plan {
            mode,
            direction,
            traffic: TrafficOptions {
                group: Some(group.parse().unwrap()),
                ..TrafficOptions::default()
            },
            ..small_plan()
        };
        plan.validate()
    };
    let forward = Direction::Forward;
    for group in ["239.1.2.3", "ff15::1"] {
        assert_eq!(to(group, Mode::Blast, forward), Ok(()));
        assert_eq!(to(group, Mode::Paced(5.0), forward), Ok(()));
    }
    let error = TrafficError::Group("10.0.0.1".parse().unwrap());
    assert_eq!(to("10.0.0.1", Mode::Blast, forward), Err(error.into()));
    for mode in [Mode::Lossless, Mode::RoundTrip(None)] {
        assert!(to("ff15::1", mode, forward).is_err());
    }
    for direction in [Direction::Reverse, Direction::Both] {
        let error = TrafficError::GroupDirection;
        assert_eq!(to("ff15::1", Mode::Blast, direction), Err(error.into()));
    }
}

#[test]
fn sizes_fit_the_chunk_and_no_segments() {
    let plan = Plan {
        chunk: 1_440,
        traffic: TrafficOptions {
            sizes: Some(Sizes::imix(false)),
            ..TrafficOptions::default()
        },
        ..small_plan()
    };
    assert_eq!(plan.validate(), Ok(()));
    assert_eq!((plan.smallest_datagram(), plan.datagram()), (33, 1_472));
    assert_eq!(plan.mean_chunk(), (7.0 + 4.0 * 516.0 + 1_440.0) / 12.0);
    let chunk = Plan {
        chunk: 1_400,
        ..plan.clone()
    };
    assert_eq!(chunk.validate(), Err(TrafficError::Chunk(1_400).into()));
    let segments = Plan {
        offload: Offload::On,
        ..plan.clone()
    };
    assert_eq!(segments.validate(), Err(TrafficError::Segments.into()));
    let round_trip = Plan {
        mode: Mode::RoundTrip(None),
        ..plan
    };
    assert!(round_trip.validate().is_err());
}

proptest! {
    #[test]
    fn all_streams_together_send_the_bytes_exactly_in_several_sizes(bytes in 1u64..1_000_000, first in 1usize..900, more in 1usize..900, streams in 1usize..9) {
        let sizes = Sizes::Range(first, first + more);
        let traffic = TrafficOptions { sizes: Some(sizes.clone()), ..TrafficOptions::default() };
        let plan = Plan { amount: Amount::Bytes(bytes), chunk: first + more, streams, traffic, ..small_plan() };
        let pattern = SizePattern::new(&sizes);
        let quotas: Vec<Quota> = (0..streams).map(|stream| plan.quota(stream)).collect();
        let total: u64 = quotas.iter().map(|quota| match quota.packets.unwrap() {
            0 => 0,
            packets => pattern.bytes(packets - 1) + quota.last_chunk as u64,
        }).sum();
        prop_assert_eq!(total, bytes);
        let packets: u64 = quotas.iter().filter_map(|quota| quota.packets).sum();
        prop_assert_eq!(plan.packets(), Some(packets));
        for quota in quotas.iter().filter(|quota| quota.packets != Some(0)) {
            prop_assert!(quota.last_chunk <= pattern.size(quota.packets.unwrap() - 1));
        }
    }

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
