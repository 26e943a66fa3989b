//! Many sessions on one server: paced streams beyond the number of CPUs share event loops, and their accounting stays exact.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::engine::available;
use common::peer::{CHUNK, Control, Local, Outcome, Source, data, plan, token};
use common::until;
use wirebench::engine::{EngineChoice, EngineKind};
use wirebench::sys::affinity;
use wirebench::udp::plan::{Mode, Plan};
use wirebench::udp::server::Limits;
use wirebench::udp::wire::control::{Finish, Request, Welcome};
use wirebench::udp::wire::results::StreamSent;

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
        receiver.thread_note.is_some()
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
            assert_eq!(client.is_shared(), number >= cores, "session {number}");
        }
        // A thread names itself when it starts.
        until("threads of the server", || {
            threads("receive-") == cores && threads("streams-") == cores
        });

        // The client of one session dies before the others have sent everything.
        let mut killed = clients.remove(SESSIONS / 2);
        killed.send(0..3);
        killed.source.probe(token(&killed.welcome));
        drop(killed);
        for (number, client) in clients.iter_mut().enumerate() {
            let number = number as u64;
            let packets = 10 + number % 7;
            client.send((0..packets).filter(|sequence| number % 3 > 0 || *sequence != 4));
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
