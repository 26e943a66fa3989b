//! `bench proxy serve --forward`: bytes arrive, broken connections look broken, and overload is tolerated.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::engine::{Engine, FORWARDINGS, on_both_engines, on_every_engine};
use crate::common::{Finished, NOTICED, PATIENCE, Running, bench, cpu_ticks, start};
use socket2::{Domain, SockRef, Socket, Type};

on_both_engines!(
    bytes_are_exact_in_both_directions_with_every_forwarding,
    bytes_are_exact_between_and_after_messages,
    messages_to_an_end_that_does_not_read_cost_no_memory,
    a_reset_and_an_end_after_messages_reach_the_other,
    either_end_may_close_its_side_and_still_receive,
    no_round_trip_waits_for_a_tcp_timer,
    urgent_bytes_are_relayed_in_line_without_delay,
    an_end_that_does_not_read_blocks_the_other_and_costs_no_memory,
    bulk_transfers_do_not_delay_other_connections,
    idle_connections_cost_little_memory,
    a_refused_server_resets_the_client,
    a_reset_of_either_end_reaches_the_other,
    the_last_bytes_of_a_server_that_closes_early_arrive,
    idle_connections_are_cut_off_and_active_ones_are_not,
    half_closed_connections_have_a_shorter_timeout,
    a_silent_server_times_out,
    a_client_over_the_limit_is_closed_until_there_is_room,
    out_of_files_clients_wait_without_spinning,
    a_stopping_proxy_refuses_new_clients_and_finishes_open_connections,
    connections_are_cut_off_after_the_drain_time,
    a_second_signal_ends_it_at_once,
);

macro_rules! splicing {
    ($($body:ident),* $(,)?) => {
        on_every_engine!(mio_splice "--engine mio --forwarding splice", $($body),*);
        on_every_engine!(uring_splice "--engine uring --forwarding splice", $($body),*);
    };
}

splicing!(
    bulk_transfers_do_not_delay_other_connections,
    idle_connections_cost_little_memory,
    the_last_bytes_of_a_server_that_closes_early_arrive,
    idle_connections_are_cut_off_and_active_ones_are_not,
    half_closed_connections_have_a_shorter_timeout,
    a_client_over_the_limit_is_closed_until_there_is_room,
    out_of_files_clients_wait_without_spinning,
    a_stopping_proxy_refuses_new_clients_and_finishes_open_connections,
    connections_are_cut_off_after_the_drain_time,
);

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

fn messages_to_an_end_that_does_not_read_cost_no_memory(engine: Engine) {
    let noise = noise();
    let proxy = Proxy::start(engine, &[]);
    let before = memory(&proxy.program);
    let pairs: Vec<_> = (0..20)
        .map(|_| {
            let (client, server) = proxy.conversing_pair();
            client.set_nonblocking(true).unwrap();
            let mut sent = 0;
            // Until the buffers of the kernel on the way are full, a message at a time.
            let full = loop {
                let end = noise.len().min(sent % noise.len() + 1_000);
                match (&client).write(&noise[sent % noise.len()..end]) {
                    Ok(bytes) => sent += bytes,
                    Err(error) => break error,
                }
            };
            assert_eq!(full.kind(), ErrorKind::WouldBlock);
            client.shutdown(Shutdown::Write).unwrap();
            (client, server, sent)
        })
        .collect();
    let grown = memory(&proxy.program).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
    // Another connection is not held up.
    proxy.conversing_pair();
    for (_client, server, sent) in pairs {
        receive(server, &noise, sent);
    }
}

fn a_reset_and_an_end_after_messages_reach_the_other(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    for client_breaks in [true, false] {
        let (client, server) = proxy.conversing_pair();
        let (breaks, stays) = if client_breaks {
            (client, server)
        } else {
            (server, client)
        };
        SockRef::from(&breaks)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(breaks);
        assert_reset(&stays);
    }
    // The end of a client that has conversed is passed on after its last message, and the answer to it arrives.
    let (mut client, mut server) = proxy.conversing_pair();
    client.write_all(b"last").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).unwrap();
    server.write_all(&[7; 100_000]).unwrap();
    drop(server);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!((text.as_str(), answer.len()), ("last", 100_000));
    let finished = proxy.stop();
    assert_eq!(count(&finished, " reset by the client"), 1);
    assert_eq!(count(&finished, " reset by the server"), 1);
}

fn either_end_may_close_its_side_and_still_receive(engine: Engine) {
    for forwarding in FORWARDINGS {
        let proxy = Proxy::start(engine, &["--forwarding", forwarding]);
        for client_first in [true, false] {
            let (client, server) = proxy.pair();
            let (first, second) = if client_first {
                (&client, &server)
            } else {
                (&server, &client)
            };
            assert_passes(first, second, 10);
            first.shutdown(Shutdown::Write).unwrap();
            assert_ended(second);
            assert_passes(second, first, 100_000);
            second.shutdown(Shutdown::Write).unwrap();
            assert_ended(first);
        }
        assert_eq!(count(&proxy.stop(), " finished"), 2);
    }
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

/// Resident memory of a process apart from its program file, in bytes.
#[track_caller]
fn memory(program: &Running) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

fn an_end_that_does_not_read_blocks_the_other_and_costs_no_memory(engine: Engine) {
    let noise = noise();
    for forwarding in FORWARDINGS {
        let proxy = Proxy::start(engine, &["--forwarding", forwarding]);
        let before = memory(&proxy.program);
        let (mut client, server) = proxy.pair();
        // Writes are blocked for a while: all the kernel's buffers on the way are full.
        client
            .set_write_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let mut sent = 0;
        let held_up = loop {
            match client.write(&noise[sent % noise.len()..]) {
                Ok(bytes) => sent += bytes,
                Err(error) => break error,
            }
            assert!(sent < 1 << 30, "writes are never blocked");
        };
        assert_eq!(held_up.kind(), ErrorKind::WouldBlock);
        let grown = memory(&proxy.program).saturating_sub(before);
        assert!(grown < 1 << 20, "{forwarding}: {grown} bytes for {sent}");
        client.shutdown(Shutdown::Write).unwrap();
        receive(server, &noise, sent);
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

fn idle_connections_cost_little_memory(engine: Engine) {
    const MANY: usize = 400;
    let proxy = Proxy::start(engine, &[]);
    let used = |pair: &(TcpStream, TcpStream)| {
        assert_passes(&pair.0, &pair.1, 10_000);
        assert_passes(&pair.1, &pair.0, 10_000);
    };
    used(&proxy.pair());
    let before = memory(&proxy.program);
    let pairs: Vec<_> = (0..MANY).map(|_| proxy.pair()).collect();
    pairs.iter().for_each(used);
    let grown = memory(&proxy.program).saturating_sub(before);
    assert!(grown < MANY * 4_096, "{grown} bytes for {MANY}");
}

fn a_refused_server_resets_the_client(engine: Engine) {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (program, address) = proxy(engine, closed, &[]);
    for _ in 0..3 {
        assert_reset(&connect(address));
    }
    program.signal("TERM");
    let finished = program.wait(NOTICED).done();
    assert_eq!(count(&finished, " without a server"), 3);
}

fn a_reset_of_either_end_reaches_the_other(engine: Engine) {
    for forwarding in FORWARDINGS {
        let proxy = Proxy::start(engine, &["--forwarding", forwarding]);
        for client_breaks in [true, false] {
            let (client, server) = proxy.pair();
            assert_passes(&client, &server, 10);
            let (breaks, stays) = if client_breaks {
                (client, server)
            } else {
                (server, client)
            };
            SockRef::from(&breaks)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            drop(breaks);
            assert_reset(&stays);
        }
        let finished = proxy.stop();
        assert_eq!(count(&finished, " reset by the client"), 1);
        assert_eq!(count(&finished, " reset by the server"), 1);
    }
}

fn the_last_bytes_of_a_server_that_closes_early_arrive(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    let (mut client, mut server) = proxy.pair();
    assert_passes(&client, &server, 10);
    server.write_all(b"enough").unwrap();
    drop(server);
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"enough");
    // The server is gone, so writes fail sooner or later.
    let deadline = Instant::now() + PATIENCE;
    while client.write_all(&[0; 10_000]).is_ok() {
        assert!(
            Instant::now() < deadline,
            "the bytes are lost without an error"
        );
    }
}

fn idle_connections_are_cut_off_and_active_ones_are_not(engine: Engine) {
    let limit = Duration::from_secs(1);
    let proxy = Proxy::start(engine, &["--idle-timeout", "1s"]);
    let (client, server) = proxy.pair();
    let begin = Instant::now();
    let mut last = begin;
    while begin.elapsed() < limit * 3 / 2 {
        last = Instant::now();
        assert_passes(&client, &server, 10);
    }
    assert_reset(&client);
    assert_reset(&server);
    assert!(last.elapsed() >= limit - Duration::from_millis(10));
    assert_eq!(count(&proxy.stop(), " idle for too long"), 1);
}

fn half_closed_connections_have_a_shorter_timeout(engine: Engine) {
    let proxy = Proxy::start(
        engine,
        &["--idle-timeout", "1h", "--half-closed-timeout", "300ms"],
    );
    let (client, server) = proxy.pair();
    assert_passes(&client, &server, 10);
    let begin = Instant::now();
    client.shutdown(Shutdown::Write).unwrap();
    assert_ended(&server);
    assert_reset(&client);
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert_eq!(count(&proxy.stop(), " half-closed for too long"), 1);
}

fn a_silent_server_times_out(engine: Engine) {
    // A listener that does not accept: once its backlog of one or two is full, the kernel ignores further SYNs.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    silent.bind(&any.into()).unwrap();
    silent.listen(0).unwrap();
    let to = silent.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&to, Duration::from_millis(200)) {
        waiting.push(stream);
    }
    let (program, address) = proxy(engine, to, &["--connect-timeout", "300ms"]);
    let begin = Instant::now();
    assert_reset(&connect(address));
    assert!(begin.elapsed() >= Duration::from_millis(300));
    program.signal("TERM");
    let finished = program.wait(NOTICED).done();
    assert_eq!(count(&finished, " without a server in time"), 1);
}

fn a_client_over_the_limit_is_closed_until_there_is_room(engine: Engine) {
    let proxy = Proxy::start(engine, &["--max-connections", "2"]);
    let (first, second) = (proxy.pair(), proxy.pair());
    for _ in 0..3 {
        // The client sent no request, so there is no reply in its protocol.
        assert_reset(&connect(proxy.address));
    }
    assert_passes(&first.0, &first.1, 10);
    assert_passes(&second.0, &second.1, 10);
    drop(first);
    proxy.server.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let (client, server) = loop {
        let client = connect(proxy.address);
        // It is reset if there was no room yet; if there was, the proxy connects to a server.
        client
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let error = (&client).read(&mut [0]).unwrap_err();
        if error.kind() != ErrorKind::ConnectionReset
            && let Ok((server, _)) = proxy.server.accept()
        {
            server.set_nonblocking(false).unwrap();
            break (client, patient(server));
        }
        assert!(Instant::now() < deadline, "no room");
    };
    assert_passes(&client, &server, 10);
    drop((client, server, second));
    assert!(count(&proxy.stop(), " too many") >= 3);
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

/// Sets the limit of open files of a running process. Returns the previous one, or `None` if that is not permitted.
fn limit_files(process: u32, soft: u64) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    let before = line.split_whitespace().nth(3)?.parse().ok()?;
    let limit = format!("--nofile={soft}:");
    let process = process.to_string();
    let status = Command::new("prlimit")
        .args(["--pid", &process, &limit])
        .status();
    status
        .is_ok_and(|status| status.success())
        .then_some(before)
}

/// The next file descriptor of a process.
fn next_file(process: u32) -> u64 {
    let taken = |number: &u64| fs::symlink_metadata(format!("/proc/{process}/fd/{number}")).is_ok();
    (0..).find(|number| !taken(number)).unwrap()
}

fn out_of_files_clients_wait_without_spinning(engine: Engine) {
    const MANY: usize = 60;
    let (_origin, to) = origin(&["--quiet"]);
    let (program, address) = proxy(engine, to, &["--threads", "1"]);
    // Files can run out whatever the limit was at the start: the system has one too (ENFILE).
    let Some(before) = limit_files(program.id(), next_file(program.id())) else {
        return println!("skipped: prlimit(1) cannot set the limit of another process here");
    };
    let begin = Instant::now();
    let clients: Vec<TcpStream> = (0..MANY).map(|_| connect(address)).collect();
    let ticks = cpu_ticks(program.id());
    // The test is that clients wait for this long.
    thread::sleep(Duration::from_millis(400));
    let used = cpu_ticks(program.id()) - ticks;
    assert!(
        used <= 10,
        "{used} hundredths of a second in 0.4 s of waiting"
    );
    limit_files(program.id(), before).unwrap();
    for (number, client) in clients.into_iter().enumerate() {
        let text = format!("number {number}");
        assert_eq!(ask(client, &text), format!("RESPONSE || {text}"));
    }
    let took = begin.elapsed();
    program.signal("TERM");
    let finished = program.wait(NOTICED).done();
    assert_eq!(count(&finished, " finished"), MANY as u64);
    let pauses = count(&finished, " pauses for want of files");
    let most = 2 * MANY as u64 + took.as_millis() as u64 / 50;
    assert!((2..=most).contains(&pauses), "{pauses} in {took:?}");
}

fn a_stopping_proxy_refuses_new_clients_and_finishes_open_connections(engine: Engine) {
    let proxy = Proxy::start(engine, &["--threads", "2"]);
    let (client, server) = proxy.pair();
    proxy.program.signal("TERM");
    assert_listens_no_more(proxy.address);
    assert_passes(&client, &server, 100_000);
    assert_passes(&server, &client, 100_000);
    drop(client);
    assert_ended(&server);
    drop(server);
    // The clients of the checks whether it listens.
    drop(proxy.server);
    let finished = proxy.program.wait(NOTICED).done();
    assert!(count(&finished, " finished") >= 1);
}

/// Waits until connections are refused.
#[track_caller]
fn assert_listens_no_more(address: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "it still listens");
    }
}

fn connections_are_cut_off_after_the_drain_time(engine: Engine) {
    let proxy = Proxy::start(engine, &["--drain-timeout", "200ms"]);
    let (client, server) = proxy.pair();
    proxy.program.signal("TERM");
    assert_reset(&client);
    assert_reset(&server);
    let finished = proxy.program.wait(NOTICED).done();
    assert_eq!(count(&finished, " cut off"), 1);
}

fn a_second_signal_ends_it_at_once(engine: Engine) {
    let proxy = Proxy::start(engine, &["--drain-timeout", "1h"]);
    let (_client, _server) = proxy.pair();
    proxy.program.signal("TERM");
    assert_listens_no_more(proxy.address);
    proxy.program.signal("TERM");
    assert_eq!(proxy.program.wait(NOTICED).code, Some(130));
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
