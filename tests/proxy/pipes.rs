//! A proxy that splices with few pipes or none: chunks without a pipe are copied, and arrive.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use wirebench::blocklist::policy::Sources;
use wirebench::blocklist::reload::Policies;
use wirebench::engine::EngineKind;
use wirebench::protocol::Settings;
use wirebench::proxy::counters::Totals;
use wirebench::proxy::options::Options;
use wirebench::proxy::relay::Forwarding;
use wirebench::proxy::rules::Rules;
use wirebench::proxy::server::Server;

const CLIENTS: usize = 4;

/// Bytes of a client, in each direction.
const BYTES: usize = 5_000_000;

on_both_engines!(
    without_a_pipe_all_bytes_are_copied,
    one_pipe_serves_many_directions,
);

fn without_a_pipe_all_bytes_are_copied(engine: Engine) {
    let totals = echoed(engine, 0);
    assert_eq!(totals.spliced, 0);
    assert!(totals.no_pipe >= 2 * CLIENTS as u64, "{totals:?}");
}

fn one_pipe_serves_many_directions(engine: Engine) {
    let totals = echoed(engine, 1);
    assert!(totals.spliced > 0, "{totals:?}");
}

/// The totals of a proxy with so many pipes, after clients whose server echoes.
fn echoed(engine: Engine, pipes: usize) -> Totals {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(any).unwrap();
    let settings = Settings {
        forward: Some(listener.local_addr().unwrap().to_string().parse().unwrap()),
        ..Settings::default()
    };
    let policies = Policies::load(Sources::default()).unwrap();
    let options = Options {
        engine: if engine.is_uring() {
            EngineKind::Uring
        } else {
            EngineKind::Mio
        },
        forwarding: Forwarding::Splice,
        pipes,
        ..Options::default()
    };
    let proxy = Server::bind(any, Rules::new(settings, policies), &options).unwrap();
    let (address, stopper) = (proxy.local().unwrap(), proxy.stopper());
    let totals = thread::scope(|scope| {
        let proxy = scope.spawn(|| proxy.run().unwrap());
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || talk(address, client)))
            .collect();
        for _ in 0..CLIENTS {
            let stream = listener.accept().unwrap().0;
            scope.spawn(move || {
                io::copy(&mut &stream, &mut &stream).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
        }
        for client in clients {
            client.join().unwrap();
        }
        stopper.stop();
        proxy.join().unwrap()
    });
    let all = (CLIENTS * BYTES) as u64;
    assert_eq!((totals.to_server, totals.to_client), (all, all));
    totals
}

/// Sends bytes that no other client sends, and receives them.
fn talk(proxy: SocketAddr, client: usize) {
    let sent: Vec<u8> = (0..BYTES)
        .map(|at| ((at + 31 * client) % 251) as u8)
        .collect();
    let stream = TcpStream::connect(proxy).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::with_capacity(BYTES);
        (&stream).read_to_end(&mut received).unwrap();
        assert!(received == sent, "{} bytes are others", received.len());
    });
}
