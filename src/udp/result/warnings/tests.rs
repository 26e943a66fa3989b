//! Which records have which warnings.

use super::*;
use crate::stats::latency::Latency;
use crate::udp::result::{
    Cpu, Effective, EngineStats, Lost, Pacing, Requested, Traffic, TrafficRequested,
};

fn paced(pps: f64, late_ns: u64) -> Run {
    let mut lateness = Latency::new();
    (0..1_000).for_each(|_| lateness.record(late_ns));
    Run {
        pacing: Some(Pacing {
            target_pps: pps,
            achieved_pps: Some(pps),
            lateness_ns: lateness.summary(),
            ..Pacing::default()
        }),
        sent: Traffic {
            is_unknown: false,
            packets: 1_000,
            bytes: 1_000_000,
        },
        ..Run::default()
    }
}

#[test]
fn an_undisturbed_run_has_no_warnings() {
    assert_eq!(warnings(&paced(1_000.0, 20_000)), [""; 0]);
    assert_eq!(warnings(&Run::default()), [""; 0]);
}

#[test]
fn a_sender_late_by_more_than_its_gap_is_a_warning_with_the_reason() {
    let mut run = paced(1_000.0, 3_000_000);
    run.cpu.sender_preemptions = Some(2_422);
    let [warning] = &warnings(&run)[..] else {
        panic!("{:?}", warnings(&run));
    };
    for word in ["late", "3.00 ms", "2,422"] {
        assert!(warning.contains(word), "{warning}");
    }
    // Late by less than a gap, and by more than a gap too small for any host.
    assert_eq!(warnings(&paced(100.0, 3_000_000)), [""; 0]);
    assert_eq!(warnings(&paced(100_000.0, 60_000)), [""; 0]);
}

#[test]
fn lateness_of_bursts_and_the_rate_of_random_gaps_are_judged_by_their_own_measure() {
    let with = |burst, seed, share| {
        let mut run = paced(100_000.0, 600_000);
        run.requested.traffic = TrafficRequested {
            burst,
            seed,
            ..TrafficRequested::default()
        };
        if let Some(pacing) = &mut run.pacing {
            pacing.achieved_pps = Some(100_000.0 * share);
        }
        warnings(&run)
    };
    assert!(with(Some(10), None, 1.0)[0].contains("100 us between two bursts"));
    assert_eq!(with(Some(100), None, 1.0), [""; 0]);
    assert_eq!(with(Some(100), None, 0.9).len(), 1);
    assert_eq!(with(Some(100), Some(1), 0.9), [""; 0]);
}

#[test]
fn datagrams_that_were_due_and_never_sent_are_a_warning() {
    let with = |unsent| {
        let mut run = paced(1_000.0, 20_000);
        if let Some(pacing) = &mut run.pacing {
            pacing.unsent = unsent;
        }
        warnings(&run)
    };
    assert!(with(Some(600))[0].contains("were never sent: 600 of 1,600, 37.5 %."));
    for unsent in [Some(0), None] {
        assert_eq!(with(unsent), [""; 0]);
    }
}

#[test]
fn datagrams_that_the_kernel_refused_for_long_are_a_warning() {
    let with = |not_sent, errno| {
        let mut run = paced(1_000.0, 20_000);
        run.lost.not_sent = not_sent;
        run.engine_stats.last_send_error = errno;
        warnings(&run)
    };
    for (errno, name) in [(libc::ENOBUFS, "(ENOBUFS)"), (libc::EPERM, "(EPERM)")] {
        let warning = &with(700, Some(errno))[0];
        assert!(warning.contains("700 datagrams were not sent") && warning.contains(name));
    }
    let unreachable = (700, Some(libc::ENETUNREACH));
    for (not_sent, errno) in [
        (0, Some(libc::ENOBUFS)),
        (0, Some(libc::EPERM)),
        unreachable,
    ] {
        assert_eq!(with(not_sent, errno), [""; 0]);
    }
}

#[test]
fn a_spinning_client_of_round_trips_without_a_cpu_of_its_own_is_a_warning() {
    let with = |times, spin| {
        let mut run = Run {
            mode: "round-trip".to_owned(),
            sent: Traffic {
                is_unknown: false,
                packets: 5_000,
                bytes: 0,
            },
            ..Run::default()
        };
        run.effective.spin = spin;
        run.cpu.sender_preemptions = Some(times);
        warnings(&run)
    };
    assert!(with(1_200, true)[0].contains("preempted the spinning client 1,200 times"));
    for (times, spin) in [(49, true), (1_200, false)] {
        assert_eq!(with(times, spin), [""; 0]);
    }
}

#[test]
fn a_clock_error_of_more_than_a_tenth_of_the_duration_is_a_warning() {
    let with = |error| Run {
        seconds: Some(0.05),
        seconds_error: Some(error),
        ..Run::default()
    };
    assert!(warnings(&with(0.007))[0].contains("took 50.0 ms"));
    assert!(warnings(&with(0.007))[0].contains("± 7.00 ms"));
    assert_eq!(warnings(&with(0.004)), [""; 0]);
    let mut trips = with(0.007);
    trips.mode = "round-trip".to_owned();
    assert_eq!(warnings(&trips), [""; 0]);
}

#[test]
fn one_is_singular() {
    let mut run = Run::default();
    run.lost.receiver_socket = 1;
    run.engine_stats.send_too_long = 1;
    let found = warnings(&run).join(" ");
    for words in ["1 datagram of 0 B was not sent", "1 datagram was lost"] {
        assert!(found.contains(words), "{found}");
    }
}

#[test]
fn a_group_from_which_nothing_arrived_is_a_warning() {
    let mut run = Run {
        requested: Requested {
            traffic: TrafficRequested {
                multicast: Some("239.1.2.3".to_owned()),
                ..TrafficRequested::default()
            },
            ..Requested::default()
        },
        sent: Traffic {
            is_unknown: false,
            packets: 5,
            bytes: 5,
        },
        ..Run::default()
    };
    assert!(warnings(&run)[0].contains("group 239.1.2.3"));
    run.received.unique = 1;
    assert_eq!(warnings(&run), [""; 0]);
}

#[test]
fn a_quota_is_a_warning_only_if_it_stopped_the_sender() {
    let of = |periods| Run {
        cpu: Cpu {
            sender_throttled_periods: Some(periods),
            sender_throttled_s: Some(1.25),
            ..Cpu::default()
        },
        ..Run::default()
    };
    assert!(warnings(&of(7))[0].contains("7 periods, 1.25 s"));
    assert_eq!(warnings(&of(0)), [""; 0]);
}

#[test]
fn a_quota_of_the_receiver_is_a_warning_of_its_own_unless_both_ends_share_it() {
    let of = |to: Option<&str>, mode: &str| {
        let mut run = Run {
            mode: mode.to_owned(),
            cpu: Cpu {
                sender_throttled_periods: Some(1),
                sender_throttled_s: Some(0.1),
                receiver_throttled_periods: Some(30),
                receiver_throttled_s: Some(2.5),
                ..Cpu::default()
            },
            ..Run::default()
        };
        run.requested.to = to.map(str::to_owned);
        warnings(&run)
    };
    let found = of(Some("192.0.2.1:5210"), "paced");
    assert!(
        found[1].contains("the receiver's control group stopped its threads in 30 periods, 2.50 s")
    );
    assert!(of(Some("192.0.2.1:5210"), "round-trip")[1].contains("the server's control group"));
    assert_eq!(of(None, "paced").len(), 1);
}

#[test]
fn a_pace_that_is_not_reached_is_a_warning() {
    let mut run = paced(1_000.0, 0);
    if let Some(pacing) = &mut run.pacing {
        pacing.achieved_pps = Some(800.0);
    }
    assert!(warnings(&run)[0].contains("80.0 % of the requested pace: this host"));
    run.engine_stats.send_enobufs = 1_234;
    assert!(warnings(&run)[0].contains("device was full 1,234 times"));
}

#[test]
fn datagrams_too_long_for_the_path_are_a_warning_with_the_mtu() {
    let run = Run {
        effective: Effective {
            datagram: 1_432,
            path_mtu: Some(1_300),
            df: "on".to_owned(),
            ..Effective::default()
        },
        engine_stats: EngineStats {
            send_too_long: 12,
            ..EngineStats::default()
        },
        ..Run::default()
    };
    let warning = &warnings(&run)[0];
    for word in ["12 datagrams of 1432 B", "1300 B", "--df on"] {
        assert!(warning.contains(word), "{warning}");
    }
}

#[test]
fn datagrams_without_a_stamp_of_the_kernel_are_a_warning_if_latency_needs_them() {
    let mut run = paced(1_000.0, 0);
    run.engine_stats.receive_unstamped = Some(7);
    assert_eq!(warnings(&run), [""; 0]);
    run.effective.timestamps = "kernel".to_owned();
    assert!(warnings(&run)[0].contains("7 datagrams"));
}

#[test]
fn drops_at_the_receiver_and_lost_segmentation_are_warnings() {
    let run = Run {
        lost: Lost {
            packets: 5,
            receiver_socket: 5,
            ..Lost::default()
        },
        engine_stats: EngineStats {
            gso_fallbacks: 1,
            ..EngineStats::default()
        },
        ..Run::default()
    };
    let found = warnings(&run);
    assert!(found[0].contains("segmented"));
    assert!(found[1].contains("receiver's socket"));
}
