//! Many ranks at one server: the fan-in of their connections, the release of a run, and the way of their results to the collector.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use wirebench::sys::clock::monotonic_ns;
use wirebench::sys::rlimit;
use wirebench::udp::fleet::hub::ALIVE;
use wirebench::udp::server::{Limits, Options, Server};
use wirebench::udp::wire::VERSION;
use wirebench::udp::wire::control::{Reply, Request};
use wirebench::udp::wire::fleet::{FleetJoin, FleetReply, FleetRequest, MAX_PART};
use wirebench::udp::wire::framing::{self, Decoder};

use crate::{cpu_s, peak_mb};

/// Bytes of a result, about those of a minute.
const RESULT: usize = 100_000;

struct Rank {
    stream: TcpStream,
    decoder: Decoder,
}

impl Rank {
    fn join(server: SocketAddr, rank: u32, size: u32) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut rank_ = Self {
            stream,
            decoder: Decoder::default(),
        };
        rank_.send(FleetRequest::Join(FleetJoin {
            version: VERSION,
            fleet: "simulated".into(),
            rank,
            size,
            sends: rank != 0,
            host: "host".into(),
            options: String::new(),
            wait_ms: 600_000,
            keeps: false,
        }));
        rank_
    }

    fn send(&mut self, request: FleetRequest) {
        let mut bytes = Vec::new();
        framing::encode(&Request::Fleet(request), &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next message; waits for it.
    fn reply(&mut self) -> FleetReply {
        let mut bytes = [0; 1 << 16];
        loop {
            match self.decoder.next_message::<Reply>().unwrap() {
                Some(Reply::Fleet(reply)) => return reply,
                Some(other) => panic!("{other:?}"),
                None => {}
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => panic!("the server closed the connection"),
                Ok(count) => self.decoder.push(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

pub(crate) fn run(size: u32) {
    let _ = rlimit::raise_open_files();
    let limits = Limits {
        connections: size as usize + 64,
        ..Limits::none()
    };
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), limits, Options::default());
    let server = server.map_err(|(error, _)| error).unwrap();
    let address = server.local();
    thread::spawn(move || server.run(|_| ()).unwrap());

    let began = Instant::now();
    let mut ranks: Vec<Rank> = (0..size)
        .map(|rank| Rank::join(address, rank, size))
        .collect();
    for rank in &mut ranks {
        assert!(matches!(rank.reply(), FleetReply::Roster { .. }));
    }
    println!(
        "join: {size} ranks in {:.2} s, {:.0} MB, {:.2} s of CPU time of both ends",
        began.elapsed().as_secs_f64(),
        peak_mb(),
        cpu_s()
    );

    let began = Instant::now();
    for rank in ranks.iter_mut().skip(1) {
        rank.send(FleetRequest::Ready { run: 0 });
    }
    let sent = began.elapsed();
    let mut spare = i64::MAX;
    for rank in ranks.iter_mut().skip(1) {
        let FleetReply::Start { at_ns, .. } = rank.reply() else {
            panic!("no start");
        };
        spare = spare.min(at_ns.cast_signed() - monotonic_ns().cast_signed());
    }
    println!(
        "start: ready messages sent in {:.3} s, all starts read {:.3} s later, the last {:.3} s before it was due",
        sent.as_secs_f64(),
        (began.elapsed() - sent).as_secs_f64(),
        spare as f64 / 1e9
    );

    // The collector reads on a thread of its own, as bench does.
    let (began, cpu) = (Instant::now(), cpu_s());
    let mut collector = ranks.remove(0);
    let stream = collector.stream.try_clone().unwrap();
    let mut collector_alive = Rank {
        stream,
        decoder: Decoder::default(),
    };
    let reader = thread::spawn(move || {
        let (mut results, mut bytes) = (0, 0);
        loop {
            match collector.reply() {
                FleetReply::Result { part, last, .. } => {
                    bytes += part.len();
                    results += u32::from(last);
                }
                FleetReply::End { .. } => return (results, bytes),
                _ => {}
            }
        }
    });
    let part = "x".repeat(MAX_PART);
    let mut alive_at = Instant::now();
    for number in 0..ranks.len() {
        if alive_at.elapsed() > ALIVE {
            alive_at = Instant::now();
            collector_alive.send(FleetRequest::Alive);
            for rank in &mut ranks[number..] {
                rank.send(FleetRequest::Alive);
            }
        }
        let rank = &mut ranks[number];
        let mut left = RESULT;
        while left > 0 {
            let length = left.min(MAX_PART);
            left -= length;
            rank.send(FleetRequest::Result {
                run: 0,
                part: part[..length].to_owned(),
                last: left == 0,
            });
        }
    }
    let (results, bytes) = reader.join().unwrap();
    assert_eq!(results, size - 1);
    println!(
        "results: {results} of {} KB, {} MB in {:.2} s, {:.2} s of CPU time, {:.0} MB of memory",
        RESULT / 1_000,
        bytes / 1_000_000,
        began.elapsed().as_secs_f64(),
        cpu_s() - cpu,
        peak_mb()
    );
    thread::sleep(Duration::from_millis(1));
}
