//! Ranks that send requests and read nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use wirebench::udp::wire::VERSION;
use wirebench::udp::wire::control::Request;
use wirebench::udp::wire::fleet::{FleetJoin, FleetRequest, MAX_RANKS};
use wirebench::udp::wire::framing;

use crate::common::fleet::{assert_sums, fleet, wait};
use crate::common::{PATIENCE, Results, Serve, number, until};

/// A connection to a server, which sends requests and reads nothing.
struct Unread(TcpStream);

impl Unread {
    /// The only rank of a fleet of `size` ranks.
    fn join(server: &Serve, fleet: &str, size: u32) -> Self {
        let mut unread = Self(TcpStream::connect(server.address).unwrap());
        unread.send([FleetRequest::Join(FleetJoin {
            version: VERSION,
            fleet: fleet.to_owned(),
            rank: 0,
            size,
            sends: true,
            host: "host".to_owned(),
            options: String::new(),
            wait_ms: 1,
            keeps: false,
        })]);
        // The roster.
        unread.0.read_exact(&mut [0; 4]).unwrap();
        unread
    }

    /// Requests the clock again and again.
    fn send_clocks(&mut self, count: usize) {
        let mut bytes = Vec::new();
        let request = Request::Fleet(FleetRequest::Clock { sent_ns: 1 });
        framing::encode(&request, &mut bytes).unwrap();
        let _ = self.0.write_all(&bytes.repeat(count));
    }

    /// Sends requests, which the server may refuse.
    fn send(&mut self, requests: impl IntoIterator<Item = FleetRequest>) {
        let mut bytes = Vec::new();
        for request in requests {
            framing::encode(&Request::Fleet(request), &mut bytes).unwrap();
        }
        let _ = self.0.write_all(&bytes);
    }

    /// A run has a message for each rank that never came.
    fn send_runs(&mut self, count: u32) {
        self.send((0..count).flat_map(|run| {
            let (part, last) = (String::new(), true);
            let result = FleetRequest::Result { run, part, last };
            [FleetRequest::Ready { run }, result]
        }));
    }

    /// Whether the server has read all requests (proc_net_tcp(5)).
    fn is_read(&self) -> bool {
        let port = |address: SocketAddr| format!(":{:04X}", address.port());
        let server = port(self.0.peer_addr().unwrap());
        let client = port(self.0.local_addr().unwrap());
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
        let mut rows = sockets
            .lines()
            .map(|row| row.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row[1].ends_with(&server) && row[2].ends_with(&client));
        row.is_none_or(|row| row[4].ends_with(":00000000"))
    }
}

#[test]
fn rank_that_reads_nothing_costs_the_server_little_memory() {
    let server = Serve::start(&[]);
    let mut unread = Unread::join(&server, "large", MAX_RANKS);
    unread.send_runs(200);
    until("the server has read the requests", || unread.is_read());
    // The server goes on with the requests while it serves another client.
    let (program, results) = server.client("--packets 10");
    program.wait(PATIENCE).done();
    assert_eq!(number(&results.run(), "received.unique"), 10);
    let status = fs::read_to_string(format!("/proc/{}/status", server.program.id())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:"));
    let peak = peak.unwrap().split_whitespace().nth(1).unwrap();
    let kib: u64 = peak.parse().unwrap();
    assert!(kib < 60 << 10, "{kib} KiB");
    drop(unread);
    server.stop().0.done();
}

#[test]
fn ranks_that_read_nothing_do_not_stop_other_fleets() {
    let server = Serve::start(&[]);
    let mut unread: Vec<Unread> = (0..8)
        .map(|number| Unread::join(&server, &number.to_string(), MAX_RANKS))
        .collect();
    let results = Results::new();
    let options = format!("--to {} --packets 300 --pps 3k", server.address);
    thread::scope(|scope| {
        for (number, unread) in unread.iter_mut().enumerate() {
            scope.spawn(move || match number % 2 {
                0 => unread.send_clocks(200_000),
                _ => unread.send_runs(400),
            });
        }
        for finished in wait(fleet(3, &options, &results)) {
            finished.done();
        }
        // Ends the writes of ranks that are still read.
        drop(server);
    });
    assert_sums(&results.run());
}
