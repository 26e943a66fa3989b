//! The columns of `packets.csv` after the number of the run.

use crate::report::export::column::columns;
use crate::report::export::packets::PacketRow;

columns! {
    /// A received datagram.
    pub PACKET: PacketRow = |row| {
        "stream" [""] "number of the socket pair, from 0" => row.stream;
        "sequence" [""] "number of the datagram, from 0 in each stream" => row.sequence;
        "sent_ns" ["ns"] "time of the send on a monotonic clock without a date; with estimated clocks, the receiver's clock" => row.sent_ns;
        "received_ns" ["ns"] "time of the arrival on the same clock" => row.received_ns;
        "latency_ns" ["ns"] "`received_ns` - `sent_ns`; negative if the error of the clocks' offset exceeds the one-way latency, empty if the offset is unknown"
            => row.clocks_related.then(|| i128::from(row.received_ns) - i128::from(row.sent_ns));
    }
}
