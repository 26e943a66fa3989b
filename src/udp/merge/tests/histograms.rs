//! Histograms that are known by name, and those that contradict their record.

use super::*;
use crate::stats::latency::OutOfRange;

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
        phase_ns: 0,
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
                    phase_ns: 0,
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
        phase_ns: 0,
    });
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("the number of values of lateness is 3"),
        "{error}"
    );
}

fn hostile() -> impl Strategy<Value = SavedHistogram> {
    let counts = prop::collection::vec((any::<u64>(), any::<u64>()), 0..8);
    let sum = "[0-9]{0,45}|-1|x";
    (counts, sum, any::<u64>(), any::<u64>()).prop_map(|(counts, sum_ns, negative, too_long)| {
        let out_of_range = OutOfRange { negative, too_long };
        SavedHistogram {
            counts,
            sum_ns,
            out_of_range,
        }
    })
}

proptest! {
    #[test]
    fn no_histogram_of_a_file_panics(saved in prop::collection::vec(hostile(), 3)) {
        let (mut run, mut more) = staged(&[4_000, 5_000]);
        let mut of_file = Latency::small();
        saved[0].add_to(&mut of_file);
        // The record may have been changed too.
        run.latency_ns = Some(of_file.summary());
        more.insert("gap-error".to_owned(), saved[1].clone());
        more.insert("stage-wire".to_owned(), saved[2].clone());
        let (mut merge, without) = (Merge::new(0), BTreeMap::new());
        for rank in 0..3 {
            let _ = merge.add(RankResult {
                rank: Some(rank),
                name: &format!("rank {rank}"),
                host: "host",
                run: &run,
                latency: &saved[0],
                intended: &SavedHistogram::default(),
                more: if rank == 0 { &more } else { &without },
                start_ns: Some(u64::MAX),
                phase_ns: u64::MAX,
            });
        }
        merge.finish(3, Vec::new());
    }
}
