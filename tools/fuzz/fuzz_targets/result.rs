//! The results of a server: an accepted one has the identities of a run, and no number panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wirebench::stats::latency::Latency;
use wirebench::udp::client::check::Known;
use wirebench::udp::plan::Plan;
use wirebench::udp::latencies::Latencies;
use wirebench::udp::wire::plan;
use wirebench::udp::wire::results::{Done, Interval, SenderResult, StreamReceived, StreamSent};

type Input = (
    plan::Plan,
    Vec<StreamSent>,
    Vec<StreamReceived>,
    StreamReceived,
    Done,
    Vec<SenderResult>,
    Interval,
    Vec<(u64, u64)>,
);

fuzz_target!(|bytes: &[u8]| {
    let Ok((plan, sent, received, rows, done, senders, row, counts)) =
        serde_json::from_slice::<Input>(bytes)
    else {
        return;
    };
    let plan = Plan::from(plan);
    if plan.validate().is_err() {
        return;
    }
    let known = Known {
        plan: &plan,
        session: (1_000_000_000, 3_000_000_000),
        offset: bytes.len().is_multiple_of(2).then_some((5, 1_000)),
        is_complete: bytes.len().is_multiple_of(3),
    };
    let mut latencies = Latencies::default();
    latencies.actual.absorb(&counts);
    let _ = known.interval(&row);
    let _ = known.sent(&senders, &received, [&latencies.actual, &Latency::new()]);
    if known
        .received(&sent, &received, &rows, &done, &latencies)
        .is_ok()
        && known.is_complete
    {
        for (number, stream) in received.iter().enumerate() {
            assert!(stream.unique <= sent.get(number).map_or(0, |of| of.packets));
            assert!(stream.unique.checked_add(stream.duplicates).is_some());
        }
    }
});
