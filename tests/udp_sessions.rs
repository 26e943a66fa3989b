//! Many sessions on one server: paced streams beyond a few per CPU share event loops, and their accounting stays exact.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::engine::available;
use common::peer::{CHUNK, Control, Local, Outcome, Source, data, plan, token};
use common::{Results, Serve, assert_accounted, bench, number, until};
use wirebench::engine::{EngineChoice, EngineKind};
use wirebench::sys::affinity;
use wirebench::udp::plan::{Amount, Direction, Mode, Plan};
use wirebench::udp::server::Limits;
use wirebench::udp::shared_loops::THREADS_PER_CPU;
use wirebench::udp::wire::control::{Finish, ReceiverEffective, Reply, Request, Welcome};
use wirebench::udp::wire::header::{Header, Kind};
use wirebench::udp::wire::results::{SenderResult, StreamSent};

/// Sessions at once.
const SESSIONS: usize = 200;

/// Pace of the plans, in datagrams a second. The datagrams of these tests arrive as fast as they are sent.
const PACE: f64 = 100.0;

/// The tests of this file count the threads of this process, so only one runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn many() -> Limits {
    Limits {
        sessions: SESSIONS,
        sessions_per_client: SESSIONS,
        streams: 2 * SESSIONS,
        ..Limits::default()
    }
}

fn paced(engine: EngineKind, packets: u64) -> Plan {
    Plan {
        mode: Mode::Paced(PACE),
        engine: EngineChoice {
            kind: engine,
            ..EngineChoice::default()
        },
        ..plan(packets)
    }
}

/// The engines of this kernel.
fn engines() -> Vec<EngineKind> {
    let uring = available("--engine uring").map(|_| EngineKind::Uring);
    [EngineKind::Mio].into_iter().chain(uring).collect()
}

/// Threads of this process whose name begins so.
fn threads(prefix: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|name| name.starts_with(prefix))
        .count()
}

/// A client of one stream.
struct Client {
    control: Control,
    welcome: Welcome,
    source: Source,
    sent: u64,
}

impl Client {
    fn open(server: &Local, plan: Plan) -> Self {
        let (control, welcome) = Control::session(server.address, plan);
        let source = Source::open(server.address, &welcome);
        Self {
            control,
            welcome,
            source,
            sent: 0,
        }
    }

    fn is_shared(&self) -> bool {
        let receiver = self.welcome.receiver.as_ref().unwrap();
        receiver.shares_loops
    }

    fn send(&mut self, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            self.source.send(&data(token(&self.welcome), sequence));
            self.sent = self.sent.max(sequence + 1);
        }
    }

    fn finish(&mut self) {
        let sent = StreamSent {
            packets: self.sent,
            bytes: self.sent * CHUNK as u64,
            not_sent: 0,
        };
        self.control.send(&Request::Finish(Finish {
            streams: vec![sent],
            quiet_ns: 0,
        }));
    }

    fn result(mut self) -> Outcome {
        self.control.result()
    }
}

/// A client that receives one stream.
struct Receiver {
    control: Control,
    welcome: Welcome,
    plan: Plan,
    source: Source,
}

impl Receiver {
    fn open(server: &Local, plan: Plan) -> Self {
        let plan = Plan {
            direction: Direction::Reverse,
            ..plan
        };
        let (control, welcome) = Control::session(server.address, plan.clone());
        let mut source = Source::new(server.address);
        source.probe(welcome.reverse.first().unwrap().token);
        Self {
            control,
            welcome,
            plan,
            source,
        }
    }

    /// Starts the server's sender.
    fn begin(&mut self) {
        self.control.send(&Request::Begin {
            receiver: Some(ReceiverEffective::default()),
        });
    }

    /// The result of the server's sender, which has sent as many datagrams as have arrived.
    fn result(mut self) -> SenderResult {
        let mut result = None;
        loop {
            match self.control.receive() {
                Some(Reply::Sender(sender)) => result = Some(*sender),
                Some(Reply::SendersDone { reason }) => {
                    assert_eq!(reason, None);
                    break;
                }
                Some(_) => self.control.keep_alive(),
                None => panic!("the server closed the connection"),
            }
        }
        self.control.keep_alive();
        let result = result.unwrap();
        let token = self.welcome.reverse.first().unwrap().token;
        let mut bytes = [0; 2_048];
        let mut arrived = 0;
        while arrived < result.sent.packets {
            let length = self.source.socket.recv(&mut bytes).unwrap();
            let header = Header::decode(&bytes[..length]).unwrap();
            // Further responses to the opening probe may arrive too.
            if header.kind == Kind::Data {
                assert_eq!((header.token, header.sequence), (token, arrived));
                arrived += 1;
            }
        }
        result
    }
}

#[test]
fn sessions_on_shared_loops_have_exact_accounts() {
    let _alone = alone();
    let cores = affinity::allowed().unwrap().len();
    for engine in engines() {
        let server = Local::start(many());
        let mut clients: Vec<Client> = (0..SESSIONS)
            .map(|number| {
                Client::open(
                    &server,
                    Plan {
                        packet_rows: number % 50 == 7,
                        ..paced(engine, 100)
                    },
                )
            })
            .collect();
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(
                client.is_shared(),
                number >= THREADS_PER_CPU * cores,
                "session {number}"
            );
        }
        // A thread names itself when it starts.
        until("threads of the server", || {
            threads("receive-") == THREADS_PER_CPU * cores && threads("streams-") == cores
        });

        // The client of one session is lost before the others have sent everything.
        let mut killed = clients.remove(SESSIONS / 2);
        killed.send(0..3);
        killed.source.probe(token(&killed.welcome));
        drop(killed);
        for (number, client) in clients.iter_mut().enumerate() {
            let number = number as u64;
            let packets = 10 + number % 7;
            client
                .send((0..packets).filter(|sequence| !number.is_multiple_of(3) || *sequence != 4));
            client.send((0..number % 5).map(|sequence| packets - 1 - sequence % 2));
        }
        let lost = server.report();
        let run = lost.measured.unwrap().run;
        assert_eq!((run.ended.as_str(), run.received.unique), ("peer_lost", 3));
        assert!(run.effective.receiver_note.is_some());

        clients.iter_mut().for_each(Client::finish);
        for (number, client) in clients.into_iter().enumerate() {
            let (is_logged, number) = (number % 50 == 7 && number < SESSIONS / 2, number as u64);
            let outcome = client.result();
            let stream = &outcome.streams[0];
            let packets = 10 + number % 7;
            let unique = packets - u64::from(number.is_multiple_of(3));
            assert_eq!(
                (stream.unique, stream.next, stream.duplicates, stream.drops),
                (unique, packets, number % 5, 0),
                "session {number}"
            );
            assert_eq!(stream.bytes, unique * CHUNK as u64);
            if is_logged {
                assert_eq!(outcome.rows.len() as u64, unique + number % 5);
            }
            assert_eq!(outcome.done.unwrap().reason, None);
            let run = server.report().measured.unwrap().run;
            assert_eq!(run.sent.packets, run.received.unique + run.lost.packets);
            assert_eq!(run.latency_ns.unwrap().count, run.received.unique);
        }
    }
}

#[test]
fn unpaced_sessions_have_a_thread_per_stream() {
    let _alone = alone();
    let server = Local::start(many());
    let mut clients: Vec<Client> = (0..8).map(|_| Client::open(&server, plan(3))).collect();
    assert!(clients.iter().all(|client| !client.is_shared()));
    until("eight receiver threads", || threads("receive-") == 8);
    for client in &mut clients {
        client.send(0..3);
        client.finish();
    }
    for client in clients {
        assert_eq!(client.result().streams[0].unique, 3);
    }
}

#[test]
fn reverse_sessions_share_loops_and_send_everything() {
    let _alone = alone();
    let cores = affinity::allowed().unwrap().len();
    for engine in engines() {
        let server = Local::start(many());
        let mut receivers: Vec<Receiver> = (0..SESSIONS)
            .map(|number| Receiver::open(&server, paced(engine, 5 + number as u64 % 7)))
            .collect();
        // One client is lost; its sender ends without harm to others.
        drop(receivers.remove(SESSIONS / 2));
        receivers.iter_mut().for_each(Receiver::begin);
        until("threads of the server", || threads("streams-") == cores);
        for (number, receiver) in receivers.into_iter().enumerate() {
            let packets = receiver.plan.amount;
            let result = receiver.result();
            assert_eq!(Amount::Packets(result.sent.packets), packets);
            assert_eq!(result.sent.not_sent, 0);
            let shared = number >= THREADS_PER_CPU * cores;
            assert_eq!(result.effective.shares_loops, shared, "session {number}");
        }
        until("the end of the senders' threads", || threads("send-") == 0);
    }
}

#[test]
fn many_paced_streams_of_a_client_share_loops() {
    let serve = Serve::start(&["--max-streams", "1000"]);
    for direction in ["", "--reverse", "--bidir"] {
        for engine in ["", "--engine uring"] {
            if available(engine).is_none() {
                continue;
            }
            let results = Results::new();
            let (to, out) = (serve.address.to_string(), results.arg());
            let options = format!(
                "udp --quiet --to {to} --out {out} --streams 100 --pps 10k --packets 2000 {direction} {engine}"
            );
            bench(options.split_whitespace()).done();
            let record = results.record();
            for run in record["runs"].as_array().unwrap() {
                assert_accounted(run);
                assert_eq!(number(run, "lost.packets"), 0);
                assert_eq!(number(run, "received.unique"), 2_000);
                for note in ["sender_note", "receiver_note"] {
                    let note = run["effective"][note].as_str().unwrap();
                    assert!(note.contains("shares its thread"), "{note}");
                }
                assert_eq!(run["effective"]["spin"], false);
                assert_eq!(number(run, "pacing.lateness_ns.count"), 2_000);
            }
        }
    }
    serve.stop();
}
