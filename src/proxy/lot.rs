//! How much of a direction is taken at once.

use std::os::fd::AsFd;

use super::relay::{Direction, Relay};
use crate::sys::tcp;

/// Bytes of the buffer to copy through. A lot is as many whole segments as fit: loopback's are of 65,483 bytes.
pub(super) const BUFFER: usize = 64 << 10;

/// How much to take at once: whole segments of the sink. They grow once a connection has carried some, so they are
/// looked at again after 1, 3, 7, 15, … lots, where the last one was full: small messages never ask.
pub(super) fn measured(
    relay: &mut Relay,
    direction: Direction,
    sink: &impl AsFd,
    most: usize,
) -> usize {
    let flow = relay.flow(direction);
    if !(flow.is_full() && (flow.counts().fills + 1).is_power_of_two()) {
        return most;
    }
    let lot = match tcp::segment(sink) {
        Ok(segment @ 1..=BUFFER) => BUFFER / segment * segment,
        _ => BUFFER,
    };
    flow.set_lot(lot);
    lot
}
