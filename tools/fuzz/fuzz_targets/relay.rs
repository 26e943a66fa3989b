//! A relay between two ends that send, stall, end and break as the input says. What must queue is asserted in `sim.rs`,
//! which the property tests use too.
//!
//! The first byte chooses the forwarding and whether things may break, the next two how much each end sends (in tens of
//! bytes); each of the rest is the luck of a step.

#![no_main]

#[path = "../../../src/proxy/relay/sim.rs"]
mod sim;

use libfuzzer_sys::fuzz_target;
// What `sim` finds above itself.
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
