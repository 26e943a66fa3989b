//! The figures of each table, in order.

use super::Detail::{Error, Interval, Nothing, ShareOf, Trips, TripsBetween, Words};
use super::Figure;

/// Defines lists of figures, each as `title = column detail, ...;`.
macro_rules! figures {
    ($($(#[$doc:meta])* $list:ident { $($title:literal = $($column:literal $detail:expr),+;)* })*) => {
        $($(#[$doc])* pub(in crate::report::export) const $list: &[Figure] = &[$(($title, &[$(($column, $detail)),+])),*];)*
    };
}

figures! {
    UDP_RUNS {
        "setting" = "setting" Nothing;
        "engine" = "engine" Nothing;
        "mode" = "mode" Nothing;
        "direction" = "direction" Nothing;
        "complete" = "complete" Nothing;
        "message per datagram" = "sizes" Nothing, "chunk" Nothing;
        "batch" = "batch" Nothing;
        "GSO" = "gso" Nothing;
        "streams" = "streams" Nothing;
        "goodput" = "kb_per_s" Error("kb_per_s_error");
        "bit rate" = "gbit_per_s" Nothing;
        "datagram rate" = "packets_per_s" Nothing;
        "duration" = "seconds" Error("seconds_error");
        "sent" = "sent_packets" Nothing;
        "lost" = "lost_packets" ShareOf("sent_packets");
        "duplicates" = "duplicates" Nothing;
        "reordered" = "reordered" Nothing;
        "latency p50" = "latency_p50_ns" Error("clock_error_ns");
        "latency p90" = "latency_p90_ns" Error("clock_error_ns");
        "latency p99" = "latency_p99_ns" Error("clock_error_ns");
        "latency p99.9" = "latency_p99_9_ns" Error("clock_error_ns");
        "latency max" = "latency_max_ns" Error("clock_error_ns");
        "latency p99 from the intended send" = "intended_p99_ns" Error("clock_error_ns");
        "jitter" = "jitter_ns" Nothing;
        "sender CPU" = "sender_s_per_million" Nothing;
        "receiver CPU" = "receiver_s_per_million" Nothing;
    }

    /// The figures that `--explain` adds to those of a single run.
    UDP_EXPLAINED {
        "losses by cause" = "lost_causes" Words;
        "stage sender, p50" = "stage_sender_p50_ns" Nothing;
        "stage sender, p99" = "stage_sender_p99_ns" Nothing;
        "stage qdisc, p50" = "stage_qdisc_p50_ns" Nothing;
        "stage qdisc, p99" = "stage_qdisc_p99_ns" Nothing;
        "stage wire, p50" = "stage_wire_p50_ns" Error("clock_error_ns");
        "stage wire, p99" = "stage_wire_p99_ns" Error("clock_error_ns");
        "stage receiver, p50" = "stage_receiver_p50_ns" Nothing;
        "stage receiver, p99" = "stage_receiver_p99_ns" Nothing;
    }

    /// The figures of repeated runs, which have the other figures in common.
    UDP_REPEATS {
        "complete" = "complete" Nothing;
        "goodput" = "kb_per_s" Error("kb_per_s_error");
        "datagram rate" = "packets_per_s" Nothing;
        "lost" = "lost_packets" ShareOf("sent_packets");
        "latency p50" = "latency_p50_ns" Error("clock_error_ns");
        "latency p99" = "latency_p99_ns" Error("clock_error_ns");
        "latency p99.9" = "latency_p99_9_ns" Error("clock_error_ns");
        "sender CPU" = "sender_s_per_million" Nothing;
        "receiver CPU" = "receiver_s_per_million" Nothing;
    }

    UDP_SETTINGS {
        "setting" = "setting" Nothing;
        "runs" = "runs" Nothing;
        "incomplete" = "incomplete" Nothing;
        "goodput, median (min to max)" = "kb_per_s_median" Interval("kb_per_s_min", "kb_per_s_max");
        "goodput ratio (95 % interval)" = "ratio" Interval("ratio_low", "ratio_high");
        "verdict" = "verdict" Words;
        "lost" = "lost_percent" Nothing;
        "CPU" = "cpu_s_per_million_median" Nothing;
        "CPU ratio (95 % interval)" = "cpu_ratio" Interval("cpu_ratio_low", "cpu_ratio_high");
        "p50" = "latency_p50_ns" Nothing;
        "p99" = "latency_p99_ns" Nothing;
        "p99 ratio (95 % interval)" = "p99_ratio" Interval("p99_ratio_low", "p99_ratio_high");
    }

    TRIP_RUNS {
        "setting" = "setting" Nothing;
        "engine" = "engine" Nothing;
        "mode" = "mode" Nothing;
        "complete" = "complete" Nothing;
        "message per datagram" = "chunk" Nothing;
        "round trips" = "packets_per_s" Trips;
        "duration" = "seconds" Error("seconds_error");
        "requests" = "sent_packets" Nothing;
        "lost" = "lost_packets" ShareOf("sent_packets");
        "duplicates" = "duplicates" Nothing;
        "reordered" = "reordered" Nothing;
        "round trip p50" = "latency_p50_ns" Nothing;
        "round trip p90" = "latency_p90_ns" Nothing;
        "round trip p99" = "latency_p99_ns" Nothing;
        "round trip p99.9" = "latency_p99_9_ns" Nothing;
        "round trip max" = "latency_max_ns" Nothing;
        "round trip p99 from the intended send" = "intended_p99_ns" Nothing;
        "client CPU" = "sender_s_per_million" Nothing;
        "server CPU" = "receiver_s_per_million" Nothing;
    }

    TRIP_REPEATS {
        "complete" = "complete" Nothing;
        "round trips" = "packets_per_s" Trips;
        "lost" = "lost_packets" ShareOf("sent_packets");
        "round trip p50" = "latency_p50_ns" Nothing;
        "round trip p99" = "latency_p99_ns" Nothing;
        "round trip p99.9" = "latency_p99_9_ns" Nothing;
        "client CPU" = "sender_s_per_million" Nothing;
        "server CPU" = "receiver_s_per_million" Nothing;
    }

    TRIP_SETTINGS {
        "setting" = "setting" Nothing;
        "runs" = "runs" Nothing;
        "incomplete" = "incomplete" Nothing;
        "round trips, median (min to max)" = "packets_per_s_median" TripsBetween("packets_per_s_min", "packets_per_s_max");
        "ratio of round trips (95 % interval)" = "packets_ratio" Interval("packets_ratio_low", "packets_ratio_high");
        "verdict" = "packets_verdict" Words;
        "lost" = "lost_percent" Nothing;
        "CPU" = "cpu_s_per_million_median" Nothing;
        "CPU ratio (95 % interval)" = "cpu_ratio" Interval("cpu_ratio_low", "cpu_ratio_high");
        "p50" = "latency_p50_ns" Nothing;
        "p99" = "latency_p99_ns" Nothing;
        "p99 ratio (95 % interval)" = "p99_ratio" Interval("p99_ratio_low", "p99_ratio_high");
    }

    SEARCH_GOALS {
        "loss goal" = "loss_percent" Nothing;
        "lower bound" = "lower_pps" Nothing;
        "upper bound" = "upper_pps" Nothing;
        "limit" = "limit" Nothing;
        "conditional throughput" = "throughput_pps" Nothing;
        "message data" = "lower_kb_per_s" Nothing;
        "bit rate" = "lower_gbit_per_s" Nothing;
    }

    SEARCH_CURVE {
        "of the lower bound" = "share_percent" Nothing;
        "load" = "load_pps" Nothing;
        "lost" = "lost_packets" ShareOf("sent_packets");
        "latency p50" = "intended_p50_ns" Nothing, "latency_p50_ns" Nothing;
        "latency p99" = "intended_p99_ns" Nothing, "latency_p99_ns" Nothing;
        "latency p99.9" = "intended_p99_9_ns" Nothing, "latency_p99_9_ns" Nothing;
        "latency max" = "intended_max_ns" Nothing, "latency_max_ns" Nothing;
    }

    PROXY_TOTALS {
        "scenario" = "scenario" Nothing;
        "path" = "path" Nothing;
        "setting" = "setting" Nothing;
        "runs" = "runs" Nothing;
        "rate, median (min to max)" = "requests_per_s_median" Interval("requests_per_s_min", "requests_per_s_max"),
            "bytes_per_s_median" Interval("bytes_per_s_min", "bytes_per_s_max");
        "p50" = "latency_p50_ns" Nothing;
        "p90" = "latency_p90_ns" Nothing;
        "p99" = "latency_p99_ns" Nothing;
        "p99.9" = "latency_p99_9_ns" Nothing;
        "errors" = "errors" Nothing;
        "proxy CPU" = "proxy_s_per_10k" Nothing, "proxy_s_per_gb" Nothing;
    }

    PROXY_ADDED {
        "scenario" = "scenario" Nothing;
        "setting" = "setting" Nothing;
        "rounds" = "rounds" Nothing;
        "rate, proxied to direct (95 % interval)" = "rate" Interval("rate_low", "rate_high");
        "added p50 (95 % interval)" = "added_p50_ns" Interval("added_p50_low_ns", "added_p50_high_ns");
        "added p90 (95 % interval)" = "added_p90_ns" Interval("added_p90_low_ns", "added_p90_high_ns");
        "added p99 (95 % interval)" = "added_p99_ns" Interval("added_p99_low_ns", "added_p99_high_ns");
        "added p99.9 (95 % interval)" = "added_p99_9_ns" Interval("added_p99_9_low_ns", "added_p99_9_high_ns");
    }

    PROXY_RANKS {
        "scenario" = "scenario" Nothing;
        "path" = "path" Nothing;
        "setting" = "setting" Nothing;
        "round" = "round" Nothing;
        "rank" = "name" Nothing;
        "complete" = "complete" Nothing;
        "requests" = "requests" Nothing;
        "rate" = "requests_per_s" Nothing, "bytes_per_s" Nothing;
        "p50" = "latency_p50_ns" Nothing;
        "p99" = "latency_p99_ns" Nothing;
        "errors" = "errors" Nothing;
        "busy" = "load_busy" Nothing;
    }

    PROXY_COMPARED {
        "scenario" = "scenario" Nothing;
        "path" = "path" Nothing;
        "setting" = "setting" Nothing;
        "base" = "base" Nothing;
        "rounds" = "rounds" Nothing;
        "rate ratio (95 % interval)" = "rate" Interval("rate_low", "rate_high");
        "p99 ratio (95 % interval)" = "p99_ratio" Interval("p99_ratio_low", "p99_ratio_high");
        "CPU ratio (95 % interval)" = "cpu_ratio" Interval("cpu_ratio_low", "cpu_ratio_high");
    }

    PROXY_SETTINGS {
        "setting" = "setting" Nothing;
        "runs" = "runs" Nothing;
        "incomplete" = "incomplete" Nothing;
        "rate, median (min to max)" = "requests_per_s_median" Interval("requests_per_s_min", "requests_per_s_max"),
            "bytes_per_s_median" Interval("bytes_per_s_min", "bytes_per_s_max");
        "rate ratio (95 % interval)" = "ratio" Interval("ratio_low", "ratio_high");
        "verdict" = "verdict" Words;
        "p50" = "latency_p50_ns" Nothing;
        "p99" = "latency_p99_ns" Nothing;
        "p99 ratio (95 % interval)" = "p99_ratio" Interval("p99_ratio_low", "p99_ratio_high");
        "proxy CPU" = "proxy_s_per_10k_median" Nothing, "proxy_s_per_gb_median" Nothing;
        "CPU ratio (95 % interval)" = "cpu_ratio" Interval("cpu_ratio_low", "cpu_ratio_high");
        "errors" = "errors" Nothing;
    }
}
