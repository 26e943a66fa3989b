//! Small UDP relays in threads of the test: one that forwards to a fixed port, and a SOCKS5 proxy.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How often a thread checks whether it is stopped.
const TICK: Duration = Duration::from_millis(20);

/// A running relay. Its threads end some time after it is dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

/// What the threads share.
#[derive(Default)]
pub(crate) struct Shared {
    is_stopped: AtomicBool,
    /// Datagrams forwarded to servers, and to clients.
    to_servers: AtomicU64,
    to_clients: AtomicU64,
}

impl Shared {
    fn runs(&self) -> bool {
        !self.is_stopped.load(Ordering::Relaxed)
    }
}

impl Relay {
    /// Forwards the datagrams of each client address to the port `to`, over a socket of its own.
    pub(crate) fn udp(to: SocketAddr) -> Self {
        let listener = bound(to);
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        thread::spawn(move || {
            let mut flows: HashMap<SocketAddr, UdpSocket> = HashMap::new();
            receive(&listener, &of_thread, |bytes, client| {
                let flow = flows.entry(client).or_insert_with(|| {
                    let flow = bound(to);
                    flow.connect(to).unwrap();
                    let back = (flow.try_clone().unwrap(), listener.try_clone().unwrap());
                    let shared = of_thread.clone();
                    thread::spawn(move || {
                        receive(&back.0, &shared, |bytes, _| {
                            shared.to_clients.fetch_add(1, Ordering::Relaxed);
                            let _ = back.1.send_to(bytes, client);
                        });
                    });
                    flow
                });
                of_thread.to_servers.fetch_add(1, Ordering::Relaxed);
                let _ = flow.send(bytes);
            });
        });
        Self { address, shared }
    }

    /// Datagrams forwarded to servers and to clients so far.
    pub(crate) fn forwarded(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.shared.to_servers), of(&self.shared.to_clients))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
    }
}

/// A socket on a free port of the loopback address of the family of `like`.
fn bound(like: SocketAddr) -> UdpSocket {
    let loopback = if like.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let socket = UdpSocket::bind(loopback).unwrap();
    socket.set_read_timeout(Some(TICK)).unwrap();
    socket
}

/// A port that is free for TCP and UDP now.
pub(crate) fn free_port() -> u16 {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        if std::net::TcpListener::bind(address).is_ok() {
            return address.port();
        }
    }
}

/// Passes datagrams with their sources to `each` until the relay is stopped.
fn receive(socket: &UdpSocket, shared: &Shared, mut each: impl FnMut(&[u8], SocketAddr)) {
    let mut bytes = vec![0; 65_536];
    while shared.runs() {
        match socket.recv_from(&mut bytes) {
            Ok((length, from)) => each(&bytes[..length], from),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::ConnectionRefused | ErrorKind::Interrupted => {}
                _ => return,
            },
        }
    }
}

/// A SOCKS5 proxy that only relays UDP, for one association a connection. Signing in is required if there is a password.
pub(crate) struct Socks5 {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Socks5 {
    pub(crate) fn start(password: Option<(&'static str, &'static str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let connections = Arc::new(Mutex::new(Vec::new()));
        let of_thread = (shared.clone(), connections.clone());
        thread::spawn(move || {
            let (shared, connections) = of_thread;
            for connection in listener.incoming().map_while(Result::ok) {
                if !shared.runs() {
                    return;
                }
                let kept = connection.try_clone().unwrap();
                connections.lock().unwrap().push(kept);
                let shared = shared.clone();
                thread::spawn(move || associate(connection, password, &shared));
            }
        });
        Self {
            address,
            shared,
            connections,
        }
    }

    /// Closes all connections, and thereby all associations.
    pub(crate) fn close(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Datagrams forwarded to servers and to clients so far.
    pub(crate) fn forwarded(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.shared.to_servers), of(&self.shared.to_clients))
    }
}

impl Drop for Socks5 {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        self.close();
        let _ = TcpStream::connect(self.address);
    }
}

/// Serves a connection; `None` at its end.
fn associate(
    mut connection: TcpStream,
    password: Option<(&str, &str)>,
    shared: &Arc<Shared>,
) -> Option<()> {
    let mut input = connection.try_clone().ok()?;
    let mut take = |count: usize| -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        input.read_exact(&mut bytes).ok()?;
        Some(bytes)
    };
    let methods = usize::from(take(2)?[1]);
    take(methods)?;
    let mut reply = connection.try_clone().ok()?;
    if let Some((user, word)) = password {
        reply.write_all(&[5, 2]).ok()?;
        let length = usize::from(take(2)?[1]);
        let name = take(length)?;
        let length = usize::from(take(1)?[0]);
        let is_right = name == user.as_bytes() && take(length)? == word.as_bytes();
        reply.write_all(&[1, u8::from(!is_right)]).ok()?;
        is_right.then_some(())?;
    } else {
        reply.write_all(&[5, 0]).ok()?;
    }
    let request = take(4)?;
    take(if request[3] == 4 { 18 } else { 6 })?;
    if request[1] != 3 {
        reply.write_all(&[5, 7, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
        return None;
    }
    let socket = bound(connection.local_addr().ok()?);
    let port = socket.local_addr().ok()?.port().to_be_bytes();
    // The client is to use the address that it knows the proxy by.
    let unspecified = [5, 0, 0, 1, 0, 0, 0, 0, port[0], port[1]];
    reply.write_all(&unspecified).ok()?;
    let of_thread = shared.clone();
    thread::spawn(move || relay(&socket, &of_thread));
    connection.read_exact(&mut [0]).ok()?;
    None
}

/// Relays the datagrams of the first client that sends one.
fn relay(socket: &UdpSocket, shared: &Arc<Shared>) {
    let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
    outside.set_read_timeout(Some(TICK)).unwrap();
    let mut client = None;
    receive(socket, shared, |bytes, from| {
        let [0, 0, 0, 1, a, b, c, d, high, low, payload @ ..] = bytes else {
            return;
        };
        if client.is_none() {
            client = Some(from);
            let (outside, socket) = (outside.try_clone().unwrap(), socket.try_clone().unwrap());
            let shared = shared.clone();
            thread::spawn(move || {
                receive(&outside, &shared, |bytes, source| {
                    let SocketAddr::V4(source) = source else {
                        return;
                    };
                    let header = [&[0, 0, 0, 1][..], &source.ip().octets()].concat();
                    let header = [&header[..], &source.port().to_be_bytes()].concat();
                    shared.to_clients.fetch_add(1, Ordering::Relaxed);
                    let _ = socket.send_to(&[&header, bytes].concat(), from);
                });
            });
        }
        if client == Some(from) {
            let to = SocketAddr::from(([*a, *b, *c, *d], u16::from_be_bytes([*high, *low])));
            shared.to_servers.fetch_add(1, Ordering::Relaxed);
            let _ = outside.send_to(payload, to);
        }
    });
}
