//! A relay between two ends that send, stall, end and fail as the input decides. `sim.rs`, which the property tests use
//! too, asserts the invariants.
//!
//! The first byte chooses the forwarding and whether there are faults, the next two how much each end sends (in tens of
//! bytes). Each further byte decides the outcome of a step.

#![no_main]

#[path = "../../../src/proxy/relay/sim.rs"]
mod sim;

use libfuzzer_sys::fuzz_target;
// Imports that `sim` expects in its parent.
use wirebench::proxy::relay::{Direction, Forwarding, Readable, Relay, Side, Step, Verdict, Via};

fuzz_target!(|bytes: &[u8]| {
    let [kind, to_server, to_client, script @ ..] = bytes else {
        return;
    };
    let forwarding = match kind % 3 {
        0 => Forwarding::Auto,
        1 => Forwarding::Copy,
        _ => Forwarding::Splice,
    };
    let amount = [to_server, to_client].map(|tens| u64::from(*tens) * 10);
    let faults = kind & 0x80 != 0;
    let outcome = sim::run(forwarding, amount, script, faults);
    assert!(outcome.verdict.is_some());
    if !faults {
        assert_eq!(outcome.verdict, Some(Verdict::Finished));
        assert_eq!(outcome.arrived, amount);
    }
    assert!(forwarding != Forwarding::Copy || outcome.spliced == 0);
});
