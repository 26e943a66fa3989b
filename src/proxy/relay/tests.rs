use proptest::prelude::*;

use super::sim::run;
use super::*;

fn any_forwarding() -> impl Strategy<Value = Forwarding> {
    prop::sample::select(vec![Forwarding::Auto, Forwarding::Copy, Forwarding::Splice])
}

/// Fills and drains a chunk of `bytes`, and says how it went.
fn chunk(flow: &mut Flow, bytes: usize) -> Via {
    flow.readable(Readable::Doubtful);
    flow.writable();
    let Step::Fill { via, .. } = flow.step() else {
        panic!("{flow:?}");
    };
    flow.filled(bytes);
    flow.drained(bytes);
    via
}

proptest! {
    #[test]
    fn everything_arrives_once_and_in_order_whatever_the_weather(
        forwarding in any_forwarding(),
        amount in [0u64..2_000, 0u64..2_000],
        script in prop::collection::vec(any::<u8>(), 0..3_000),
    ) {
        let told = run(forwarding, amount, &script, false);
        prop_assert_eq!(told.verdict, Some(Verdict::Finished));
        prop_assert_eq!(told.arrived, amount);
        if forwarding == Forwarding::Copy {
            prop_assert_eq!(told.spliced, 0);
        }
    }

    #[test]
    fn trouble_at_either_end_is_never_passed_on_as_an_end(
        forwarding in any_forwarding(),
        amount in [0u64..2_000, 0u64..2_000],
        script in prop::collection::vec(any::<u8>(), 0..3_000),
    ) {
        prop_assert!(run(forwarding, amount, &script, true).verdict.is_some());
    }
}

#[test]
fn nothing_goes_through_a_pipe_that_was_not_asked_for() {
    for forwarding in [Forwarding::Auto, Forwarding::Copy] {
        let mut flow = Flow::new(forwarding, 100);
        for _ in 0..3 * COPIES {
            assert_eq!(chunk(&mut flow, 100), Via::Copy);
        }
    }
}

#[test]
fn without_a_pipe_it_copies_and_asks_again_later() {
    let mut flow = Flow::new(Forwarding::Splice, 100);
    for round in 1..4 {
        assert_eq!(chunk(&mut flow, 1), Via::Pipe);
        flow.no_pipe();
        for _ in 0..COPIES {
            assert_eq!(chunk(&mut flow, 1), Via::Copy);
        }
        assert_eq!(flow.counts().no_pipe, round);
        assert_eq!(flow.counts().spliced, round);
    }
}

#[test]
fn what_a_front_end_says_comes_first() {
    let mut flow = Flow::new(Forwarding::Splice, 100);
    flow.queue(7);
    assert_eq!(flow.step(), Step::AwaitSink);
    flow.writable();
    assert_eq!(
        flow.step(),
        Step::Drain {
            via: Via::Copy,
            most: 7,
            last: false
        }
    );
    flow.drained(7);
    assert_eq!(chunk(&mut flow, 1), Via::Pipe);
}

#[test]
fn a_short_copy_saves_a_read() {
    let mut flow = Flow::new(Forwarding::Copy, 100);
    flow.writable();
    flow.readable(Readable::Open);
    flow.filled(99);
    flow.drained(99);
    assert_eq!(flow.step(), Step::AwaitSource);
    // Urgent data in line stops a read short, and what is behind it is still to be read.
    flow.readable(Readable::Doubtful);
    flow.readable(Readable::Last);
    flow.filled(99);
    flow.drained(99);
    assert!(matches!(flow.step(), Step::Fill { .. }));
}

#[test]
fn what_no_pipe_takes_is_copied() {
    let mut flow = Flow::new(Forwarding::Splice, 100);
    flow.writable();
    flow.readable(Readable::Doubtful);
    flow.filled(10);
    flow.drained(10);
    flow.source_empty();
    assert!(matches!(flow.step(), Step::Fill { via: Via::Copy, .. }));
    flow.source_empty();
    assert_eq!(flow.step(), Step::AwaitSource);
    for _ in 0..COPIES {
        assert_eq!(chunk(&mut flow, 1), Via::Copy);
    }
    assert_eq!(chunk(&mut flow, 1), Via::Pipe);
    assert_eq!(flow.counts().no_pipe, 0);
}

#[test]
fn the_last_short_copy_is_known_to_be_the_end() {
    let mut flow = Flow::new(Forwarding::Copy, 100);
    flow.writable();
    flow.readable(Readable::Last);
    flow.filled(100);
    assert!(matches!(flow.step(), Step::Drain { last: false, .. }));
    flow.drained(100);
    flow.filled(99);
    let (via, most, last) = (Via::Copy, 99, true);
    assert_eq!(flow.step(), Step::Drain { via, most, last });
    flow.drained(99);
    assert_eq!(flow.step(), Step::Shut);
}

#[test]
fn whoever_else_read_the_last_bytes_is_followed_by_a_read_that_says_so() {
    let mut flow = Flow::new(Forwarding::Copy, 100);
    flow.writable();
    flow.readable(Readable::Last);
    flow.source_drained();
    assert!(matches!(flow.step(), Step::Fill { .. }));
}

#[test]
fn a_dead_server_may_still_have_its_say() {
    let mut relay = Relay::new(Forwarding::Copy, 100);
    relay.to_server.queue(3);
    relay.to_server.broken();
    assert_eq!(relay.verdict(), None);
    assert_eq!(chunk(&mut relay.to_client, 5), Via::Copy);
    assert_eq!(relay.verdict(), None);
    relay.to_client.ended();
    assert_eq!(relay.step(Direction::ToClient), Step::Over);
    assert_eq!(relay.verdict(), Some(Verdict::Reset(Side::Server)));
}
