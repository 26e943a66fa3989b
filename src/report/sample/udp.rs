//! A UDP run with a value for every key.

use crate::report::model::{Curves, Host, Meta, SCHEMA, UdpRecord};
use crate::stats::latency::{Latency, Summary};
use crate::stats::spread::Spread;
use crate::udp::engine::stats::{IcmpStats, RingStats, ZeroCopyStats};
use crate::udp::result::{
    Clock, Cpu, CpuTrial, DscpCount, Effective, EngineStats, Explained, Fleet, HostCpu, HostDrops,
    Increase, Interval, LossCause, Lost, Marks, Measured, MissingRank, Pacing, Rank, Reason,
    Received, Requested, RoundTrip, Run, SizeLatency, Stage, Stages, StampCost, Stream, Traffic,
    TrafficRequested, UringRequested,
};

/// A paced run of two streams, without null keys or empty lists.
pub(in crate::report) fn measured() -> Measured {
    let mut latency = Latency::new();
    (1..=1_000).for_each(|n| latency.record(n * 1_000));
    let mut late = latency.clone();
    late.record(20_000_000);
    let figures = latency.summary();
    let run = Run {
        engine: "mio".into(),
        mode: "paced".into(),
        direction: "forward".into(),
        complete: true,
        ended: "complete".into(),
        reason: Some("reached its end".into()),
        requested: requested(),
        effective: effective(),
        first_sent_at: Some("2026-11-22T14:05:01.123456789Z".into()),
        last_received_at: Some("2026-11-22T14:05:01.170456789Z".into()),
        client_ip: Some("127.0.0.1".into()),
        sent: traffic(100_010),
        received: received(),
        lost: lost(),
        marks: Some(marks()),
        seconds: Some(0.047),
        seconds_error: Some(850e-9),
        kb_per_s: Some(2_134_567.4),
        kb_per_s_error: Some(38.6),
        kib_per_s: Some(2_084_538.5),
        gbit_per_s: Some(17.0765),
        packets_per_s: Some(2_134_567.4),
        transit_kb_per_s: Some(1_234.5),
        latency_ns: Some(figures),
        latency_from_intended_ns: Some(late.summary()),
        jitter_ns: Some(850.4),
        pacing: Some(Pacing {
            target_pps: 100_000.0,
            achieved_pps: Some(99_998.25),
            unsent: Some(12),
            lateness_ns: figures,
            gap_error_ns: figures,
        }),
        cpu: cpu(),
        engine_stats: engine_stats(),
        streams: vec![Stream {
            stream: 0,
            rank: Some("rank 3".into()),
            sent: traffic(100_010),
            received: received(),
            lost: lost(),
            jitter_ns: Some(850.4),
        }],
        intervals: vec![interval()],
        intervals_omitted: 1,
        packet_rows_omitted: 0,
        setting: Some("mio".into()),
        warnings: vec!["The sender was late by more than one gap.".into()],
        round_trip: None,
        explained: Some(explained()),
        stages: Some(stages(figures)),
        latency_by_size: vec![SizeLatency {
            chunk: 516,
            packets: 1_000,
            latency_mean_ns: figures.mean,
            latency_min_ns: figures.min,
            latency_p50_ns: figures.p50,
            latency_p90_ns: figures.p90,
            latency_p99_ns: figures.p99,
            latency_max_ns: figures.max,
        }],
        fleet: Some(fleet()),
    };
    Measured {
        run,
        latency,
        latency_from_intended: late,
        start_ns: None,
        closing_row: None,
        stages: Vec::new(),
        schedule: Vec::new(),
    }
}

/// A fleet of two ranks, of which one is missing.
fn fleet() -> Fleet {
    Fleet {
        size: 2,
        ranks: vec![Rank {
            rank: Some(3),
            name: "rank 3".into(),
            host: "node03".into(),
            complete: true,
            ended: "complete".into(),
            reason: Some("reached its end".into()),
            start_ns: Some(41_000),
            phase_ns: 12_000,
            sent: traffic(100_010),
            received: received(),
            lost: lost(),
            seconds: Some(0.047),
            kb_per_s: Some(2_134_567.4),
            latency_p50_ns: Some(500_000),
            latency_p99_ns: Some(990_000),
            latency_max_ns: Some(1_000_000),
            sender_s: Some(0.03),
            receiver_s: Some(0.04),
        }],
        missing: vec![MissingRank {
            rank: 1,
            reason: "never came".into(),
        }],
        slowest: Some("rank 3".into()),
        kb_per_s: Spread::of([2_134_567.4]),
        start_skew_ns: Some(41_000),
        start_skew_error_ns: Some(1_700),
        hosts: vec![HostCpu {
            host: "node03".into(),
            ranks: 1,
            sender_s: Some(0.03),
            receiver_s: Some(0.04),
        }],
    }
}

/// The same run as an open loop of round trips.
pub(in crate::report) fn round_trips() -> Run {
    let run = measured().run;
    Run {
        mode: "round-trip".into(),
        requested: Requested {
            under_load: Some("lossless".into()),
            via: Some("socks5://10.0.0.3:1080".into()),
            traffic: TrafficRequested::default(),
            ..requested()
        },
        effective: Effective {
            mean_chunk: None,
            relay_header: Some(10),
            ..effective()
        },
        marks: None,
        latency_by_size: Vec::new(),
        kb_per_s: None,
        kb_per_s_error: None,
        kib_per_s: None,
        gbit_per_s: None,
        transit_kb_per_s: None,
        jitter_ns: None,
        fleet: None,
        round_trip: Some(RoundTrip {
            kind: "open".into(),
            echo: false,
            timeout_s: 1.0,
            requests_received: Some(100_001),
            server_time_ns: run.latency_ns,
            load_kb_per_s: Some(1_234_567.0),
        }),
        ..run
    }
}

/// The record of a command with `runs`.
pub(in crate::report) fn record(runs: Vec<Run>) -> UdpRecord {
    let meta = Meta {
        schema: SCHEMA,
        kind: "udp".into(),
        wirebench: "0.1.0".into(),
        started_at: "2026-11-22T14:05:01.000000000Z".into(),
        command: vec!["bench".into(), "udp".into()],
        host: Host {
            kernel: "6.18.0".into(),
            cpu: "A CPU, \"quoted\" @ 3 GHz".into(),
            cores: 2,
            governor: Some("performance".into()),
            rmem_max: Some(212_992),
            wmem_max: Some(212_992),
        },
    };
    UdpRecord {
        meta,
        runs,
        comparison: Vec::new(),
        curves: Curves::default(),
    }
}

/// The interval from 1 s to 2 s after the start.
pub(in crate::report) fn interval() -> Interval {
    Interval {
        start_s: 1.0,
        seconds: 1.0,
        packets: 700_001,
        bytes: 700_000_000,
        kb_per_s: 700_000.0,
        missing: -3,
        duplicates: 1,
        reordered: 2,
        latency_p50_ns: Some(12_345),
        latency_p99_ns: Some(4_560_000),
        latency_max_ns: Some(9_870_000),
        ce: Some(4),
    }
}

fn requested() -> Requested {
    Requested {
        direction: "forward".into(),
        bytes: Some(100_010_000),
        packets: Some(100_010),
        duration_s: Some(1.5),
        chunk: 1_000,
        rate_bits_per_s: Some(8e8),
        pps: Some(100_000.0),
        batch: Some(64),
        gso: "auto".into(),
        df: "auto".into(),
        spin: "auto".into(),
        zerocopy: "msg".into(),
        timestamps: "user".into(),
        uring: Some(UringRequested {
            sqpoll: true,
            ring_size: Some(64),
            receive: "multishot".into(),
        }),
        traffic: TrafficRequested {
            sizes: Some("100:3,1000:1".into()),
            multicast: Some("239.1.2.3".into()),
            burst: Some(8),
            gap: Some("poisson".into()),
            seed: Some(7),
            dscp: Some(46),
            ecn: Some("ect0".into()),
            ttl: Some(3),
        },
        streams: 2,
        cpus: Some("0,1".into()),
        sndbuf: Some(4_194_304),
        rcvbuf: Some(212_992),
        under_load: None,
        to: Some("10.0.0.2:5201".into()),
        via: None,
    }
}

fn effective() -> Effective {
    Effective {
        path_note: Some("Long datagrams do not arrive.".into()),
        sender_note: Some("the sender shares its thread".into()),
        receiver_note: Some("the receiver shares its thread".into()),
        chunk: 1_000,
        mean_chunk: Some(325.0),
        header: 32,
        relay_header: None,
        datagram: 1_032,
        batch: 64,
        segments: 32,
        gso: true,
        gro: false,
        zerocopy: "msg".into(),
        timestamps: "user".into(),
        offload_note: Some("GRO is not offered by this kernel".into()),
        df: "auto".into(),
        path_mtu: Some(1_500),
        sndbuf: 425_984,
        rcvbuf: 212_992,
        streams: 2,
        sender_cpus: Some(vec![0, 2]),
        receiver_cpus: Some(vec![1, 3]),
        cpu_trials: Some(vec![
            CpuTrial {
                sender_cpus: Some(vec![0, 1]),
                receiver_cpus: Some(vec![0, 1]),
                packets_per_s: 5_100_000.0,
            },
            CpuTrial {
                sender_cpus: Some(vec![0, 2]),
                receiver_cpus: Some(vec![1, 3]),
                packets_per_s: 6_200_000.0,
            },
        ]),
        window: Some(4_096),
        spin: true,
        spin_note: Some("auto does not spin: it has no CPU to itself".into()),
        clock: Clock {
            source: "estimated".into(),
            offset_ns: Some(-1_234_567),
            error_ns: Some(850),
            drift_ns: Some(42),
            drift_error_ns: Some(900),
            drift_ppm: Some(0.9),
            drift_error_ppm: Some(19.0),
            note: Some("Only 3 exchanges were answered.".into()),
        },
    }
}

fn traffic(packets: u64) -> Traffic {
    Traffic {
        is_unknown: false,
        packets,
        bytes: packets * 1_000,
    }
}

fn received() -> Received {
    Received {
        is_unknown: false,
        packets: 100_005,
        bytes: 100_000_000,
        unique: 100_000,
        duplicates: 5,
        reordered: 7,
        late: 1,
        foreign: 6,
        foreign_token: 1,
        foreign_short: 2,
        foreign_malformed: 3,
    }
}

fn lost() -> Lost {
    Lost {
        is_unknown: false,
        packets: 10,
        not_sent: 2,
        receiver_socket: 5,
        elsewhere: 3,
    }
}

fn marks() -> Marks {
    let count = |dscp, packets| DscpCount { dscp, packets };
    Marks {
        not_ect: 5,
        ect0: 99_000,
        ect1: 0,
        ce: 1_000,
        dscp_changed: 5,
        dscp: vec![count(0, 5), count(46, 100_000)],
    }
}

fn explained() -> Explained {
    let increase = |name: &str, increase| Increase {
        name: name.into(),
        increase,
    };
    let reasons = |reason: &str, drops| {
        vec![Reason {
            reason: reason.into(),
            place: "udp_queue_rcv_one_skb".into(),
            drops,
        }]
    };
    let cause = |cause: &str, datagrams, counter, reason: &str| LossCause {
        cause: cause.into(),
        datagrams,
        estimated: false,
        drops: datagrams,
        counters: vec![increase(counter, datagrams)],
        reasons: reasons(reason, datagrams),
    };
    let host = |device: &str| HostDrops {
        kernel: Some("7b1f8a3c-0d5e-4f6a-9b2c-1e3d5f7a9b0c".into()),
        namespace: Some("net:[4026531840]".into()),
        device: Some(device.into()),
        qdisc: Some("tbf".into()),
        traced: true,
        counters: vec![increase("RcvbufErrors", 5)],
        reasons: reasons("SOCKET_RCVBUFF", 5),
    };
    Explained {
        causes: vec![
            cause("sender_firewall", 2, "EPERM", "NETFILTER_DROP"),
            cause("receiver_socket", 5, "RcvbufErrors", "SOCKET_RCVBUFF"),
        ],
        between: Some(3),
        unexplained: None,
        surplus: 0,
        notes: vec!["At the sender: The trace of drops lost 1 event.".into()],
        sender: Some(host("eth0")),
        receiver: Some(host("eth1")),
    }
}

fn stages(figures: Summary) -> Stages {
    let stage = Stage {
        latency_ns: Some(figures),
        reason: None,
    };
    Stages {
        every: 1,
        sender: stage.clone(),
        qdisc: Stage {
            reason: Some("the driver of the sender's device takes no software stamps".into()),
            ..stage.clone()
        },
        wire: stage.clone(),
        receiver: stage,
        cost: StampCost {
            read_ns: Some(900.4),
            plain_send_ns: Some(2_100.0),
            stamped_send_ns: Some(4_300.0),
            plain_receive_ns: Some(600.0),
            stamped_receive_ns: Some(700.0),
        },
        notes: vec!["3 of 100 datagrams lack a stamp.".into()],
    }
}

fn cpu() -> Cpu {
    Cpu {
        sender_user_s: Some(0.004),
        sender_system_s: Some(0.008),
        receiver_user_s: Some(0.003),
        receiver_system_s: Some(0.005),
        sender_s_per_million: Some(0.12),
        receiver_s_per_million: Some(0.08),
        sender_preemptions: Some(21),
        sender_throttled_periods: Some(22),
        sender_throttled_s: Some(0.5),
        receiver_throttled_periods: Some(30),
        receiver_throttled_s: Some(1.5),
    }
}

fn ring(rearms: u64) -> RingStats {
    RingStats {
        size: 64,
        sqes: 3_130,
        cqes: 3_131,
        enters: 52,
        rearms,
        cq_overflows: 1,
        thread_cpu_ns: Some(9_000_000),
    }
}

fn icmp(first: u64) -> IcmpStats {
    IcmpStats {
        port_unreachable: first,
        host_unreachable: first + 1,
        net_unreachable: first + 2,
        admin_prohibited: first + 3,
        protocol_unreachable: first + 4,
        time_exceeded: first + 5,
        fragmentation_needed: first + 6,
        other: first + 7,
    }
}

fn engine_stats() -> EngineStats {
    EngineStats {
        send_syscalls: 49,
        send_messages: 3_126,
        send_partial: 3,
        send_eagain: 4,
        send_enobufs: 5,
        send_errors: 2,
        last_send_error: Some(1),
        send_too_long: 1,
        gso_fallbacks: 1,
        icmp: icmp(14),
        send_waits: 6,
        send_ring: Some(ring(0)),
        zerocopy: Some(ZeroCopyStats {
            messages: 12,
            copied: 13,
        }),
        credit_probes: 7,
        receive_syscalls: 51,
        receive_messages: 3_127,
        receive_eagain: 8,
        receive_truncated: 9,
        receive_waits: 10,
        receive_icmp: icmp(15),
        receive_ring: Some(ring(1)),
        credits: 11,
        receiver_socket_drops: 5,
        host_receive_buffer_errors: Some(5),
        receive_unstamped: Some(1),
    }
}
