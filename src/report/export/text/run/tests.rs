use super::*;
use crate::report::export::text::layout;
use crate::report::sample::udp as sample;
use crate::stats::latency::{LONGEST_NS, Latency, OutOfRange, Summary};
use crate::udp::result::{Clock, Effective, Lost, RoundTrip, Traffic};

fn shown(run: Run) -> String {
    let measured = Measured {
        run,
        latency: Latency::new(),
        latency_from_intended: Latency::new(),
        start_ns: None,
        closing_row: None,
        stages: Vec::new(),
        schedule: Vec::new(),
    };
    let mut out = Vec::new();
    summary(&measured, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    for line in text.lines() {
        assert!(line.chars().count() <= layout::WIDTH, "{line}");
        assert_eq!(line, line.trim_end());
    }
    text
}

#[test]
fn paced_run_shows_all_figures() {
    let text = shown(sample::measured().run);
    let mut lines = text.lines();
    assert_eq!(
        lines.next().unwrap(),
        "udp paced over mio, chunk 100:3,1000:1, mean 325.0 B data + 32 B header,"
    );
    assert!(text.contains("\n  2,134,567 ± 38.60 KB/s   = 17.08 Gbit/s, 2,134,567 packets/s, "));
    for part in [
        "GRO is not offered by this kernel",
        "over 47.0 ms ± 850 ns",
        "\n  p50         500 us ± 850 ns  ███",
        " ± 850 ns\n",
        "duplicates 5",
        "foreign 6 (other token 1, too short 2, malformed 3)",
        "lost 10 (0.010 %): not sent 2, receiver socket about 5,",
        "elsewhere about 3\n",
        "bursts of 8,",
        "Poisson gaps (seed 7),",
        "DSCP EF,",
        "ECN ect0,",
        "TTL 3,",
        "\nECN        CE 1,000 (1.00 %), ECT(0) 99,000 (99.00 %), Not-ECT 5 (0.005 %)\n",
        "\nDSCP       CS0 5 (0.005 %), EF 100,000 (more than 99.99 %), changed 5 (0.005 %)\n",
        "from the intended send",
        "offset -1.23 ms ± 850 ns,",
        "drift 42 ns ± 900 ns (0.900 ± 19",
        "\n           Only 3 exchanges were answered.\n",
        "target 100,000 packets/s, achieved 99,998 (100.0 %)",
        "sender   0.004 s user + 0.008 s system, 0.120 s per million packets,",
        "Operation not permitted",
        "sender on CPU 0 2, receiver on CPU 1 3",
        "send 425,984 B (asked 4,194,304 B), receive 212,992 B, as read back",
        "\nfirst packet sent at 2026-11-22T14:05:01.123456789Z\n",
        "\nlast packet received at 2026-11-22T14:05:01.170456789Z\n",
        "\nclient IP 127.0.0.1\n",
        "\ntransit_kb_per_s 1,235 KB/s if divided",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains("INCOMPLETE") && !text.contains("own queue"));
}

#[test]
fn lossless_run_notes_that_it_measures_its_own_queue() {
    let run = Run {
        mode: "lossless".into(),
        latency_from_intended_ns: None,
        pacing: None,
        lost: Lost::default(),
        effective: Effective {
            clock: Clock {
                source: "same".into(),
                ..Clock::default()
            },
            ..sample::measured().run.effective
        },
        ..sample::measured().run
    };
    let text = shown(run);
    assert!(text.contains("the run's own queue"));
    assert!(text.contains("\nloss       lost 0\n"));
    assert!(!text.contains("intended") && !text.contains("clocks") && !text.contains("pacing"));
}

#[test]
fn unknown_clock_offset_leaves_out_latency_with_a_reason() {
    let with_clock = |clock: Clock| {
        let effective = Effective {
            clock,
            ..sample::measured().run.effective
        };
        shown(Run {
            latency_ns: None,
            latency_from_intended_ns: None,
            seconds_error: None,
            kb_per_s_error: None,
            effective,
            fleet: None,
            ..sample::measured().run
        })
    };
    let text = with_clock(Clock {
        source: "none".into(),
        note: Some("No ping was answered; does a firewall drop them?".into()),
        ..Clock::default()
    });
    for part in [
        "\nlatency    -\n",
        "\nclocks     offset unknown, so one-way latency is unknown; KB/s is over the\n",
        "own span, from its first",
        "\n           No ping was answered; does a firewall drop them?\n",
        "\n  2,134,567 KB/s ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('±'));
    let text = with_clock(Clock {
        source: "estimated".into(),
        ..Clock::default()
    });
    assert!(text.contains("\n  2,134,567 ± - KB/s "), "{text}");
    assert!(
        text.contains("clocks     offset estimated by the client"),
        "{text}"
    );
}

#[test]
fn unknown_figures_are_dashes() {
    let text = shown(Run {
        reason: Some("the receiver at 10.0.0.2:5201\u{1b}[2J did not answer".into()),
        ..Run::default()
    });
    assert!(text.starts_with("INCOMPLETE: the receiver at 10.0.0.2:5201?[2J did not answer\n"));
    for line in [
        "\n  - KB/s\n",
        "\nlatency    -\n",
        "\nfirst packet sent at -\n",
        "\n           receiver -\n",
        "\nclient IP -\n",
    ] {
        assert!(text.contains(line), "{line}");
    }
    assert!(!text.contains("transit") && !text.contains("NaN") && !text.contains("jitter"));
}

#[test]
fn figures_of_any_size_fit() {
    let huge = Summary {
        count: u64::MAX,
        min: Some(0),
        p50: Some(1),
        max: Some(LONGEST_NS),
        out_of_range: OutOfRange {
            negative: u64::MAX,
            too_long: 1,
        },
        ..Summary::default()
    };
    let most = Traffic {
        is_unknown: false,
        packets: u64::MAX,
        bytes: u64::MAX,
    };
    let text = shown(Run {
        kb_per_s: Some(f64::MAX),
        gbit_per_s: Some(f64::MIN_POSITIVE),
        packets_per_s: Some(f64::INFINITY),
        seconds: Some(0.0),
        sent: most,
        lost: Lost {
            is_unknown: false,
            packets: u64::MAX,
            not_sent: u64::MAX,
            receiver_socket: u64::MAX,
            elsewhere: u64::MAX,
        },
        latency_ns: Some(huge),
        latency_from_intended_ns: Some(huge),
        ..sample::measured().run
    });
    assert!(text.contains("18,446,744,073,709,551,615 are below zero"));
}

#[test]
fn round_trips_show_their_rate_and_whose_time_they_include() {
    let run = sample::round_trips();
    let text = shown(run.clone());
    for part in [
        "udp round-trip over mio, 1000 B data + 32 B header, open loop, spinning,",
        "\n  2,134,567 round trips/s over 47.0 ms\n",
        "round trip, from the actual send",
        "without the server's own time, p50 500 us p99 990 us",
        "beside a stream (lossless) of 1,234,567 KB/s",
        "100,001 requests arrived at the server",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for part in ["KB/s   =", "GSO", "one way", "goodput"] {
        assert!(!text.contains(part), "{part}: {text}");
    }
    let echo = Run {
        round_trip: run.round_trip.map(|of| RoundTrip {
            echo: true,
            requests_received: None,
            server_time_ns: None,
            ..of
        }),
        ..sample::round_trips()
    };
    let text = shown(echo);
    assert!(text.contains("to echo server 10.0.0.2:5201"), "{text}");
    assert!(text.contains("with the own time of the echo server, which is unknown"));
}
