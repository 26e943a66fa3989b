//! How many bytes one chunk of a direction is, and how many chunks one turn is.

use std::os::fd::AsFd;

use super::relay::{Direction, Relay};
use crate::sys::tcp;

/// Bytes of a buffer. A chunk is as many whole segments as fit: those of loopback are 65,483 bytes.
pub(super) const CHUNK_SIZE: usize = 64 << 10;

/// Chunks of one round, which all connections that can continue share.
const ROUND_QUANTUM: usize = 512;

/// Most chunks of one turn. Longer turns wake both ends less often. Copying on two cores, medians of 9 to 15 interleaved
/// rounds: with four streams, turns of 32 chunks carried 1.2 times the bytes of turns of 4 at 0.77 of the CPU, and turns of
/// 128 carried 1.10 times those of 32 at 0.86; with 16 streams 1.33 times at 0.76.
const TURN_QUANTUM: usize = 128;

/// Chunks between two looks at events, 0.1 to 0.2 ms, and the fewest chunks of one turn. With turns that were not
/// interrupted, requests beside four bulk streams took 39 ms, and now take 0.6 ms (medians).
pub(super) const SLICE_QUANTUM: usize = 4;

/// Chunks of input that one turn of a closing connection discards.
pub(super) const DISCARD_QUANTUM: usize = 4;

/// Chunks of one turn if so many connections can continue.
pub(super) fn turn_quantum(connections: usize) -> usize {
    (ROUND_QUANTUM / connections.max(1)).clamp(SLICE_QUANTUM, TURN_QUANTUM)
}

/// The size of the next chunk in bytes, at most `most` at first: whole segments of the sink. Segments grow once a connection
/// has carried some bytes, so their size is read again after 1, 3, 7, 15, … chunks if the last one was full. Small messages
/// never cause that system call.
pub(super) fn chunk_size(
    relay: &mut Relay,
    direction: Direction,
    sink: Option<&impl AsFd>,
    most: usize,
) -> usize {
    let flow = relay.flow(direction);
    if !(flow.is_full() && (flow.counts().fills + 1).is_power_of_two()) {
        return most;
    }
    let size = match sink.map(tcp::segment) {
        Some(Ok(segment @ 1..=CHUNK_SIZE)) => CHUNK_SIZE / segment * segment,
        _ => CHUNK_SIZE,
    };
    flow.set_chunk_size(size);
    size
}
