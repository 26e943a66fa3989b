//! The columns of a proxy run in `proxy.csv`.

use crate::load::result::{Errors, Run};
use crate::report::export::column::{Cell, columns};
use crate::stats::latency::Summary;

columns! {
    /// A proxy run: one scenario on one path in one round.
    pub PROXY_RUN: Run = |run| {
        "scenario" [""] "`connect`, `request-response`, `bulk`, `blocked` or `udp`" => &run.scenario;
        "path" [""] "`direct`, `proxied` or `blocked`" => &run.path;
        "engine" [""] "the proxy's event loop, `mio` or `uring`; empty for a proxy that the command did not start, and on the direct path" => run.engine.as_ref();
        "protocol" [""] "proxy protocol: `json`, `socks5`, `connect` or `forward`; empty on the direct path" => run.protocol.as_ref();
        "forwarding" [""] "requested way of forwarding: `auto`, `copy` or `splice`; empty if `engine` is" => run.forwarding.as_ref();
        "proxy_threads" [""] "the proxy's threads; empty if `engine` is" => run.proxy_threads;
        "setting" [""] "the compared setting, like `uring, copy`; empty without a comparison, and on the direct path" => run.setting.as_ref();
        "round" [""] "number of the round, from 0" => run.round;
        "complete" [""] "`true` if the run reached its end and had a correct answer; a path without one is not measured again" => run.complete;
        "via" [""] "the proxy, if it was already running" => run.requested.via.as_ref();
        "origin" [""] "the origin server, if it was already running" => run.requested.origin.as_ref();
        "connections" [""] "concurrent connections; for bulk, streams" => run.requested.connections;
        "message" ["bytes"] "size of a message, or message bytes of a datagram; empty for bulk" => run.requested.message;
        "rate_per_s" ["requests/s"] "requested rate, for udp in datagrams a second; empty for an unlimited rate" => run.requested.rate_per_s;
        "requested_bytes" ["bytes"] "requested amount of bulk data; empty if only the time limits it" => run.requested.bytes;
        "duration_s" ["s"] "requested time of the run" => run.requested.duration_s;
        "load_threads" [""] "threads of the load generator" => run.requested.load_threads;
        "requests" [""] "correctly answered requests; for bulk, streams of which every byte arrived; for blocked, refusals; for udp, datagrams that arrived at `rate_per_s`, or were blocked" => run.requests;
        "errors" [""] "failed requests" => run.errors.total;
        "error_kinds" [""] "kinds of these errors with their counts, separated by spaces; see `runs[].errors` below" => error_kinds(&run.errors);
        "bytes" ["bytes"] "message bytes of correctly answered requests, one way; 0 for blocked" => run.bytes;
        "seconds" ["s"] "from the start to the end of the requested time, or to the last correct answer if that was later; for bulk, to the last confirmation" => run.seconds;
        "requests_per_s" ["requests/s"] "`requests` / `seconds`; for udp, the highest rate with at most 0.1 % loss; empty for bulk" => run.requests_per_s;
        "bytes_per_s" ["bytes/s"] "`bytes` / `seconds`; for udp, message bytes at the highest rate; empty for blocked" => run.bytes_per_s;
        "latency_count" [""] "recorded latencies; empty for bulk" => latency(run, |of| Some(of.count));
        "latency_min_ns" ["ns"] "from the actual start of a request to the end of its answer; empty for bulk" => latency(run, |of| of.min);
        "latency_mean_ns" ["ns"] "from the actual start of a request to the end of its answer; empty for bulk" => run.latency_ns.and_then(|of| of.mean);
        "latency_p50_ns" ["ns"] "percentiles of that latency, to 3 digits" => latency(run, |of| of.p50);
        "latency_p90_ns" ["ns"] "percentiles of that latency, to 3 digits" => latency(run, |of| of.p90);
        "latency_p99_ns" ["ns"] "percentiles of that latency, to 3 digits" => latency(run, |of| of.p99);
        "latency_p99_9_ns" ["ns"] "percentiles of that latency, to 3 digits" => latency(run, |of| of.p99_9);
        "latency_max_ns" ["ns"] "the largest of these latencies" => latency(run, |of| of.max);
        "intended_p50_ns" ["ns"] "from the scheduled start of a request to the end of its answer; only with a rate" => intended(run, |of| of.p50);
        "intended_p90_ns" ["ns"] "from the scheduled start of a request to the end of its answer; only with a rate" => intended(run, |of| of.p90);
        "intended_p99_ns" ["ns"] "from the scheduled start of a request to the end of its answer; only with a rate" => intended(run, |of| of.p99);
        "intended_p99_9_ns" ["ns"] "from the scheduled start of a request to the end of its answer; only with a rate" => intended(run, |of| of.p99_9);
        "intended_max_ns" ["ns"] "from the scheduled start of a request to the end of its answer; only with a rate" => intended(run, |of| of.max);
        "proxy_user_s" ["s"] "CPU time of the proxy's processes, children included, in user mode and in the kernel; empty if unknown (`--server-pid`). The sum is exact to the ns, the split to 10 ms" => run.cpu.proxy_user_s;
        "proxy_system_s" ["s"] "CPU time of the proxy's processes, children included, in user mode and in the kernel; empty if unknown (`--server-pid`). The sum is exact to the ns, the split to 10 ms" => run.cpu.proxy_system_s;
        "proxy_s_per_gb" ["s/GB"] "user and kernel CPU time of the proxy per 10^9 bytes of bulk data" => run.cpu.proxy_s_per_gb;
        "proxy_s_per_10k" ["s/10k requests"] "user and kernel CPU time of the proxy per 10,000 requests" => run.cpu.proxy_s_per_10k;
        "load_user_s" ["s"] "CPU time of the load generator's threads, in user mode and in the kernel" => run.cpu.load_user_s;
        "load_system_s" ["s"] "CPU time of the load generator's threads, in user mode and in the kernel" => run.cpu.load_system_s;
        "load_busy" [""] "CPU time of these threads as a share of their wall time; near 1 the load generator may limit the run" => run.cpu.load_busy;
        "origin_user_s" ["s"] "CPU time of the origin server, in user mode and in the kernel; empty if the command did not start it" => run.cpu.origin_user_s;
        "origin_system_s" ["s"] "CPU time of the origin server, in user mode and in the kernel; empty if the command did not start it" => run.cpu.origin_system_s;
        "reason" [""] "why the run is incomplete" => run.reason.as_ref();
        "signed_in" [""] "whether clients authenticated at the proxy (`--user`)" => run.requested.signed_in;
        "warnings" [""] "possible effects of the load generator, the origin server or the host on these figures, a sentence each" => run.warnings.join(" ");
        "sent_packets" [""] "datagrams sent at `rate_per_s`; udp only" => run.udp.map(|of| of.sent);
        "lost_sender" [""] "datagrams refused by the sender's kernel; udp only" => run.udp.map(|of| of.lost_sender);
        "lost_proxy" [""] "datagrams dropped at the proxy's sockets; empty if unknown (`--server-pid`); udp only" => run.udp.and_then(|of| of.lost_proxy);
        "lost_receiver" [""] "datagrams dropped at the receiver's socket; udp only" => run.udp.map(|of| of.lost_receiver);
        "lost_elsewhere" [""] "datagrams lost anywhere else: through the proxy or on the path; for blocked, dropped by the proxy; udp only" => run.udp.map(|of| of.lost_elsewhere);
        "proxy_s_per_million" ["s/M packets"] "user and kernel CPU time of the proxy per million datagrams; udp only" => run.udp.and_then(|of| of.proxy_s_per_million);
    }
}

pub(super) fn error_kinds(errors: &Errors) -> String {
    let kinds = errors.kinds().filter(|(_, count)| *count > 0);
    let kinds: Vec<_> = kinds
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    kinds.join(" ")
}

fn latency(run: &Run, of: impl Fn(&Summary) -> Option<u64>) -> Cell {
    run.latency_ns.as_ref().and_then(of).into()
}

fn intended(run: &Run, of: impl Fn(&Summary) -> Option<u64>) -> Cell {
    run.latency_from_intended_ns.as_ref().and_then(of).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::export::columns::LedgerRow;
    use crate::report::sample;
    use std::collections::HashMap;

    #[test]
    fn column_names_are_unique_and_unknown_values_are_empty() {
        let run = sample::proxy::measured("bulk", "direct", None, 0, 1_000);
        let record = sample::proxy::of(&[run]);
        let row = LedgerRow::last("id", &record.meta, &record.runs).unwrap();
        let cells = row.cells().map(|cell| cell.to_string());
        let names = LedgerRow::<Run>::names;
        let cells: HashMap<_, _> = names().zip(cells).collect();
        assert_eq!(cells.len(), names().count());
        for name in [
            "protocol",
            "message",
            "requests_per_s",
            "latency_p50_ns",
            "setting",
            "via",
        ] {
            assert_eq!(cells[name], "", "{name}");
        }
        assert_eq!(cells["requests"], "100");
        assert_eq!(cells["error_kinds"], "");
    }
}
