//! The record of `bench udp search`: its `run.json`.
//!
//! Programs rely on the keys: add keys, never rename them. Unknown values are null, never 0.

use serde::{Deserialize, Serialize};

use super::meta::Meta;
use crate::report::figures::figure;
use crate::stats::latency::Summary;
use crate::udp::result::{Effective, Requested};
use crate::udp::search::{Goal, GoalResult, Limit};

/// Smallest share of the offered load without its losses that a path without a growing queue delivers.
const DELIVERED: f64 = 0.99;

/// A `run.json` of `bench udp search`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SearchRecord {
    /// Command, version and machine.
    #[serde(flatten)]
    pub meta: Meta,
    /// Whether the search reached its end, and the curve is measured.
    pub complete: bool,
    /// How it ended: `complete`, `interrupted`, `time_limit` or `failed`.
    pub ended: String,
    /// Why the search is not `complete`: a sentence.
    pub reason: Option<String>,
    /// Duration of the search in seconds.
    pub seconds: f64,
    /// The settings of all trials as given.
    pub requested: Requested,
    /// The settings in force in the last trial.
    pub effective: Option<Effective>,
    /// Lowest load that may be tried, in datagrams per second.
    pub min_pps: f64,
    /// Highest load that may be tried.
    pub max_pps: f64,
    /// Pause before each trial in seconds.
    pub pause_s: f64,
    /// One entry per goal, in the order given.
    pub goals: Vec<SearchGoal>,
    /// One entry per trial, in order.
    pub trials: Vec<SearchTrial>,
}

/// A goal and its result.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SearchGoal {
    /// The goal.
    #[serde(flatten)]
    pub goal: Goal,
    /// The relevant lower bound, in datagrams per second.
    pub lower_pps: Option<f64>,
    /// The relevant upper bound.
    pub upper_pps: Option<f64>,
    /// The conditional throughput at the lower bound.
    pub throughput_pps: Option<f64>,
    /// Message bytes / 1000 per second at the lower bound.
    pub lower_kb_per_s: Option<f64>,
    /// Message bits / 10^9 per second at the lower bound.
    pub lower_gbit_per_s: Option<f64>,
    /// The limit of the rate: `path`, `receiver`, `sender`, `max`, `min` or `unfinished`.
    pub limit: String,
    /// The consequence of the limit for the bounds, and whether a queue grew at the lower bound: a sentence each, or null.
    pub note: Option<String>,
}

impl SearchGoal {
    /// The result for `goal` after `trials` with `chunk` message bytes per datagram.
    pub fn new(goal: &Goal, result: &GoalResult, chunk: usize, trials: &[SearchTrial]) -> Self {
        let lower = result.lower.as_ref();
        let bytes = lower.map(|lower| lower.load * chunk as f64);
        let notes = [
            limit_note(goal, result, trials),
            lower.and_then(|lower| queue_note(goal, lower.load, trials)),
        ];
        let notes: Vec<String> = notes.into_iter().flatten().collect();
        Self {
            goal: *goal,
            lower_pps: lower.map(|lower| lower.load),
            upper_pps: result.upper.map(|upper| upper.load),
            throughput_pps: lower.map(|lower| lower.throughput),
            lower_kb_per_s: bytes.map(|bytes| bytes / 1e3),
            lower_gbit_per_s: bytes.map(|bytes| bytes * 8.0 / 1e9),
            limit: result.limit.name().to_owned(),
            note: (!notes.is_empty()).then(|| notes.join(" ")),
        }
    }

    /// Whether `limit` is a measured one, and not an end of the range or of the search.
    pub fn is_limit_measured(&self) -> bool {
        matches!(self.limit.as_str(), "path" | "receiver" | "sender")
    }

    /// The goal loss ratio in percent, without the digits of a binary fraction.
    pub fn percent(&self) -> f64 {
        (self.goal.loss_ratio * 1e11).round() / 1e9
    }
}

/// The consequence of the limit for the bounds.
fn limit_note(goal: &Goal, result: &GoalResult, trials: &[SearchTrial]) -> Option<String> {
    let note = match result.limit {
        Limit::Path => return None,
        Limit::Receiver => {
            "The upper bound is that of the receiver and not of the path: most datagrams were lost at its socket."
        }
        Limit::Sender => return Some(sender_note(goal, result, trials)),
        Limit::Max => {
            "The highest load of the search is no upper bound: the path carries at least this load."
        }
        Limit::Min => {
            "The lowest load of the search is no lower bound: more of it is lost than the goal allows."
        }
        Limit::Unfinished => {
            "The search ended before the bounds were proven and close enough; they may be those of shorter trials."
        }
    };
    Some(note.to_owned())
}

/// The part of the sender in an upper bound. Trials with too much loss that the sender offered at this load or a higher one show that
/// the bound may be that of the path too.
fn sender_note(goal: &Goal, result: &GoalResult, trials: &[SearchTrial]) -> String {
    let upper = result.upper.map_or(f64::INFINITY, |upper| upper.load);
    let at = |wanted: fn(f64, f64) -> bool| {
        let all = trials.iter();
        all.filter(move |trial| trial.load_pps.is_some_and(|load| wanted(load, upper)))
    };
    let mut above = at(|load, upper| load >= upper);
    if above.any(|trial| trial.offered == "full" && trial.loss_ratio > goal.loss_ratio) {
        let all = at(|load, upper| load == upper);
        let missed = all.clone().filter(|trial| !trial.is_valid(goal.loss_ratio));
        return format!(
            "The sender did not offer the upper bound, or not on time, in {} of {} trials.",
            missed.count(),
            all.count()
        );
    }
    let note = match result.lower {
        Some(_) => {
            "The upper bound is that of the sender and not of the path: it did not offer more, or not on time."
        }
        None => {
            "The sender did not offer the lowest load of the search, or not on time: nothing is known of the path."
        }
    };
    note.to_owned()
}

/// The delivered rate at the lower bound, if a queue grew in most of the final trials there.
fn queue_note(goal: &Goal, lower: f64, trials: &[SearchTrial]) -> Option<String> {
    let of_bound = trials.iter().filter(|trial| {
        trial.load_pps == Some(lower)
            && trial.duration_s >= goal.final_trial_s
            && trial.loss_ratio <= goal.loss_ratio
            && trial.is_valid(goal.loss_ratio)
    });
    let queued = of_bound.clone().filter_map(SearchTrial::queued_pps);
    let mut queued: Vec<f64> = queued.collect();
    if 2 * queued.len() <= of_bound.count() {
        return None;
    }
    queued.sort_by(f64::total_cmp);
    let median = queued.get(queued.len() / 2)?;
    Some(format!(
        "A queue grew during the trials at the lower bound: {} packets/s were delivered; longer trials (--trial) come closer to the rate of the path.",
        figure(*median)
    ))
}

/// A trial.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SearchTrial {
    /// Number of the trial, from 0.
    pub trial: usize,
    /// `first` (as fast as the sender could, or the highest load), `search` or `curve`.
    pub phase: String,
    /// Seconds from the start of the search to that of the trial.
    pub start_s: f64,
    /// Sending time in seconds.
    pub duration_s: f64,
    /// Datagrams per second to send; null for as many as the sender could.
    pub load_pps: Option<f64>,
    /// The load as a share of the first goal's lower bound; null except in `curve`.
    pub share: Option<f64>,
    /// Datagrams per second that the sender's kernel accepted.
    pub offered_pps: Option<f64>,
    /// Whether the sender offered the load: `full`, `late` (in bursts that may have caused the losses) or `short` (less than 99 % of it).
    pub offered: String,
    /// Datagrams that the sender's kernel accepted.
    pub sent_packets: u64,
    /// Those that did not arrive.
    pub lost_packets: u64,
    /// `lost_packets` / `sent_packets`.
    pub loss_ratio: f64,
    /// Those that were dropped at the receiver's socket.
    pub lost_receiver_socket: u64,
    /// Unique message bytes / 1000 per second.
    pub kb_per_s: Option<f64>,
    /// One-way latency from the actual send.
    pub latency_ns: Option<Summary>,
    /// One-way latency from the intended send.
    pub latency_from_intended_ns: Option<Summary>,
    /// The class of the load after the trial, for each goal: `lower`, `upper`, `sender` (an upper bound of the sender) or `undecided`.
    pub classes: Vec<String>,
    /// Why the sender did not offer the load, or not on time: a sentence, or null.
    pub note: Option<String>,
    /// Unique datagrams per second, from the first arrival to the last.
    #[serde(default)]
    pub delivered_pps: Option<f64>,
}

impl SearchTrial {
    /// Whether the trial shows the path, for a goal of this loss ratio.
    fn is_valid(&self, loss_ratio: f64) -> bool {
        match self.offered.as_str() {
            "full" => true,
            "late" => self.loss_ratio <= loss_ratio,
            _ => false,
        }
    }

    /// The delivered rate, if it is below the offered load without its losses: datagrams waited in a queue that grew.
    fn queued_pps(&self) -> Option<f64> {
        let (load, delivered) = (self.load_pps?, self.delivered_pps?);
        let offered = self.offered_pps.map_or(load, |offered| offered.min(load));
        let through = offered * (1.0 - self.loss_ratio);
        (delivered < through * DELIVERED).then_some(delivered)
    }
}

impl SearchRecord {
    /// The trials of the latency curve.
    pub fn curve(&self) -> impl Iterator<Item = &SearchTrial> {
        self.trials.iter().filter(|trial| trial.share.is_some())
    }

    /// The sentences that a reader must know first.
    pub fn notes(&self) -> Vec<String> {
        let goals = self.goals.iter();
        let mut notes: Vec<String> = goals
            .filter_map(|goal| {
                let note = goal.note.as_deref()?;
                Some(format!("goal of {} % loss: {note}", goal.percent()))
            })
            .collect();
        let invalid = self.trials.iter().filter(|trial| trial.note.is_some());
        let count = invalid.clone().count();
        if let Some(last) = invalid
            .filter_map(|trial| trial.note.as_deref())
            .next_back()
        {
            notes.push(format!(
                "in {count} of {} trials the sender did not offer the load, or not on time. The last of them: {last}",
                self.trials.len()
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::search::{Cause, Lower, Upper};

    fn goal(loss_ratio: f64) -> Goal {
        Goal {
            loss_ratio,
            final_trial_s: 1.0,
            ..Goal::default()
        }
    }

    fn trial(load: f64, offered: &str, loss_ratio: f64, delivered: f64) -> SearchTrial {
        SearchTrial {
            load_pps: Some(load),
            offered_pps: Some(load),
            offered: offered.to_owned(),
            duration_s: 1.0,
            loss_ratio,
            delivered_pps: Some(delivered),
            ..SearchTrial::default()
        }
    }

    fn note(loss_ratio: f64, limit: Limit, trials: &[SearchTrial]) -> Option<String> {
        let lower = Lower {
            load: 2_437.0,
            throughput: 2_437.0,
        };
        let upper = Upper {
            load: 2_449.0,
            cause: Cause::Loss,
        };
        let result = GoalResult {
            lower: Some(lower).filter(|_| limit != Limit::Min),
            upper: Some(upper).filter(|_| limit != Limit::Max),
            limit,
        };
        SearchGoal::new(&goal(loss_ratio), &result, 1_000, trials).note
    }

    #[test]
    fn a_growing_queue_at_the_lower_bound_is_noted() {
        let grew = |delivered| trial(2_437.0, "full", 0.0, delivered);
        let queue = [2_330.0, 2_327.0, 2_320.0, 2_436.0].map(grew);
        let found = note(0.0, Limit::Path, &queue).unwrap();
        assert!(
            found.contains(": 2,327 packets/s were delivered"),
            "{found}"
        );
        let found = note(0.0, Limit::Max, &queue).unwrap();
        assert!(found.contains("at least this load. A queue"), "{found}");
        // Half of the trials only, lost datagrams, shorter trials, other loads.
        let half = [2_327.0, 2_327.0, 2_436.0, 2_437.0].map(grew);
        let lost = [trial(2_437.0, "full", 0.04, 2_339.0)];
        let mut short = [grew(2_000.0)];
        short[0].duration_s = 0.25;
        let elsewhere = [trial(2_449.0, "full", 0.0, 2_327.0)];
        for trials in [&half[..], &lost, &short, &elsewhere, &[]] {
            assert_eq!(note(0.05, Limit::Path, trials), None, "{trials:?}");
        }
    }

    #[test]
    fn a_limit_of_the_sender_is_not_claimed_against_lost_datagrams() {
        let mut trials = vec![
            trial(2_449.0, "late", 0.1, 2_400.0),
            trial(2_449.0, "short", 0.0, 2_400.0),
            trial(2_449.0, "late", 0.005, 2_449.0),
            trial(2_449.0, "full", 0.0, 2_449.0),
            trial(3_000.0, "full", 0.01, 2_970.0),
        ];
        let found = note(0.01, Limit::Sender, &trials).unwrap();
        assert!(found.contains("not of the path"), "{found}");
        trials.push(trial(3_000.0, "full", 0.2, 2_400.0));
        let found = note(0.01, Limit::Sender, &trials).unwrap();
        let expected =
            "The sender did not offer the upper bound, or not on time, in 2 of 4 trials.";
        assert_eq!(found, expected);
    }

    #[test]
    fn an_end_of_the_range_proves_no_more_than_its_trials() {
        let of = |limit| note(0.0, limit, &[]).unwrap();
        assert!(of(Limit::Max).contains("at least"));
        assert!(of(Limit::Min).contains("more of it is lost"));
    }
}
