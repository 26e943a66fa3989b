//! Sessions of clients that violate the protocol, send false numbers, are slow or never end: the server ends them in time, keeps
//! the measured data and continues to serve others.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::peer::{
    CHUNK, Control, Local, Source, assert_serves, data, framed, hello, plan, token,
};
use crate::common::{NOTICED, PATIENCE};
use socket2::SockRef;
use wirebench::udp::plan::Plan;
use wirebench::udp::server::Limits;
use wirebench::udp::wire::control::{Finish, Request};
use wirebench::udp::wire::header::{Header, Kind, MAX_48_BIT, MAX_CHUNK};
use wirebench::udp::wire::results::StreamSent;

#[test]
fn a_session_that_violates_the_protocol_ends_and_keeps_its_figures() {
    let server = Local::start(Limits::default());
    let breaches: [(&[u8], &str); 3] = [
        (&[0xff; 8], "the client sent an invalid message"),
        (
            &framed(br#"{"type":"welcome"}"#),
            "the client sent an invalid message",
        ),
        (
            &framed(br#"{"type":"refused","reason":""}"#),
            "the client sent an invalid message",
        ),
    ];
    for (bytes, reason) in breaches {
        let (mut control, welcome) = Control::session(server.address, plan(5));
        let mut source = Source::open(server.address, &welcome);
        source.send(&data(token(&welcome), 0));
        source.probe(token(&welcome));
        control.stream.write_all(bytes).unwrap();
        let report = server.report();
        assert!(!report.delivered);
        let run = report.measured.unwrap().run;
        assert_eq!((run.ended.as_str(), run.received.unique), ("peer_lost", 1));
        assert!(run.reason.unwrap().contains(reason));
    }
    let (mut control, _welcome) = Control::session(server.address, plan(5));
    control.send(&hello(plan(5)));
    let done = control.result().done.unwrap();
    assert!(done.reason.unwrap().contains("second hello"));
    assert!(server.report().delivered);
    assert_serves(server.address);
}

#[test]
fn no_number_of_a_client_breaks_the_server() {
    let server = Local::start(Limits::default());
    let two = Plan {
        streams: 2,
        chunk: MAX_CHUNK,
        ..plan(5)
    };
    // The largest numbers, from clients that close before they report what they sent.
    let (control, welcome) = Control::session(server.address, two.clone());
    for offer in &welcome.forward {
        let header = Header {
            sent: u64::MAX,
            ..Header::bare(Kind::Data, offer.token, MAX_48_BIT)
        };
        let mut source = Source::new(server.address);
        source.probe(offer.token);
        source.send(&[header.encode().as_slice(), &vec![0; MAX_CHUNK]].concat());
        source.probe(offer.token);
    }
    drop(control);
    let run = server.report().measured.unwrap().run;
    assert_eq!((run.ended.as_str(), run.received.unique), ("peer_lost", 2));
    assert_eq!(run.sent.packets, 2 * (MAX_48_BIT + 1));
    assert_eq!(run.sent.packets, run.received.unique + run.lost.packets);
    // Without the client's report these are bounds, which no record has.
    assert!(run.sent.is_unknown && run.lost.is_unknown);

    // Reports of more datagrams than there are numbers, and of streams that do not exist.
    let most = StreamSent {
        packets: u64::MAX - 1,
        bytes: u64::MAX,
        not_sent: u64::MAX,
    };
    for count in [0, 1, 2, 3] {
        let (mut control, welcome) = Control::session(server.address, two.clone());
        for offer in &welcome.forward {
            Source::new(server.address).probe(offer.token);
        }
        control.send(&Request::Finish(Finish {
            streams: vec![most; count],
            quiet_ns: u64::MAX,
        }));
        let outcome = control.result();
        assert_eq!(outcome.streams.len(), 2);
        let run = server.report().measured.unwrap().run;
        assert_eq!(run.received.unique, 0);
        assert_eq!(run.complete, count == 2, "{:?}", run.reason);
        assert_eq!(outcome.done.unwrap().reason.is_none(), count == 2);
    }
    assert_serves(server.address);
}

#[test]
fn a_session_ends_at_its_longest_duration() {
    let limits = Limits {
        duration: Duration::from_millis(600),
        ..Limits::default()
    };
    let server = Local::start(limits);
    for finished in [None, Some(u64::MAX), Some(1_000)] {
        let (mut control, welcome) = Control::session(server.address, plan(5));
        let mut source = Source::open(server.address, &welcome);
        if let Some(packets) = finished {
            control.finish(packets);
        }
        // The client keeps sending.
        let began = Instant::now();
        thread::scope(|scope| {
            let result = scope.spawn(|| control.result());
            while !result.is_finished() {
                assert!(began.elapsed() < PATIENCE, "no end: {finished:?}");
                source.probe_once(token(&welcome));
            }
        });
        let report = server.report();
        let reason = report.measured.unwrap().run.reason.unwrap();
        assert!(
            reason.contains("0.6 s") && reason.contains("--max-duration"),
            "{reason}"
        );
    }
}

#[test]
fn a_session_without_datagrams_is_ended() {
    let limits = Limits {
        idle: Duration::from_millis(400),
        ..Limits::default()
    };
    let server = Local::start(limits);
    let (mut control, _welcome) = Control::session(server.address, plan(5));
    let reason = control.result().done.unwrap().reason.unwrap();
    assert!(
        reason.contains("0.4 s") && reason.contains("--idle-timeout"),
        "{reason}"
    );
    assert_eq!(server.report().measured.unwrap().run.ended, "limit");
}

#[test]
fn a_client_that_does_not_read_its_result_is_dropped() {
    // A row takes about 40 bytes: more than the kernel's send buffer (tcp(7)).
    let kept = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").unwrap();
    let kept: u64 = kept
        .split_whitespace()
        .next_back()
        .unwrap()
        .parse()
        .unwrap();
    let count = kept / 30 + 50_000;
    let server = Local::start(Limits {
        idle: Duration::from_secs(3),
        ..Limits::default()
    });
    let rows = Plan {
        packet_rows: true,
        receive_buffer: Some(4 << 20),
        ..plan(count)
    };
    let (mut control, welcome) = Control::session(server.address, rows);
    let stream = SockRef::from(&control.stream);
    stream.set_recv_buffer_size(4_096).unwrap();
    let mut source = Source::open(server.address, &welcome);
    for sequence in 0..count {
        source.send(&data(token(&welcome), sequence));
        if sequence % 1_000 == 0 {
            source.probe(token(&welcome));
        }
    }
    control.finish(count);
    let began = Instant::now();
    // The client sends keep-alives and does not read its result.
    let report = loop {
        if let Ok(report) = server.reports.recv_timeout(Duration::from_millis(100)) {
            break report;
        }
        assert!(began.elapsed() < NOTICED, "still there");
        control.keep_alive();
    };
    assert!(!report.delivered);
    let received = report.measured.unwrap().run.received;
    assert_eq!(received.bytes, received.unique * CHUNK as u64);
}
