//! The proxy: its pure parts, and requests and bulk data end to end on loopback.
//!
//! End-to-end figures are for one connection and three threads (client, proxy, server) on any number of CPUs. They compare
//! forwarding methods on one machine; `bench proxy` measures speed.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wirebench::blocklist::policy::Sources;
use wirebench::blocklist::reload::Policies;
use wirebench::engine::{EngineKind, UringSettings};
use wirebench::protocol::{FrontEnd, Settings, Step};
use wirebench::proxy::handshake::{Action, Handshake};
use wirebench::proxy::options::Options;
use wirebench::proxy::relay::{Direction, Forwarding, Readable, Relay, Step as RelayStep};
use wirebench::proxy::rules::Rules;
use wirebench::proxy::server::{Server, Stopper};
use wirebench::uring;

const JSON: &[u8] = br#"{"server_ip": "192.0.2.1", "server_port": 9000, "message": "ping"}"#;
const SOCKS5: &[u8] = &[5, 1, 0, 5, 1, 0, 1, 192, 0, 2, 1, 0x23, 0x28];
const CONNECT: &[u8] = b"CONNECT 192.0.2.1:9000 HTTP/1.1\r\nHost: 192.0.2.1:9000\r\n\r\n";
const REQUESTS: [(&str, &[u8]); 3] = [("json", JSON), ("socks5", SOCKS5), ("connect", CONNECT)];

/// Bytes of a message, and of a read of bulk data: a segment of loopback.
const MESSAGE: usize = 64;
const SEGMENT: usize = 65_483;

/// Bytes of bulk data of an iteration.
const BULK: usize = 64 * SEGMENT;

/// Combinations of engine and forwarding method.
const WAYS: [(&str, EngineKind, Forwarding); 4] = [
    ("mio, copy", EngineKind::Mio, Forwarding::Copy),
    ("mio, splice", EngineKind::Mio, Forwarding::Splice),
    ("uring, copy", EngineKind::Uring, Forwarding::Copy),
    ("uring, splice", EngineKind::Uring, Forwarding::Splice),
];

/// Combinations that this kernel supports; the others are named.
fn ways() -> impl Iterator<Item = (&'static str, EngineKind, Forwarding)> {
    WAYS.into_iter().filter(|(name, kind, _)| {
        let missing = match kind {
            EngineKind::Mio => None,
            EngineKind::Uring => uring::available(&UringSettings::default()).err(),
        };
        if let Some(reason) = &missing {
            println!("{name}: left out, {reason}");
        }
        missing.is_none()
    })
}

fn parsers(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    let settings = Arc::new(Settings::default());
    for (kind, bytes) in REQUESTS {
        group.bench_function(kind, |b| {
            b.iter(|| {
                let mut front = FrontEnd::new(&settings);
                let mut step = front.push(black_box(bytes));
                while let Step::Reply(_) = step {
                    step = front.push(&[]);
                }
                assert!(matches!(step, Step::Ready(_)));
            });
        });
    }
    group.finish();
}

/// From the first byte to the address to connect to, with an empty list.
fn handshake(c: &mut Criterion) {
    let mut group = c.benchmark_group("handshake");
    let policies = Policies::load(Sources::default()).unwrap();
    let rules = Rules::new(Settings::default(), policies);
    let peer = SocketAddr::from(([203, 0, 113, 1], 4_000));
    for (kind, bytes) in REQUESTS {
        group.bench_function(kind, |b| {
            b.iter(|| {
                let mut handshake = Handshake::new(&rules, peer.into(), None, false);
                handshake.begin(&rules);
                let action = handshake.on_read(black_box(bytes), &rules);
                assert!(matches!(action, Action::Connect(_)));
            });
        });
    }
    group.finish();
}

/// The decisions for one chunk that is received and sent completely.
fn relay(c: &mut Criterion) {
    let mut group = c.benchmark_group("relay");
    group.throughput(Throughput::Elements(1));
    let mut relay = Relay::new(Forwarding::Auto, SEGMENT);
    relay.to_server.readable(Readable::Open);
    relay.to_server.writable();
    group.bench_function("a lot", |b| {
        b.iter(|| {
            while let RelayStep::Fill { most, .. } = relay.step(Direction::ToServer) {
                relay.to_server.filled(black_box(most));
                if let RelayStep::Drain { most, .. } = relay.step(Direction::ToServer) {
                    relay.to_server.drained(most);
                    break;
                }
            }
        });
    });
    group.finish();
}

/// A forwarding proxy and its server.
struct Path {
    client: TcpStream,
    stopper: Stopper,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Path {
    fn start(
        engine: EngineKind,
        forwarding: Forwarding,
        serve: impl FnOnce(TcpStream) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let settings = Settings {
            forward: Some(listener.local_addr()?.to_string().parse().unwrap()),
            ..Settings::default()
        };
        let policies = Policies::load(Sources::default()).unwrap();
        let options = Options {
            engine,
            forwarding,
            ..Options::default()
        };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(any, Rules::new(settings, policies), &options)?;
        let local = server.local().unwrap_or(any);
        let stopper = server.stopper();
        let proxy = thread::spawn(|| server.run().map(drop));
        let served = thread::spawn(move || {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            serve(stream)
        });
        let client = TcpStream::connect(local)?;
        client.set_nodelay(true)?;
        Ok(Self {
            client,
            stopper,
            threads: vec![proxy, served],
        })
    }

    fn end(self) {
        let _ = self.client.shutdown(Shutdown::Both);
        drop(self.client);
        self.stopper.stop();
        for thread in self.threads {
            thread.join().unwrap().unwrap();
        }
    }
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request and answer of 64 B");
    group.throughput(Throughput::Elements(1));
    for (name, engine, forwarding) in ways() {
        let mut path = Path::start(engine, forwarding, |mut stream| {
            let mut message = [0; MESSAGE];
            while stream.read_exact(&mut message).is_ok() {
                stream.write_all(&message)?;
            }
            Ok(())
        })
        .unwrap();
        group.bench_function(name, |b| {
            let mut message = [7; MESSAGE];
            b.iter(|| {
                path.client.write_all(&message).unwrap();
                path.client.read_exact(&mut message).unwrap();
            });
        });
        path.end();
    }
    group.finish();
}

fn bulk(c: &mut Criterion) {
    let mut group = c.benchmark_group("bulk, one stream");
    group.throughput(Throughput::Bytes(BULK as u64));
    for (name, engine, forwarding) in ways() {
        // The server acknowledges each iteration with one byte.
        let mut path = Path::start(engine, forwarding, |mut stream| {
            let mut buffer = vec![0; 4 * SEGMENT];
            let mut received = 0;
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    bytes => received += bytes,
                }
                while received >= BULK {
                    received -= BULK;
                    stream.write_all(&[1])?;
                }
            }
        })
        .unwrap();
        group.bench_function(name, |b| {
            let data = vec![7; BULK];
            b.iter(|| {
                path.client.write_all(&data).unwrap();
                path.client.read_exact(&mut [0]).unwrap();
            });
        });
        path.end();
    }
    group.finish();
}

criterion_group! {
    name = benches;
    // Drawing the distribution of 100,000 resamples takes longer than a quick measurement.
    config = Criterion::default()
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = parsers, handshake, relay, requests, bulk
}
criterion_main!(benches);
