//! A server and whatever may come over a control connection: it says why it refuses, forgets whoever
//! falls silent, keeps to its limits, and serves everybody else meanwhile.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::peer::{CHUNK, Control, Local, Source, data, hello, plan};
use common::{NOTICED, PATIENCE};
use serde_json::json;
use socket2::SockRef;
use wirebench::udp::control::{Request, StreamSent, VERSION};
use wirebench::udp::frame::MOST_MESSAGE;
use wirebench::udp::header::{Header, Kind, MOST_CHUNK, MOST_SHORT};
use wirebench::udp::plan::{Amount, Mode, Plan};
use wirebench::udp::server::Limits;

/// A small run from its first message to its result.
#[track_caller]
fn assert_serves(server: SocketAddr) {
    let (mut control, welcome) = Control::session(server, plan(3));
    let mut source = Source::new(server, welcome.ports[0]);
    for sequence in 0..3 {
        source.send(&data(welcome.token, sequence));
    }
    control.finish(3);
    let outcome = control.result();
    assert_eq!(outcome.streams[0].unique, 3);
    assert_eq!(outcome.done.unwrap().reason, None);
}

/// What a server says to these bytes, as the first it hears.
#[track_caller]
fn refusal(server: SocketAddr, bytes: &[u8]) -> String {
    let mut control = Control::connect(server);
    control.stream.write_all(bytes).unwrap();
    control.refused()
}

fn framed(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [&length.to_be_bytes(), text].concat()
}

#[test]
fn what_is_no_message_is_refused_with_a_reason() {
    let server = Local::start(Limits::default());
    let too_long = u32::try_from(MOST_MESSAGE + 1).unwrap().to_be_bytes();
    let deep = framed("[".repeat(5_000).as_bytes());
    for (bytes, named) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "1195725856 bytes"),
        (&too_long, "65537 bytes"),
        (&[0xff; 9], "4294967295 bytes"),
        (&framed(b""), "no sense"),
        (&framed(b"\0\xff\xfe not text"), "no sense"),
        (&framed(&[b' '; MOST_MESSAGE]), "no sense"),
        (&deep, "no sense"),
        (&framed(b"{}"), "version"),
        (&framed(br#"{"version":"one"}"#), "no sense"),
        (&framed(br#"{"version":1}"#), "no sense"),
        (
            &framed(br#"{"version":1,"type":"alive"}"#),
            "must be a hello",
        ),
        (
            &framed(br#"{"version":1,"type":"finish","streams":[]}"#),
            "must be a hello",
        ),
        (
            &framed(br#"{"version":1,"type":"hello","plan":{"chunk":-1}}"#),
            "no sense",
        ),
    ] {
        let reason = refusal(server.address, bytes);
        assert!(
            reason.contains("wirebench server") && reason.contains(named),
            "{reason}"
        );
    }
    assert_serves(server.address);
}

#[test]
fn another_version_is_named_whatever_else_it_says() {
    let server = Local::start(Limits::default());
    for version in [0, VERSION + 1, u32::MAX] {
        let hello = json!({"type": "hallo", "version": version, "plan": {"new": [1, 2]}});
        let reason = refusal(server.address, &framed(hello.to_string().as_bytes()));
        assert!(reason.contains(&format!("version {version} ")), "{reason}");
        assert!(reason.contains(&format!("version {VERSION};")), "{reason}");
    }
}

#[test]
fn a_plan_that_cannot_be_is_refused_by_its_value() {
    let server = Local::start(Limits::default());
    let base = plan(5);
    let amount = |amount| Plan {
        amount,
        ..base.clone()
    };
    let pace = |pps| Plan {
        mode: Mode::Paced(pps),
        ..base.clone()
    };
    for (plan, named) in [
        (
            Plan {
                chunk: 0,
                ..base.clone()
            },
            "0 bytes",
        ),
        (
            Plan {
                chunk: MOST_CHUNK + 1,
                ..base.clone()
            },
            "65476",
        ),
        (
            Plan {
                chunk: usize::MAX,
                ..base.clone()
            },
            "18446744073709551615",
        ),
        (
            Plan {
                streams: 0,
                ..base.clone()
            },
            "0 streams",
        ),
        (
            Plan {
                streams: usize::MAX,
                ..base.clone()
            },
            "18446744073709551615 streams",
        ),
        (
            Plan {
                batch: Some(0),
                ..base.clone()
            },
            "batch of 0",
        ),
        (
            Plan {
                batch: Some(usize::MAX),
                ..base.clone()
            },
            "batch of 18446744073709551615",
        ),
        (
            Plan {
                interval: Duration::ZERO,
                ..base.clone()
            },
            "interval of 0",
        ),
        (
            Plan {
                interval: Duration::MAX,
                ..base.clone()
            },
            "interval of 18446744073709551615",
        ),
        (amount(Amount::Packets(0)), "0 datagrams"),
        (
            amount(Amount::Packets(u64::MAX)),
            "18446744073709551615 datagrams",
        ),
        (amount(Amount::Bytes(u64::MAX)), "datagrams cannot be sent"),
        (amount(Amount::Time(Duration::ZERO)), "duration of 0"),
        (amount(Amount::Time(Duration::MAX)), "--max-duration"),
        (pace(0.0), "0 datagrams a second"),
        (pace(-1.0), "-1 datagrams a second"),
        (pace(1e300), "datagrams a second"),
        (
            Plan {
                amount: Amount::Packets(MOST_SHORT - 1),
                ..pace(0.001)
            },
            "--max-duration",
        ),
    ] {
        let mut control = Control::connect(server.address);
        control.say(&hello(plan));
        let reason = control.refused();
        assert!(reason.contains(named), "no '{named}' in: {reason}");
    }
    assert_serves(server.address);
}

#[test]
fn a_client_that_says_nothing_whole_is_hung_up_on() {
    let server = Local::start(Limits::default());
    let half = &framed(&[b' '; 1_000])[..500];
    thread::scope(|scope| {
        for (first, drip) in [
            (&b""[..], false),
            (b"\0\0", false),
            (half, false),
            (half, true),
        ] {
            let address = server.address;
            scope.spawn(move || assert_hung_up(address, first, drip));
        }
    });
    assert_serves(server.address);
}

/// The server hangs up on who says only `first`, also if a byte more comes every now and then.
fn assert_hung_up(server: SocketAddr, first: &[u8], drip: bool) {
    let mut stream = TcpStream::connect(server).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    stream.write_all(first).unwrap();
    let began = Instant::now();
    loop {
        match stream.read(&mut [0; 64]) {
            Ok(0) => break,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < NOTICED, "still there: {first:?}, {drip}");
        if drip {
            // It may have hung up since.
            let _ = stream.write_all(b" ");
        }
    }
}

#[test]
fn idle_connections_are_in_nobodys_way() {
    let server = Local::start(Limits {
        connections: 1_024,
        ..Limits::default()
    });
    // Both ends are files of this process.
    let idle: Vec<TcpStream> = (0..open_files().saturating_sub(200).min(2_000) / 2)
        .map(|_| TcpStream::connect(server.address).unwrap())
        .collect();
    assert!(idle.len() >= 100);
    assert_serves(server.address);
    drop(idle);
    assert_serves(server.address);
}

/// How many files this process may have open.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    line.split_whitespace()
        .nth(3)
        .unwrap()
        .parse()
        .unwrap_or(usize::MAX)
}

#[test]
fn a_session_that_breaks_the_rules_ends_and_leaves_its_figures() {
    let server = Local::start(Limits::default());
    let breaches: [(&[u8], &str); 3] = [
        (&[0xff; 8], "what is no message"),
        (&framed(br#"{"type":"welcome"}"#), "what is no message"),
        (
            &framed(br#"{"type":"refused","reason":""}"#),
            "what is no message",
        ),
    ];
    for (bytes, reason) in breaches {
        let (mut control, welcome) = Control::session(server.address, plan(5));
        let mut source = Source::new(server.address, welcome.ports[0]);
        source.send(&data(welcome.token, 0));
        source.probe(welcome.token);
        control.stream.write_all(bytes).unwrap();
        let report = server.report();
        assert!(!report.delivered);
        let run = report.measured.run;
        assert_eq!((run.ended.as_str(), run.received.unique), ("peer_lost", 1));
        assert!(run.reason.unwrap().contains(reason));
    }
    let (mut control, _welcome) = Control::session(server.address, plan(5));
    control.say(&hello(plan(5)));
    let done = control.result().done.unwrap();
    assert!(done.reason.unwrap().contains("hello twice"));
    assert!(server.report().delivered);
    assert_serves(server.address);
}

#[test]
fn no_number_a_client_tells_upsets_the_server() {
    let server = Local::start(Limits::default());
    let two = Plan {
        streams: 2,
        chunk: MOST_CHUNK,
        ..plan(5)
    };
    // The highest numbers there are, from clients that go away before they say what they sent.
    let (control, welcome) = Control::session(server.address, two.clone());
    for &port in &welcome.ports {
        let header = Header {
            sent: u64::MAX,
            ..Header::bare(Kind::Data, welcome.token, MOST_SHORT)
        };
        let mut source = Source::new(server.address, port);
        source.send(&[header.encode().as_slice(), &vec![0; MOST_CHUNK]].concat());
        source.probe(welcome.token);
    }
    drop(control);
    let run = server.report().measured.run;
    assert_eq!((run.ended.as_str(), run.received.unique), ("peer_lost", 2));
    assert_eq!(run.sent.packets, 2 * (MOST_SHORT + 1));
    assert_eq!(run.sent.packets, run.received.unique + run.lost.packets);

    // And such as say that they sent more than there are numbers for, for streams that there are not.
    let most = StreamSent {
        packets: u64::MAX - 1,
        bytes: u64::MAX,
        not_sent: u64::MAX,
    };
    for count in [0, 1, 2, 3] {
        let (mut control, _welcome) = Control::session(server.address, two.clone());
        control.say(&Request::Finish {
            streams: vec![most; count],
        });
        let outcome = control.result();
        assert_eq!(outcome.streams.len(), 2);
        let run = server.report().measured.run;
        assert_eq!(run.received.unique, 0);
        assert_eq!(run.complete, count == 2, "{:?}", run.reason);
        assert_eq!(outcome.done.unwrap().reason.is_none(), count == 2);
    }
    assert_serves(server.address);
}

#[test]
fn a_session_is_ended_at_its_longest_even_when_the_client_is_done() {
    let limits = Limits {
        duration: Duration::from_millis(600),
        ..Limits::default()
    };
    let server = Local::start(limits);
    for finished in [None, Some(u64::MAX), Some(1_000)] {
        let (mut control, welcome) = Control::session(server.address, plan(5));
        if let Some(packets) = finished {
            control.finish(packets);
        }
        // It goes on sending all the same.
        let mut source = Source::new(server.address, welcome.ports[0]);
        let began = Instant::now();
        thread::scope(|scope| {
            let result = scope.spawn(|| control.result());
            while !result.is_finished() {
                assert!(began.elapsed() < PATIENCE, "no end: {finished:?}");
                source.probe_once(welcome.token);
            }
        });
        let report = server.report();
        let reason = report.measured.run.reason.unwrap();
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
    assert_eq!(server.report().measured.run.ended, "limit");
}

#[test]
fn a_client_that_does_not_fetch_its_result_is_given_up() {
    // A row takes some 40 bytes: more than the kernel keeps for a sender (tcp(7)).
    let kept = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").unwrap();
    let kept: u64 = kept
        .split_whitespace()
        .next_back()
        .unwrap()
        .parse()
        .unwrap();
    let count = kept / 30 + 50_000;
    let server = Local::start(Limits::default());
    let rows = Plan {
        packet_rows: true,
        receive_buffer: Some(4 << 20),
        ..plan(count)
    };
    let (mut control, welcome) = Control::session(server.address, rows);
    let stream = SockRef::from(&control.stream);
    stream.set_recv_buffer_size(4_096).unwrap();
    let mut source = Source::new(server.address, welcome.ports[0]);
    for sequence in 0..count {
        source.send(&data(welcome.token, sequence));
        if sequence % 1_000 == 0 {
            source.probe(welcome.token);
        }
    }
    control.finish(count);
    let began = Instant::now();
    // It says that it is alive, and reads nothing of its result.
    let report = loop {
        if let Ok(report) = server.reports.recv_timeout(Duration::from_millis(100)) {
            break report;
        }
        assert!(began.elapsed() < NOTICED, "still there");
        control.keep_alive();
    };
    assert!(!report.delivered);
    let received = report.measured.run.received;
    assert_eq!(received.bytes, received.unique * CHUNK as u64);
}
