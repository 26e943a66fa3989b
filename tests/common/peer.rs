//! The other end of a session, played by a test: control messages over TCP, and datagrams.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;
use wirebench::engine::EngineChoice;
use wirebench::udp::plan::SpinChoice;
use wirebench::udp::plan::{Amount, Df, Direction, Mode, Offload, Plan};
use wirebench::udp::server::{Limits, Options, Server, SessionReport, Stopper};
use wirebench::udp::wire::VERSION;
use wirebench::udp::wire::control::{
    Alive, Finish, Hello, Message, Reply, Request, Resume, Welcome,
};
use wirebench::udp::wire::framing::{self, Decoder};
use wirebench::udp::wire::header::{Header, Kind};
use wirebench::udp::wire::results::StreamSent;
use wirebench::udp::wire::results::{Done, StreamReceived};

use super::PATIENCE;

/// Payload bytes of the plans below.
pub(crate) const CHUNK: usize = 100;

/// `packets` small datagrams, unpaced, one per message.
pub(crate) fn plan(packets: u64) -> Plan {
    Plan {
        amount: Amount::Packets(packets),
        mode: Mode::Blast,
        direction: Direction::Forward,
        chunk: CHUNK,
        engine: EngineChoice::default(),
        streams: 1,
        batch: None,
        offload: Offload::Off,
        df: Df::Auto,
        spin: SpinChoice::Auto,
        receive_buffer: None,
        send_buffer: None,
        interval: Duration::from_secs(1),
        packet_rows: false,
        interval_histograms: false,
        traffic: Default::default(),
        kernel_latency: false,
        stages: false,
    }
}

/// The first message of a session.
pub(crate) fn hello(plan: Plan) -> Request {
    Request::Hello(Hello {
        version: VERSION,
        plan: plan.into(),
        clock: wirebench::sys::clock::identity(),
        cpus: None,
        explain: None,
    })
}

/// A server in a thread of this process, stopped on drop.
pub(crate) struct Local {
    pub(crate) address: SocketAddr,
    pub(crate) reports: Receiver<SessionReport>,
    stopper: Stopper,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Local {
    pub(crate) fn start(limits: Limits) -> Self {
        Self::with(limits, Options::default())
    }

    pub(crate) fn with(limits: Limits, options: Options) -> Self {
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), limits, options).unwrap();
        let (address, stopper) = (server.local(), server.stopper());
        let (sender, reports) = mpsc::channel();
        let thread = thread::spawn(move || server.run(|report| drop(sender.send(report))));
        Self {
            address,
            reports,
            stopper,
            thread: Some(thread),
        }
    }

    /// The measurement of the next session that ends.
    #[track_caller]
    pub(crate) fn report(&self) -> SessionReport {
        self.reports.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap().unwrap();
        }
    }
}

/// A control connection.
pub(crate) struct Control {
    pub(crate) stream: TcpStream,
    decoder: Decoder,
    /// Received messages with a number.
    pub(crate) received: u64,
}

impl Control {
    #[track_caller]
    pub(crate) fn connect(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        Self {
            stream,
            decoder: Decoder::default(),
            received: 0,
        }
    }

    /// Connects and resumes the session of `other`.
    #[track_caller]
    pub(crate) fn resume(server: SocketAddr, session: u64, received: u64) -> (Self, Option<Reply>) {
        let mut control = Self::connect(server);
        control.received = received;
        control.send(&Request::Resume(Resume {
            version: VERSION,
            session,
            received,
        }));
        let reply = control.receive_without_keep_alive();
        (control, reply)
    }

    /// Connects and opens a session.
    #[track_caller]
    pub(crate) fn session(server: SocketAddr, plan: Plan) -> (Self, Welcome) {
        let mut control = Self::connect(server);
        control.send(&hello(plan));
        match control.receive() {
            Some(Reply::Welcome(welcome)) => (control, welcome),
            other => panic!("expected a welcome, got {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, message: &impl Serialize) {
        let mut bytes = Vec::new();
        framing::encode(message, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    /// Reports that everything was sent.
    #[track_caller]
    pub(crate) fn finish(&mut self, packets: u64) {
        let sent = StreamSent {
            packets,
            bytes: packets.saturating_mul(CHUNK as u64),
            not_sent: 0,
        };
        self.send(&Request::Finish(Finish {
            streams: vec![sent],
            quiet_ns: 0,
        }));
    }

    /// Sends a keep-alive. If the server has closed the connection, the next read fails.
    pub(crate) fn keep_alive(&mut self) {
        let mut message = Vec::new();
        let alive = Alive {
            received: self.received,
            datagrams: 0,
        };
        framing::encode(&Request::Alive(alive), &mut message).unwrap();
        let _ = self.stream.write_all(&message);
    }

    /// The next message; `None` at the end of the connection. Sends keep-alives meanwhile.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Option<Reply> {
        self.next_reply(true)
    }

    /// Like [`Self::receive`], without keep-alives.
    #[track_caller]
    pub(crate) fn receive_without_keep_alive(&mut self) -> Option<Reply> {
        self.next_reply(false)
    }

    #[track_caller]
    fn next_reply(&mut self, alive: bool) -> Option<Reply> {
        let deadline = Instant::now() + PATIENCE;
        let mut bytes = [0; 4_096];
        loop {
            if let Some(reply) = self.decoder.next_message::<Reply>().unwrap() {
                self.received += u64::from(reply.is_numbered());
                if matches!(reply, Reply::Alive(_)) {
                    continue;
                }
                return Some(reply);
            }
            assert!(
                Instant::now() < deadline,
                "the server neither replies nor closes the connection"
            );
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.decoder.push(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if alive {
                        self.keep_alive();
                    }
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The reason of a refusal. Asserts that the connection ends after it.
    #[track_caller]
    pub(crate) fn refused(&mut self) -> String {
        let reason = match self.receive_without_keep_alive() {
            Some(Reply::Refused { reason }) => reason,
            other => panic!("expected a refusal, got {other:?}"),
        };
        // The server closes after this end has closed, so that its message is read.
        self.stream.shutdown(Shutdown::Write).unwrap();
        assert!(self.receive_without_keep_alive().is_none());
        reason
    }

    /// The result. Closes the connection after it, as the server expects.
    #[track_caller]
    pub(crate) fn result(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        let deadline = Instant::now() + PATIENCE;
        while let Some(reply) = self.receive() {
            match reply {
                Reply::Stream(stream) => outcome.streams.push(stream),
                Reply::Rows { rows, .. } => {
                    outcome.rows.extend(rows);
                    self.keep_alive();
                }
                Reply::Done(done) => {
                    outcome.done = Some(*done);
                    self.keep_alive();
                    let _ = self.stream.shutdown(Shutdown::Both);
                    break;
                }
                _ => {
                    // Unacknowledged messages delay the following ones.
                    self.keep_alive();
                    assert!(Instant::now() < deadline, "no result");
                }
            }
        }
        outcome
    }
}

/// The server's messages at the end of a session.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) streams: Vec<StreamReceived>,
    pub(crate) rows: Vec<(u64, u64, u64)>,
    pub(crate) done: Option<Done>,
}

/// A full datagram of [`CHUNK`] payload bytes.
pub(crate) fn data(token: u64, sequence: u64) -> Vec<u8> {
    let header = Header {
        sent: wirebench::sys::clock::monotonic_ns(),
        ..Header::bare(Kind::Data, token, sequence)
    };
    [header.encode().as_slice(), &[7; CHUNK]].concat()
}

/// The token of the first stream of a session.
#[track_caller]
pub(crate) fn token(welcome: &Welcome) -> u64 {
    welcome.forward.first().unwrap().token
}

/// A UDP socket on loopback that counts its datagrams.
pub(crate) struct Source {
    pub(crate) socket: UdpSocket,
    pub(crate) to: SocketAddr,
    pub(crate) sent: usize,
}

impl Source {
    #[track_caller]
    pub(crate) fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        Self {
            socket,
            to: server,
            sent: 0,
        }
    }

    /// The source of the first stream of a session, opened.
    #[track_caller]
    pub(crate) fn open(server: SocketAddr, welcome: &Welcome) -> Self {
        let mut source = Self::new(server);
        source.probe(token(welcome));
        source
    }

    #[track_caller]
    pub(crate) fn send(&mut self, datagram: &[u8]) {
        self.sent += self.socket.send_to(datagram, self.to).unwrap();
    }

    /// Bytes of all datagrams received so far.
    #[track_caller]
    pub(crate) fn came_back(&mut self) -> usize {
        let mut bytes = [0; 2_048];
        let mut total = 0;
        while let Ok((count, _)) = self.socket.recv_from(&mut bytes) {
            total += count;
        }
        total
    }

    /// Requests credit once, and reads the reply if it arrives within 100 ms.
    #[track_caller]
    pub(crate) fn probe_once(&mut self, token: u64) -> bool {
        let wait = |most| {
            self.socket
                .set_read_timeout(Some(Duration::from_millis(most)))
        };
        wait(100).unwrap();
        self.sent += self
            .socket
            .send_to(&Header::bare(Kind::Probe, token, 0).encode(), self.to)
            .unwrap();
        let replied = self.socket.recv_from(&mut [0; 2_048]).is_ok();
        wait(1).unwrap();
        replied
    }

    /// Requests credit until a reply arrives. Then the server has received all earlier datagrams.
    #[track_caller]
    pub(crate) fn probe(&mut self, token: u64) {
        let deadline = Instant::now() + PATIENCE;
        while !self.probe_once(token) {
            assert!(Instant::now() < deadline, "no reply");
        }
    }
}

/// A small run from its first message to its result.
#[track_caller]
pub(crate) fn assert_serves(server: SocketAddr) {
    let (mut control, welcome) = Control::session(server, plan(3));
    let mut source = Source::open(server, &welcome);
    for sequence in 0..3 {
        source.send(&data(token(&welcome), sequence));
    }
    control.finish(3);
    let outcome = control.result();
    assert_eq!(outcome.streams[0].unique, 3);
    assert_eq!(outcome.done.unwrap().reason, None);
}

/// A length-prefixed message.
pub(crate) fn framed(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [&length.to_be_bytes(), text].concat()
}
