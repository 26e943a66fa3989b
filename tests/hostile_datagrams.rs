//! A session's UDP port and whatever may come to it: counted by kind, never answered beyond what is
//! due, and without a trace in anything else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::peer::{CHUNK, Control, Local, Source, assert_serves, data, plan, token};
use wirebench::udp::plan::{Mode, Offload, Plan};
use wirebench::udp::receive::sequence::REACH;
use wirebench::udp::server::Limits;
use wirebench::udp::wire::header::{HEADER, Header, Kind};

/// How many of them the server is to find.
#[derive(Debug, PartialEq)]
struct Foreign {
    token: u64,
    short: u64,
    malformed: u64,
}

#[test]
fn what_is_foreign_is_counted_by_kind_and_touches_nothing() {
    let server = Local::start(Limits::default());
    for offload in [Offload::Off, Offload::Auto] {
        let (mut control, welcome) = Control::session(
            server.address,
            Plan {
                offload,
                ..plan(10)
            },
        );
        let token = token(&welcome);
        let mut ours = Source::open(server.address, &welcome);
        // What comes from another address never reaches the stream's socket.
        let mut stranger = Source::new(server.address);
        (0..5).for_each(|sequence| ours.send(&data(token, sequence)));

        let own = ours.socket.try_clone().unwrap();
        let mut other = Source {
            socket: own,
            to: ours.to,
            sent: 0,
        };
        for short in [&b""[..], b"x", &data(token, 5)[..HEADER - 1]] {
            other.send(short);
            stranger.send(short);
        }
        for kind in [
            Kind::Data,
            Kind::Probe,
            Kind::Credit,
            Kind::Ping,
            Kind::Pong,
        ] {
            other.send(&Header::bare(kind, token ^ 1, 5).encode());
            stranger.send(&Header::bare(kind, token ^ 1, 5).encode());
        }
        other.send(&data(!token, 5));
        stranger.send(&data(!token, 5));
        for kind in [Kind::Credit, Kind::Pong] {
            other.send(&Header::bare(kind, token, 5).encode());
        }
        // A question may be as long as a datagram, and no longer.
        for (kind, length) in [(Kind::Probe, 4), (Kind::Ping, CHUNK + 1)] {
            let header = Header::bare(kind, token, 1 << 40).encode();
            other.send(&[&header[..], &vec![0; length]].concat());
        }
        let mut wrong = data(token, 6);
        wrong[0] ^= 1;
        other.send(&wrong);
        other.send(&data(token, 6)[..HEADER + CHUNK / 2]);
        other.send(&data(token, 6)[..HEADER]);
        other.send(&[data(token, 6), vec![0; 5_000]].concat());
        other.send(&[0; 60_000]);
        stranger.send(&[0; 60_000]);

        (5..10).for_each(|sequence| ours.send(&data(token, sequence)));
        ours.probe(token);
        assert_eq!(other.came_back() + stranger.came_back(), 0);
        control.finish(10);
        let outcome = control.result();
        let told = &outcome.streams[0];
        let foreign = Foreign {
            token: told.foreign_token,
            short: told.foreign_short,
            malformed: told.foreign_malformed,
        };
        assert_eq!(
            foreign,
            Foreign {
                token: 6,
                short: 3,
                malformed: 9
            },
            "{offload:?}"
        );
        assert_eq!(
            (told.unique, told.duplicates, told.reordered, told.next),
            (10, 0, 0, 10)
        );
        assert_eq!(told.bytes, 10 * CHUNK as u64);
        let run = server.report().measured.unwrap().run;
        assert_eq!(run.received.foreign, 18);
        assert_eq!((run.received.packets, run.lost.packets), (10, 0));
        assert_eq!(run.latency_ns.unwrap().count, 10);
        assert!(run.complete);
    }
}

#[test]
fn another_sessions_datagrams_are_foreign() {
    let server = Local::start(Limits::default());
    let (mut first, one) = Control::session(server.address, plan(1));
    let (mut second, two) = Control::session(server.address, plan(1));
    assert_ne!(token(&one), token(&two));
    let mut source = Source::open(server.address, &two);
    source.send(&data(token(&one), 0));
    source.send(&data(token(&two), 0));
    second.finish(1);
    let told = &second.result().streams[0];
    assert_eq!((told.unique, told.foreign_token), (1, 1));
    first.finish(0);
    let told = &first.result().streams[0];
    assert_eq!((told.unique, told.foreign_token), (0, 0));
}

#[test]
fn repeated_reordered_and_missing_numbers_are_counted_exactly() {
    let server = Local::start(Limits::default());
    let rows = Plan {
        packet_rows: true,
        ..plan(15)
    };
    let (mut control, welcome) = Control::session(server.address, rows);
    let mut source = Source::open(server.address, &welcome);
    let order = [0, 1, 2, 2, 5, 4, 9, 7, 7, 7, 12];
    for sequence in order {
        source.send(&data(token(&welcome), sequence));
    }
    source.probe(token(&welcome));
    control.finish(15);
    let outcome = control.result();
    let told = &outcome.streams[0];
    let counts = (
        told.unique,
        told.duplicates,
        told.reordered,
        told.late,
        told.next,
    );
    assert_eq!(counts, (8, 3, 2, 0, 13));
    let sequences: Vec<u64> = outcome.rows.iter().map(|row| row.0).collect();
    assert_eq!(sequences, order);
    let run = server.report().measured.unwrap().run;
    assert_eq!((run.sent.packets, run.lost.packets), (15, 7));
    assert_eq!(run.received.packets, 11);
    assert_eq!(run.latency_ns.unwrap().count, 8);
}

#[test]
fn what_comes_after_its_number_was_given_up_is_lost_and_counted_nowhere_else() {
    let server = Local::start(Limits::default());
    let rows = Plan {
        packet_rows: true,
        ..plan(4 * REACH)
    };
    let (mut control, welcome) = Control::session(server.address, rows);
    let mut source = Source::open(server.address, &welcome);
    for sequence in [0, 3 * REACH, 1, 0, 3 * REACH - 1] {
        source.send(&data(token(&welcome), sequence));
    }
    source.probe(token(&welcome));
    control.finish(4 * REACH);
    let outcome = control.result();
    let told = &outcome.streams[0];
    assert_eq!(
        (told.unique, told.duplicates, told.reordered, told.late),
        (3, 0, 1, 2)
    );
    assert_eq!(outcome.rows.len(), 3);
    assert_eq!(
        server.report().measured.unwrap().run.lost.packets,
        4 * REACH - 3
    );
}

#[test]
fn no_address_is_sent_more_than_came_from_it() {
    let server = Local::start(Limits::default());
    for receive_buffer in [None, Some(1)] {
        let lossless = Plan {
            mode: Mode::Lossless,
            receive_buffer,
            ..plan(1_000_000)
        };
        let (mut control, welcome) = Control::session(server.address, lossless);
        let token = token(&welcome);
        let mut ours = Source::open(server.address, &welcome);
        let mut noise = Source::new(server.address);
        let mut back = ours.came_back() + HEADER;
        for round in 0..20 {
            control.keep_alive();
            ours.send(&Header::bare(Kind::Probe, token, 0).encode());
            ours.send(&Header::bare(Kind::Ping, token, round).encode());
            for step in 0..20 {
                ours.send(&data(token, round * 10_000 + step * 500));
            }
            noise.send(&Header::bare(Kind::Probe, !token, 0).encode());
            noise.send(&Header::bare(Kind::Ping, !token, 0).encode());
            noise.send(b"hello?");
            ours.probe(token);
            back += HEADER + ours.came_back();
            assert!(back <= ours.sent, "{back} B for {} B", ours.sent);
            assert_eq!(noise.came_back(), 0);
        }
    }
}

#[test]
fn a_stream_goes_where_its_sender_goes() {
    let server = Local::start(Limits::default());
    let (mut control, welcome) = Control::session(server.address, plan(6));
    let token = token(&welcome);
    let mut before = Source::open(server.address, &welcome);
    (0..3).for_each(|sequence| before.send(&data(token, sequence)));
    before.probe(token);
    // An address translator on the way gives the stream another port: its first datagram may be lost by that.
    let mut after = Source::open(server.address, &welcome);
    (3..6).for_each(|sequence| after.send(&data(token, sequence)));
    after.probe(token);
    control.finish(6);
    assert_eq!(control.result().streams[0].unique, 6);
}

#[test]
fn a_clock_is_answered_and_sends_no_more_than_it_got() {
    let server = Local::start(Limits::default());
    let (_control, welcome) = Control::session(server.address, plan(6));
    let mut source = Source::new(server.address);
    let asked = wirebench::sys::clock::monotonic_ns();
    source
        .socket
        .set_read_timeout(Some(common::PATIENCE))
        .unwrap();
    for number in 0..5 {
        source.send(&Header::bare(Kind::Ping, welcome.clock.token, number).encode());
        let mut bytes = [0; 64];
        let length = source.socket.recv(&mut bytes).unwrap();
        let pong = Header::decode(&bytes[..length]).unwrap();
        assert_eq!(
            (pong.kind, pong.sequence, length),
            (Kind::Pong, number, HEADER)
        );
        assert!(
            pong.sent > asked && pong.sent + pong.lateness <= wirebench::sys::clock::monotonic_ns()
        );
    }
    // A long question, another kind and another token are not answered.
    let long = [
        Header::bare(Kind::Ping, welcome.clock.token, 9)
            .encode()
            .as_slice(),
        &[0; 9],
    ]
    .concat();
    source.send(&long);
    source.send(&Header::bare(Kind::Data, welcome.clock.token, 9).encode());
    source.send(&Header::bare(Kind::Ping, !welcome.clock.token, 9).encode());
    source
        .socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert_eq!(source.came_back(), 0);
    assert_serves(server.address);
}

#[test]
fn after_a_session_its_port_says_nothing() {
    let server = Local::start(Limits::default());
    let (mut control, welcome) = Control::session(server.address, plan(1));
    let mut source = Source::open(server.address, &welcome);
    source.send(&data(token(&welcome), 0));
    control.finish(1);
    assert!(control.result().done.is_some());
    for kind in [Kind::Probe, Kind::Ping, Kind::Data] {
        source.send(&Header::bare(kind, token(&welcome), 1).encode());
    }
    source.send(&data(token(&welcome), 1));
    assert!(!source.probe_once(token(&welcome)));
    assert_eq!(source.came_back(), 0);
}

/// Sets the flag when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends foreign datagrams to the port all the while.
fn flooded<T>(mut source: Source, while_it: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                source.send(b"not yours");
                // One each ms: waiting for an answer that never comes is the clock.
                source.came_back();
            }
        });
        // Also when it panics, or this would wait for the thread for ever.
        let _stop = Stop(&over);
        while_it()
    })
}

#[test]
fn foreign_datagrams_do_not_keep_a_session_from_its_end() {
    let limits = Limits {
        idle: Duration::from_millis(400),
        ..Limits::default()
    };
    let server = Local::start(limits);
    // One datagram is missing, and is waited for only while something of the run comes.
    let (mut control, welcome) = Control::session(server.address, plan(2));
    let mut source = Source::open(server.address, &welcome);
    source.send(&data(token(&welcome), 0));
    control.finish(2);
    let outcome = flooded(source, || control.result());
    assert_eq!(outcome.done.unwrap().reason, None);
    assert!(outcome.streams[0].foreign_short > 0);
    // And they are no sign of life.
    let (mut control, welcome) = Control::session(server.address, plan(2));
    let source = Source::open(server.address, &welcome);
    let outcome = flooded(source, || control.result());
    assert!(
        outcome
            .done
            .unwrap()
            .reason
            .unwrap()
            .contains("--idle-timeout")
    );
}
