//! `bench proxy serve --forward`: bytes arrive, broken connections look broken, and overload is tolerated.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::engine::{Engine, FORWARDINGS, on_both_engines, on_every_engine};
use crate::common::{Finished, NOTICED, PATIENCE, Running, bench, cpu_ticks, start, until};
use socket2::{Domain, SockRef, Socket, Type};

on_both_engines!(
    bytes_are_exact_in_both_directions_with_every_forwarding,
    bytes_are_exact_between_and_after_messages,
    no_round_trip_waits_for_a_tcp_timer,
    urgent_bytes_are_relayed_in_line_without_delay,
    bulk_transfers_do_not_delay_other_connections,
);

macro_rules! splicing {
    ($($body:ident),* $(,)?) => {
        on_every_engine!(mio_splice "--engine mio --forwarding splice", $($body),*);
        on_every_engine!(uring_splice "--engine uring --forwarding splice", $($body),*);
    };
}

splicing!(bulk_transfers_do_not_delay_other_connections,);

mod endings;
mod limits;
mod memory;
mod slow;

/// A proxy on loopback in front of a server that the test plays.
struct Proxy {
    program: Running,
    address: SocketAddr,
    server: TcpListener,
}

impl Proxy {
    #[track_caller]
    fn start(engine: Engine, more: &[&str]) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        // Also of accept(2).
        SockRef::from(&server)
            .set_read_timeout(Some(PATIENCE))
            .unwrap();
        let (program, address) = proxy(engine, server.local_addr().unwrap(), more);
        Self {
            program,
            address,
            server,
        }
    }

    /// A client and the server's end of its connection.
    #[track_caller]
    fn pair(&self) -> (TcpStream, TcpStream) {
        let client = connect(self.address);
        (client, patient(self.server.accept().unwrap().0))
    }

    /// Like [`Self::pair`], after a conversation in small messages.
    #[track_caller]
    fn conversing_pair(&self) -> (TcpStream, TcpStream) {
        let (client, server) = self.pair();
        converse(&client, &server);
        (client, server)
    }

    #[track_caller]
    fn stop(self) -> Finished {
        self.program.signal("TERM");
        self.program.wait(NOTICED).done()
    }
}

#[track_caller]
fn proxy(engine: Engine, to: SocketAddr, more: &[&str]) -> (Running, SocketAddr) {
    let to = to.to_string();
    let fixed = [
        "proxy",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--forward",
        &to,
    ];
    let more = engine.options().chain(more.iter().copied());
    let mut program = start(fixed.into_iter().chain(more));
    let address = program.listening();
    (program, address)
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[track_caller]
fn connect(to: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(to).unwrap())
}

/// Sends so many bytes and checks that they arrive.
#[track_caller]
fn assert_passes(mut from: &TcpStream, mut to: &TcpStream, bytes: usize) {
    let sent: Vec<u8> = (0..bytes).map(|n| (n % 253) as u8).collect();
    from.write_all(&sent).unwrap();
    let mut received = vec![0; bytes];
    to.read_exact(&mut received).unwrap();
    assert!(received == sent);
}

/// Enough small messages to and fro that more are expected.
#[track_caller]
fn converse(client: &TcpStream, server: &TcpStream) {
    for message in 1..=20 {
        assert_passes(client, server, message);
        assert_passes(server, client, 10 * message);
    }
}

#[track_caller]
fn assert_reset(mut stream: &TcpStream) {
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[track_caller]
fn assert_ended(mut stream: &TcpStream) {
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

/// The number before `word` in the summary.
#[track_caller]
fn count(finished: &Finished, word: &str) -> u64 {
    let text = &finished.stdout;
    let before = text.split(word).next().unwrap();
    assert!(before.len() < text.len(), "no '{word}' in: {text}");
    let number = before.split_whitespace().next_back().unwrap();
    number.replace(',', "").parse().unwrap()
}

/// Bytes with a period that no power of two divides.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(999_983).collect()
}

/// Sends `total` bytes of noise, repeated, in pieces whose lengths cycle through `pieces`, then ends.
fn send_noise(mut to: TcpStream, noise: &[u8], total: usize, pieces: &[usize]) {
    let mut sent = 0;
    for &piece in pieces.iter().cycle() {
        let at = sent % noise.len();
        let end = noise.len().min(at + piece.min(total - sent));
        to.write_all(&noise[at..end]).unwrap();
        sent += end - at;
        if sent == total {
            break;
        }
    }
    to.shutdown(Shutdown::Write).unwrap();
}

/// Receives exactly that.
fn receive(from: TcpStream, noise: &[u8], total: usize) {
    assert_eq!(received(from, noise), total);
}

/// Receives repeated noise to the end, and counts it.
fn received(mut from: TcpStream, noise: &[u8]) -> usize {
    let mut buffer = vec![0; 100_000];
    let mut received = 0;
    loop {
        let bytes = from.read(&mut buffer).unwrap();
        if bytes == 0 {
            break;
        }
        let mut rest = &buffer[..bytes];
        while !rest.is_empty() {
            let at = received % noise.len();
            let some = rest.len().min(noise.len() - at);
            assert!(
                rest[..some] == noise[at..at + some],
                "wrong after {received}"
            );
            received += some;
            rest = &rest[some..];
        }
    }
    received
}

fn bytes_are_exact_in_both_directions_with_every_forwarding(engine: Engine) {
    const BULK: usize = 50_000_000;
    const MIXED: usize = 3_000_000;
    let noise = noise();
    for forwarding in FORWARDINGS {
        let proxy = Proxy::start(engine, &["--forwarding", forwarding, "--threads", "2"]);
        let (client, server) = proxy.pair();
        thread::scope(|scope| {
            let (to_server, to_client) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let noise = &noise;
            scope.spawn(move || send_noise(to_server, noise, BULK, &[1 << 20]));
            scope.spawn(move || {
                send_noise(to_client, noise, MIXED, &[1, 2, 70_000, 1, 65_483, 13, 900])
            });
            scope.spawn(move || receive(server, noise, BULK));
            scope.spawn(move || receive(client, noise, MIXED));
        });
        let (client, server) = proxy.pair();
        thread::scope(|scope| {
            let noise = &noise;
            scope.spawn(move || send_noise(client, noise, 2_000, &[1]));
            scope.spawn(move || receive(server, noise, 2_000));
        });
        let finished = proxy.stop();
        assert_eq!(count(&finished, " to servers"), (BULK + 2_000) as u64);
        assert_eq!(count(&finished, " to clients"), MIXED as u64);
        let spliced = count(&finished, " of them spliced");
        let all = (BULK + MIXED + 2_000) as u64;
        match forwarding {
            "splice" => assert_eq!(spliced, all),
            // The bulk transfer is long enough for a trial.
            "auto" => assert!(0 < spliced && spliced < BULK as u64),
            _ => assert_eq!(spliced, 0),
        }
    }
}

/// Small messages and bulk data in turn, both while the other end reads at once and while it is late.
fn bytes_are_exact_between_and_after_messages(engine: Engine) {
    let noise = noise();
    let proxy = Proxy::start(engine, &[]);
    let (client, server) = proxy.pair();
    for bulk in [4_160, 100, 100_000, 4_159, 3_000_000, 1] {
        converse(&client, &server);
        for (mut from, mut to) in [(&server, &client), (&client, &server)] {
            thread::scope(|scope| {
                scope.spawn(|| from.write_all(&noise[..bulk % noise.len()]).unwrap());
                let mut received = vec![0; bulk % noise.len()];
                to.read_exact(&mut received).unwrap();
                assert!(received == noise[..bulk % noise.len()], "{bulk}");
            });
        }
    }
    converse(&client, &server);
    // Messages that nobody waits for.
    thread::scope(|scope| {
        let (to_server, to_client) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let noise = &noise;
        scope.spawn(move || send_noise(to_server, noise, 300_000, &[100, 1, 200]));
        scope.spawn(move || send_noise(to_client, noise, 3_000_000, &[1_000, 9_000, 3]));
        scope.spawn(move || receive(server, noise, 300_000));
        scope.spawn(move || receive(client, noise, 3_000_000));
    });
}

fn no_round_trip_waits_for_a_tcp_timer(engine: Engine) {
    for forwarding in FORWARDINGS {
        let proxy = Proxy::start(engine, &["--forwarding", forwarding]);
        let (client, server) = proxy.pair();
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let begin = Instant::now();
        for _ in 0..100 {
            // A delayed acknowledgement takes 40 ms, a corked rest 200 ms.
            for bytes in [1, 1_000, 70_000] {
                assert_passes(&client, &server, bytes);
                assert_passes(&server, &client, bytes);
            }
        }
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(4), "{forwarding}: {took:?}");
        // A server that waits for acknowledgements between small writes, in its first answer.
        let begin = Instant::now();
        for _ in 0..50 {
            let mut client = TcpStream::connect(proxy.address).unwrap();
            client.write_all(b"?").unwrap();
            let mut server = proxy.server.accept().unwrap().0;
            server.read_exact(&mut [0]).unwrap();
            for part in ["first", "second", "third"] {
                server.write_all(part.as_bytes()).unwrap();
            }
            client.read_exact(&mut [0; 16]).unwrap();
        }
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(2), "{forwarding}: {took:?}");
    }
}

fn urgent_bytes_are_relayed_in_line_without_delay(engine: Engine) {
    for forwarding in FORWARDINGS {
        let proxy = Proxy::start(engine, &["--forwarding", forwarding]);
        let (mut client, mut server) = proxy.pair();
        SockRef::from(&server).set_out_of_band_inline(true).unwrap();
        let mut receiver = |what: &[u8]| {
            let mut received = vec![0; what.len()];
            server.read_exact(&mut received).unwrap();
            assert_eq!(received, what, "{forwarding}");
        };
        client.write_all(b"before ").unwrap();
        SockRef::from(&client).send_out_of_band(b"!").unwrap();
        client.write_all(b" after").unwrap();
        receiver(b"before ! after");
        SockRef::from(&client).send_out_of_band(b"?").unwrap();
        receiver(b"?");
        client.write_all(b"all").unwrap();
        receiver(b"all");
    }
}

/// Ends threads even if a test fails.
struct EndsIt<'a>(&'a AtomicBool);

impl Drop for EndsIt<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// On one thread: endless transfers, a client that does not read, and small transfers in parallel.
fn bulk_transfers_do_not_delay_other_connections(engine: Engine) {
    let (noise, proxy) = (&noise(), &Proxy::start(engine, &[]));
    let (mut stuck, unread) = proxy.pair();
    stuck
        .set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut sent = 0;
    while let Ok(bytes) = stuck.write(&noise[sent % noise.len()..]) {
        sent += bytes;
    }
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let ends = EndsIt(over);
        let bulk: Vec<_> = (0..4)
            .map(|_| {
                let (mut client, server) = proxy.pair();
                let sender = scope.spawn(move || {
                    let mut sent = 0;
                    while !over.load(Ordering::Relaxed) {
                        sent += client.write(&noise[sent % noise.len()..]).unwrap();
                    }
                    client.shutdown(Shutdown::Write).unwrap();
                    sent
                });
                (sender, scope.spawn(move || received(server, noise)))
            })
            .collect();
        for _ in 0..3 {
            let (client, server) = proxy.pair();
            for _ in 0..50 {
                assert_passes(&client, &server, 1);
                assert_passes(&server, &client, 1_000);
            }
        }
        drop(ends);
        for (sender, receiver) in bulk {
            let sent = sender.join().unwrap();
            assert_eq!(receiver.join().unwrap(), sent);
            assert!(sent > 0);
        }
    });
    stuck.shutdown(Shutdown::Write).unwrap();
    receive(unread, noise, sent);
}

/// An origin server.
#[track_caller]
fn origin(more: &[&str]) -> (Running, SocketAddr) {
    let fixed = ["proxy", "origin", "--listen", "127.0.0.1:0"];
    let mut program = start(fixed.iter().chain(more));
    let address = program.listening();
    (program, address)
}

/// Sends a message, ends its side, and returns the whole response.
#[track_caller]
fn ask(mut stream: TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn invalid_options_are_refused_by_name() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let serve = ["proxy", "serve", "--listen", &taken, "--forward"];
    let with = |more: &[&str]| bench(serve.iter().chain(more));
    with(&["127.0.0.1:1"]).failed(3, &[&taken, "--listen"]);
    with(&["127.0.0.1:1", "--threads", "2"]).failed(3, &[&taken, "--listen"]);
    with(&["127.0.0.1:0"]).failed(2, &["127.0.0.1:0", "--forward"]);
    with(&["127.0.0.1:1", "--threads", "0"]).failed(2, &["'0'", "1 to 1024"]);
    with(&["127.0.0.1:1", "--forwarding", "magic"]).failed(2, &["'magic'", "splice"]);
    with(&["127.0.0.1:1", "--engine", "magic"]).failed(2, &["'magic'", "uring"]);
    with(&["127.0.0.1:1", "--idle-timeout", "0s"]).failed(2, &["'0s'", "30s"]);
    bench(["proxy", "origin", "--listen", &taken]).failed(3, &[&taken, "--listen"]);
}

#[test]
fn the_origin_prints_messages_and_echoes_them() {
    let (mut program, address) = origin(&[]);
    for (sent, shown) in [("grüß dich", "grüß dich"), ("two\nlines", r"two\nlines")] {
        assert_eq!(ask(connect(address), sent), format!("RESPONSE || {sent}"));
        program.line(|line| line.ends_with(&format!(": {shown}")));
    }
    assert_eq!(ask(connect(address), ""), "RESPONSE || ");
    // It answers while it receives, not at the end.
    let mut client = connect(address);
    let mut received = [0; 17];
    client.write_all(b"first").unwrap();
    client.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"RESPONSE || first");
    client.write_all(b"again").unwrap();
    client.read_exact(&mut received[..5]).unwrap();
    assert_eq!(&received[..5], b"again");
    program.signal("TERM");
    program.wait(NOTICED).done();
}

#[test]
fn the_origin_echoes_any_amount_to_a_client_that_reads_late() {
    let (program, address) = origin(&["--quiet"]);
    let mut client = connect(address);
    let noise = noise();
    let sender = client.try_clone().unwrap();
    thread::scope(|scope| {
        let noise = &noise;
        scope.spawn(move || send_noise(sender, noise, 20_000_000, &[100_000]));
        let mut prefix = [0; 12];
        client.read_exact(&mut prefix).unwrap();
        assert_eq!(&prefix, b"RESPONSE || ");
        receive(client, noise, 20_000_000);
    });
    program.signal("TERM");
    let finished = program.wait(NOTICED).done();
    assert_eq!(finished.stdout.lines().count(), 1, "{}", finished.stdout);
}
