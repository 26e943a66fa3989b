use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::load::result::{Errors, Requested};
use crate::stats::latency::OutOfRange;
use crate::units::listed;

/// A request: its latency and its lateness if it was answered.
type Request = Option<(u64, u64)>;

const SECONDS: f64 = 2.0;

/// The run of a rank with these requests, at a rate.
fn measured(requests: &[Request]) -> Measured {
    let (mut latency, mut intended, mut lateness) =
        (Latency::small(), Latency::small(), Latency::small());
    let mut run = Run {
        scenario: "request-response".into(),
        path: "proxied".into(),
        protocol: Some("socks5".into()),
        complete: true,
        requested: Requested {
            connections: 4,
            message: Some(64),
            rate_per_s: Some(requests.len() as f64),
            duration_s: SECONDS,
            load_threads: 1,
            ..Requested::default()
        },
        seconds: Some(SECONDS),
        ..Run::default()
    };
    for request in requests {
        match request {
            Some((ns, late)) => {
                run.requests += 1;
                run.bytes += 64;
                latency.record(*ns);
                intended.record(ns + late);
                lateness.record(*late);
            }
            None => {
                run.errors.total += 1;
                run.errors.reset += 1;
                run.first_errors = vec!["reset: by peer".to_owned()];
            }
        }
    }
    run.latency_ns = summary(&latency);
    run.latency_from_intended_ns = summary(&intended);
    run.lateness_ns = summary(&lateness);
    run.cpu.load_user_s = Some(requests.len() as f64);
    run.cpu.load_system_s = Some(0.0);
    Measured {
        run,
        latency,
        latency_from_intended: intended,
        lateness,
        start_ns: Some(1_000),
    }
}

fn add(merge: &mut Merge, number: u64, measured: &Measured) -> Result<(), MergeError> {
    merge.add(RankResult {
        rank: Some(number),
        name: &format!("rank {number}"),
        host: "host",
        run: &measured.run,
        latency: &(&measured.latency).into(),
        intended: &(&measured.latency_from_intended).into(),
        lateness: &(&measured.lateness).into(),
        start_ns: measured.start_ns,
        start_error_ns: Some(7 * number),
    })
}

/// The figures that do not depend on who sent a request.
fn figures(measured: &Measured) -> Value {
    let run = &measured.run;
    let counts = [
        &measured.latency,
        &measured.latency_from_intended,
        &measured.lateness,
    ];
    let counts = counts.map(|of| of.counts().collect::<Vec<_>>());
    json!({
        "requests": run.requests,
        "bytes": run.bytes,
        "errors": run.errors,
        "first": run.first_errors,
        "seconds": run.seconds,
        "rates": [run.requests_per_s, run.bytes_per_s, run.requested.rate_per_s],
        "latencies": [run.latency_ns, run.latency_from_intended_ns, run.lateness_ns],
        "counts": counts,
        "cpu": run.cpu.load_user_s,
    })
}

fn requests() -> impl Strategy<Value = Vec<(Request, usize)>> {
    let request = prop::option::weighted(0.9, (1u64..100_000_000, 0u64..1_000_000));
    prop::collection::vec((request, 0usize..5), 1..200)
}

proptest! {
    #[test]
    fn any_partition_of_requests_merges_to_the_whole(all in requests(), order in Just([0usize, 1, 2, 3, 4]).prop_shuffle()) {
        let whole: Vec<Request> = all.iter().map(|(request, _)| *request).collect();
        let mut one = Merge::new(Some(0));
        add(&mut one, 0, &measured(&whole)).unwrap();
        let one = one.finish(1, Vec::new());
        let mut merged = Merge::new(Some(0));
        let mut ranks = 0;
        for rank in order {
            let part: Vec<Request> = all.iter().filter(|(_, of)| *of == rank).map(|(request, _)| *request).collect();
            if !part.is_empty() {
                add(&mut merged, rank as u64, &measured(&part)).unwrap();
                ranks += 1;
            }
        }
        let merged = merged.finish(ranks, Vec::new());
        prop_assert_eq!(figures(&merged), figures(&one));
        let fleet = merged.run.fleet.unwrap();
        let sum = |of: fn(&Rank) -> u64| fleet.ranks.iter().map(of).sum::<u64>();
        prop_assert_eq!(sum(|rank| rank.requests), merged.run.requests);
        prop_assert_eq!(sum(|rank| rank.errors.total), merged.run.errors.total);
        prop_assert_eq!(sum(|rank| rank.bytes), merged.run.bytes);
        prop_assert!(fleet.ranks.is_sorted_by_key(|rank| rank.rank));
        prop_assert!(merged.run.complete);
    }
}

fn sample() -> Measured {
    measured(&[Some((5_000, 0)), None, Some((7_000, 100))])
}

#[test]
fn time_is_that_in_which_a_rank_measures() {
    let mut merge = Merge::new(Some(1_000));
    add(&mut merge, 0, &sample()).unwrap();
    let mut later = sample();
    later.start_ns = Some(1_000 + 500_000_000);
    add(&mut merge, 1, &later).unwrap();
    let run = merge.finish(2, Vec::new()).run;
    assert_eq!(run.seconds, Some(2.5));
    assert_eq!(run.requests_per_s, Some(4.0 / 2.5));
    let fleet = run.fleet.unwrap();
    assert_eq!(fleet.start_skew_ns, Some(500_000_000));
    assert_eq!(fleet.start_skew_error_ns, Some(14));
    assert_eq!(fleet.ranks[1].start_ns, Some(500_000_000));
    assert_eq!(fleet.requests_per_s, None, "the sample has no rates");
    let mut merge = Merge::new(None);
    add(&mut merge, 0, &sample()).unwrap();
    add(&mut merge, 1, &later).unwrap();
    let fleet = merge.finish(2, Vec::new()).run.fleet.unwrap();
    let starts = fleet.ranks.iter().map(|rank| rank.start_ns.unwrap());
    assert!(starts.eq([0, 500_000_000]));
    let mut merge = Merge::new(None);
    later.start_ns = None;
    add(&mut merge, 0, &later).unwrap();
    let run = merge.finish(1, Vec::new()).run;
    assert_eq!((run.seconds, run.requests_per_s), (None, None));
    assert_eq!(run.fleet.unwrap().start_skew_ns, None);
}

#[test]
fn runs_of_other_settings_are_refused_by_name() {
    let refused = |change: fn(&mut Run)| {
        let mut merge = Merge::new(Some(0));
        add(&mut merge, 0, &sample()).unwrap();
        let mut other = sample();
        change(&mut other.run);
        let error = add(&mut merge, 1, &other).unwrap_err();
        assert_eq!(merge.finish(2, Vec::new()).run.requests, 2);
        error.to_string()
    };
    assert_eq!(
        refused(|run| run.requested.message = Some(32)),
        "rank 1 has other settings than rank 0: message is 32 instead of 64; merge runs of one command line"
    );
    assert!(
        refused(|run| run.path = "direct".into()).contains("path is direct instead of proxied")
    );
    let rate = refused(|run| run.requested.rate_per_s = None);
    assert!(
        rate.contains("rate_per_s is not given instead of given"),
        "{rate}"
    );
    assert!(refused(|run| run.scenario = "udp".into()).contains("scenario udp"));
    assert!(refused(|run| run.fleet = Some(Fleet::default())).contains("merged already"));
    let counts = refused(|run| run.lateness_ns.as_mut().unwrap().count += 1);
    assert!(
        counts.contains(
            "the number of values of the lateness is 2 in the histogram and 3 in the record"
        ),
        "{counts}"
    );
    for (change, words) in [
        (
            (|run| run.requests += 1) as fn(&mut Run),
            "rank 1 contradicts itself: the answered requests are 3 and their latencies are 2;",
        ),
        (
            |run| run.bytes -= 1,
            "the bytes are 127 and those of the requests are 128;",
        ),
        (
            |run| run.errors.timeout += 5,
            "the errors are 1 and those of all kinds are 6;",
        ),
        (
            |run| run.errors.total += 5,
            "the errors are 6 and those of all kinds are 1;",
        ),
    ] {
        let error = refused(change);
        assert!(error.contains(words), "{error}");
    }
    // A run that is refused does not count as the first one.
    let (mut merge, mut other) = (Merge::new(None), sample());
    other.run.requested.connections = 9;
    other.run.requests += 1;
    other.run.protocol = None;
    add(&mut merge, 0, &other).unwrap_err();
    add(&mut merge, 1, &sample()).unwrap();
}

#[test]
fn bulk_data_has_no_latencies() {
    let mut bulk = measured(&[]);
    bulk.run.scenario = "bulk".into();
    bulk.run.requested.message = None;
    (bulk.run.requests, bulk.run.bytes) = (4, 1_000_000);
    add(&mut Merge::new(None), 0, &bulk).unwrap();
}

#[test]
fn shares_of_the_whole_add_up() {
    let mut merge = Merge::new(Some(0));
    for rank in 0..3 {
        let mut of = sample();
        of.run.requested.rate_per_s = Some(34.0 - f64::from(u32::from(rank > 0)));
        of.run.requested.connections = 3;
        of.run.requested.via = Some("proxy".into());
        of.run.requested.origin = Some(rank.to_string());
        add(&mut merge, rank, &of).unwrap();
    }
    let asked = merge.finish(3, Vec::new()).run.requested;
    assert_eq!((asked.rate_per_s, asked.connections), (Some(100.0), 9));
    assert_eq!((asked.via.as_deref(), asked.origin), (Some("proxy"), None));
}

#[test]
fn missing_and_unfinished_ranks_are_named() {
    let mut merge = Merge::new(Some(0));
    add(&mut merge, 0, &sample()).unwrap();
    let mut cut = sample();
    cut.run.complete = false;
    cut.run.reason = Some("no request was answered correctly".into());
    add(&mut merge, 4, &cut).unwrap();
    let missing = [1, 3].map(|rank| MissingRank {
        rank,
        reason: "was lost".into(),
    });
    let run = merge.finish(4, missing.to_vec()).run;
    assert!(!run.complete);
    assert_eq!(
        run.reason.as_deref(),
        Some(
            "ranks 1 and 3 are missing (rank 1 was lost); rank 4 is incomplete (rank 4: no request was answered correctly)"
        )
    );
    let many = (0..20).map(|n| n.to_string());
    assert!(listed(many).ends_with("14, 15 and 4 more"));
}

#[test]
fn slowest_rank_has_the_lowest_rate_or_at_a_rate_the_highest_latency() {
    let slowest = |rate: Option<f64>| {
        let mut merge = Merge::new(Some(0));
        for (rank, per_s, ns) in [(0, 9.0, 5_000), (1, 7.0, 6_000), (2, 8.0, 9_000)] {
            let mut of = measured(&[Some((ns, 0))]);
            of.run.requests_per_s = Some(per_s);
            of.run.requested.rate_per_s = rate;
            add(&mut merge, rank, &of).unwrap();
        }
        let fleet = merge.finish(3, Vec::new()).run.fleet.unwrap();
        let spread = fleet.requests_per_s.unwrap();
        assert_eq!((spread.min, spread.max), (7.0, 9.0));
        fleet.slowest.unwrap()
    };
    assert_eq!(slowest(None), "rank 1");
    assert_eq!(slowest(Some(1.0)), "rank 2");
}

#[test]
fn proxy_counts_once_and_load_generators_add_up() {
    let mut merge = Merge::new(Some(0));
    for (rank, proxy) in [(0, None), (1, Some(1.0)), (2, Some(1.5))] {
        let mut of = sample();
        (of.run.cpu.proxy_user_s, of.run.cpu.proxy_system_s) = (proxy, proxy.map(|_| 0.5));
        (of.run.cpu.load_user_s, of.run.cpu.load_system_s) = (Some(0.5), Some(0.5));
        add(&mut merge, rank, &of).unwrap();
    }
    let cpu = merge.finish(3, Vec::new()).run.cpu;
    assert_eq!(cpu.proxy(), Some(2.0));
    assert_eq!(cpu.proxy_s_per_10k, Some(2.0 / 6e-4));
    assert_eq!((cpu.load(), cpu.load_busy), (Some(3.0), Some(0.5)));
}

#[test]
fn warnings_and_errors_of_one_kind_are_one() {
    let mut merge = Merge::new(Some(0));
    for (rank, late) in [(0, "12 ms"), (1, "11 ms"), (2, "19 ms")] {
        let mut of = sample();
        of.run.warnings = vec![format!("late starts: by {late}")];
        of.run.first_errors = vec![format!("reset: after {late}")];
        if rank == 2 {
            of.run.warnings.push("host exhausted: no ports".into());
            of.run.first_errors.push("timeout: no answer".into());
        }
        add(&mut merge, rank, &of).unwrap();
    }
    let run = merge.finish(3, Vec::new()).run;
    assert_eq!(
        run.warnings,
        [
            "host exhausted: no ports",
            "late starts: 3 ranks, one of them: by 11 ms"
        ]
    );
    assert_eq!(
        run.first_errors,
        ["timeout: no answer", "reset: after 11 ms"]
    );
}

#[test]
fn figures_of_a_hostile_file_saturate() {
    let mut of = measured(&[]);
    of.run.requests = u64::MAX;
    of.run.bytes = u64::MAX;
    let too_long = OutOfRange {
        too_long: u64::MAX,
        ..OutOfRange::default()
    };
    of.latency.absorb_totals(0, too_long);
    of.run.latency_ns = Some(of.latency.summary());
    of.run.errors = Errors {
        total: u64::MAX,
        reset: u64::MAX,
        ..Errors::default()
    };
    of.run.requested.connections = usize::MAX;
    of.run.requested.load_threads = usize::MAX;
    of.run.seconds = Some(f64::MAX);
    let mut merge = Merge::new(Some(u64::MAX));
    for (rank, seconds) in [(0, f64::MAX), (1, f64::NAN), (2, -1.0)] {
        of.run.seconds = Some(seconds);
        of.start_ns = Some(rank);
        add(&mut merge, rank, &of).unwrap();
    }
    let run = merge.finish(3, Vec::new()).run;
    assert_eq!((run.requests, run.errors.total), (u64::MAX, u64::MAX));
    assert_eq!(run.requested.connections, usize::MAX);
}

/// A histogram of any counts, with the summary that a record would have.
fn any_histogram() -> impl Strategy<Value = (SavedHistogram, Option<Summary>)> {
    let counts = prop::collection::vec((any::<u64>(), any::<u64>()), 0..4);
    (counts, any::<u128>()).prop_map(|(counts, sum)| {
        let saved = SavedHistogram {
            counts,
            sum_ns: sum.to_string(),
            ..SavedHistogram::default()
        };
        let mut latency = Latency::small();
        saved.add_to(&mut latency);
        (saved, summary(&latency))
    })
}

proptest! {
    #[test]
    fn no_numbers_of_another_process_panic(
        ranks in prop::collection::vec((any_histogram(), any::<[u64; 4]>(), any::<[f64; 4]>(), any::<Option<u64>>()), 1..4),
        agrees in prop::bool::weighted(0.8),
        origin: Option<u64>,
    ) {
        let mut merge = Merge::new(origin);
        for ((latency, figures), counts, numbers, start_ns) in &ranks {
            let mut run = measured(&[]).run;
            [run.requests, run.bytes, run.errors.total, run.errors.reset] = *counts;
            run.seconds = Some(numbers[0]);
            run.requested.rate_per_s = Some(numbers[1]);
            (run.cpu.proxy_user_s, run.cpu.proxy_system_s) = (Some(numbers[2]), Some(numbers[3]));
            run.latency_ns = *figures;
            if agrees {
                run.requests = figures.map_or(0, |of| of.count.saturating_add(of.out_of_range.too_long));
                run.bytes = run.requests.saturating_mul(64);
                run.errors.reset = run.errors.total;
            }
            let _ = merge.add(RankResult {
                rank: None,
                name: "rank",
                host: "host",
                run: &run,
                latency,
                intended: &SavedHistogram::default(),
                lateness: &SavedHistogram::default(),
                start_ns: *start_ns,
                start_error_ns: *start_ns,
            });
        }
        let _ = merge.finish(u64::MAX, Vec::new());
    }
}
