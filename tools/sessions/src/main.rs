//! Many paced sessions on one `bench serve`, from one thread: refusals, losses, and the server's memory, threads and CPU.
//!
//! ```text
//! sessions TO SERVER-PID SESSIONS PPS SECONDS ENGINE DIRECTION
//! ```
//!
//! The engine is `mio` or `uring`, the direction `forward` or `reverse`: in the latter the server sends.
//!
//! Exit code 1 if a session was refused or a datagram was lost.

#![allow(clippy::unwrap_used, reason = "a tool that cannot go on fails")]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use wirebench::engine::{EngineChoice, EngineKind};
use wirebench::sys::clock::{identity, monotonic_ns};
use wirebench::sys::{rlimit, timer_slack};
use wirebench::udp::plan::SpinChoice;
use wirebench::udp::plan::{Amount, Df, Direction, Mode, Offload, Plan};
use wirebench::udp::wire::VERSION;
use wirebench::udp::wire::control::{
    Alive, Finish, Hello, Message, ReceiverEffective, Reply, Request, Welcome,
};
use wirebench::udp::wire::framing::{self, Decoder};
use wirebench::udp::wire::header::{Header, Kind};
use wirebench::udp::wire::results::{StreamReceived, StreamSent};

/// Message bytes of a datagram.
const CHUNK: usize = 200;

/// Longest wait for the server.
const PATIENCE: Duration = Duration::from_secs(30);

/// A session, from the client's side.
struct Session {
    stream: TcpStream,
    decoder: Decoder,
    /// Numbered messages received.
    received: u64,
    welcome: Option<Welcome>,
    refused: Option<String>,
    socket: UdpSocket,
    sent: u64,
    /// Datagrams received.
    arrived: u64,
    result: Option<StreamReceived>,
    is_done: bool,
    /// Whether the server's sender shares its thread.
    is_sharing: bool,
}

impl Session {
    fn connect(server: SocketAddr, plan: &Plan) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        let socket = UdpSocket::bind((stream.local_addr().unwrap().ip(), 0)).unwrap();
        socket.connect(server).unwrap();
        let mut session = Self {
            stream,
            decoder: Decoder::default(),
            received: 0,
            welcome: None,
            refused: None,
            socket,
            sent: 0,
            arrived: 0,
            result: None,
            is_done: false,
            is_sharing: false,
        };
        session.send(&Request::Hello(Hello {
            version: VERSION,
            plan: plan.clone().into(),
            clock: identity(),
            cpus: None,
            explain: None,
        }));
        session.stream.set_nonblocking(true).unwrap();
        session.socket.set_nonblocking(true).unwrap();
        session
    }

    fn send(&mut self, request: &Request) {
        let mut bytes = Vec::new();
        framing::encode(request, &mut bytes).unwrap();
        // A few small messages fit the send buffer.
        self.stream.write_all(&bytes).unwrap();
    }

    /// Processes the messages that have arrived.
    fn read(&mut self) {
        let mut bytes = [0; 16_384];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => self.decoder.push(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.refused.get_or_insert(error.to_string());
                    break;
                }
            }
        }
        while let Some(reply) = self.decoder.next_message::<Reply>().unwrap() {
            self.received += u64::from(reply.is_numbered());
            match reply {
                Reply::Welcome(welcome) => self.welcome = Some(welcome),
                Reply::Refused { reason } => self.refused = Some(reason),
                Reply::Stream(stream) => self.result = Some(stream),
                Reply::Sender(sender) => {
                    self.sent = sender.sent.packets;
                    self.is_sharing |= sender.effective.shares_loops;
                }
                Reply::Done(_) | Reply::SendersDone { .. } => self.is_done = true,
                _ => {}
            }
        }
    }

    fn keep_alive(&mut self) {
        let alive = Alive {
            received: self.received,
            datagrams: 0,
        };
        self.send(&Request::Alive(alive));
    }

    fn token(&self) -> u64 {
        let welcome = self.welcome.as_ref().unwrap();
        let mut offers = welcome.forward.iter().chain(&welcome.reverse);
        offers.next().unwrap().token
    }

    /// Whether the server's end shares its thread with other streams.
    fn is_shared(&self) -> bool {
        let welcome = self.welcome.as_ref();
        let receiver = welcome.and_then(|welcome| welcome.receiver.as_ref());
        self.is_sharing || receiver.is_some_and(|receiver| receiver.shares_loops)
    }

    /// Counts the datagrams that have arrived.
    fn take_datagrams(&mut self) {
        let mut bytes = [0; 2_048];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            let header = Header::decode(&bytes[..length]);
            self.arrived += u64::from(header.is_ok_and(|header| header.kind == Kind::Data));
        }
    }

    /// Requests a response until one arrives, which opens the stream.
    fn is_open(&self) -> bool {
        if self.socket.recv(&mut [0; 64]).is_ok() {
            return true;
        }
        let _ = self
            .socket
            .send(&Header::bare(Kind::Probe, self.token(), 0).encode());
        false
    }

    /// Sends the next datagram, which is due at `due` in ns.
    fn send_datagram(&mut self, due: u64, datagram: &mut [u8]) {
        let now = monotonic_ns();
        let header = Header {
            sent: now,
            lateness: now.saturating_sub(due),
            ..Header::bare(Kind::Data, self.token(), self.sent)
        };
        *datagram.first_chunk_mut().unwrap() = header.encode();
        // A full send buffer would be a loss, as the server counts it.
        let _ = self.socket.send(datagram);
        self.sent += 1;
    }

    fn finish(&mut self) {
        let sent = StreamSent {
            packets: self.sent,
            bytes: self.sent * CHUNK as u64,
            not_sent: 0,
        };
        self.send(&Request::Finish(Finish {
            streams: vec![sent],
            quiet_ns: 1_000_000_000,
        }));
    }
}

/// Calls `step` on the sessions until it is true of all.
fn until(what: &str, sessions: &mut [Session], mut step: impl FnMut(&mut Session) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut missing: Vec<&mut Session> = sessions.iter_mut().collect();
    loop {
        missing.retain_mut(|session| !step(session));
        if missing.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            println!("{} sessions without {what}", missing.len());
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The server's use of resources, as the kernel shows it.
#[derive(Clone, Copy)]
struct Usage {
    rss_kb: u64,
    peak_kb: u64,
    threads: u64,
    files: usize,
    /// User and kernel time in ticks of 10 ms.
    ticks: [u64; 2],
}

impl Usage {
    fn of(process: &str) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        Self {
            rss_kb: field("VmRSS:"),
            peak_kb: field("VmHWM:"),
            threads: field("Threads:"),
            files: fs::read_dir(format!("/proc/{process}/fd")).unwrap().count(),
            ticks: [11, 12].map(|number: usize| fields[number].parse().unwrap()),
        }
    }
}

/// Sends on a common schedule. Returns the server's use of resources at the end, and the greatest lateness in ns.
fn send(sessions: &mut [Session], process: &str, pps: u64, seconds: u64) -> (Usage, u64) {
    // Session k sends its datagrams with a shift of k steps, so that the load is even.
    let count = sessions.len() as u64;
    let step = 1_000_000_000 / pps / count.max(1);
    let mut datagram = vec![7; CHUNK + Header::bare(Kind::Data, 0, 0).encode().len()];
    let (start, mut late) = (monotonic_ns(), 0);
    for number in 0..seconds * pps * count {
        let due = start + number * step;
        let now = monotonic_ns();
        if now < due {
            thread::sleep(Duration::from_nanos((due - now).max(50_000)));
        }
        late = late.max(now.saturating_sub(due));
        let session = &mut sessions[(number % count) as usize];
        session.send_datagram(due, &mut datagram);
        // Messages of the server are read, and acknowledged, once a second.
        if session.sent.is_multiple_of(pps) {
            session.read();
            session.keep_alive();
        }
    }
    (Usage::of(process), late)
}

/// Receives for as long as the server sends. Returns the server's use of resources at the end.
fn receive(sessions: &mut [Session], process: &str, seconds: u64) -> Usage {
    for session in sessions.iter_mut() {
        session.send(&Request::Begin {
            receiver: Some(ReceiverEffective::default()),
        });
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut alive_at = Instant::now();
    let mut usage = Usage::of(process);
    while Instant::now() < end {
        sessions.iter_mut().for_each(Session::take_datagrams);
        if alive_at.elapsed() > Duration::from_secs(1) {
            alive_at = Instant::now();
            for session in sessions.iter_mut() {
                session.read();
                session.keep_alive();
            }
            usage = Usage::of(process);
        }
        thread::sleep(Duration::from_millis(20));
    }
    usage
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [server, process, count, pps, seconds, engine, direction] = args.as_slice() else {
        println!("sessions TO SERVER-PID SESSIONS PPS SECONDS ENGINE DIRECTION");
        return ExitCode::from(2);
    };
    let server: SocketAddr = server.parse().unwrap();
    let (count, pps): (usize, u64) = (count.parse().unwrap(), pps.parse().unwrap());
    let seconds: u64 = seconds.parse().unwrap();
    let is_reverse = direction == "reverse";
    let _ = rlimit::raise_open_files();
    let _ = timer_slack::tighten();
    let plan = Plan {
        amount: Amount::Time(Duration::from_secs(seconds)),
        mode: Mode::Paced(pps as f64),
        direction: match is_reverse {
            true => Direction::Reverse,
            false => Direction::Forward,
        },
        chunk: CHUNK,
        engine: EngineChoice {
            kind: match engine.as_str() {
                "uring" => EngineKind::Uring,
                _ => EngineKind::Mio,
            },
            ..EngineChoice::default()
        },
        streams: 1,
        batch: None,
        offload: Offload::Auto,
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
    };

    let idle = Usage::of(process);
    let mut sessions: Vec<Session> = (0..count)
        .map(|_| Session::connect(server, &plan))
        .collect();
    until("a welcome", &mut sessions, |session| {
        session.read();
        session.welcome.is_some() || session.refused.is_some()
    });
    let (mut open, refused): (Vec<_>, Vec<_>) = sessions
        .into_iter()
        .partition(|session| session.welcome.is_some());
    until("an open stream", &mut open, |session| session.is_open());

    let (before, began) = (Usage::of(process), Instant::now());
    let (usage, late) = match is_reverse {
        true => (receive(&mut open, process, seconds), 0),
        false => send(&mut open, process, pps, seconds),
    };
    let elapsed = began.elapsed().as_secs_f64();
    let ticks = [0, 1].map(|of| (usage.ticks[of] - before.ticks[of]) as f64 / 100.0);
    if !is_reverse {
        open.iter_mut().for_each(Session::finish);
    }
    until("a result", &mut open, |session| {
        session.read();
        session.take_datagrams();
        if session.is_done {
            session.keep_alive();
        }
        session.is_done
    });
    let after = Usage::of(process);
    let sent: u64 = open.iter().map(|session| session.sent).sum();
    let results = || open.iter().filter_map(|session| session.result.as_ref());
    let unique: u64 = match is_reverse {
        true => open.iter().map(|session| session.arrived).sum(),
        false => results().map(|stream| stream.unique).sum(),
    };
    let drops: u64 = results().map(|stream| stream.drops).sum();
    let memory = |kb: u64| kb.saturating_sub(idle.rss_kb) / open.len().max(1) as u64;
    let shared = open.iter().filter(|session| session.is_shared()).count();
    println!(
        "sessions             {} of {count}, {shared} on shared loops",
        open.len()
    );
    println!("refused              {}", refused.len());
    if let Some(reason) = refused.iter().find_map(|session| session.refused.as_ref()) {
        println!("                     {reason}");
    }
    println!(
        "sent                 {sent} in {elapsed:.1} s, {:.0} a second",
        sent as f64 / elapsed
    );
    if !is_reverse {
        println!("late by at most      {:.1} ms", late as f64 / 1e6);
    }
    println!("received             {unique}");
    println!(
        "lost                 {} ({drops} at the sockets)",
        sent - unique.min(sent)
    );
    println!(
        "memory               {} KB a session in the run, {} KB at the peak",
        memory(usage.rss_kb),
        memory(after.peak_kb)
    );
    println!("threads              {}", usage.threads);
    println!("files                {}", usage.files);
    println!(
        "CPU                  {:.2} of one ({:.1} s user, {:.1} s kernel)",
        (ticks[0] + ticks[1]) / elapsed,
        ticks[0],
        ticks[1]
    );
    match refused.is_empty() && unique == sent {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
