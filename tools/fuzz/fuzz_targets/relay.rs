//! A relay between two ends that send, stall, end and break as the input selects. The simulation asserts the invariants; the
//! property tests use it too.
//!
//! The first byte selects the forwarding method and whether errors may occur, the next two the data of each end (in tens of
//! bytes); each further byte is the outcome of a step.

#![no_main]

#[path = "../../../src/proxy/relay/sim.rs"]
mod sim;

use libfuzzer_sys::fuzz_target;
// The simulation imports these from its parent.
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
    let errors = kind & 0x80 != 0;
    let outcome = sim::run(forwarding, amount, script, errors);
    assert!(outcome.verdict.is_some());
    if !errors {
        assert_eq!(outcome.verdict, Some(Verdict::Finished));
        assert_eq!(outcome.arrived, amount);
    }
    assert!(forwarding != Forwarding::Copy || outcome.spliced == 0);
});
