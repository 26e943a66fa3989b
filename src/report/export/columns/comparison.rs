//! The columns of `comparison.csv`: the settings of a UDP comparison.

use crate::report::export::column::columns;
use crate::report::model::udp::{ComparedSetting, Ratios};
use crate::stats::ratio::Ratio;
use crate::stats::spread::Spread;

columns! {
    /// A setting of a UDP comparison.
    pub UDP_SETTING: ComparedSetting = |of| {
        "setting" [""] "the setting's name: the options that differ, like `uring, batch 16`" => &of.setting;
        "base" [""] "setting that its ratios refer to; empty for the base itself" => of.base.as_ref();
        "engine" [""] "as in `udp.csv`" => &of.engine;
        "mode" [""] "as in `udp.csv`" => &of.mode;
        "chunk" ["bytes"] "requested message bytes per datagram" => of.requested.chunk;
        "batch" [""] "requested datagrams per send call; empty for the default" => of.requested.batch;
        "gso" [""] "requested offload and zero-copy mode, as in `udp.csv`" => &of.requested.gso;
        "zerocopy" [""] "requested offload and zero-copy mode, as in `udp.csv`" => &of.requested.zerocopy;
        "uring_receive" [""] "requested `multishot` or `single` receives of io_uring; empty with other engines" => of.requested.uring.as_ref().map(|uring| &uring.receive);
        "uring_ring_size" [""] "requested entries of the io_uring submission ring; empty for the default and with other engines" => of.requested.uring.as_ref().and_then(|uring| uring.ring_size);
        "streams" [""] "requested socket pairs" => of.requested.streams;
        "sndbuf" ["bytes"] "requested socket buffer; empty for the default" => of.requested.sndbuf;
        "rcvbuf" ["bytes"] "requested socket buffer; empty for the default" => of.requested.rcvbuf;
        "rate_bits_per_s" ["bit/s"] "requested rate of message data; empty if none was requested" => of.requested.rate_bits_per_s;
        "pps" ["packets/s"] "requested rate of datagrams; empty if none was requested" => of.requested.pps;
        "runs" [""] "complete runs" => of.runs;
        "incomplete" [""] "incomplete runs, which do not count" => of.incomplete;
        "kb_per_s_median" ["KB/s"] "goodput over these runs" => of.kb_per_s.map(median);
        "kb_per_s_min" ["KB/s"] "goodput over these runs" => of.kb_per_s.map(min);
        "kb_per_s_max" ["KB/s"] "goodput over these runs" => of.kb_per_s.map(max);
        "ratio" [""] "goodput as a multiple of the base's, and the ends of its 95 % interval" => ratio(of, KB_PER_S);
        "ratio_low" [""] "goodput as a multiple of the base's, and the ends of its 95 % interval" => low(of, KB_PER_S);
        "ratio_high" [""] "goodput as a multiple of the base's, and the ends of its 95 % interval" => high(of, KB_PER_S);
        "verdict" [""] "`higher` or `lower` if the whole interval is on one side of 1, `no_difference_shown` if it contains 1, `too_few_runs` without an interval" => verdict(of, KB_PER_S);
        "packets_per_s_median" ["packets/s"] "unique datagrams per second" => of.packets_per_s.map(median);
        "packets_per_s_min" ["packets/s"] "unique datagrams per second" => of.packets_per_s.map(min);
        "packets_per_s_max" ["packets/s"] "unique datagrams per second" => of.packets_per_s.map(max);
        "packets_ratio" [""] "ratio, interval and verdict of `packets_per_s`" => ratio(of, PACKETS_PER_S);
        "packets_ratio_low" [""] "ratio, interval and verdict of `packets_per_s`" => low(of, PACKETS_PER_S);
        "packets_ratio_high" [""] "ratio, interval and verdict of `packets_per_s`" => high(of, PACKETS_PER_S);
        "packets_verdict" [""] "ratio, interval and verdict of `packets_per_s`" => verdict(of, PACKETS_PER_S);
        "cpu_s_per_million_median" ["s/M packets"] "CPU time of sender and receiver per million datagrams" => of.cpu_s_per_million.map(median);
        "cpu_s_per_million_min" ["s/M packets"] "CPU time of sender and receiver per million datagrams" => of.cpu_s_per_million.map(min);
        "cpu_s_per_million_max" ["s/M packets"] "CPU time of sender and receiver per million datagrams" => of.cpu_s_per_million.map(max);
        "sender_s_per_million_median" ["s/M packets"] "the sender's and the receiver's part of that CPU time" => of.sender_s_per_million.map(median);
        "receiver_s_per_million_median" ["s/M packets"] "the sender's and the receiver's part of that CPU time" => of.receiver_s_per_million.map(median);
        "cpu_ratio" [""] "ratio, interval and verdict of `cpu_s_per_million`" => ratio(of, CPU);
        "cpu_ratio_low" [""] "ratio, interval and verdict of `cpu_s_per_million`" => low(of, CPU);
        "cpu_ratio_high" [""] "ratio, interval and verdict of `cpu_s_per_million`" => high(of, CPU);
        "cpu_verdict" [""] "ratio, interval and verdict of `cpu_s_per_million`" => verdict(of, CPU);
        "latency_p50_ns" ["ns"] "percentiles over all datagrams of these runs together; when paced, from the intended send" => of.latency_p50_ns;
        "latency_p99_ns" ["ns"] "percentiles over all datagrams of these runs together; when paced, from the intended send" => of.latency_p99_ns;
        "p99_ratio" [""] "ratio, interval and verdict of the runs' own 99 % latencies, by their medians" => ratio(of, P99);
        "p99_ratio_low" [""] "ratio, interval and verdict of the runs' own 99 % latencies, by their medians" => low(of, P99);
        "p99_ratio_high" [""] "ratio, interval and verdict of the runs' own 99 % latencies, by their medians" => high(of, P99);
        "p99_verdict" [""] "ratio, interval and verdict of the runs' own 99 % latencies, by their medians" => verdict(of, P99);
        "sent_packets" [""] "datagrams sent and lost in all these runs" => of.sent_packets;
        "lost_packets" [""] "datagrams sent and lost in all these runs" => of.lost_packets;
        "lost_percent" ["%"] "`lost_packets` / `sent_packets`" => of.lost_packets as f64 / of.sent_packets as f64 * 100.0;
    }
}

type Select = fn(Ratios) -> Option<Ratio>;

const KB_PER_S: Select = |of| of.kb_per_s;
const PACKETS_PER_S: Select = |of| of.packets_per_s;
const CPU: Select = |of| of.cpu_s_per_million;
const P99: Select = |of| of.latency_p99_ns;

fn median(of: Spread) -> f64 {
    of.median
}

fn min(of: Spread) -> f64 {
    of.min
}

fn max(of: Spread) -> f64 {
    of.max
}

fn ratio(of: &ComparedSetting, select: Select) -> Option<f64> {
    Some(of.ratios.and_then(select)?.ratio)
}

fn low(of: &ComparedSetting, select: Select) -> Option<f64> {
    Some(of.ratios.and_then(select)?.interval?.low)
}

fn high(of: &ComparedSetting, select: Select) -> Option<f64> {
    Some(of.ratios.and_then(select)?.interval?.high)
}

fn verdict(of: &ComparedSetting, select: Select) -> Option<&'static str> {
    Some(of.ratios.and_then(select)?.verdict.name())
}
