use proptest::prelude::*;

use super::ending::listed;
use super::*;
use crate::udp::result::{
    Interval, Lost, Pacing, Received, Requested, Stage, Stages, StampCost, Traffic,
};

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
        packets: u64::MAX,
        bytes: u64::MAX,
    };
    run.received = Received {
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

/// The error of a run whose histogram was changed after the run.
fn changed(change: impl Fn(&mut SavedHistogram)) -> Option<String> {
    let packets: Vec<Packet> = (1..200).map(|n| (n, Some(n * n * 1_000), 1)).collect();
    let (run, latency) = run(&packets);
    let mut saved = SavedHistogram::from(&latency);
    change(&mut saved);
    let added = Merge::new(0).add(RankResult {
        rank: None,
        name: "2k",
        host: "2k",
        run: &run,
        latency: &saved,
        intended: &SavedHistogram::default(),
        more: &BTreeMap::new(),
        start_ns: None,
    });
    added.err().map(|error| error.to_string())
}

#[test]
fn changed_histograms_are_refused_by_name() {
    assert_eq!(changed(|_| {}), None);
    let moved = changed(|saved| {
        saved.counts[40].1 -= 1;
        saved.counts[90].1 += 1;
    });
    let moved = moved.unwrap();
    assert!(
        moved.starts_with("2k has a histogram that contradicts its record: the standard deviation of the latency is "),
        "{moved}"
    );
    for (sum, words) in [
        ((1u64 << 63).to_string(), "the mean of the latency"),
        ("-1".to_owned(), "the sum of the latency is not a number"),
        (u128::MAX.to_string(), "the mean of the latency"),
    ] {
        let error = changed(|saved| saved.sum_ns.clone_from(&sum)).unwrap();
        assert!(error.contains(words), "{error}");
    }
    let outside = changed(|saved| saved.out_of_range.negative = 1).unwrap();
    assert!(outside.contains("the number below zero"), "{outside}");
    let last = changed(|saved| saved.counts.last_mut().unwrap().0 += 1_000_000).unwrap();
    assert!(last.contains("the maximum of the latency"), "{last}");
    let many = changed(|saved| saved.counts[0].1 = u64::MAX).unwrap();
    assert!(many.contains("the number of values"), "{many}");
}

proptest! {
    /// Each bucket's share of the values is part of the standard deviation, as far as its ten digits show it.
    #[test]
    fn no_value_moves_to_another_bucket_unseen(from in 0usize..199, to in 0usize..199, count in any::<u64>()) {
        let error = changed(|saved| {
            let moved = count % saved.counts[from].1 + 1;
            saved.counts[from].1 -= moved;
            saved.counts[to].1 += moved;
        });
        prop_assert_eq!(error.is_some(), from != to);
    }
}

/// The run of a rank with a schedule, stages and two streams.
fn staged(latencies: &[u64]) -> (Run, BTreeMap<String, SavedHistogram>) {
    let mut latency = Latency::small();
    latencies.iter().for_each(|ns| latency.record(*ns));
    let (mut run, _) = run(&[]);
    run.mode = "paced".into();
    run.pacing = Some(Pacing {
        lateness_ns: latency.summary(),
        ..Pacing::default()
    });
    let stage = Stage {
        latency_ns: Some(latency.summary()),
        reason: None,
    };
    let missing = Stage {
        latency_ns: None,
        reason: Some("the driver takes no stamps".into()),
    };
    run.stages = Some(Stages {
        every: 1,
        sender: stage.clone(),
        qdisc: if latencies.len() > 1 {
            stage
        } else {
            missing.clone()
        },
        wire: missing,
        cost: StampCost {
            read_ns: Some(latencies[0] as f64),
            ..StampCost::default()
        },
        notes: vec![format!("{} datagrams without a stamp.", latencies.len())],
        ..Stages::default()
    });
    run.streams = (0..2)
        .map(|stream| Stream {
            stream,
            ..Stream::default()
        })
        .collect();
    let names = ["lateness", "stage-sender", "stage-qdisc"];
    let known = names
        .into_iter()
        .take(if latencies.len() > 1 { 3 } else { 2 });
    let more = known.map(|name| (name.to_owned(), (&latency).into()));
    (run, more.collect())
}

#[test]
fn schedule_stages_and_streams_are_those_of_all_ranks() {
    let ranks = [&[700_000, 3_000][..], &[5_000], &[9_000, 10_000, 11_000]];
    let mut all = Latency::small();
    ranks
        .iter()
        .copied()
        .flatten()
        .for_each(|ns| all.record(*ns));
    let merged = |is_older: bool| {
        let mut merge = Merge::new(0);
        for (number, latencies) in ranks.iter().enumerate().rev() {
            let (run, mut more) = staged(latencies);
            if is_older && number == 1 {
                more.clear();
            }
            merge
                .add(RankResult {
                    rank: Some(number as u64),
                    name: &format!("rank {number}"),
                    host: "host",
                    run: &run,
                    latency: &SavedHistogram::default(),
                    intended: &SavedHistogram::default(),
                    more: &more,
                    start_ns: None,
                })
                .unwrap();
        }
        merge.finish(3, Vec::new())
    };
    let measured = merged(false);
    let run = &measured.run;
    let stages = run.stages.as_ref().unwrap();
    assert_eq!(run.pacing.as_ref().unwrap().lateness_ns, all.summary());
    assert_eq!(stages.sender.latency_ns, Some(all.summary()));
    assert_eq!(stages.qdisc.latency_ns.map(|of| of.count), Some(5));
    assert_eq!(stages.wire.latency_ns, None);
    assert_eq!(
        stages.wire.reason.as_deref(),
        Some("the driver takes no stamps")
    );
    assert_eq!(stages.cost.read_ns, Some(700_000.0));
    assert_eq!(
        stages.notes,
        [
            "3 ranks, one of them: 1 datagrams without a stamp.",
            "The stage qdisc is that of 2 of 3 ranks: the driver takes no stamps."
        ]
    );
    let names: Vec<&str> = measured.stages.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["stage-sender", "stage-qdisc"]);
    let streams = run.streams.iter();
    let streams: Vec<_> = streams
        .map(|of| (of.stream, of.rank.as_deref().unwrap()))
        .collect();
    assert_eq!((streams.len(), streams[3]), (6, (3, "rank 1")));

    // Without all histograms there are no percentiles.
    let run = merged(true).run;
    let lateness = run.pacing.unwrap().lateness_ns;
    assert_eq!((lateness.count, lateness.max), (6, Some(700_000)));
    assert_eq!(lateness.p50, None);
    let sender = run.stages.unwrap().sender;
    assert_eq!(sender.latency_ns, None);
    assert!(sender.reason.unwrap().contains("no histogram"));
}

#[test]
fn changed_histogram_of_the_schedule_is_refused() {
    let (run, mut more) = staged(&[4_000, 5_000]);
    more.get_mut("lateness").unwrap().counts[0].1 += 1;
    let error = Merge::new(0).add(RankResult {
        rank: None,
        name: "host",
        host: "host",
        run: &run,
        latency: &SavedHistogram::default(),
        intended: &SavedHistogram::default(),
        more: &more,
        start_ns: None,
    });
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("the number of values of lateness is 3"),
        "{error}"
    );
}
