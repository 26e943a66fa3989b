//! Zero-copy sends of the mio engine.

use super::{Check, State};
use crate::sys::rlimit::UNLIMITED_MEMLOCK;
use crate::udp::engine::zerocopy::{is_memory, message, splice};

const AREA: &str = "zero-copy";

/// Runs all checks of zero-copy sends except those of io_uring.
pub fn checks() -> Vec<Check> {
    let name = "MSG_ZEROCOPY";
    let message = match message() {
        Err(error) if is_memory(&error) => Check::ok(AREA, name, error.to_string())
            .shortfall(
                State::Missing,
                "--zerocopy msg is refused: a message is larger than the lockable memory",
            )
            .remedy(UNLIMITED_MEMLOCK),
        outcome => Check::from_trial(
            AREA,
            name,
            outcome,
            "--zerocopy msg is refused; requires Linux 5.0",
        ),
    };
    let splice = Check::from_trial(
        AREA,
        "vmsplice, splice to UDP",
        splice(),
        "--zerocopy splice is refused",
    );
    vec![message, splice]
}
