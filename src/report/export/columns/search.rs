//! The columns of a search: its trials in `search.csv`, and its goals.

use crate::report::export::column::{Cell, columns};
use crate::report::model::search::{SearchGoal, SearchTrial};
use crate::stats::latency::Summary;

columns! {
    /// A trial.
    pub SEARCH_TRIAL: SearchTrial = |trial| {
        "trial" [""] "number of the trial, from 0" => trial.trial;
        "phase" [""] "`first` (as fast as the sender could, or the highest load), `search` or `curve`" => &trial.phase;
        "start_s" ["s"] "from the start of the search to that of the trial" => trial.start_s;
        "duration_s" ["s"] "sending time" => trial.duration_s;
        "load_pps" ["packets/s"] "datagrams to send; empty for as many as the sender could" => trial.load_pps;
        "share_percent" ["%"] "the load as a share of the first goal's lower bound; empty except in `curve`" => trial.share.map(|share| share * 100.0);
        "offered_pps" ["packets/s"] "datagrams that the sender's kernel accepted" => trial.offered_pps;
        "offered" [""] "whether the sender offered the load: `full`, `late` (in bursts that may have caused the losses) or `short` (less than 99 % of it)" => &trial.offered;
        "sent_packets" [""] "datagrams that the sender's kernel accepted" => trial.sent_packets;
        "lost_packets" [""] "those that did not arrive" => trial.lost_packets;
        "loss_ratio" [""] "`lost_packets` / `sent_packets`" => trial.loss_ratio;
        "lost_receiver_socket" [""] "those that were dropped at the receive socket because its buffer was full" => trial.lost_receiver_socket;
        "kb_per_s" ["KB/s"] "unique message bytes / 1000 a second" => trial.kb_per_s;
        "latency_p50_ns" ["ns"] "percentiles of the one-way latency from the actual send" => of(&trial.latency_ns, |of| of.p50);
        "latency_p90_ns" ["ns"] "percentiles of the one-way latency from the actual send" => of(&trial.latency_ns, |of| of.p90);
        "latency_p99_ns" ["ns"] "percentiles of the one-way latency from the actual send" => of(&trial.latency_ns, |of| of.p99);
        "latency_p99_9_ns" ["ns"] "percentiles of the one-way latency from the actual send" => of(&trial.latency_ns, |of| of.p99_9);
        "latency_max_ns" ["ns"] "the largest" => of(&trial.latency_ns, |of| of.max);
        "intended_p50_ns" ["ns"] "percentiles of the one-way latency from the intended send" => of(&trial.latency_from_intended_ns, |of| of.p50);
        "intended_p90_ns" ["ns"] "percentiles of the one-way latency from the intended send" => of(&trial.latency_from_intended_ns, |of| of.p90);
        "intended_p99_ns" ["ns"] "percentiles of the one-way latency from the intended send" => of(&trial.latency_from_intended_ns, |of| of.p99);
        "intended_p99_9_ns" ["ns"] "percentiles of the one-way latency from the intended send" => of(&trial.latency_from_intended_ns, |of| of.p99_9);
        "intended_max_ns" ["ns"] "the largest of these" => of(&trial.latency_from_intended_ns, |of| of.max);
        "classes" [""] "the class of the load after the trial for each goal, separated by spaces: `lower`, `upper`, `sender` (an upper bound of the sender) or `undecided`" => trial.classes.join(" ");
        "note" [""] "why the sender did not offer the load, or not on time" => trial.note.as_ref();
        "delivered_pps" ["packets/s"] "unique datagrams, from the first arrival to the last; below the offered load without its losses, a queue grew" => trial.delivered_pps;
    }
}

columns! {
    /// A goal.
    pub SEARCH_GOAL: SearchGoal = |goal| {
        "loss_percent" ["%"] "goal loss ratio" => goal.percent();
        "lower_pps" ["packets/s"] "relevant lower bound" => goal.lower_pps;
        "upper_pps" ["packets/s"] "relevant upper bound" => goal.upper_pps;
        "limit" [""] "what limits the rate" => &goal.limit;
        "throughput_pps" ["packets/s"] "conditional throughput" => goal.throughput_pps;
        "lower_kb_per_s" ["KB/s"] "message data at the lower bound" => goal.lower_kb_per_s;
        "lower_gbit_per_s" ["Gbit/s"] "message data at the lower bound" => goal.lower_gbit_per_s;
    }
}

fn of(latency: &Option<Summary>, get: fn(&Summary) -> Option<u64>) -> Cell {
    latency.as_ref().and_then(get).into()
}
