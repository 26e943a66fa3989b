use std::thread;

use super::*;
use crate::engine::{EngineChoice, EngineKind, UringSettings};
use crate::udp::plan::Mode;
use crate::udp::plan::tests::small_plan;

/// The engines of this kernel.
fn engines() -> Vec<EngineChoice> {
    let mut engines = vec![EngineChoice::default()];
    match crate::uring::available(&UringSettings::default()) {
        Ok(()) => engines.push(EngineChoice {
            kind: EngineKind::Uring,
            ..EngineChoice::default()
        }),
        Err(reason) => println!("skipped: {reason}"),
    }
    engines
}

/// Runs against a server that answers each request with the responses that `answer` makes of it.
fn outcome(
    engine: EngineChoice,
    packets: u64,
    pps: Option<f64>,
    mut answer: impl FnMut(&UdpSocket, Header) + Send + 'static,
) -> Outcome {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.local_addr().unwrap()).unwrap();
    server.connect(socket.local_addr().unwrap()).unwrap();
    server.set_read_timeout(Some(4 * TIMEOUT)).unwrap();
    let plan = Plan {
        amount: crate::udp::plan::Amount::Packets(packets),
        mode: Mode::RoundTrip(pps),
        engine,
        ..small_plan()
    };
    let datagram = plan.datagram();
    let thread = thread::spawn(move || {
        let mut bytes = [0; 2_000];
        for _ in 0..packets {
            let length = server.recv(&mut bytes).unwrap();
            assert_eq!(length, datagram);
            answer(&server, Header::decode(&bytes).unwrap());
        }
    });
    let config = Config {
        plan,
        pps,
        token: 9,
        relay: RelayHeader::default(),
        is_echo: false,
        cpu: None,
    };
    let requester = Requester::start(config, socket, std::sync::Arc::new(|| ())).unwrap();
    let outcome = loop {
        if let Some(Event::Ended(outcome)) = requester.wait() {
            break *outcome;
        }
    };
    thread.join().unwrap();
    outcome
}

fn respond(server: &UdpSocket, request: Header, own: u64) {
    let mut response = [0; 1_000 + HEADER];
    let header = Header {
        lateness: own,
        ..Header::bare(Kind::Pong, request.token, request.sequence)
    };
    header.write(response.first_chunk_mut().unwrap());
    server.send(&response).unwrap();
}

#[test]
fn the_servers_own_time_is_taken_out() {
    for engine in engines() {
        let own = Duration::from_millis(40);
        let outcome = outcome(engine, 5, None, move |server, request| {
            let arrived = monotonic_ns();
            thread::sleep(own);
            respond(server, request, monotonic_ns() - arrived);
        });
        assert_eq!((outcome.counts.answered, outcome.counts.lost), (5, 0));
        // The histogram has three digits.
        let least = outcome.server_time.percentile(0.0).unwrap();
        assert!(least > 39_900_000, "{least}");
        let median = outcome.latencies.actual.percentile(50.0).unwrap();
        assert!(median < 20_000_000, "{median}");
        assert!(outcome.latencies.intended.is_empty());
    }
}

#[test]
fn late_duplicate_and_foreign_datagrams_are_counted_apart() {
    for engine in engines() {
        let mut kept = None;
        let outcome = outcome(engine, 4, None, move |server, request| {
            match request.sequence {
                // Answered while the next request is in flight, after its own timeout.
                0 => kept = Some(request),
                1 => {
                    respond(server, kept.take().unwrap(), 0);
                    respond(server, request, 0);
                    respond(server, request, 0);
                }
                2 => {
                    server.send(b"short").unwrap();
                    server.send(&[0; 100]).unwrap();
                    server
                        .send(&Header::bare(Kind::Pong, 8, 2).encode())
                        .unwrap();
                    server
                        .send(&Header::bare(Kind::Credit, 9, 0).encode())
                        .unwrap();
                    // Of the flow, but of another length and of no request.
                    server
                        .send(&Header::bare(Kind::Pong, 9, 2).encode())
                        .unwrap();
                    let unknown = Header::bare(Kind::Pong, 9, 77);
                    respond(server, unknown, 0);
                    respond(server, request, 0);
                }
                _ => respond(server, request, 0),
            }
        });
        let counts = outcome.counts;
        assert_eq!((counts.sent, counts.answered, counts.lost), (4, 3, 1));
        assert_eq!((counts.late, counts.duplicates), (1, 1));
        let foreign = outcome.foreign;
        assert_eq!((foreign.short, foreign.token, foreign.malformed), (1, 1, 3));
        assert_eq!(outcome.latencies.actual.count(), 3);
    }
}

#[test]
fn an_open_loop_has_several_requests_in_flight() {
    for engine in engines() {
        let mut kept = Vec::new();
        let outcome = outcome(engine, 30, Some(2_000.0), move |server, request| {
            kept.push(request);
            if kept.len() == 10 {
                // In reverse order.
                while let Some(request) = kept.pop() {
                    respond(server, request, 0);
                }
            }
        });
        assert_eq!((outcome.counts.answered, outcome.counts.lost), (30, 0));
        assert_eq!(outcome.counts.reordered, 27);
        assert_eq!(outcome.lateness.count(), 30);
        let slowest = outcome.latencies.intended.percentile(100.0).unwrap();
        assert!(slowest >= 4_000_000, "{slowest}");
    }
}

#[test]
fn buffers_are_those_of_other_runs() {
    use crate::udp::receive::socket::ReceiverSocket;
    for receive_buffer in [None, Some(10_000)] {
        let plan = Plan {
            receive_buffer,
            mode: Mode::RoundTrip(None),
            ..small_plan()
        };
        let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let buffers = set_up(&socket(), &plan).unwrap();
        let other = ReceiverSocket::new(socket(), &plan, false, 0)
            .unwrap()
            .buffers;
        assert_eq!(buffers.receive, other.receive);
    }
}
