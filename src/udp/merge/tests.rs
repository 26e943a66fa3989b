mod histograms;

use proptest::prelude::*;

use super::*;
use crate::udp::result::{
    Interval, Lost, Pacing, Received, Requested, Stage, Stages, StampCost, Traffic,
};
use crate::units::listed;

/// A packet: when it was sent, its latency if it arrived, and its bytes.
type Packet = (u64, Option<u64>, u64);

const SLOT_NS: u64 = 1_000_000;
const SLOTS: u64 = 20;

/// The run of a rank that sent these packets.
fn run(packets: &[Packet]) -> (Run, Latency) {
    let mut latency = Latency::small();
    let mut run = Run {
        engine: "mio".into(),
        mode: "blast".into(),
        direction: "forward".into(),
        complete: true,
        ended: "complete".into(),
        requested: Requested {
            chunk: 1_000,
            packets: Some(packets.len() as u64),
            ..Requested::default()
        },
        ..Run::default()
    };
    run.effective.clock.source = "same".into();
    let mut rows = vec![Interval::default(); SLOTS as usize];
    for (slot, row) in rows.iter_mut().enumerate() {
        (row.start_s, row.seconds) = (slot as f64 * 1e-3, 1e-3);
    }
    let (mut first, mut last) = (u64::MAX, 0);
    for &(sent, arrives, bytes) in packets {
        run.sent.packets += 1;
        run.sent.bytes += bytes;
        first = first.min(sent);
        let row = &mut rows[(sent / SLOT_NS) as usize];
        match arrives {
            Some(ns) => {
                latency.record(ns);
                run.received.packets += 1;
                run.received.unique += 1;
                run.received.bytes += bytes;
                last = last.max(sent + ns);
                row.packets += 1;
                row.bytes += bytes;
                row.latency_max_ns = row.latency_max_ns.max(Some(ns));
            }
            None => {
                run.lost.packets += 1;
                run.lost.elsewhere += 1;
                row.missing += 1;
            }
        }
    }
    if last > first {
        run.seconds = Some((last - first) as f64 / 1e9);
    }
    run.intervals = rows;
    run.latency_ns = (!latency.is_empty()).then(|| latency.summary());
    run.cpu.sender_user_s = Some(packets.len() as f64);
    run.cpu.sender_system_s = Some(0.0);
    (run, latency)
}

fn add(merge: &mut Merge, number: u64, packets: &[Packet]) -> Result<(), MergeError> {
    let (run, latency) = run(packets);
    // The rows of each rank begin at the common start.
    add_run(merge, number, &run, &latency, Some(0))
}

fn add_run(
    merge: &mut Merge,
    number: u64,
    run: &Run,
    latency: &Latency,
    start: Option<u64>,
) -> Result<(), MergeError> {
    merge.add(RankResult {
        rank: Some(number),
        name: &format!("rank {number}"),
        host: "host",
        run,
        latency: &latency.into(),
        intended: &SavedHistogram::default(),
        more: &BTreeMap::new(),
        start_ns: start,
        phase_ns: 0,
    })
}

/// The figures that do not depend on who sent a packet.
fn figures(measured: &Measured) -> Value {
    let run = &measured.run;
    let rows = run
        .intervals
        .iter()
        .map(|row| (row.packets, row.bytes, row.missing, row.latency_max_ns));
    serde_json::json!({
        "sent": run.sent,
        "received": run.received,
        "lost": run.lost,
        "latency": run.latency_ns,
        "counts": measured.latency.counts().collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<_>>(),
        "requested": run.requested.packets,
        "cpu": run.cpu.sender_user_s,
    })
}

fn packets() -> impl Strategy<Value = Vec<(Packet, usize)>> {
    let packet = (
        0..SLOTS * SLOT_NS,
        prop::option::weighted(0.9, 1u64..100_000_000),
        1u64..2_000,
    );
    prop::collection::vec((packet, 0usize..5), 1..200)
}

proptest! {
    #[test]
    fn any_partition_of_packets_merges_to_the_whole(all in packets(), order in Just([0usize, 1, 2, 3, 4]).prop_shuffle()) {
        let whole: Vec<Packet> = all.iter().map(|(packet, _)| *packet).collect();
        let mut one = Merge::new(0);
        add(&mut one, 0, &whole).unwrap();
        let one = one.finish(1, Vec::new());
        let mut merged = Merge::new(0);
        let mut ranks = 0;
        for rank in order {
            let part: Vec<Packet> = all.iter().filter(|(_, of)| *of == rank).map(|(packet, _)| *packet).collect();
            if !part.is_empty() {
                add(&mut merged, rank as u64, &part).unwrap();
                ranks += 1;
            }
        }
        let merged = merged.finish(ranks, Vec::new());
        prop_assert_eq!(figures(&merged), figures(&one));
        let fleet = merged.run.fleet.unwrap();
        let sum = |of: fn(&Rank) -> u64| fleet.ranks.iter().map(of).sum::<u64>();
        prop_assert_eq!(sum(|rank| rank.sent.packets), merged.run.sent.packets);
        prop_assert_eq!(sum(|rank| rank.received.unique), merged.run.received.unique);
        prop_assert_eq!(sum(|rank| rank.lost.packets), merged.run.lost.packets);
        prop_assert!(fleet.ranks.is_sorted_by_key(|rank| rank.rank));
        prop_assert!(merged.run.complete);
        prop_assert_eq!(merged.run.lost.packets, merged.run.sent.packets - merged.run.received.unique);
    }
}

fn sample() -> (Run, Latency) {
    run(&[
        (0, Some(5_000), 1_000),
        (2_000, None, 1_000),
        (4_000, Some(7_000), 1_000),
    ])
}

#[test]
fn rows_of_a_late_rank_are_aligned_to_the_common_start() {
    let (run, latency) = sample();
    let mut merge = Merge::new(1_000);
    add_run(&mut merge, 0, &run, &latency, Some(1_000)).unwrap();
    // Nine and a fifth intervals later.
    add_run(&mut merge, 1, &run, &latency, Some(1_000 + 9_200_000)).unwrap();
    let run = merge.finish(2, Vec::new()).run;
    let packets: Vec<u64> = run.intervals.iter().map(|row| row.packets).collect();
    assert_eq!((packets[0], packets[9]), (2, 2));
    assert_eq!(packets.iter().sum::<u64>(), run.received.unique);
    let fleet = run.fleet.unwrap();
    assert_eq!(fleet.start_skew_ns, Some(9_200_000));
    assert_eq!(fleet.ranks[1].start_ns, Some(9_200_000));
    // The two runs do not overlap.
    assert_eq!(run.seconds, Some(22e-6));
}

#[test]
fn runs_of_other_settings_are_refused_by_name() {
    let (run, latency) = sample();
    let refused = |change: fn(&mut Run)| {
        let mut merge = Merge::new(0);
        add_run(&mut merge, 0, &run, &latency, Some(0)).unwrap();
        let mut other = run.clone();
        change(&mut other);
        let error = add_run(&mut merge, 1, &other, &latency, Some(0)).unwrap_err();
        assert_eq!(
            merge.finish(2, Vec::new()).run.sent.packets,
            run.sent.packets
        );
        error.to_string()
    };
    assert_eq!(
        refused(|run| run.requested.chunk = 64),
        "rank 1 has other settings than rank 0: chunk is 64 instead of 1000; merge runs of one command line"
    );
    assert!(refused(|run| run.mode = "paced".into()).contains("mode is paced instead of blast"));
    let amount =
        refused(|run| (run.requested.packets, run.requested.duration_s) = (None, Some(1.0)));
    assert!(
        amount.contains("duration_s is 1.0 instead of not given"),
        "{amount}"
    );
    assert!(refused(|run| run.round_trip = Some(Default::default())).contains("round trips"));
    assert!(refused(|run| run.fleet = Some(Fleet::default())).contains("merged already"));
    let counts = refused(|run| run.latency_ns.as_mut().unwrap().count += 1);
    assert!(
        counts.contains(
            "the number of values of the latency is 2 in the histogram and 3 in the record"
        ),
        "{counts}"
    );
    let sent = refused(|run| run.sent.packets += 1);
    let words = "rank 1 contradicts itself: the datagrams sent are ";
    assert!(sent.contains(words), "{sent}");
    let received = refused(|run| run.received.duplicates += 1);
    assert!(
        received.contains("unique ones and duplicates"),
        "{received}"
    );
}

#[test]
fn shares_of_the_whole_add_up() {
    let (mut run, latency) = sample();
    let mut merge = Merge::new(0);
    for rank in 0..3 {
        run.requested.packets = Some(3);
        run.requested.to = Some("server".into());
        run.requested.cpus = Some(rank.to_string());
        add_run(&mut merge, rank, &run, &latency, Some(0)).unwrap();
    }
    let asked = merge.finish(3, Vec::new()).run.requested;
    assert_eq!(
        (asked.packets, asked.to.as_deref()),
        (Some(9), Some("server"))
    );
    assert_eq!(asked.cpus, None);
}

#[test]
fn missing_and_unfinished_ranks_are_named() {
    let (run, latency) = sample();
    let mut merge = Merge::new(0);
    add_run(&mut merge, 0, &run, &latency, Some(0)).unwrap();
    let mut cut = run.clone();
    (cut.complete, cut.ended) = (false, "limit".into());
    cut.reason = Some("the server was stopped".into());
    add_run(&mut merge, 4, &cut, &latency, Some(0)).unwrap();
    let missing = [1, 3].map(|rank| MissingRank {
        rank,
        reason: "was lost".into(),
    });
    let run = merge.finish(4, missing.to_vec()).run;
    assert!(!run.complete);
    assert_eq!(run.ended, "peer_lost");
    assert_eq!(
        run.reason.as_deref(),
        Some(
            "ranks 1 and 3 are missing (rank 1 was lost); rank 4 ended early (rank 4: the server was stopped)"
        )
    );
    assert_eq!(
        listed((0..20).map(|n| n.to_string())),
        format!(
            "{} and 4 more",
            (0..16)
                .map(|n| n.to_string())
                .collect::<Vec<_>>()
                .join(", ")
        )
    );
}

#[test]
fn a_sum_of_an_unknown_part_is_unknown() {
    let (mut run, latency) = sample();
    let mut merge = Merge::new(0);
    add_run(&mut merge, 0, &run, &latency, Some(0)).unwrap();
    run.cpu.sender_user_s = None;
    run.lost = Lost {
        is_unknown: true,
        ..Lost::default()
    };
    add_run(&mut merge, 1, &run, &latency, None).unwrap();
    let run = merge.finish(2, Vec::new()).run;
    assert_eq!(run.cpu.sender_user_s, None);
    assert!(run.lost.is_unknown && !run.received.is_unknown);
    assert_eq!(run.seconds, None);
    assert_eq!(run.fleet.unwrap().start_skew_ns, None);
}

#[test]
fn warnings_of_one_kind_are_one_with_their_number() {
    let (mut run, latency) = sample();
    let mut merge = Merge::new(0);
    for (rank, late) in [(0, "12 ms"), (1, "11 ms"), (2, "19 ms")] {
        run.warnings = vec![format!("The sender was late: by {late}.")];
        if rank == 2 {
            run.warnings.push("A quota throttled the sender.".into());
        }
        add_run(&mut merge, rank, &run, &latency, Some(0)).unwrap();
    }
    assert_eq!(
        merge.finish(3, Vec::new()).run.warnings,
        [
            "A quota throttled the sender.",
            "3 ranks, one of them: The sender was late: by 11 ms."
        ]
    );
}

#[test]
fn counts_of_a_hostile_file_saturate() {
    let mut run = run(&[]).0;
    run.sent = Traffic {
        is_unknown: false,
        packets: u64::MAX,
        bytes: u64::MAX,
    };
    run.received = Received {
        packets: u64::MAX,
        unique: u64::MAX,
        ..Received::default()
    };
    run.engine_stats.send_syscalls = u64::MAX;
    run.seconds = Some(f64::MAX);
    let mut merge = Merge::new(u64::MAX);
    for rank in 0..3 {
        add_run(&mut merge, rank, &run, &Latency::small(), Some(rank)).unwrap();
    }
    let merged = merge.finish(3, Vec::new()).run;
    assert_eq!(merged.sent.packets, u64::MAX);
    assert_eq!(merged.engine_stats.send_syscalls, u64::MAX);
}

#[test]
fn skew_is_without_the_phases() {
    let (run, latency) = sample();
    let mut merge = Merge::new(1_000);
    for (rank, late_ns) in [(0, 0), (1, 40), (2, 10)] {
        let phase_ns = rank * 5_000_000;
        let result = RankResult {
            rank: Some(rank),
            name: &format!("rank {rank}"),
            host: "host",
            run: &run,
            latency: &(&latency).into(),
            intended: &SavedHistogram::default(),
            more: &BTreeMap::new(),
            start_ns: Some(1_000 + phase_ns + late_ns),
            phase_ns,
        };
        merge.add(result).unwrap();
    }
    let fleet = merge.finish(3, Vec::new()).run.fleet.unwrap();
    assert_eq!(fleet.start_skew_ns, Some(40));
    assert_eq!(
        (fleet.ranks[2].start_ns, fleet.ranks[2].phase_ns),
        (Some(10_000_010), 10_000_000)
    );
}
