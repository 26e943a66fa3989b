//! Small UDP relays in threads of the test: one that forwards to a fixed port.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
