//! `bench proxy serve` whose clients take more than their share of connections, memory or time: it serves the others.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{PATIENCE, Running, start, until};
use socket2::{Domain, Socket, Type};

on_both_engines!(
    one_client_leaves_connections_to_others,
    an_unfinished_request_is_displaced_and_a_tunnel_is_not,
    the_client_of_a_proxy_header_has_the_limit,
    a_refused_client_that_floods_is_reset,
    unfinished_requests_have_a_limit_of_memory,
);

struct Proxy {
    program: Running,
    address: SocketAddr,
    /// A server that accepts and sends nothing.
    server: TcpListener,
    folder: tempfile::TempDir,
}

impl Proxy {
    #[track_caller]
    fn start(engine: Engine, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let fixed = ["proxy", "serve", "--listen", "127.0.0.1:0", "--log"];
        // The server does not close its side.
        let fixed = fixed.into_iter().chain(log.to_str());
        let fixed = fixed.chain(["--half-closed-timeout", "100ms"]);
        let mut program = start(fixed.chain(engine.options()).chain(more.iter().copied()));
        let address = program.listening();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            program,
            address,
            server,
            folder,
        }
    }

    /// A client with the address 127.0.0.`host`.
    #[track_caller]
    fn client(&self, host: u8) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let from = SocketAddr::from(([127, 0, 0, host], 0));
        socket.bind(&from.into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A client that asks for a tunnel, with the code of the reply; 0 means connected.
    #[track_caller]
    fn tunnel(&self, host: u8) -> (TcpStream, u8) {
        let client = self.client(host);
        let code = self.ask(&client);
        (client, code)
    }

    #[track_caller]
    fn ask(&self, mut client: &TcpStream) -> u8 {
        let port = self.server.local_addr().unwrap().port().to_be_bytes();
        let request = [5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, port[0], port[1]];
        client.write_all(&request).unwrap();
        let mut reply = [0; 12];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(reply[..3], [5, 0, 5]);
        reply[3]
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Resident memory, in MB.
    fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.program.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<usize>().unwrap() >> 10
    }
}

fn one_client_leaves_connections_to_others(engine: Engine) {
    let proxy = Proxy::start(engine, &["--max-connections", "8"]);
    let tunnels: Vec<_> = (0..8).map(|_| proxy.tunnel(1)).collect();
    let codes = tunnels.iter().map(|(_, code)| *code).collect::<Vec<_>>();
    assert_eq!(codes, [0, 0, 0, 0, 0, 0, 1, 1]);
    let _silent: Vec<_> = (0..20).map(|_| proxy.client(1)).collect();
    assert_eq!(proxy.tunnel(2).1, 0);
    let cause = "\"ended\":\"busy\",\"detail\":\"the client is at its limit of connections\"";
    until("the cause is logged", || proxy.log().contains(cause));
    drop(tunnels);
    until("there is room", || proxy.tunnel(1).1 == 0);
}

fn an_unfinished_request_is_displaced_and_a_tunnel_is_not(engine: Engine) {
    let limits = [
        "--max-connections",
        "4",
        "--max-connections-per-client",
        "4",
    ];
    let proxy = Proxy::start(engine, &limits);
    let (_first, code) = proxy.tunnel(1);
    assert_eq!(code, 0);
    let silent: Vec<_> = (0..3).map(|_| proxy.client(1)).collect();
    // A client with the most connections displaces nothing.
    assert_eq!(proxy.tunnel(1).1, 1);
    let (_second, code) = proxy.tunnel(2);
    assert_eq!(code, 0);
    // The oldest one was displaced.
    let error = (&silent[0]).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let cause = "a client with fewer connections took the place";
    until("the cause is logged", || proxy.log().contains(cause));
    assert_eq!(silent[1..].iter().map(|one| proxy.ask(one)).max(), Some(0));
    // All others have complete requests.
    assert_eq!(proxy.tunnel(3).1, 1);
}

fn the_client_of_a_proxy_header_has_the_limit(engine: Engine) {
    let limits = ["--accept-proxy", "--max-connections-per-client", "1"];
    let proxy = Proxy::start(engine, &limits);
    let tunnel = |from: &str, in_parts: bool| {
        let mut client = proxy.client(1);
        let header = format!("PROXY TCP4 {from} 192.0.2.9 1000 2000\r\n");
        client.write_all(header.as_bytes()).unwrap();
        if in_parts {
            std::thread::sleep(Duration::from_millis(50));
        }
        let code = proxy.ask(&client);
        (client, code)
    };
    let (first, code) = tunnel("192.0.2.1", false);
    assert_eq!(code, 0);
    for in_parts in [false, true] {
        assert_eq!(tunnel("192.0.2.1", in_parts).1, 1);
    }
    assert_eq!(tunnel("192.0.2.2", false).1, 0);
    drop(first);
    until("there is room", || tunnel("192.0.2.1", true).1 == 0);
}

fn a_refused_client_that_floods_is_reset(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    let mut client = proxy.client(1);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let begin = Instant::now();
    let mut sent = 0;
    while let Ok(bytes) = client.write(&[b'z'; 100_000]) {
        sent += bytes;
    }
    // What the buffers of both sockets take, and not what a host sends in 2 s.
    assert!(sent < 20_000_000, "{sent} bytes");
    assert!(begin.elapsed() < Duration::from_millis(1_800));
    let mut status = [0; 13];
    client.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 405 ");
}

fn unfinished_requests_have_a_limit_of_memory(engine: Engine) {
    const MANY: usize = 100;
    let proxy = Proxy::start(engine, &["--request-timeout", "60s"]);
    let before = proxy.memory();
    let request = [&b"{\"message\":\""[..], &[b'a'; 1_000_000]].concat();
    let mut clients: Vec<_> = (0..MANY).map(|_| proxy.client(1)).collect();
    for client in &mut clients {
        // The proxy may refuse before all is sent.
        let _ = client.write_all(&request);
    }
    let cause = "unfinished requests are at their limit of memory";
    let busy = || proxy.log().matches(cause).count();
    // Each of the others has a megabyte, and 64 MiB is the limit.
    until("the rest is refused", || busy() >= MANY - 67);
    assert!(proxy.memory() < before + 110, "{before} MB before");
    // Each request is read in parts, so any of them is refused.
    let mut replies = clients.iter().map(|mut client| {
        client.set_nonblocking(true).unwrap();
        let mut reply = [0; 16];
        let _ = client.read_exact(&mut reply);
        reply
    });
    assert!(replies.any(|reply| &reply == b"{\"error\": \"busy\""));
    drop(clients);
    until("the memory is free", || {
        let mut client = proxy.client(2);
        client.write_all(&request).unwrap();
        client.write_all(b"\"}").unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        reply.starts_with("{\"error\": \"bad_request\"")
    });
    until("the memory is given back", || proxy.memory() < before + 40);
}
