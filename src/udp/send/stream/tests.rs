use super::*;
use crate::udp::plan::sizes::Sizes;
use std::cell::Cell;
use std::time::Duration;

const CHUNK: usize = 8;
const DATAGRAM: usize = CHUNK + HEADER;

fn counted(packets: u64, last_chunk: usize) -> Quota {
    Quota {
        packets: Some(packets),
        last_chunk,
        time: None,
    }
}

#[test]
fn the_last_datagram_is_marked_and_may_be_short() {
    let mut stream = Stream::new(9, CHUNK, counted(3, 5), None, false, 0);
    let mut slot = [0; DATAGRAM * 8];
    assert_eq!(stream.fill(&mut slot, 8, || 50), (3 * DATAGRAM - 3, 3));
    let last: Vec<bool> = slot
        .chunks(DATAGRAM)
        .take(3)
        .map(|bytes| Header::decode(bytes).unwrap().last)
        .collect();
    assert_eq!(last, [false, false, true]);
    assert_eq!(stream.idle(50), Idle::Done);
    assert_eq!((stream.bytes(3), stream.bytes(2)), (2 * 8 + 5, 16));
}

#[test]
fn a_lossless_stream_sends_as_far_as_its_credit() {
    let mut stream = Stream::new(9, CHUNK, counted(100, CHUNK), None, true, 0);
    let mut slot = [0; DATAGRAM * 8];
    assert_eq!(stream.fill(&mut slot, 8, || 1), (0, 0));
    assert_eq!(stream.idle(1), Idle::Credit);
    stream.grant(3);
    stream.grant(2);
    assert_eq!(stream.fill(&mut slot, 8, || 1).1, 3);
    assert_eq!(stream.credit(), 0);
}

#[test]
fn a_paced_stream_sends_due_datagrams_with_their_lateness() {
    let mut stream = Stream::new(
        9,
        CHUNK,
        counted(100, CHUNK),
        Some((1e6, 500)),
        false,
        1_000,
    );
    let mut slot = [0; DATAGRAM * 8];
    assert_eq!(stream.idle(1_000), Idle::Due(1_500));
    assert_eq!(stream.fill(&mut slot, 8, || 3_700).1, 3);
    let lateness: Vec<u64> = slot
        .chunks(DATAGRAM)
        .take(3)
        .map(|b| Header::decode(b).unwrap().lateness)
        .collect();
    assert_eq!(lateness, [2_200, 1_200, 200]);
    assert_eq!(stream.idle(3_700), Idle::Due(4_500));
    let times = stream.into_times();
    assert_eq!(times.lateness.sum_ns(), 2_200 + 1_200 + 200);
    assert_eq!(times.gap_error.count(), 2);
}

#[test]
fn datagrams_of_several_sizes_have_a_slot_each() {
    let sizes = SizePattern::new(&Sizes::Range(3, 8));
    let mut stream =
        Stream::new(9, CHUNK, counted(9, 2), None, false, 0).with_sizes(Some(sizes.clone()));
    assert_eq!(stream.datagram(), DATAGRAM);
    let mut slot = [0; DATAGRAM * 8];
    let mut sum = 0;
    for sequence in 0..9 {
        let expected = if sequence == 8 {
            2
        } else {
            sizes.size(sequence)
        };
        let filled = stream.fill_varied(&mut slot, 8, || 0);
        assert_eq!(filled, (expected + HEADER, 1));
        sum += expected as u64;
    }
    assert_eq!(stream.idle(0), Idle::Done);
    assert_eq!((stream.bytes(9), stream.bytes(8)), (sum, sum - 2));
}

#[test]
fn datagrams_are_written_behind_the_header_of_a_relay() {
    let relay = RelayHeader::socks5("192.0.2.1:53".parse().unwrap());
    let front = relay.len();
    let mut stream = Stream::new(9, CHUNK, counted(3, 5), None, false, 0).with_relay(relay.clone());
    assert_eq!(stream.datagram(), front + DATAGRAM);
    let mut slot = [relay.bytes(), &[7; DATAGRAM]].concat().repeat(4);
    let filled = stream.fill_varied(&mut slot, 8, || 50);
    assert_eq!(filled, (3 * (front + DATAGRAM) - 3, 3));
    for (sequence, datagram) in slot.chunks(front + DATAGRAM).take(3).enumerate() {
        assert!(datagram.starts_with(relay.bytes()));
        let header = Header::decode(relay.payload(datagram)).unwrap();
        assert_eq!((header.sequence, header.token), (sequence as u64, 9));
        assert!(datagram.ends_with(&[7; CHUNK]));
    }
}

#[test]
fn a_slot_ends_with_a_burst() {
    let pace = Some((1e6, 0));
    let schedule = Schedule {
        burst: 5,
        ..Schedule::default()
    };
    let mut stream = Stream::new(9, CHUNK, counted(100, CHUNK), pace, false, 0)
        .with_schedule(schedule, 0, false);
    assert!(stream.is_varied());
    let mut slot = [0; DATAGRAM * 8];
    assert_eq!(stream.fill_varied(&mut slot, 3, || 0).1, 3);
    assert_eq!(stream.fill_varied(&mut slot, 8, || 0).1, 2);
    assert_eq!(stream.idle(0), Idle::Due(5_000));
    assert_eq!(stream.fill_varied(&mut slot, 8, || 4_999).1, 0);
    assert_eq!(stream.fill_varied(&mut slot, 8, || 5_100).1, 5);
    let lateness = Header::decode(&slot).unwrap().lateness;
    assert_eq!(lateness, 100);
    assert_eq!(stream.idle(5_100), Idle::Due(10_000));
    let plain = Stream::new(9, CHUNK, counted(100, CHUNK), None, false, 0);
    assert!(!plain.with_schedule(schedule, 0, false).is_varied());
}

#[test]
fn a_time_limit_ends_a_stream_within_a_slot() {
    let quota = Quota {
        packets: None,
        last_chunk: CHUNK,
        time: Some(Duration::from_nanos(10)),
    };
    let mut stream = Stream::new(9, CHUNK, quota, None, false, 100);
    let clock = Cell::new(104);
    let mut slot = [0; DATAGRAM * 8];
    let filled = stream.fill(&mut slot, 8, || clock.replace(clock.get() + 2));
    assert_eq!(filled.1, 3);
    assert_eq!(stream.idle(110), Idle::Done);
    assert_eq!(stream.idle(109), Idle::No);
}

#[test]
fn stamps_are_written_in_the_receivers_clock() {
    let mut stream = Stream::new(9, CHUNK, counted(1, CHUNK), None, false, 0);
    stream.set_offset(-40);
    let mut slot = [0; DATAGRAM];
    stream.fill(&mut slot, 1, || 100);
    assert_eq!(Header::decode(&slot).unwrap().sent, 60);
    assert_eq!(stream.into_times().first, Some(100));
}
