//! The columns of a rank in `ranks.csv`.

use crate::report::export::column::{Cell, columns};
use crate::udp::result::{Lost, Rank, Received, Traffic};

columns! {
    /// A rank of a merged run.
    pub RANK: Rank = |rank| {
        "rank" [""] "the rank; empty of saved runs and of the total" => rank.rank;
        "name" [""] "`rank N`, the name of the saved run's folder, or `total`" => &rank.name;
        "host" [""] "the rank's host; of saved runs, the name of the folder" => &rank.host;
        "complete" [""] "`true` if the rank's run reached its end and both sides reported" => rank.complete;
        "ended" [""] "as in `udp.csv`" => &rank.ended;
        "start_ns" ["ns"] "from the common start to the rank's first datagram; of the total, the skew of the start: from the first rank's to the last rank's" => rank.start_ns;
        "sent_packets" [""] "datagrams passed to the kernel" => sent(rank, |of| of.packets);
        "sent_bytes" ["bytes"] "message bytes of these datagrams" => sent(rank, |of| of.bytes);
        "received_packets" [""] "`unique` + `duplicates`" => received(rank, |of| of.packets);
        "received_bytes" ["bytes"] "message bytes of the unique datagrams" => received(rank, |of| of.bytes);
        "unique" [""] "first arrivals of a sequence number" => received(rank, |of| of.unique);
        "duplicates" [""] "further arrivals of a sequence number" => received(rank, |of| of.duplicates);
        "reordered" [""] "first arrivals with a lower sequence number than an earlier one" => received(rank, |of| of.reordered);
        "lost_packets" [""] "`sent_packets` - `unique`: the sum of the next three" => lost(rank, |of| of.packets);
        "lost_not_sent" [""] "as in `udp.csv`" => lost(rank, |of| of.not_sent);
        "lost_receiver_socket" [""] "as in `udp.csv`" => lost(rank, |of| of.receiver_socket);
        "lost_elsewhere" [""] "as in `udp.csv`" => lost(rank, |of| of.elsewhere);
        "seconds" ["s"] "as in `udp.csv`; of the total, the time in which at least one rank's datagrams were under way" => rank.seconds;
        "kb_per_s" ["KB/s"] "`received_bytes` / 1000 / `seconds`" => rank.kb_per_s;
        "latency_p50_ns" ["ns"] "percentiles of the latency from the actual send" => rank.latency_p50_ns;
        "latency_p99_ns" ["ns"] "percentiles of the latency from the actual send" => rank.latency_p99_ns;
        "latency_max_ns" ["ns"] "the largest of these latencies" => rank.latency_max_ns;
        "sender_s" ["s"] "CPU time of the sending threads" => rank.sender_s;
        "receiver_s" ["s"] "CPU time of the threads that received the rank's datagrams" => rank.receiver_s;
        "phase_ns" ["ns"] "part of `start_ns` by which the schedule is shifted, so that paced ranks take turns; the skew is without it" => rank.phase_ns;
    }
}

fn sent(rank: &Rank, of: fn(&Traffic) -> u64) -> Cell {
    let sent = &rank.sent;
    (!sent.is_unknown).then(|| of(sent)).into()
}

fn received(rank: &Rank, of: fn(&Received) -> u64) -> Cell {
    let received = &rank.received;
    (!received.is_unknown).then(|| of(received)).into()
}

fn lost(rank: &Rank, of: fn(&Lost) -> u64) -> Cell {
    let lost = &rank.lost;
    (!lost.is_unknown).then(|| of(lost)).into()
}
