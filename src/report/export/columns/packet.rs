//! The columns of `packets.csv` after the number of the run.

use crate::report::export::column::columns;
use crate::report::export::packets::PacketRow;

columns! {
    /// A received datagram.
    pub PACKET: PacketRow = |row| {
        "stream" [""] "number of the socket pair, from 0" => row.stream;
        "sequence" [""] "number of the datagram, from 0 in each stream" => row.sequence;
        "sent_ns" ["ns"] "send time on a monotonic clock; with estimated clocks, the receiver's" => row.sent_ns;
        "received_ns" ["ns"] "receive time on the clock of `sent_ns`, as `--timestamps` chooses it" => row.received_ns;
        "latency_ns" ["ns"] "`received_ns` - `sent_ns`; negative if the clock offset is wrong by more than the transit time, empty if the offset is unknown"
            => row.clocks_related.then(|| i128::from(row.received_ns) - i128::from(row.sent_ns));
        "intended_ns" ["ns"] "when the datagram was due, on the clock of `sent_ns`; empty unless the run is paced" => row.intended_ns;
    }
}
