//! `bench udp --to` against other servers: it reports in one sentence, and in time, why there is no result or what is wrong
//! with it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::common::{Finished, NOTICED, Results, bench};
use serde::Serialize;
use wirebench::udp::wire::control::{
    Alive, ReceiverEffective, Reply, Request, StreamOffer, Welcome,
};
use wirebench::udp::wire::explain::{HostReport, TracedDrops};
use wirebench::udp::wire::framing::{self, Decoder};
use wirebench::udp::wire::header::{HEADER, Header, Kind};
use wirebench::udp::wire::results::{Done, Histogram, Interval, StreamReceived};

const TOKEN: u64 = 42;

/// Runs a client against a server that runs `play` on its first connection.
fn against(options: &str, play: impl FnOnce(TcpStream) + Send) -> (Finished, Results) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let results = Results::new();
    let out = results.arg();
    let finished = thread::scope(|scope| {
        scope.spawn(|| play(listener.accept().unwrap().0));
        let fixed = ["udp", "--packets", "5", "--to", &to, "--out", &out];
        bench(fixed.into_iter().chain(options.split_whitespace()))
    });
    (finished, results)
}

/// The run does not begin: exit 3 in time, and nothing saved.
#[track_caller]
fn assert_failed((finished, results): (Finished, Results), words: &[&str]) {
    let finished = finished.failed(3, words);
    assert!(finished.took < NOTICED, "{:?}", finished.took);
    assert_eq!(finished.stdout, "");
    assert_eq!(results.names(), [""; 0]);
}

fn say(stream: &mut TcpStream, message: &impl Serialize) {
    let mut bytes = Vec::new();
    framing::encode(message, &mut bytes).unwrap();
    // The client may have closed.
    let _ = stream.write_all(&bytes);
}

/// Reads until the client closes or has sent its last message.
fn hear_out(stream: &mut TcpStream) {
    let mut decoder = Decoder::default();
    let mut bytes = [0; 4_096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        decoder.push(&bytes[..count]);
        while let Some(request) = decoder.next_message().unwrap() {
            if let Request::Finish(_) = request {
                return;
            }
        }
    }
}

/// A welcome with a stream at each of these ports.
fn welcome(ports: Vec<u16>) -> Reply {
    let offer = |port: &u16| StreamOffer {
        token: TOKEN,
        port: Some(*port),
    };
    Reply::Welcome(Welcome {
        session: 7,
        clock: offer(ports.first().unwrap_or(&1)),
        forward: ports.iter().map(offer).collect(),
        reverse: Vec::new(),
        receiver: Some(ReceiverEffective {
            receive_buffer: 1 << 20,
            window: Some(1_024),
            ..ReceiverEffective::default()
        }),
        sender_cpus: None,
        same_clock: true,
        clock_ns: wirebench::sys::clock::monotonic_ns(),
        client_ip: "127.0.0.1".to_owned(),
        traffic: false,
    })
}

#[test]
fn a_server_that_does_not_know_kernel_timestamps_is_reported() {
    let outcome = against("--quiet --timestamps kernel", |mut stream| {
        say(&mut stream, &welcome(vec![1]));
        hear_out(&mut stream);
    });
    let words = ["is older than --timestamps kernel", "--timestamps user"];
    assert_failed(outcome, &words);
}

#[test]
fn a_peer_that_is_not_a_server_is_reported_in_time() {
    let silent = || {
        assert_failed(
            against("--quiet --peer-timeout 2s", |mut stream| {
                hear_out(&mut stream)
            }),
            &["opened no session", "no answer for 2 s"],
        )
    };
    let web = || {
        assert_failed(
            against("--quiet", |mut stream| {
                stream
                    .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    .unwrap();
                hear_out(&mut stream);
            }),
            &["opened no session", "bytes exceeds the limit"],
        )
    };
    let closed = || assert_failed(against("--quiet", drop), &["opened no session"]);
    let no_udp = || {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap();
        let number = port.local_addr().unwrap().port();
        // A port that accepts everything and sends nothing.
        let outcome = against("--quiet", |mut stream| {
            say(&mut stream, &welcome(vec![number]));
            hear_out(&mut stream);
            drop(port);
        });
        assert_failed(
            outcome,
            &[&format!("127.0.0.1:{number}"), "does not answer"],
        );
    };
    thread::scope(|scope| {
        scope.spawn(silent);
        scope.spawn(web);
        scope.spawn(closed);
        scope.spawn(no_udp);
    });
}

/// A server may reach its greeting limit before the client's first message arrives, as after lost SYNs.
#[test]
fn a_connection_closed_late_in_the_greeting_is_dialled_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let finished = thread::scope(|scope| {
        scope.spawn(|| {
            let (first, _) = listener.accept().unwrap();
            thread::sleep(Duration::from_millis(1_500));
            drop(first);
            let (mut second, _) = listener.accept().unwrap();
            let reason = "second connection".to_owned();
            say(&mut second, &Reply::Refused { reason });
            hear_out(&mut second);
        });
        bench(["udp", "--packets", "5", "--to", &to, "--no-save", "--quiet"])
    });
    let finished = finished.failed(3, &["refuses the run", "second connection"]);
    assert!(finished.took < NOTICED, "{:?}", finished.took);
}

/// A welcome that grants this many datagrams ahead.
fn windowed(granted: Option<u64>) -> Reply {
    match welcome(vec![1]) {
        Reply::Welcome(mut welcome) => {
            welcome.receiver.as_mut().unwrap().window = granted;
            Reply::Welcome(welcome)
        }
        other => other,
    }
}

#[test]
fn a_message_out_of_order_is_not_a_welcome() {
    for reply in [
        Reply::Alive(Alive::default()),
        welcome(vec![]),
        welcome(vec![1, 2]),
        // With no or little credit, the client could never send, nor reuse a spliced page.
        windowed(None),
        windowed(Some(0)),
        Reply::Done(Box::default()),
    ] {
        let outcome = against("--quiet", |mut stream| {
            say(&mut stream, &reply);
            hear_out(&mut stream);
        });
        assert_failed(outcome, &["unexpected message"]);
    }
}

#[test]
fn a_server_that_does_not_confirm_options_of_the_datagrams_is_older() {
    for options in ["--dscp EF", "--chunk imix", "--pps 10 --burst 2"] {
        let outcome = against(options, |mut stream| {
            say(&mut stream, &welcome(vec![1]));
            hear_out(&mut stream);
        });
        assert_failed(outcome, &["older version", "install the same wirebench"]);
    }
}

#[test]
fn the_reason_of_a_refusal_is_passed_on() {
    let outcome = against("--quiet", |mut stream| {
        let reason = "the client speaks version 1 and the server version 9".to_owned();
        say(&mut stream, &Reply::Refused { reason });
        // A close with unread bytes would reset the connection.
        hear_out(&mut stream);
    });
    assert_failed(outcome, &["refuses the run", "version 9"]);
}

/// A server that lets the client send, then sends `replies`.
fn answering(options: &str, replies: Vec<Reply>) -> (Finished, Results) {
    with_udp(options, welcome, move |mut stream| {
        hear_out(&mut stream);
        for reply in &replies {
            say(&mut stream, reply);
        }
    })
}

/// A server with a valid UDP port, described by `welcome`, that runs `play` over TCP.
fn with_udp(
    options: &str,
    welcome: fn(Vec<u16>) -> Reply,
    play: impl FnOnce(TcpStream) + Send,
) -> (Finished, Results) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    against(options, move |mut stream| {
        let udp = socket.try_clone().unwrap();
        say(&mut stream, &welcome(vec![port]));
        let answer = thread::spawn(move || answer(&udp));
        play(stream.try_clone().unwrap());
        socket
            .send_to(b"over", socket.local_addr().unwrap())
            .unwrap();
        answer.join().unwrap();
        let _ = stream.read(&mut [0; 64]);
    })
}

/// Grants credit and answers clock exchanges until a datagram shorter than a header arrives.
fn answer(udp: &UdpSocket) {
    let mut bytes = [0; 2_048];
    while let Ok((count, from)) = udp.recv_from(&mut bytes) {
        match Header::decode(&bytes[..count]) {
            Ok(Header {
                kind: Kind::Probe, ..
            }) => {
                let credit = Header::bare(Kind::Credit, TOKEN, 1 << 20).encode();
                // The client may have closed.
                let _ = udp.send_to(&credit, from);
            }
            Ok(Header {
                kind: Kind::Ping,
                sequence,
                ..
            }) => {
                let pong = Header {
                    sent: wirebench::sys::clock::monotonic_ns(),
                    ..Header::bare(Kind::Pong, TOKEN, sequence)
                };
                let _ = udp.send_to(&pong.encode(), from);
            }
            Err(_) if count < HEADER => return,
            _ => {}
        }
    }
}

/// Sends `next` repeatedly until the client closes.
fn babble(mut stream: TcpStream, mut next: impl FnMut(u64) -> Reply) {
    for number in 0.. {
        let mut bytes = Vec::new();
        framing::encode(&next(number), &mut bytes).unwrap();
        if stream.write_all(&bytes).is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_server_without_a_result_times_out() {
    // Alive all the time, with changing counts.
    for change in [0, 1] {
        let (finished, results) = with_udp("--quiet --peer-timeout 2s", welcome, |stream| {
            babble(stream, |number| {
                Reply::Alive(Alive {
                    received: 0,
                    datagrams: number % 2 * change,
                })
            });
        });
        let finished = finished.failed(3, &["incomplete", "no result for 2 s"]);
        assert!(finished.took < NOTICED, "{:?}", finished.took);
        let run = results.run();
        assert_eq!(run["ended"], "peer_lost");
        assert!(run["lost"]["packets"].is_null(), "{run:#}");
    }
}

#[test]
fn a_server_without_data_times_out() {
    let reverse = |ports: Vec<u16>| match welcome(ports) {
        Reply::Welcome(mut welcome) => {
            std::mem::swap(&mut welcome.forward, &mut welcome.reverse);
            welcome.receiver = None;
            Reply::Welcome(welcome)
        }
        other => other,
    };
    let options = "--quiet --reverse --peer-timeout 2s";
    let (finished, results) = with_udp(options, reverse, |stream| {
        babble(stream, |_| Reply::Alive(Alive::default()));
    });
    let finished = finished.failed(3, &["incomplete", "no datagram for 2 s"]);
    assert!(finished.took < NOTICED, "{:?}", finished.took);
    let run = results.run();
    assert_eq!(run["ended"], "peer_lost");
    assert!(
        run["sent"]["packets"].is_null() || run["sent"]["packets"] == 0,
        "{run:#}"
    );
}

#[test]
fn a_server_that_ends_early_makes_the_run_incomplete() {
    let reason = Some("a receiver failed: out of memory".to_owned());
    let done = Done {
        reason,
        ..Done::default()
    };
    let (finished, results) = answering("--quiet", vec![Reply::Done(Box::new(done))]);
    finished.failed(3, &["incomplete", "a receiver failed: out of memory"]);
    let run = results.run();
    assert_eq!(
        (&run["complete"], &run["ended"]),
        (&false.into(), &"limit".into())
    );
    assert_eq!(run["sent"]["packets"], 5);
}

#[test]
fn an_invalid_result_makes_the_run_incomplete() {
    let refused = Reply::Refused {
        reason: "no".to_owned(),
    };
    for replies in [vec![refused], vec![]] {
        let (finished, results) = answering("--quiet", replies);
        finished.failed(3, &["incomplete", "was lost"]);
        let run = results.run();
        assert_eq!(
            (&run["complete"], &run["ended"]),
            (&false.into(), &"peer_lost".into())
        );
        assert_eq!(run["sent"]["packets"], 5);
    }
}

#[test]
fn no_number_of_a_server_breaks_the_client() {
    let most = StreamReceived {
        stream: usize::MAX,
        unique: u64::MAX,
        bytes: u64::MAX,
        duplicates: u64::MAX,
        reordered: u64::MAX,
        late: u64::MAX,
        foreign_token: u64::MAX,
        foreign_short: u64::MAX,
        foreign_malformed: u64::MAX,
        next: u64::MAX,
        jitter_ns: Some(f64::MAX),
        first_sent: Some(u64::MAX),
        first_received: Some(u64::MAX),
        last_received: Some(u64::MAX),
        drops: u64::MAX,
        window: u64::MAX,
        marks: (0..=255).map(|tos| (tos, u64::MAX)).collect(),
    };
    let row = Interval {
        start_s: f64::MAX,
        seconds: -1.0,
        packets: u64::MAX,
        missing: i64::MIN,
        ..Interval::default()
    };
    let counts = vec![(0, u64::MAX), (u64::MAX, u64::MAX), (1, 1)];
    let done = Done {
        user_s: f64::MAX,
        last_received_wall: Some(u64::MAX),
        sums_ns: ["9".repeat(39), "x".to_owned()],
        rows_omitted: u64::MAX,
        ..Done::default()
    };
    let mut replies = vec![Reply::Interval(row.clone()), Reply::Interval(row)];
    for of in [
        Histogram::Latency,
        Histogram::Intended,
        Histogram::Latency,
        Histogram::Lateness,
    ] {
        replies.push(Reply::Counts {
            of,
            counts: counts.clone(),
        });
    }
    replies.push(Reply::Rows {
        stream: usize::MAX,
        rows: vec![(u64::MAX, 0, u64::MAX), (0, u64::MAX, 0)],
        lateness: vec![u64::MAX, 1, 2],
    });
    replies.extend([Reply::Stream(most.clone()), Reply::Stream(most)]);
    replies.push(Reply::Done(Box::new(done)));
    let (finished, results) = answering("--packets-csv --interval 10ms", replies);
    assert!(
        matches!(finished.code, Some(0 | 3)),
        "{:?}: {}",
        finished.code,
        finished.stderr
    );
    assert!(results.only().join("run.json").exists());
}

/// 2 of the 5 datagrams arrived.
fn two_arrived() -> Vec<Reply> {
    let stream = StreamReceived {
        unique: 2,
        bytes: 2_000,
        next: 5,
        ..StreamReceived::default()
    };
    vec![Reply::Stream(stream), Reply::Done(Box::default())]
}

#[test]
fn losses_that_a_server_does_not_explain_are_unexplained() {
    let (finished, results) = answering("--explain", two_arrived());
    assert!(finished.done().stdout.contains("unexplained 3"));
    let explained = &results.run()["explained"];
    assert_eq!(explained["unexplained"], 3, "{explained:#}");
    assert!(explained["between"].is_null() && explained["receiver"].is_null());
    let notes = explained["notes"].to_string();
    assert!(notes.contains("receiver's host did not explain"), "{notes}");
}

#[test]
fn no_explanation_of_a_server_breaks_the_client() {
    let evil = "\u{1b}[2J<script>\n".repeat(100);
    let drop = TracedDrops {
        reason: evil.clone(),
        place: evil.clone(),
        drops: u64::MAX,
    };
    let names = ["NoPorts", "InReceives", "InCsumErrors", "rx_dropped", &evil];
    let report = HostReport {
        kernel: Some(evil.clone()),
        device: Some(evil.clone()),
        counters: names.map(|name| (name.to_owned(), u64::MAX)).into(),
        refused: vec![(i32::MIN, u64::MAX); 3],
        traced: true,
        drops: vec![drop; 3],
        notes: vec![evil; 2],
        ..HostReport::default()
    };
    for options in ["--explain", "--explain --quiet --html -"] {
        let mut replies = vec![Reply::Explained(Box::new(report.clone()))];
        replies.extend(two_arrived());
        let (finished, results) = answering(options, replies);
        let stdout = finished.done().stdout;
        assert!(!stdout.contains('\u{1b}'), "{options}");
        assert!(!options.contains("--html") || !stdout.contains("<script"));
        let run = results.run();
        let sum = |key: &str| run["explained"][key].as_u64().unwrap();
        assert!(sum("surplus") > 0, "{run:#}");
        assert_eq!(sum("between"), 0);
    }
}

#[test]
fn an_impossible_result_is_refused_as_a_whole() {
    let stream = |change: fn(&mut StreamReceived)| {
        let mut stream = StreamReceived {
            unique: 5,
            bytes: 5_000,
            next: 5,
            ..StreamReceived::default()
        };
        change(&mut stream);
        Reply::Stream(stream)
    };
    let row = Interval {
        seconds: -1.0,
        packets: 5,
        ..Interval::default()
    };
    let counts = vec![(1_000, 70_000_000_000_000_000)];
    let latencies = Reply::Counts {
        of: Histogram::Latency,
        counts,
    };
    for replies in [
        vec![stream(|of| (of.unique, of.bytes) = (6, 6_000))],
        vec![stream(|of| of.unique = u64::MAX)],
        vec![stream(|of| of.bytes = 0)],
        vec![stream(|of| of.duplicates = u64::MAX)],
        vec![stream(|of| of.last_received = Some(1 << 63))],
        vec![latencies, stream(|_| ())],
        vec![Reply::Interval(row), stream(|_| ())],
    ] {
        let last = Reply::Done(Box::default());
        let (finished, results) = answering("--quiet", [replies, vec![last]].concat());
        finished.failed(3, &["incomplete", "sent an impossible result: "]);
        let run = results.run();
        assert_eq!(
            (&run["complete"], &run["ended"]),
            (&false.into(), &"failed".into())
        );
        assert_eq!(
            (&run["sent"]["packets"], &run["sent"]["bytes"]),
            (&5.into(), &5_000.into())
        );
        for counts in ["lost", "received"] {
            let mut counts = run[counts].as_object().unwrap().values();
            assert!(counts.all(serde_json::Value::is_null), "{run:#}");
        }
        assert!(
            run["seconds"].is_null() && run["latency_ns"].is_null(),
            "{run:#}"
        );
    }
}

#[test]
fn no_text_of_a_server_controls_the_terminal() {
    let done = Done {
        reason: Some("\u{1b}[2Jnonsense\nbench: all is well".to_owned()),
        ..Done::default()
    };
    let (finished, _results) = answering("--quiet", vec![Reply::Done(Box::new(done))]);
    let finished = finished.failed(3, &["incomplete", "?[2Jnonsense?bench: all is well"]);
    assert!(!finished.stderr.contains('\u{1b}'), "{}", finished.stderr);
}
