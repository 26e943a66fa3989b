//! Invalid datagrams to a session's UDP port: counted by kind, not answered beyond the protocol, and without any other effect.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::peer::{CHUNK, Control, Local, Source, assert_serves, data, plan, token};
use wirebench::udp::plan::{Mode, Offload, Plan};
use wirebench::udp::receive::sequence::REACH;
use wirebench::udp::server::Limits;
use wirebench::udp::wire::header::{HEADER, Header, Kind};

/// The expected number of each kind.
#[derive(Debug, PartialEq)]
struct Foreign {
    token: u64,
    short: u64,
    malformed: u64,
}

#[test]
fn foreign_datagrams_are_counted_by_kind_and_have_no_effect() {
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
        // The stream's connected socket does not receive from another address.
        let mut foreign = Source::new(server.address);
        (0..5).for_each(|sequence| ours.send(&data(token, sequence)));

        let own = ours.socket.try_clone().unwrap();
        let mut other = Source {
            socket: own,
            to: ours.to,
            sent: 0,
        };
        for short in [&b""[..], b"x", &data(token, 5)[..HEADER - 1]] {
            other.send(short);
            foreign.send(short);
        }
        for kind in [
            Kind::Data,
            Kind::Probe,
            Kind::Credit,
            Kind::Ping,
            Kind::Pong,
        ] {
            other.send(&Header::bare(kind, token ^ 1, 5).encode());
            foreign.send(&Header::bare(kind, token ^ 1, 5).encode());
        }
        other.send(&data(!token, 5));
        foreign.send(&data(!token, 5));
        for kind in [Kind::Credit, Kind::Pong] {
            other.send(&Header::bare(kind, token, 5).encode());
        }
        // A clock request may be as long as a datagram.
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
        foreign.send(&[0; 60_000]);

        (5..10).for_each(|sequence| ours.send(&data(token, sequence)));
        ours.probe(token);
        assert_eq!(other.came_back() + foreign.came_back(), 0);
        control.finish(10);
        let outcome = control.result();
        let counts = &outcome.streams[0];
        let foreign = Foreign {
            token: counts.foreign_token,
            short: counts.foreign_short,
            malformed: counts.foreign_malformed,
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
            (
                counts.unique,
                counts.duplicates,
                counts.reordered,
                counts.next
            ),
            (10, 0, 0, 10)
        );
        assert_eq!(counts.bytes, 10 * CHUNK as u64);
        let run = server.report().measured.unwrap().run;
        assert_eq!(run.received.foreign, 18);
        assert_eq!((run.received.packets, run.lost.packets), (10, 0));
        assert_eq!(run.latency_ns.unwrap().count, 10);
        assert!(run.complete);
    }
}

#[test]
fn datagrams_of_another_session_are_foreign() {
    let server = Local::start(Limits::default());
    let (mut first, one) = Control::session(server.address, plan(1));
    let (mut second, two) = Control::session(server.address, plan(1));
    assert_ne!(token(&one), token(&two));
    let mut source = Source::open(server.address, &two);
    source.send(&data(token(&one), 0));
    source.send(&data(token(&two), 0));
    second.finish(1);
    let counts = &second.result().streams[0];
    assert_eq!((counts.unique, counts.foreign_token), (1, 1));
    first.finish(0);
    let counts = &first.result().streams[0];
    assert_eq!((counts.unique, counts.foreign_token), (0, 0));
}

#[test]
fn duplicates_reordering_and_gaps_are_counted_exactly() {
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
    let counts = &outcome.streams[0];
    let counts = (
        counts.unique,
        counts.duplicates,
        counts.reordered,
        counts.late,
        counts.next,
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
fn a_datagram_behind_the_window_is_late_and_lost() {
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
    let counts = &outcome.streams[0];
    assert_eq!(
        (
            counts.unique,
            counts.duplicates,
            counts.reordered,
            counts.late
        ),
        (3, 0, 1, 2)
    );
    assert_eq!(outcome.rows.len(), 3);
    assert_eq!(
        server.report().measured.unwrap().run.lost.packets,
        4 * REACH - 3
    );
}

#[test]
fn no_address_is_sent_more_than_it_sent() {
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
fn a_stream_follows_its_sender_to_a_new_port() {
    let server = Local::start(Limits::default());
    let (mut control, welcome) = Control::session(server.address, plan(6));
    let token = token(&welcome);
    let mut before = Source::open(server.address, &welcome);
    (0..3).for_each(|sequence| before.send(&data(token, sequence)));
    before.probe(token);
    // NAT gives the stream another port; the first datagram from it may be lost.
    let mut after = Source::open(server.address, &welcome);
    (3..6).for_each(|sequence| after.send(&data(token, sequence)));
    after.probe(token);
    control.finish(6);
    assert_eq!(control.result().streams[0].unique, 6);
}

#[test]
fn clock_replies_are_no_longer_than_requests() {
    let server = Local::start(Limits::default());
    let (_control, welcome) = Control::session(server.address, plan(6));
    let mut source = Source::new(server.address);
    let asked = wirebench::sys::clock::monotonic_ns();
    source
        .socket
        .set_read_timeout(Some(crate::common::PATIENCE))
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
    // A long request, another kind and another token are not answered.
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
fn the_port_of_an_ended_session_is_silent() {
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

/// Sets the flag on drop.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends foreign datagrams to the port continuously.
fn flooded<T>(mut source: Source, while_it: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                source.send(b"not yours");
                // One a millisecond: the timeout of a receive is the clock.
                source.came_back();
            }
        });
        // On panic too, or this would wait for the thread forever.
        let _stop = Stop(&over);
        while_it()
    })
}

#[test]
fn foreign_datagrams_do_not_delay_the_end_of_a_session() {
    let limits = Limits {
        idle: Duration::from_millis(400),
        ..Limits::default()
    };
    let server = Local::start(limits);
    // One datagram is missing; the server waits for it only while datagrams of the run arrive.
    let (mut control, welcome) = Control::session(server.address, plan(2));
    let mut source = Source::open(server.address, &welcome);
    source.send(&data(token(&welcome), 0));
    control.finish(2);
    let outcome = flooded(source, || control.result());
    assert_eq!(outcome.done.unwrap().reason, None);
    assert!(outcome.streams[0].foreign_short > 0);
    // Foreign datagrams do not reset the idle timer.
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
