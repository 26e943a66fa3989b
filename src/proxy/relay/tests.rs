use proptest::prelude::*;

use super::sim::run;
use super::*;

fn any_forwarding() -> impl Strategy<Value = Forwarding> {
    prop::sample::select(vec![Forwarding::Auto, Forwarding::Copy, Forwarding::Splice])
}

/// Fills and drains a chunk of `bytes`. Returns what contained it.
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
    fn all_bytes_arrive_once_and_in_order(
        forwarding in any_forwarding(),
        amount in [0u64..2_000, 0u64..2_000],
        script in prop::collection::vec(any::<u8>(), 0..3_000),
    ) {
        let outcome = run(forwarding, amount, &script, false);
        prop_assert_eq!(outcome.verdict, Some(Verdict::Finished));
        prop_assert_eq!(outcome.arrived, amount);
        if forwarding == Forwarding::Copy {
            prop_assert_eq!(outcome.spliced, 0);
        }
    }

    #[test]
    fn a_fault_at_either_end_is_never_passed_on_as_an_end(
        forwarding in any_forwarding(),
        amount in [0u64..2_000, 0u64..2_000],
        script in prop::collection::vec(any::<u8>(), 0..3_000),
    ) {
        prop_assert!(run(forwarding, amount, &script, true).verdict.is_some());
    }
}

#[test]
fn only_splicing_uses_pipes() {
    for forwarding in [Forwarding::Auto, Forwarding::Copy] {
        let mut flow = Flow::new(forwarding, 100);
        for _ in 0..3 * COPIES {
            assert_eq!(chunk(&mut flow, 100), Via::Copy);
        }
    }
}

#[test]
fn automatic_forwarding_splices_bulk_only() {
    let mut relay = Relay::new(Forwarding::Auto, 100);
    relay.set_bulk_method(Via::Pipe);
    let flow = &mut relay.to_server;
    for _ in 0..BULK_CHUNKS {
        assert!(!flow.is_bulk());
        assert_eq!(chunk(flow, 100), Via::Copy);
    }
    for _ in 0..2 * BULK_CHUNKS {
        assert!(flow.is_bulk());
        assert_eq!(chunk(flow, 100), Via::Pipe);
    }
    // One short chunk is no end of a bulk transfer, two are.
    assert_eq!(chunk(flow, 99), Via::Pipe);
    assert_eq!(chunk(flow, 99), Via::Pipe);
    assert_eq!(chunk(flow, 100), Via::Copy);
    for _ in 0..3 * BULK_CHUNKS {
        chunk(flow, 100);
    }
    assert_eq!(chunk(flow, 100), Via::Pipe);
    relay.set_bulk_method(Via::Copy);
    chunk(&mut relay.to_server, 100);
    assert_eq!(chunk(&mut relay.to_server, 100), Via::Copy);
}

#[test]
fn short_messages_are_never_bulk() {
    let mut relay = Relay::new(Forwarding::Auto, 100);
    relay.set_bulk_method(Via::Pipe);
    for _ in 0..100 {
        for bytes in [100, 100, 1] {
            assert_eq!(chunk(&mut relay.to_client, bytes), Via::Copy);
        }
    }
}

#[test]
fn without_a_pipe_it_copies_and_retries_later() {
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
fn queued_bytes_precede_the_first_chunk() {
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
    // Inline urgent data stops a read short, and bytes behind it remain to be read.
    flow.readable(Readable::Doubtful);
    flow.readable(Readable::Last);
    flow.filled(99);
    flow.drained(99);
    assert!(matches!(flow.step(), Step::Fill { .. }));
}

#[test]
fn urgent_data_that_splice_refuses_is_copied() {
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
fn the_last_short_copy_is_recognised_as_the_end() {
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
fn a_read_outside_of_the_flow_does_not_end_it() {
    let mut flow = Flow::new(Forwarding::Copy, 100);
    flow.writable();
    flow.readable(Readable::Last);
    flow.source_drained();
    assert!(matches!(flow.step(), Step::Fill { .. }));
}

#[test]
fn the_last_data_of_a_dead_server_is_passed_on() {
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
