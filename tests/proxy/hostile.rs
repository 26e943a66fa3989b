//! `bench proxy serve` with clients that disconnect, send half a request, or arrive in crowds: it serves the others, and
//! leaks nothing.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{NOTICED, PATIENCE, Running, start, until};
use socket2::{Domain, SockRef, Socket, Type};

on_both_engines!(
    clients_that_disconnect_free_their_permits_while_a_server_is_connected,
    a_client_with_early_data_may_end_before_its_server_is_connected,
    a_method_reply_does_not_wait_for_the_server,
    requests_truncated_at_any_byte_leak_nothing,
    a_client_that_resets_at_once_has_a_log_line,
    an_ipv4_client_of_an_ipv6_listener_is_logged_as_ipv4,
    both_ends_have_keepalive_probes,
    few_files_permit_few_connections_and_other_clients_are_refused_at_once,
    silent_clients_over_the_limit_replace_each_other,
    nine_thousand_hostile_clients_leak_no_file_and_no_memory,
    new_clients_do_not_delay_the_stop,
);

/// Enough time on a busy machine, and far less than any timeout of the proxy here.
const AT_ONCE: Duration = Duration::from_secs(4);

/// A proxy on loopback whose timeouts are longer than any test.
struct Proxy {
    program: Running,
    address: SocketAddr,
}

impl Proxy {
    #[track_caller]
    fn start(engine: Engine, more: &[&str]) -> Self {
        let fixed = ["proxy", "serve", "--listen", "127.0.0.1:0"];
        let patient = ["--connect-timeout", "60s", "--request-timeout", "60s"];
        let all = fixed.into_iter().chain(engine.options()).chain(patient);
        Self::of(start(all.chain(more.iter().copied())))
    }

    /// A proxy with this limit of open files.
    #[track_caller]
    fn limited(engine: Engine, files: u32, more: &str) -> Self {
        let mut command = Command::new("sh");
        let line = format!(
            "ulimit -n {files} && exec {} proxy serve --listen 127.0.0.1:0 {} --connect-timeout 60s --request-timeout 60s {more}",
            env!("CARGO_BIN_EXE_bench"),
            engine.0
        );
        command.args(["-c", &line]);
        Self::of(Running::new(command))
    }

    #[track_caller]
    fn of(mut program: Running) -> Self {
        let address = program.listening();
        Self { program, address }
    }

    #[track_caller]
    fn client(&self) -> TcpStream {
        patient(TcpStream::connect(self.address).unwrap())
    }

    /// A client that requests a server.
    #[track_caller]
    fn asking(&self, server: SocketAddr) -> TcpStream {
        let mut client = self.client();
        client.write_all(&socks5(server)).unwrap();
        client
    }

    /// The code of the reply to a request; 0 means connected.
    #[track_caller]
    fn reply(&self, server: SocketAddr) -> u8 {
        reply(&self.asking(server))
    }

    fn files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.program.id()))
            .unwrap()
            .count()
    }

    /// Resident memory, in bytes.
    fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.program.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib: usize = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        kib << 10
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A SOCKS5 greeting and request in one.
fn socks5(to: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![5, 1, 0, 5, 1, 0];
    match to {
        SocketAddr::V4(to) => {
            bytes.push(1);
            bytes.extend(to.ip().octets());
        }
        SocketAddr::V6(to) => {
            bytes.push(4);
            bytes.extend(to.ip().octets());
        }
    }
    bytes.extend(to.port().to_be_bytes());
    bytes
}

#[track_caller]
fn reply(mut client: &TcpStream) -> u8 {
    let mut reply = [0; 12];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..3], [5, 0, 5]);
    reply[3]
}

/// Closes a connection by a reset.
fn reset(client: TcpStream) {
    SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// An address whose SYNs are dropped: its backlog is full, and it does not accept.
struct BlackHole {
    address: SocketAddr,
    _held: (Socket, Vec<TcpStream>),
}

impl BlackHole {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        while let Ok(one) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(one);
        }
        Self {
            address,
            _held: (listener, waiting),
        }
    }
}

/// A server that accepts all clients and closes when they do.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut stream = patient(stream);
                let mut bytes = [0; 1_000];
                while stream.read(&mut bytes).is_ok_and(|bytes| bytes > 0) {}
            });
        }
    });
    address
}

fn clients_that_disconnect_free_their_permits_while_a_server_is_connected(engine: Engine) {
    const PLACES: usize = 8;
    let (hole, origin) = (BlackHole::new(), origin());
    let limits = format!("--max-connections {PLACES} --max-connections-per-client {PLACES}");
    let proxy = Proxy::start(engine, &limits.split(' ').collect::<Vec<_>>());
    let before = proxy.files();
    for by_reset in [true, false] {
        let clients: Vec<TcpStream> = (0..PLACES).map(|_| proxy.asking(hole.address)).collect();
        // The method reply means that the request was read, as it came with the greeting.
        for mut client in &clients {
            client.read_exact(&mut [0; 2]).unwrap();
        }
        assert_eq!(proxy.reply(origin), 1, "there is room");
        let begin = Instant::now();
        let mut ended = Vec::new();
        for client in clients {
            match by_reset {
                true => reset(client),
                // Not closed, so the end of the stream is the only sign.
                false => {
                    client.shutdown(Shutdown::Write).unwrap();
                    ended.push(client);
                }
            }
        }
        until("there is room", || proxy.reply(origin) == 0);
        assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
        drop(ended);
        until("no file is lost", || proxy.files() <= before);
    }
}

fn a_client_with_early_data_may_end_before_its_server_is_connected(engine: Engine) {
    // The listener does not accept for a while, and the kernel retries.
    let hole = BlackHole::new();
    let proxy = Proxy::start(engine, &[]);
    let mut client = proxy.client();
    client
        .write_all(&[&socks5(hole.address)[..], b"hello"].concat())
        .unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    client.read_exact(&mut [0; 2]).unwrap();
    // Longer than the time of a client without data.
    client
        .set_read_timeout(Some(Duration::from_millis(600)))
        .unwrap();
    let early = client.read(&mut [0]).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (listener, waiting) = hole._held;
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(waiting);
    let received = loop {
        let mut received = String::new();
        let (server, _) = listener.accept().unwrap();
        let _ = patient(server.into()).read_to_string(&mut received);
        if !received.is_empty() {
            break received;
        }
    };
    assert_eq!(received, "hello");
    let mut reply = [0; 10];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..2], [5, 0]);
}

fn a_method_reply_does_not_wait_for_the_server(engine: Engine) {
    let hole = BlackHole::new();
    let proxy = Proxy::start(engine, &[]);
    let begin = Instant::now();
    let mut method = [0; 2];
    proxy.asking(hole.address).read_exact(&mut method).unwrap();
    assert_eq!(method, [5, 0]);
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
}

fn requests_truncated_at_any_byte_leak_nothing(engine: Engine) {
    let (hole, origin) = (BlackHole::new(), origin());
    let proxy = Proxy::start(engine, &[]);
    assert_eq!(proxy.reply(origin), 0);
    let before = proxy.files();
    let connect = format!("CONNECT {} HTTP/1.1\r\n\r\n", hole.address).into_bytes();
    let envelope = format!(
        "{{\"server_ip\": \"{}\", \"server_port\": {}, \"message\": \"hi\"}}",
        hole.address.ip(),
        hole.address.port()
    );
    for request in [socks5(hole.address), connect, envelope.into_bytes()] {
        for cut in 0..=request.len() {
            for by_reset in [true, false] {
                let mut client = proxy.client();
                client.set_nodelay(true).unwrap();
                let (first, second) = request[..cut].split_at(cut / 2);
                // The proxy may refuse before all is sent.
                let _ = client
                    .write_all(first)
                    .and_then(|()| client.write_all(second));
                if by_reset {
                    reset(client);
                }
            }
        }
    }
    assert_eq!(proxy.reply(origin), 0);
    // An envelope whose client ended its side is complete: the client may still wait for the answer.
    until("no file is lost", || proxy.files() <= before + 2);
}

fn a_client_that_resets_at_once_has_a_log_line(engine: Engine) {
    const MANY: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let proxy = Proxy::start(engine, &["--log", log.to_str().unwrap()]);
    let mut clients = Vec::new();
    for _ in 0..MANY {
        let client = proxy.client();
        clients.push(client.local_addr().unwrap().to_string());
        reset(client);
    }
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    until("each has a line", || lines().lines().count() == MANY);
    let lines = lines();
    for client in clients {
        assert!(
            lines.contains(&format!("\"client\":\"{client}\"")),
            "{client}"
        );
    }
}

fn an_ipv4_client_of_an_ipv6_listener_is_logged_as_ipv4(engine: Engine) {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return println!("skipped: no IPv6 here");
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let listen = [
        "proxy",
        "serve",
        "--listen",
        "[::]:0",
        "--log",
        log.to_str().unwrap(),
    ];
    let mut program = start(listen.into_iter().chain(engine.options()));
    let port = program.listening().port();
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let address = client.local_addr().unwrap();
    drop(client);
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    until("it has a line", || lines().lines().count() == 1);
    let expected = format!("\"client\":\"{address}\",\"peer\":\"{address}\"");
    assert!(lines().contains(&expected), "{}", lines());
}

/// Whether the keepalive timer of the connection between two IPv4 addresses runs, according to /proc/net/tcp
/// (proc_net_tcp.rst).
fn is_probed(local: SocketAddr, peer: SocketAddr) -> bool {
    let hex = |address: SocketAddr| match address {
        SocketAddr::V4(it) => format!(
            "{:08X}:{:04X}",
            u32::from_ne_bytes(it.ip().octets()),
            it.port()
        ),
        SocketAddr::V6(_) => panic!("{address}"),
    };
    let ends = format!(" {} {} ", hex(local), hex(peer));
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let line = table.lines().find(|line| line.contains(&ends));
    // The timer follows the state and the queues; 2 is keepalive.
    line.and_then(|line| line.split_whitespace().nth(5)?.split(':').next()) == Some("02")
}

fn both_ends_have_keepalive_probes(engine: Engine) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(engine, &[]);
    let client = proxy.asking(server.local_addr().unwrap());
    assert_eq!(reply(&client), 0);
    let (accepted, from) = server.accept().unwrap();
    until("the client is probed", || {
        is_probed(proxy.address, client.local_addr().unwrap())
    });
    until("the server is probed", || {
        is_probed(from, accepted.local_addr().unwrap())
    });
    // Without the option there is no timer. Otherwise the test would prove nothing.
    assert!(!is_probed(client.local_addr().unwrap(), proxy.address));
}

fn few_files_permit_few_connections_and_other_clients_are_refused_at_once(engine: Engine) {
    const MANY: usize = 150;
    let origin = origin();
    let mut proxy = Proxy::limited(engine, 128, "--max-connections-per-client 1000");
    let sentence = proxy
        .program
        .line(|line| line.contains("connections at once"));
    assert!(
        sentence.contains("open files are limited to 128"),
        "{sentence}"
    );
    let most: usize = sentence.split_whitespace().nth(2).unwrap().parse().unwrap();
    let clients: Vec<TcpStream> = (0..MANY).map(|_| proxy.client()).collect();
    let begin = Instant::now();
    for mut client in &clients {
        client.write_all(&socks5(origin)).unwrap();
    }
    let replies: Vec<u8> = clients.iter().map(reply).collect();
    let took = begin.elapsed();
    let served = replies.iter().filter(|reply| **reply == 0).count();
    let busy = replies.iter().filter(|reply| **reply == 1).count();
    assert_eq!((served, busy), (most, MANY - most), "{replies:?}");
    assert!(took < AT_ONCE, "{took:?}");
    drop(clients);
    until("there is room", || proxy.reply(origin) == 0);
    let mut asked = Proxy::limited(engine, 128, "--max-connections 100");
    let sentence = asked
        .program
        .line(|line| line.contains("connections at once"));
    assert!(sentence.contains(" and not 100: "), "{sentence}");
}

fn silent_clients_over_the_limit_replace_each_other(engine: Engine) {
    let origin = origin();
    let proxy = Proxy::limited(engine, 128, "--max-connections 1");
    let first = proxy.asking(origin);
    assert_eq!(reply(&first), 0);
    let silent: Vec<TcpStream> = (0..20).map(|_| proxy.client()).collect();
    let begin = Instant::now();
    assert_eq!(proxy.reply(origin), 1);
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    drop(silent);
    drop(first);
    until("there is room", || proxy.reply(origin) == 0);
}

fn nine_thousand_hostile_clients_leak_no_file_and_no_memory(engine: Engine) {
    const ROUNDS: usize = 90;
    const CROWD: usize = 100;
    let (hole, origin) = (BlackHole::new(), origin());
    let proxy = Proxy::limited(engine, 200, "");
    let round = |number: usize| {
        let mut crowd = Vec::new();
        for client in 0..CROWD {
            let Ok(mut stream) = TcpStream::connect(proxy.address) else {
                continue;
            };
            let request = match client % 3 {
                0 => socks5(hole.address),
                1 => socks5(origin),
                _ => b"CONNECT localhost:1 HTTP/1.1\r\nHost: ".to_vec(),
            };
            // All of the request, half or none, some of it byte by byte.
            let some = &request[..request.len() * (client % 5).min(2) / 2];
            let _ = match number % 10 {
                0 => some.chunks(1).try_for_each(|byte| stream.write_all(byte)),
                _ => stream.write_all(some),
            };
            match client % 4 {
                0 => reset(stream),
                1 => drop(stream),
                _ => crowd.push(stream),
            }
        }
        for (client, stream) in crowd.into_iter().enumerate() {
            if client % 2 == 0 {
                reset(stream);
            }
        }
    };
    // Allocations that happen once precede the measurement.
    (0..10).for_each(round);
    until("it serves", || proxy.reply(origin) == 0);
    let (files, memory) = (proxy.files(), proxy.memory());
    (10..ROUNDS).for_each(round);
    until("it serves", || proxy.reply(origin) == 0);
    until("no file is lost", || proxy.files() <= files.min(40));
    let grown = proxy.memory().saturating_sub(memory);
    assert!(grown < 2 << 20, "{grown} bytes");
}

fn new_clients_do_not_delay_the_stop(engine: Engine) {
    let Proxy { program, address } = Proxy::start(engine, &["--drain-timeout", "100ms"]);
    let over = AtomicBool::new(false);
    let (over, come) = (&over, &AtomicUsize::new(0));
    let finished = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    if TcpStream::connect(address).is_ok() {
                        come.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let stopped = panic::catch_unwind(AssertUnwindSafe(|| {
            until("clients come", || come.load(Ordering::Relaxed) > 100);
            program.signal("TERM");
            program.wait(NOTICED)
        }));
        // Otherwise the threads would not end, nor would the test.
        over.store(true, Ordering::Relaxed);
        stopped.unwrap_or_else(|panic| panic::resume_unwind(panic))
    });
    finished.done();
}
