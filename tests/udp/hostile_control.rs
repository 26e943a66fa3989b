//! Control connections that start no session: the server names the reason, drops silent connections and continues to serve
//! others.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::NOTICED;
use crate::common::peer::{Control, Local, assert_serves, framed, hello, plan};
use serde_json::json;
use wirebench::udp::plan::{Amount, Mode, Plan};
use wirebench::udp::server::Limits;
use wirebench::udp::wire::VERSION;
use wirebench::udp::wire::framing::MAX_MESSAGE;
use wirebench::udp::wire::header::{MAX_48_BIT, MAX_CHUNK};

/// The server's reply to these first bytes.
#[track_caller]
fn refusal(server: SocketAddr, bytes: &[u8]) -> String {
    let mut control = Control::connect(server);
    control.stream.write_all(bytes).unwrap();
    control.refused()
}

#[test]
fn an_invalid_message_is_refused_with_a_reason() {
    let server = Local::start(Limits::default());
    let too_long = u32::try_from(MAX_MESSAGE + 1).unwrap().to_be_bytes();
    let deep = framed("[".repeat(5_000).as_bytes());
    for (bytes, named) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "1195725856 bytes"),
        (&too_long, "65537 bytes"),
        (&[0xff; 9], "4294967295 bytes"),
        (&framed(b""), "is invalid"),
        (&framed(b"\0\xff\xfe not text"), "is invalid"),
        (&framed(&[b' '; MAX_MESSAGE]), "is invalid"),
        (&deep, "is invalid"),
        (&framed(b"{}"), "version"),
        (&framed(br#"{"version":"one"}"#), "is invalid"),
        (&framed(br#"{"version":3}"#), "is invalid"),
        (
            &framed(br#"{"version":3,"type":"alive","received":0,"datagrams":0}"#),
            "must be a hello",
        ),
        (
            &framed(br#"{"version":3,"type":"finish","streams":[],"quiet_ns":0}"#),
            "must be a hello",
        ),
        (
            &framed(br#"{"version":3,"type":"hello","plan":{"chunk":-1}}"#),
            "is invalid",
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
fn another_version_is_named_in_any_message() {
    let server = Local::start(Limits::default());
    for version in [0, VERSION + 1, u32::MAX] {
        let hello = json!({"type": "hallo", "version": version, "plan": {"new": [1, 2]}});
        let reason = refusal(server.address, &framed(hello.to_string().as_bytes()));
        assert!(reason.contains(&format!("version {version} ")), "{reason}");
        assert!(reason.contains(&format!("version {VERSION};")), "{reason}");
    }
}

#[test]
fn an_invalid_plan_is_refused_by_value() {
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
                chunk: MAX_CHUNK + 1,
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
                amount: Amount::Packets(MAX_48_BIT - 1),
                ..pace(0.001)
            },
            "--max-duration",
        ),
    ] {
        let mut control = Control::connect(server.address);
        control.send(&hello(plan));
        let reason = control.refused();
        assert!(reason.contains(named), "no '{named}' in: {reason}");
    }
    assert_serves(server.address);
}

#[test]
fn a_client_without_a_complete_message_is_dropped() {
    let server = Local::start(Limits {
        greeting: Duration::from_secs(3),
        ..Limits::default()
    });
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

/// The server drops a client that sends only `first`, even if more bytes follow slowly.
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
            // The server may have closed.
            let _ = stream.write_all(b" ");
        }
    }
}

#[test]
fn idle_connections_do_not_block_others() {
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

/// The limit of open files of this process.
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
