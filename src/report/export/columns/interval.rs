//! The columns of `intervals.csv` after the number of the run.

use crate::report::export::column::columns;
use crate::udp::result::Interval;

columns! {
    /// The receiver's counts of an interval.
    pub INTERVAL: Interval = |row| {
        "start_s" ["s"] "start of the interval, from the start of the run" => row.start_s;
        "seconds" ["s"] "length of the interval" => row.seconds;
        "packets" [""] "received datagrams, duplicates included" => row.packets;
        "bytes" ["bytes"] "message bytes of unique datagrams" => row.bytes;
        "kb_per_s" ["KB/s"] "`bytes` / 1000 / `seconds`; 0 if `seconds` is 0" => row.kb_per_s;
        "missing" [""] "missing datagrams at its end minus those at its start; negative if some arrived late" => row.missing;
        "duplicates" [""] "as in `udp.csv`" => row.duplicates;
        "reordered" [""] "as in `udp.csv`" => row.reordered;
        "latency_p50_ns" ["ns"] "latency from the actual send, one way or of the round trip; empty without arrivals" => row.latency_p50_ns;
        "latency_p99_ns" ["ns"] "latency from the actual send, one way or of the round trip; empty without arrivals" => row.latency_p99_ns;
        "latency_max_ns" ["ns"] "latency from the actual send, one way or of the round trip; empty without arrivals" => row.latency_max_ns;
        "ce" [""] "received datagrams with the mark CE, duplicates included; empty unless `--ecn` or `--dscp` is given" => row.ce;
    }
}
