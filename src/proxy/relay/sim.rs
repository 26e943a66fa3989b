//! A client, a server and what lies between, for a [`Relay`] to be driven through: what comes of each step is told by a
//! script of bytes. Shared by the property tests and the fuzz target.

use std::collections::VecDeque;

use super::{Direction, Forwarding, Readable, Relay, Side, Step, Verdict, Via};

/// Bytes a chunk in these worlds.
const CHUNK: usize = 8;

/// One end's way to the other: what it sends is the numbers from 0 up.
#[derive(Default)]
struct Way {
    sent: u64,
    limit: u64,
    /// All of it is there.
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

/// What became of a relay.
pub(super) struct Told {
    pub(super) verdict: Option<Verdict>,
    pub(super) arrived: [u64; 2],
    pub(super) spliced: u64,
}

/// Drives a relay by a script, each end sending up to `amount` bytes, then, where the script has not broken it, to its
/// end without further faults. Panics where a promise of the relay's is broken.
pub(super) fn run(forwarding: Forwarding, amount: [u64; 2], script: &[u8], faults: bool) -> Told {
    let mut relay = Relay::new(forwarding, CHUNK);
    let mut ways = amount.map(|limit| Way {
        limit,
        ..Way::default()
    });
    let mut script = script.iter().copied();
    let mut calm = false;
    let mut idle = 0;
    // Each turn of a calm sim moves at least a byte, or is one of a few that change a state.
    let most = 64 + script.len() + 8 * (amount[0] + amount[1]) as usize;
    for turn in 0.. {
        assert!(turn < most, "it goes on for ever");
        let luck = script.next().unwrap_or_else(|| {
            calm = true;
            0xff
        });
        let direction = if turn % 2 == 0 {
            Direction::ToServer
        } else {
            Direction::ToClient
        };
        let way = &mut ways[turn % 2];
        if luck & 1 == 1 {
            let what = match luck & 0x12 {
                0x02 => Readable::Doubtful,
                0x12 => Readable::Last,
                _ => Readable::Open,
            };
            way.last |= what == Readable::Last;
            relay.flow(direction).readable(what);
        }
        if luck & 4 == 4 {
            relay.flow(direction).writable();
        }
        let before = (relay.step(direction), relay.verdict());
        act(&mut relay, direction, way, luck, faults && !calm);
        check(&mut relay, direction, way);
        if relay.verdict().is_some() {
            break;
        }
        let stuck = matches!(before.0, Step::AwaitSink | Step::AwaitSource | Step::Over);
        idle = if calm && stuck { idle + 1 } else { 0 };
        assert!(
            idle < 8,
            "nothing is left to happen, and it is not over: {before:?}"
        );
    }
    let spliced = relay.to_server.counts().spliced + relay.to_client.counts().spliced;
    let verdict = relay.verdict();
    match verdict {
        Some(Verdict::Finished) => assert!(
            ways.iter()
                .all(|way| way.shut && way.arrived == way.sent && way.ended),
            "it did not all arrive"
        ),
        Some(Verdict::Reset(side)) => {
            let (from, to) = match side {
                Side::Client => (&ways[0], &ways[1]),
                Side::Server => (&ways[1], &ways[0]),
            };
            assert!(from.failed || to.broken, "the wrong end is blamed");
        }
        None => {}
    }
    // Nothing more happens after the end.
    if verdict.is_some() {
        for direction in [Direction::ToServer, Direction::ToClient] {
            relay.flow(direction).readable(Readable::Doubtful);
            relay.flow(direction).writable();
            assert_eq!(relay.step(direction), Step::Over);
        }
        assert_eq!(relay.verdict(), verdict);
    }
    Told {
        verdict,
        arrived: [ways[0].arrived, ways[1].arrived],
        spliced,
    }
}

/// Does what the relay says, as luck has it.
fn act(relay: &mut Relay, direction: Direction, way: &mut Way, luck: u8, faults: bool) {
    let step = relay.step(direction);
    let flow = relay.flow(direction);
    match step {
        Step::Fill { via, most } => {
            assert!(way.buffered.is_empty(), "filled before it was drained");
            assert!(!way.ended && most > 0);
            if faults && luck >> 3 == 7 {
                way.failed = true;
                relay.source_failed(direction);
            } else if via == Via::Pipe && luck >> 3 == 9 {
                flow.no_pipe();
            } else if way.sent == way.limit {
                way.ended = true;
                flow.ended();
            } else if luck >> 5 == 0 && !way.last {
                flow.source_empty();
            } else {
                let wanted = (luck >> 3) as usize % most + 1;
                let whole = luck >= 0xc0 || (way.last && via == Via::Copy);
                let wanted = if whole { most } else { wanted };
                let bytes = wanted.min((way.limit - way.sent) as usize);
                for _ in 0..bytes {
                    way.buffered.push_back(way.sent as u8);
                    way.sent += 1;
                }
                way.via = Some(via);
                flow.filled(bytes);
                if !flow.is_open() {
                    assert!(way.last && way.sent == way.limit, "it ends too early");
                    way.ended = true;
                }
            }
        }
        Step::Drain { via, most, last } => {
            assert_eq!(way.via, Some(via), "drained where nothing is");
            assert_eq!(most, way.buffered.len());
            assert_eq!(last, way.ended);
            assert!(!way.shut && !way.broken);
            if faults && luck >> 3 == 7 {
                way.broken = true;
                way.buffered.clear();
                flow.broken();
            } else if luck >> 5 == 1 {
                flow.sink_full();
            } else {
                let bytes = if luck >= 0xc0 {
                    most
                } else {
                    (luck >> 3) as usize % most + 1
                };
                for byte in way.buffered.drain(..bytes) {
                    assert_eq!(byte, way.arrived as u8, "out of order");
                    way.arrived += 1;
                }
                flow.drained(bytes);
            }
        }
        Step::Shut => {
            assert!(!way.shut, "shut twice");
            assert!(way.ended && way.buffered.is_empty());
            way.shut = true;
            flow.shut();
        }
        Step::AwaitSource => assert!(way.buffered.is_empty()),
        Step::AwaitSink => assert!(!way.buffered.is_empty()),
        Step::Over => {}
    }
}

fn check(relay: &mut Relay, direction: Direction, way: &Way) {
    let flow = relay.flow(direction);
    assert_eq!(flow.buffered(), way.buffered.len());
    assert_eq!(flow.is_shut(), way.shut);
    let counts = flow.counts();
    assert_eq!((counts.filled, counts.drained), (way.sent, way.arrived));
    assert!(counts.drained <= counts.filled && counts.spliced <= counts.drained);
}
