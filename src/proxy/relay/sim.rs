//! A simulated client and server for a [`Relay`]. A script of bytes decides the outcome of each step. The property tests
//! and the fuzz target use it.

use std::collections::VecDeque;

use super::{Direction, Forwarding, Readable, Relay, Side, Step, Verdict, Via};

/// Bytes of a chunk.
const CHUNK: usize = 8;

/// One direction. Its source sends the numbers from 0 up.
#[derive(Default)]
struct Path {
    sent: u64,
    limit: u64,
    /// All bytes are available.
    last: bool,
    ended: bool,
    failed: bool,
    /// In memory and in the pipe.
    buffered: VecDeque<u8>,
    via: Option<Via>,
    arrived: u64,
    broken: bool,
    shut: bool,
}

/// The outcome of a simulation.
pub(super) struct Outcome {
    pub(super) verdict: Option<Verdict>,
    pub(super) arrived: [u64; 2],
    pub(super) spliced: u64,
}

/// Runs a relay by a script, in which each end sends up to `amount` bytes, and then without faults until it has finished.
/// Panics if the relay violates an invariant.
pub(super) fn run(
    forwarding: Forwarding,
    amount: [u64; 2],
    script: &[u8],
    faults: bool,
) -> Outcome {
    let mut relay = Relay::new(forwarding, CHUNK);
    let mut paths = amount.map(|limit| Path {
        limit,
        ..Path::default()
    });
    let mut script = script.iter().copied();
    let mut is_calm = false;
    let mut idle = 0;
    // Without faults, each turn moves at least a byte, or is one of a few that change a state.
    let most = 64 + script.len() + 8 * (amount[0] + amount[1]) as usize;
    for turn in 0.. {
        assert!(turn < most, "it never ends");
        let luck = script.next().unwrap_or_else(|| {
            is_calm = true;
            0xff
        });
        let direction = if turn % 2 == 0 {
            Direction::ToServer
        } else {
            Direction::ToClient
        };
        relay.set_bulk_method(match luck & 0x20 {
            0 => Via::Copy,
            _ => Via::Pipe,
        });
        let path = &mut paths[turn % 2];
        if luck & 1 == 1 {
            let what = match luck & 0x12 {
                0x02 => Readable::Doubtful,
                0x12 => Readable::Last,
                _ => Readable::Open,
            };
            path.last |= what == Readable::Last;
            relay.flow(direction).readable(what);
        }
        if luck & 4 == 4 {
            relay.flow(direction).writable();
        }
        let before = (relay.step(direction), relay.verdict());
        act(&mut relay, direction, path, luck, faults && !is_calm);
        check(&mut relay, direction, path);
        if relay.verdict().is_some() {
            break;
        }
        let stuck = matches!(before.0, Step::AwaitSink | Step::AwaitSource | Step::Over);
        idle = if is_calm && stuck { idle + 1 } else { 0 };
        assert!(
            idle < 8,
            "nothing is left to happen, and it is not over: {before:?}"
        );
    }
    let spliced = relay.to_server.counts().spliced + relay.to_client.counts().spliced;
    let verdict = relay.verdict();
    match verdict {
        Some(Verdict::Finished) => assert!(
            paths
                .iter()
                .all(|path| path.shut && path.arrived == path.sent && path.ended),
            "it did not all arrive"
        ),
        Some(Verdict::Reset(side)) => {
            let (from, to) = match side {
                Side::Client => (&paths[0], &paths[1]),
                Side::Server => (&paths[1], &paths[0]),
            };
            assert!(from.failed || to.broken, "the wrong end is blamed");
        }
        None => {}
    }
    // The end is final.
    if verdict.is_some() {
        for direction in [Direction::ToServer, Direction::ToClient] {
            relay.flow(direction).readable(Readable::Doubtful);
            relay.flow(direction).writable();
            assert_eq!(relay.step(direction), Step::Over);
        }
        assert_eq!(relay.verdict(), verdict);
    }
    Outcome {
        verdict,
        arrived: [paths[0].arrived, paths[1].arrived],
        spliced,
    }
}

/// Performs the step of the relay with the outcome that `luck` decides.
fn act(relay: &mut Relay, direction: Direction, path: &mut Path, luck: u8, faults: bool) {
    let step = relay.step(direction);
    let flow = relay.flow(direction);
    match step {
        Step::Fill { via, most } => {
            assert!(path.buffered.is_empty(), "filled before it was drained");
            assert!(!path.ended && most > 0);
            if faults && luck >> 3 == 7 {
                path.failed = true;
                relay.source_failed(direction);
            } else if via == Via::Pipe && luck >> 3 == 9 {
                flow.no_pipe();
            } else if path.sent == path.limit {
                path.ended = true;
                flow.ended();
            } else if luck >> 5 == 0 && !path.last {
                flow.source_empty();
            } else {
                let wanted = (luck >> 3) as usize % most + 1;
                let whole = luck >= 0xc0 || (path.last && via == Via::Copy);
                let wanted = if whole { most } else { wanted };
                let bytes = wanted.min((path.limit - path.sent) as usize);
                for _ in 0..bytes {
                    path.buffered.push_back(path.sent as u8);
                    path.sent += 1;
                }
                path.via = Some(via);
                flow.filled(bytes);
                if !flow.is_open() {
                    assert!(path.last && path.sent == path.limit, "it ends too early");
                    path.ended = true;
                }
            }
        }
        Step::Drain { via, most, last } => {
            assert_eq!(path.via, Some(via), "drained where nothing is");
            assert_eq!(most, path.buffered.len());
            assert_eq!(last, path.ended);
            assert!(!path.shut && !path.broken);
            if faults && luck >> 3 == 7 {
                path.broken = true;
                path.buffered.clear();
                flow.broken();
            } else if luck >> 5 == 1 {
                flow.sink_full();
            } else {
                let bytes = if luck >= 0xc0 {
                    most
                } else {
                    (luck >> 3) as usize % most + 1
                };
                for byte in path.buffered.drain(..bytes) {
                    assert_eq!(byte, path.arrived as u8, "out of order");
                    path.arrived += 1;
                }
                flow.drained(bytes);
            }
        }
        Step::Shut => {
            assert!(!path.shut, "shut twice");
            assert!(path.ended && path.buffered.is_empty());
            path.shut = true;
            flow.shut();
        }
        Step::AwaitSource => assert!(path.buffered.is_empty()),
        Step::AwaitSink => assert!(!path.buffered.is_empty()),
        Step::Over => {}
    }
}

fn check(relay: &mut Relay, direction: Direction, path: &Path) {
    let flow = relay.flow(direction);
    assert_eq!(flow.buffered(), path.buffered.len());
    assert_eq!(flow.is_shut(), path.shut);
    let counts = flow.counts();
    assert_eq!((counts.filled, counts.drained), (path.sent, path.arrived));
    assert!(counts.drained <= counts.filled && counts.spliced <= counts.drained);
}
