//! The columns of a UDP run in `udp.csv`.

use crate::report::export::column::{Cell, columns};
use crate::report::export::losses;
use crate::stats::latency::Summary;
use crate::udp::plan::traffic::dscp_name;
use crate::udp::result::{Lost, Marks, Received, Run, Stage, Stages, Traffic, by_size};

columns! {
    /// A UDP run.
    pub UDP_RUN: Run = |run| {
        "engine" [""] "`mio` or `uring`" => &run.engine;
        "mode" [""] "`lossless`, `paced`, `blast` or `round-trip`" => &run.mode;
        "complete" [""] "`true` if the run reached its end and both sides reported" => run.complete;
        "ended" [""] "`complete`, `interrupted`, `peer_lost`, `limit` or `failed`" => &run.ended;
        "to" [""] "the server, if it was another process" => run.requested.to.as_ref();
        "requested_bytes" ["bytes"] "requested amount of message data; one of these three is set" => run.requested.bytes;
        "requested_packets" [""] "requested number of datagrams" => run.requested.packets;
        "requested_duration_s" ["s"] "requested time of sending" => run.requested.duration_s;
        "requested_rate_bits_per_s" ["bit/s"] "requested rate of message data" => run.requested.rate_bits_per_s;
        "requested_pps" ["packets/s"] "requested rate of datagrams" => run.requested.pps;
        "requested_gso" [""] "`on`, `off` or `auto`" => &run.requested.gso;
        "requested_sndbuf" ["bytes"] "requested socket buffer; empty for the default" => run.requested.sndbuf;
        "requested_rcvbuf" ["bytes"] "requested socket buffer; empty for the default" => run.requested.rcvbuf;
        "chunk" ["bytes"] "message bytes per datagram; of several sizes, the largest" => run.effective.chunk;
        "datagram" ["bytes"] "message and header per datagram: the UDP payload" => run.effective.datagram;
        "batch" [""] "largest number of datagrams per send call" => positive(run.effective.batch);
        "segments" [""] "datagrams per message with GSO; 1 without" => positive(run.effective.segments);
        "gso" [""] "whether the kernel segmented sends" => run.effective.gso;
        "gro" [""] "whether the kernel coalesced receives" => run.effective.gro;
        "streams" [""] "socket pairs" => run.effective.streams;
        "sender_cpus" [""] "CPUs of the threads, separated by spaces; empty if the kernel chose" => cpus(run.effective.sender_cpus.as_deref());
        "receiver_cpus" [""] "CPUs of the threads, separated by spaces; empty if the kernel chose" => cpus(run.effective.receiver_cpus.as_deref());
        "sndbuf" ["bytes"] "socket buffer as read back; the kernel doubles the requested size" => positive(run.effective.sndbuf);
        "rcvbuf" ["bytes"] "socket buffer as read back; the kernel doubles the requested size" => positive(run.effective.rcvbuf);
        "window" [""] "datagrams of credit for each stream; lossless only" => run.effective.window;
        "sent_packets" [""] "datagrams passed to the kernel, retries not counted; empty if the sender was lost before it reported them" => sent(run, |of| of.packets);
        "sent_bytes" ["bytes"] "message bytes of these datagrams" => sent(run, |of| of.bytes);
        "received_packets" [""] "received datagrams of this run: `unique` + `duplicates`" => received(run, |of| of.packets);
        "received_bytes" ["bytes"] "message bytes of the unique datagrams" => received(run, |of| of.bytes);
        "unique" [""] "first arrivals of a sequence number" => received(run, |of| of.unique);
        "duplicates" [""] "further arrivals of a sequence number" => received(run, |of| of.duplicates);
        "reordered" [""] "first arrivals with a lower sequence number than an earlier one (RFC 4737)" => received(run, |of| of.reordered);
        "late" [""] "arrivals behind the sequence window: counted as lost, and nowhere else" => received(run, |of| of.late);
        "foreign" [""] "datagrams that belong to no stream of this run" => received(run, |of| of.foreign);
        "lost_packets" [""] "`sent_packets` - `unique`: the sum of the next three. Empty if either end was lost before its last report; the received counts are empty if the receiver never reported" => lost(run, |of| of.packets);
        "lost_not_sent" [""] "rejected for good by the sender's kernel" => lost(run, |of| of.not_sent);
        "lost_receiver_socket" [""] "dropped at the receive socket because its buffer was full" => lost(run, |of| of.receiver_socket);
        "lost_elsewhere" [""] "lost anywhere else" => lost(run, |of| of.elsewhere);
        "seconds" ["s"] "from the send timestamp of the first datagram to the receive timestamp of the last; if `clock_source` is `none`, from the first to the last receive timestamp; with `--burst`, and the time for which the last burst stands at the mean pace" => run.seconds;
        "kb_per_s" ["KB/s"] "`received_bytes` / 1000 / `seconds`" => run.kb_per_s;
        "kib_per_s" ["KiB/s"] "`received_bytes` / 1024 / `seconds`" => run.kib_per_s;
        "gbit_per_s" ["Gbit/s"] "`received_bytes` * 8 / 10^9 / `seconds`" => run.gbit_per_s;
        "packets_per_s" ["packets/s"] "`unique` / `seconds`" => run.packets_per_s;
        "transit_kb_per_s" ["KB/s"] "`received_bytes` / 1000 / the sum of all transit times; transit times overlap, so this is not the throughput" => run.transit_kb_per_s;
        "latency_count" [""] "recorded latencies" => latency(run, |of| Some(of.count));
        "latency_min_ns" ["ns"] "latency from the actual send, one way or of the round trip" => latency(run, |of| of.min);
        "latency_mean_ns" ["ns"] "latency from the actual send, one way or of the round trip" => run.latency_ns.and_then(|of| of.mean);
        "latency_stdev_ns" ["ns"] "latency from the actual send, one way or of the round trip" => run.latency_ns.and_then(|of| of.stdev);
        "latency_p50_ns" ["ns"] "percentiles of that latency, to 3 digits" => latency(run, |of| of.p50);
        "latency_p90_ns" ["ns"] "percentiles of that latency, to 3 digits" => latency(run, |of| of.p90);
        "latency_p99_ns" ["ns"] "percentiles of that latency, to 3 digits" => latency(run, |of| of.p99);
        "latency_p99_9_ns" ["ns"] "percentiles of that latency, to 3 digits" => latency(run, |of| of.p99_9);
        "latency_p99_99_ns" ["ns"] "percentiles of that latency, to 3 digits" => latency(run, |of| of.p99_99);
        "latency_max_ns" ["ns"] "the largest of these latencies" => latency(run, |of| of.max);
        "latency_negative" [""] "latencies below zero by the estimated clocks: not recorded, 0 in the percentiles" => latency(run, |of| Some(of.out_of_range.negative));
        "latency_too_long" [""] "latencies above 60 s: not recorded, above every given percentile" => latency(run, |of| Some(of.out_of_range.too_long));
        "intended_p50_ns" ["ns"] "latency from the intended send, one way or of the round trip; paced and open loop only" => intended(run, |of| of.p50);
        "intended_p99_ns" ["ns"] "latency from the intended send, one way or of the round trip; paced and open loop only" => intended(run, |of| of.p99);
        "intended_p99_9_ns" ["ns"] "latency from the intended send, one way or of the round trip; paced and open loop only" => intended(run, |of| of.p99_9);
        "intended_max_ns" ["ns"] "latency from the intended send, one way or of the round trip; paced and open loop only" => intended(run, |of| of.max);
        "jitter_ns" ["ns"] "interarrival jitter (RFC 3550); the largest of several streams" => run.jitter_ns;
        "achieved_pps" ["packets/s"] "sent datagrams per second; paced only" => run.pacing.as_ref().and_then(|of| of.achieved_pps);
        "sender_user_s" ["s"] "CPU time of the sending threads, in user mode and in the kernel" => run.cpu.sender_user_s;
        "sender_system_s" ["s"] "CPU time of the sending threads, in user mode and in the kernel" => run.cpu.sender_system_s;
        "receiver_user_s" ["s"] "CPU time of the receiving threads, in user mode and in the kernel" => run.cpu.receiver_user_s;
        "receiver_system_s" ["s"] "CPU time of the receiving threads, in user mode and in the kernel" => run.cpu.receiver_system_s;
        "sender_s_per_million" ["s/M packets"] "user and kernel CPU time per million datagrams sent" => run.cpu.sender_s_per_million;
        "receiver_s_per_million" ["s/M packets"] "user and kernel CPU time per million datagrams received" => run.cpu.receiver_s_per_million;
        "send_syscalls" [""] "system calls that send" => run.engine_stats.send_syscalls;
        "receive_syscalls" [""] "system calls that receive" => run.engine_stats.receive_syscalls;
        "clock_source" [""] "`same` (one kernel's monotonic clock), `estimated`, or `none` (the clock offset is unknown)" => &run.effective.clock.source;
        "clock_offset_ns" ["ns"] "the receiver's clock minus the sender's; empty if unknown" => run.effective.clock.offset_ns;
        "clock_error_ns" ["ns"] "half-width of the error bar of the clock offset; empty if unknown" => run.effective.clock.error_ns;
        "clock_drift_ns" ["ns"] "change of the clock offset during the run; empty if unknown" => run.effective.clock.drift_ns;
        "first_sent_at" [""] "the sender's wall clock at the first datagram" => run.first_sent_at.as_ref();
        "last_received_at" [""] "the receiver's wall clock at the last datagram" => run.last_received_at.as_ref();
        "client_ip" [""] "the sender's address as the receiver sees it" => run.client_ip.as_ref();
        "reason" [""] "why the run is incomplete" => run.reason.as_ref();
        "zerocopy" [""] "zero-copy method: `off`, `splice` or `msg`" => &run.effective.zerocopy;
        "setting" [""] "the compared setting, like `uring, batch 16`; empty without a comparison" => run.setting.as_ref();
        "warnings" [""] "possible effects of the measurement or the host on these figures, a sentence each" => run.warnings.join(" ");
        "seconds_error" ["s"] "half-width of the error bar of `seconds`, from the clock error; empty with one clock or an unknown error" => run.seconds_error;
        "kb_per_s_error" ["KB/s"] "half-width of the error bar of `kb_per_s`, on its longer side; empty if `seconds_error` is" => run.kb_per_s_error;
        "clock_drift_ppm" ["ppm"] "rate difference of the clocks; positive if the receiver's clock is faster" => run.effective.clock.drift_ppm;
        "clock_note" [""] "why the clock offset is unknown or less certain than usual" => run.effective.clock.note.as_ref();
        "direction" [""] "the sending side: `forward` is the client, `reverse` the server" => &run.direction;
        "df" [""] "fragmentation: `on` forbids it (DF set), `off` allows it at any hop, `auto` at the sender once it knows a smaller path MTU" => &run.effective.df;
        "path_mtu" ["bytes"] "path MTU (size of the IP packet) as known to the sender's kernel at the end; empty if unknown" => run.effective.path_mtu;
        "gso_fallbacks" [""] "times that the path rejected segmented sends, so that later datagrams were sent one by one" => run.engine_stats.gso_fallbacks;
        "spin" [""] "whether a paced sender busy-waited before deadlines at the end of the run" => run.effective.spin;
        "icmp_errors" [""] "ICMP errors received by the senders' sockets" => run.engine_stats.icmp.total();
        "lost_causes" [""] "causes of losses on either host and their datagrams, as in `explained.causes[]` of `run.json`; with `--explain` only" => run.explained.as_ref().map(|of| losses::cell(&of.causes));
        "lost_between" [""] "datagrams lost between the two hosts; with `--explain` only, and empty if a host did not explain its side" => run.explained.as_ref().and_then(|of| of.between);
        "lost_surplus" [""] "by how much the causes exceed the losses; with `--explain` only" => run.explained.as_ref().map(|of| of.surplus);
        "multicast" [""] "multicast group of the data; empty if they were sent to the receiver's address" => run.requested.traffic.multicast.as_ref();
        "sizes" [""] "requested sizes of message bytes: `imix`, sizes with weights, or a range; empty if all datagrams have `chunk`" => run.requested.traffic.sizes.as_ref();
        "mean_chunk" ["bytes"] "mean of these sizes; empty if all datagrams have `chunk`" => run.effective.mean_chunk;
        "burst" [""] "requested datagrams of a burst; empty without bursts" => run.requested.traffic.burst.map(u64::from);
        "gap" [""] "`poisson`: exponential gaps between datagrams or bursts; empty if the gaps are equal" => run.requested.traffic.gap.as_ref();
        "seed" [""] "seed of these gaps; empty if the gaps are equal" => run.requested.traffic.seed;
        "dscp" [""] "requested DSCP, by name or number; empty for the default" => run.requested.traffic.dscp.map(dscp_name);
        "ecn" [""] "requested ECN field: `not-ect`, `ect0`, `ect1` or `ce`; empty for the default" => run.requested.traffic.ecn.as_ref();
        "ttl" [""] "requested TTL or hop limit; empty for the default" => run.requested.traffic.ttl.map(u64::from);
        "received_not_ect" [""] "received datagrams by ECN field, duplicates included; with `--dscp` or `--ecn` only" => marks(run, |of| of.not_ect);
        "received_ect0" [""] "received datagrams by ECN field, duplicates included; with `--dscp` or `--ecn` only" => marks(run, |of| of.ect0);
        "received_ect1" [""] "received datagrams by ECN field, duplicates included; with `--dscp` or `--ecn` only" => marks(run, |of| of.ect1);
        "received_ce" [""] "received datagrams by ECN field, duplicates included; with `--dscp` or `--ecn` only" => marks(run, |of| of.ce);
        "dscp_changed" [""] "received datagrams whose DSCP is not the one they were sent with; with `--dscp` or `--ecn` only" => marks(run, |of| of.dscp_changed);
        "timestamps" [""] "who took the receive stamps: `user` or `kernel` (`--timestamps`)" => timestamps(run);
        "stage_sender_p50_ns" ["ns"] "time from the sender's stamp to its qdisc; with `--explain` only, and empty without stamps" => stage(run, |of| &of.sender, |of| of.p50);
        "stage_sender_p99_ns" ["ns"] "time from the sender's stamp to its qdisc; with `--explain` only, and empty without stamps" => stage(run, |of| &of.sender, |of| of.p99);
        "stage_qdisc_p50_ns" ["ns"] "time from the qdisc to the driver, as above" => stage(run, |of| &of.qdisc, |of| of.p50);
        "stage_qdisc_p99_ns" ["ns"] "time from the qdisc to the driver, as above" => stage(run, |of| &of.qdisc, |of| of.p99);
        "stage_wire_p50_ns" ["ns"] "time from the sender's driver to the receiver's kernel, as above" => stage(run, |of| &of.wire, |of| of.p50);
        "stage_wire_p99_ns" ["ns"] "time from the sender's driver to the receiver's kernel, as above" => stage(run, |of| &of.wire, |of| of.p99);
        "stage_receiver_p50_ns" ["ns"] "time from the receiver's kernel to its stamp, as above" => stage(run, |of| &of.receiver, |of| of.p50);
        "stage_receiver_p99_ns" ["ns"] "time from the receiver's kernel to its stamp, as above" => stage(run, |of| &of.receiver, |of| of.p99);
        "via" [""] "relay that all datagrams went through; empty on a direct path" => run.requested.via.as_ref();
        "latency_by_size" [""] "median and 99 % latency in ns of each size of a mix, by message bytes; empty without a mix" => by_size::cell(&run.latency_by_size);
        "unsent" [""] "datagrams that were due before the end of `requested_duration_s` and that the sender never offered to its kernel, as it stalled or is too slow; not in `sent_packets` and without latency or lateness; paced only" => run.pacing.as_ref().and_then(|of| of.unsent);
        "clock_drift_error_ns" ["ns"] "half-width of the error bar of `clock_drift_ns`; empty if unknown" => run.effective.clock.drift_error_ns;
        "clock_drift_error_ppm" ["ppm"] "half-width of the error bar of `clock_drift_ppm`; empty if unknown" => run.effective.clock.drift_error_ppm;
    }
}

fn cpus(list: Option<&[usize]>) -> String {
    let list = list.unwrap_or_default().iter();
    list.map(usize::to_string).collect::<Vec<_>>().join(" ")
}

/// 0 stands for a setting of the other side that was not reported.
fn positive(value: usize) -> Option<usize> {
    (value > 0).then_some(value)
}

fn sent(run: &Run, of: impl Fn(&Traffic) -> u64) -> Option<u64> {
    (!run.sent.is_unknown).then(|| of(&run.sent))
}

fn received(run: &Run, of: impl Fn(&Received) -> u64) -> Option<u64> {
    (!run.received.is_unknown).then(|| of(&run.received))
}

fn lost(run: &Run, of: impl Fn(&Lost) -> u64) -> Option<u64> {
    (!run.lost.is_unknown).then(|| of(&run.lost))
}

fn marks(run: &Run, of: impl Fn(&Marks) -> u64) -> Option<u64> {
    run.marks.as_ref().map(of)
}

/// Records from before the option have stamps of the user.
fn timestamps(run: &Run) -> &str {
    match run.effective.timestamps.as_str() {
        "" => "user",
        by => by,
    }
}

fn stage(
    run: &Run,
    stage: impl Fn(&Stages) -> &Stage,
    of: impl Fn(&Summary) -> Option<u64>,
) -> Option<u64> {
    let stages = run.stages.as_ref()?;
    stage(stages).latency_ns.as_ref().and_then(of)
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
    use crate::report::sample::udp as sample;
    use std::collections::{HashMap, HashSet};

    fn cells(run: &Run) -> HashMap<&'static str, String> {
        let record = sample::record(Vec::new());
        let row = LedgerRow {
            id: "20261122T140501Z-udp-abc123",
            number: 0,
            meta: &record.meta,
            run,
        };
        let cells = row.cells().map(|cell| cell.to_string());
        LedgerRow::<Run>::names().zip(cells).collect()
    }

    #[test]
    fn column_names_are_unique_and_a_full_run_fills_all_columns() {
        let names = LedgerRow::<Run>::names;
        assert_eq!(names().collect::<HashSet<_>>().len(), names().count());
        let mut run = sample::measured().run;
        run.requested.via = sample::round_trips().requested.via;
        for (name, cell) in cells(&run) {
            assert!(!cell.is_empty(), "{name}");
        }
    }

    #[test]
    fn unknown_values_are_empty() {
        let run = Run {
            kb_per_s: Some(f64::NAN),
            ..Run::default()
        };
        let cells = cells(&run);
        for name in [
            "seconds",
            "kb_per_s",
            "latency_count",
            "latency_p50_ns",
            "intended_max_ns",
            "receiver_user_s",
            "sender_cpus",
            "seconds_error",
            "kb_per_s_error",
            "clock_offset_ns",
            "clock_error_ns",
            "clock_drift_ns",
            "client_ip",
        ] {
            assert_eq!(cells[name], "", "{name}");
        }
    }

    #[test]
    fn cells_are_the_figures_of_the_run() {
        let cells = cells(&sample::measured().run);
        assert_eq!(cells["sender_cpus"], "0 2");
        assert_eq!(cells["gbit_per_s"], "17.0765");
        assert_eq!(cells["clock_offset_ns"], "-1234567");
        assert_eq!(cells["seconds_error"], "0.00000085");
        assert_eq!(
            cells["latency_max_ns"],
            sample::measured()
                .run
                .latency_ns
                .unwrap()
                .max
                .unwrap()
                .to_string()
        );
    }
}
