use super::*;
use crate::udp::plan::sizes::Sizes;
use crate::udp::plan::traffic::Gap;
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

/// Nanoseconds in a ms.
const MS: u64 = 1_000_000;

/// A paced stream of `ms` ms with 1,000 datagrams a second.
fn timed(ms: u64) -> Stream {
    let quota = Quota {
        packets: None,
        last_chunk: CHUNK,
        time: Some(Duration::from_millis(ms)),
    };
    Stream::new(9, CHUNK, quota, Some((1_000.0, 0)), false, 0)
}

/// Sends all that may be sent until `until`, from `now` on, each datagram `each` ns after the one before, and returns the time.
fn send_until(stream: &mut Stream, mut now: u64, until: u64, each: u64) -> u64 {
    let mut slot = [0; DATAGRAM];
    while now < until {
        if stream.fill_varied(&mut slot, 1, || now).1 > 0 {
            now += each;
            continue;
        }
        match stream.idle(now) {
            Idle::Due(at) => now = at,
            Idle::Done => return now,
            other => unreachable!("{other:?} at {now}"),
        }
    }
    now
}

#[test]
fn a_sender_that_stalls_at_the_end_sends_all_that_was_due() {
    let mut stream = timed(100);
    send_until(&mut stream, 0, 60 * MS, 1_000);
    // It runs again when the run is over.
    let ended = send_until(&mut stream, 900 * MS, u64::MAX, 1_000);
    assert!(ended < 921 * MS, "{ended}");
    assert_eq!((stream.next(), stream.unsent(0)), (100, Some(0)));
    let late = stream.into_times().lateness;
    assert!(late.max() >= Some(839 * MS), "{late:?}");
    // A datagram that is due when the run ends is none of it.
    let mut stream = timed(100);
    assert!(send_until(&mut stream, 0, u64::MAX, 1_000) <= 100 * MS);
    assert_eq!((stream.next(), stream.unsent(0)), (100, Some(0)));
}

#[test]
fn what_is_due_in_a_stall_far_beyond_the_end_is_unsent() {
    let mut stream = timed(100);
    send_until(&mut stream, 0, 60 * MS, 1_000);
    assert_eq!(stream.unsent(0), Some(0));
    assert_eq!(stream.idle(1_100 * MS), Idle::Done);
    let sent = stream.next();
    assert_eq!(stream.unsent(0), Some(100 - sent));
    // Also datagrams that the kernel has not accepted.
    assert_eq!(stream.unsent(3), Some(103 - sent));
}

#[test]
fn a_sender_that_is_too_slow_stops_at_the_end() {
    let mut stream = timed(400);
    // 1.25 ms for each datagram.
    let ended = send_until(&mut stream, 0, u64::MAX, MS + MS / 4);
    assert!((400 * MS..402 * MS).contains(&ended), "{ended}");
    let sent = stream.next();
    assert!((320..=321).contains(&sent), "{sent}");
    assert_eq!(stream.unsent(0), Some(400 - sent));
}

#[test]
fn unsent_datagrams_of_bursts_and_random_gaps_complete_the_schedule() {
    for (burst, seed) in [(7, None), (1, Some(3)), (4, Some(9))] {
        let gap = seed.map_or(Gap::Fixed, |seed| Gap::Poisson { seed });
        let stream = || timed(100).with_schedule(Schedule { burst, gap }, 0, false);
        let mut whole = stream();
        send_until(&mut whole, 0, u64::MAX, 0);
        assert_eq!(whole.unsent(0), Some(0));
        let mut cut = stream();
        send_until(&mut cut, 0, 40 * MS, 0);
        assert_eq!(cut.idle(2_000 * MS), Idle::Done);
        let due = cut.next() + cut.unsent(0).unwrap();
        assert_eq!(due, whole.next(), "{burst} {gap:?}");
    }
}

#[test]
fn a_stamp_is_that_of_the_accepted_attempt() {
    let relay = RelayHeader::socks5("192.0.2.1:53".parse().unwrap());
    let front = relay.len();
    let pace = Some((1e6, 0));
    let stream = Stream::new(9, CHUNK, counted(4, 5), pace, false, 1_000);
    let mut stream = stream.with_relay(relay.clone());
    stream.set_offset(-40);
    let mut slot = [relay.bytes(), &[7; DATAGRAM]].concat().repeat(4);
    let (length, datagrams) = stream.fill_varied(&mut slot, 8, || 4_200);
    assert_eq!(datagrams, 4);
    let size = front + DATAGRAM;
    // The kernel has accepted the first, and refuses the others until 9,000.
    for again in [5_000, 9_000] {
        assert_eq!(stream.restamp(&mut slot[size..length], again), 1..4);
    }
    let headers = slot.chunks(size).take(4);
    let headers = headers.map(|bytes| Header::decode(&bytes[front..]).unwrap());
    let stamps: Vec<(u64, u64)> = headers.map(|of| (of.sent, of.lateness)).collect();
    let expected = [
        (4_160, 3_200),
        (8_960, 7_000),
        (8_960, 6_000),
        (8_960, 5_000),
    ];
    assert_eq!(stamps, expected);
    assert!(slot.starts_with(relay.bytes()) && slot[..length].ends_with(&[7; 5]));
    let times = stream.into_times();
    assert_eq!((times.first, times.last), (Some(4_200), 9_000));
    let late = times.lateness.summary();
    assert_eq!((late.count, late.max), (4, Some(7_000)));
    assert_eq!(times.lateness.sum_ns(), 3_200 + 7_000 + 6_000 + 5_000);
}

#[test]
fn a_first_datagram_that_was_refused_begins_the_run_when_it_is_accepted() {
    let mut stream = Stream::new(9, CHUNK, counted(2, CHUNK), None, false, 0);
    let mut slot = [0; DATAGRAM * 2];
    let (length, _) = stream.fill(&mut slot, 2, || 100);
    assert_eq!(stream.restamp(&mut slot[..length], 700), 0..2);
    let header = Header::decode(&slot).unwrap();
    assert_eq!((header.sent, header.lateness), (700, 0));
    let times = stream.into_times();
    assert_eq!((times.first, times.last), (Some(700), 700));
    assert!(times.lateness.is_empty());
}
