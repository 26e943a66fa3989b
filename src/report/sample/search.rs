//! A search with a value for every key.

use super::udp;
use crate::report::model::SearchRecord;
use crate::report::model::search::{SearchGoal, SearchTrial};
use crate::udp::search::{Cause, Goal, GoalResult, Limit, Lower, Upper};

/// A search for two goals: the first is limited by the path, the second by the sender.
pub(in crate::report) fn record() -> SearchRecord {
    let run = udp::measured().run;
    let goal = |loss_ratio, load, cause, limit| {
        let goal = Goal {
            loss_ratio,
            exceed_ratio: 0.5,
            width: 0.005,
            initial_trial_s: 0.25,
            final_trial_s: 1.0,
            duration_sum_s: 5.0,
        };
        let result = GoalResult {
            lower: Some(Lower {
                load,
                throughput: load * (1.0 - loss_ratio),
            }),
            upper: Some(Upper {
                load: load * 1.004,
                cause,
            }),
            limit,
        };
        SearchGoal::new(&goal, &result, 1_000, &[])
    };
    let trial = |trial, phase: &str, load_pps: Option<f64>, loss_ratio: f64| SearchTrial {
        trial,
        phase: phase.to_owned(),
        start_s: trial as f64 * 1.1,
        duration_s: 1.0,
        load_pps,
        share: None,
        offered_pps: load_pps,
        offered: "full".to_owned(),
        sent_packets: 100_000,
        lost_packets: (loss_ratio * 1e5) as u64,
        loss_ratio,
        lost_receiver_socket: 0,
        kb_per_s: load_pps,
        latency_ns: run.latency_ns,
        latency_from_intended_ns: run.latency_from_intended_ns,
        classes: vec!["lower".to_owned(), "undecided".to_owned()],
        note: None,
        delivered_pps: load_pps,
    };
    let mut trials = vec![
        trial(0, "first", None, 0.5),
        trial(1, "search", Some(100_400.0), 0.004),
        trial(2, "search", Some(100_000.0), 0.0),
        trial(3, "search", Some(120_000.0), 0.2),
    ];
    trials[3].offered = "short".to_owned();
    trials[3].note = Some("The sender offered only 101,000 packets/s.".to_owned());
    for (at, share) in [0.5, 0.8, 0.95].into_iter().enumerate() {
        let of_curve = trial(4 + at, "curve", Some(share * 1e5), 0.0);
        trials.push(SearchTrial {
            share: Some(share),
            ..of_curve
        });
    }
    let udp = udp::record(Vec::new());
    SearchRecord {
        meta: crate::report::model::Meta {
            kind: "udp-search".to_owned(),
            ..udp.meta
        },
        complete: true,
        ended: "complete".to_owned(),
        reason: None,
        seconds: 12.5,
        requested: run.requested,
        effective: Some(run.effective),
        min_pps: 10.0,
        max_pps: 1e9,
        pause_s: 0.1,
        goals: vec![
            goal(0.0, 100_000.0, Cause::Loss, Limit::Path),
            goal(0.005, 100_600.0, Cause::Sender, Limit::Sender),
        ],
        trials,
    }
}
