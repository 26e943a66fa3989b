//! The record of `bench udp search`: its `run.json`.
//!
//! Programs rely on the keys: add keys, never rename them. Unknown values are null, never 0.

use serde::{Deserialize, Serialize};

use super::meta::Meta;
use crate::stats::latency::Summary;
use crate::udp::result::{Effective, Requested};
use crate::udp::search::{Goal, GoalResult, Limit};

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
    /// What limits the rate: `path`, `receiver`, `sender`, `max`, `min` or `unfinished`.
    pub limit: String,
    /// What the limit means for the bounds: a sentence, or null.
    pub note: Option<String>,
}

impl SearchGoal {
    /// The result for `goal` with `chunk` message bytes per datagram.
    pub fn new(goal: &Goal, result: &GoalResult, chunk: usize) -> Self {
        let lower = result.lower.as_ref();
        let bytes = lower.map(|lower| lower.load * chunk as f64);
        let note = match result.limit {
            Limit::Path => None,
            Limit::Receiver => Some(
                "The upper bound is that of the receiver and not of the path: most datagrams were lost at its socket.",
            ),
            Limit::Sender => Some(
                "The upper bound is that of the sender and not of the path: it did not offer more, or not on time.",
            ),
            Limit::Max => {
                Some("The highest load of the search is no upper bound: the path carries more.")
            }
            Limit::Min => {
                Some("The lowest load of the search is no lower bound: the path carries less.")
            }
            Limit::Unfinished => Some(
                "The search ended before the bounds were proven and close enough; they may be those of shorter trials.",
            ),
        };
        Self {
            goal: *goal,
            lower_pps: lower.map(|lower| lower.load),
            upper_pps: result.upper.map(|upper| upper.load),
            throughput_pps: lower.map(|lower| lower.throughput),
            lower_kb_per_s: bytes.map(|bytes| bytes / 1e3),
            lower_gbit_per_s: bytes.map(|bytes| bytes * 8.0 / 1e9),
            limit: result.limit.name().to_owned(),
            note: note.map(str::to_owned),
        }
    }

    /// The goal loss ratio in percent, without the digits of a binary fraction.
    pub fn percent(&self) -> f64 {
        (self.goal.loss_ratio * 1e11).round() / 1e9
    }
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
}

impl SearchRecord {
    /// The trials of the latency curve.
    pub fn curve(&self) -> impl Iterator<Item = &SearchTrial> {
        self.trials.iter().filter(|trial| trial.share.is_some())
    }

    /// Sentences on what a reader must know first.
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
