//! What `--explain` reads: text of the kernel that may be cut, and reports of another host. Nothing panics; a parsed drop is
//! complete; the causes and the rest sum to the losses.
//!
//! The first byte selects: text, or a report.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wirebench::sys::{device, net_counters};
use wirebench::udp::explain::drops;
use wirebench::udp::result::causes::{LossInputs, explain};
use wirebench::udp::wire::explain::HostReport;

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, rest)) = bytes.split_first() else {
        return;
    };
    if kind % 2 == 0 {
        return text(&String::from_utf8_lossy(rest));
    }
    let Ok((lost, not_sent, both, sender, receiver)) =
        serde_json::from_slice::<(u32, u32, bool, HostReport, HostReport)>(rest)
    else {
        return;
    };
    let inputs = LossInputs {
        lost: lost.into(),
        not_sent: not_sent.min(lost).into(),
        socket_drops: 3,
        repeats: 2,
        partial_sends: 1,
        other_partial_sends: 0,
        segments: 64,
        coalesced: 64,
        both_directions: both,
        lost_exchanges: 2,
        sender: Some(sender),
        receiver: Some(receiver),
    };
    let explained = explain(inputs);
    let sum: u128 = explained.causes.iter().map(|cause| u128::from(cause.datagrams)).sum();
    // Sums beyond 64 bits are cut.
    if sum < u64::MAX.into() {
        let between = u128::from(explained.between.unwrap_or(0));
        assert_eq!(sum + between, u128::from(lost) + u128::from(explained.surplus));
    }
});

fn text(text: &str) {
    for line in text.lines() {
        if let Some(drop) = drops::parse(line) {
            assert!(!drop.place.is_empty() && !drop.reason.is_empty());
            let _ = drops::class(drop.reason);
        }
    }
    let _ = drops::filter(text);
    let v4 = net_counters::parse_v4(text);
    let v6 = net_counters::parse_v6(text);
    assert!(v4.len().max(v6.len()) <= 23);
    let _ = net_counters::parse_softnet(text);
    let _ = device::parse_drops(text, "eth0");
}
