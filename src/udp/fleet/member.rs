//! A rank's connection to its fleet.
//!
//! A thread reads the server's messages, and another one shows that the rank is alive while it measures.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use thiserror::Error;

use super::hub::{ALIVE, LEFT_BEHIND};
use crate::udp::control::greeting::{ClientGreeting, ClientStep, GreetingError};
use crate::udp::control::key::Key;
use crate::udp::wire::control::{Reply, Request};
use crate::udp::wire::fleet::{FleetJoin, FleetReply, FleetRequest, MAX_PART};
use crate::udp::wire::framing::{self, Decoder};

/// Longest silence of a server in the greeting.
const GREETING: Duration = Duration::from_secs(10);

/// Longest time in which a server reads nothing.
const UNREAD: Duration = Duration::from_secs(30);

/// Messages of the server that wait to be read.
const WAITING: usize = 1_024;

/// Why a rank is not in a fleet, or not any more: a sentence.
#[derive(Debug, Error)]
pub enum FleetError {
    /// No address of the server accepts a connection.
    #[error("cannot reach the server of the fleet at {0}: {1}")]
    Unreachable(SocketAddr, io::Error),
    /// The server refuses the rank, or does not prove that it has the key.
    #[error("the server of the fleet at {0} {1}")]
    Greeting(SocketAddr, GreetingError),
    /// The server refuses the first message as one that it does not know.
    #[error("the server at {0} is older and has no fleets; install this wirebench there")]
    Older(SocketAddr),
    /// The other ranks went on without the rank.
    #[error("the server of the fleet at {0} reports: {1}")]
    LeftBehind(SocketAddr, String),
    /// The server refuses the rank later.
    #[error("the server of the fleet at {0} refuses the rank: {1}")]
    Refused(SocketAddr, String),
    /// The connection ended.
    #[error("the server of the fleet at {0} was lost: {1}")]
    Lost(SocketAddr, String),
}

/// A connection to the server, before the rank joins.
#[derive(Debug)]
pub struct Dialled {
    stream: TcpStream,
    server: SocketAddr,
}

impl Dialled {
    /// Connects to the first address that accepts a connection within `limit`.
    ///
    /// # Errors
    /// [`FleetError::Unreachable`].
    pub fn connect(servers: &[SocketAddr], limit: Duration) -> Result<Self, FleetError> {
        let limit = limit.max(Duration::from_millis(1));
        let mut failed = None;
        for &server in servers {
            match TcpStream::connect_timeout(&server, limit) {
                Ok(stream) => return Ok(Self { stream, server }),
                Err(error) => failed = Some(FleetError::Unreachable(server, error)),
            }
        }
        Err(failed.unwrap_or_else(|| {
            let nowhere = SocketAddr::from(([0; 4], 0));
            FleetError::Unreachable(nowhere, ErrorKind::AddrNotAvailable.into())
        }))
    }

    /// The address of the server.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Joins the fleet. The roster follows as a message.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn join(mut self, key: Option<&Key>, join: FleetJoin) -> Result<Member, FleetError> {
        let server = self.server;
        let lost = |error: io::Error| FleetError::Lost(server, error.to_string());
        let _ = self.stream.set_nodelay(true);
        self.stream.set_write_timeout(Some(UNREAD)).map_err(lost)?;
        let opening = Request::Fleet(FleetRequest::Join(join));
        let mut greeting = ClientGreeting::new(key, opening).map_err(lost)?;
        let mut decoder = Decoder::default();
        send(&mut self.stream, &greeting.first()).map_err(lost)?;
        // Without a key the rank has joined once the server refuses nothing: the roster follows later.
        if key.is_some() {
            self.stream.set_read_timeout(Some(GREETING)).map_err(lost)?;
            let mut is_proven = false;
            while !is_proven {
                let reply = receive(&mut self.stream, &mut decoder).map_err(lost)?;
                is_proven = matches!(reply, Reply::Proven { .. });
                let step = greeting.receive(reply);
                match step.map_err(|error| FleetError::Greeting(server, error))? {
                    ClientStep::Send(requests) => {
                        for request in requests {
                            send(&mut self.stream, &request).map_err(lost)?;
                        }
                    }
                    ClientStep::Wait => {}
                    ClientStep::Over(_) => {
                        return Err(FleetError::Greeting(server, GreetingError::OutOfTurn));
                    }
                }
            }
        }
        self.stream.set_read_timeout(None).map_err(lost)?;
        Member::start(self.stream, server, decoder).map_err(lost)
    }
}

/// Whether the results of the rank are saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whether the collector confirms that it has saved results. An older server, or an older rank, does not know the messages.
    pub confirms: bool,
    /// The last run whose merged result is saved.
    pub saved: Option<u32>,
    /// Why the collector is lost: the predicate of a sentence.
    pub lost: Option<String>,
}

impl Kept {
    fn receive(&mut self, reply: &FleetReply) {
        match reply {
            FleetReply::Roster { confirms, .. } => self.confirms = *confirms,
            FleetReply::Saved { run } => self.saved = self.saved.max(Some(*run)),
            FleetReply::Unsaved { reason } => self.lost = Some(reason.clone()),
            _ => {}
        }
    }
}

/// A rank that has joined.
#[derive(Debug)]
pub struct Member {
    stream: Arc<Mutex<TcpStream>>,
    replies: Receiver<Result<FleetReply, FleetError>>,
    server: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    /// Ends the thread that shows that the rank is alive, when it is dropped.
    _alive: SyncSender<()>,
}

impl Member {
    fn start(stream: TcpStream, server: SocketAddr, decoder: Decoder) -> io::Result<Self> {
        let reader = stream.try_clone()?;
        let stream = Arc::new(Mutex::new(stream));
        let (sender, replies) = mpsc::sync_channel(WAITING);
        let kept = Arc::<Mutex<Kept>>::default();
        let of_reader = kept.clone();
        thread::Builder::new()
            .name("fleet-read".to_owned())
            .spawn(move || read_all(reader, server, decoder, &of_reader, &sender))?;
        let (alive, ended) = mpsc::sync_channel(0);
        let of_thread = stream.clone();
        thread::Builder::new()
            .name("fleet-alive".to_owned())
            .spawn(move || {
                while ended.recv_timeout(ALIVE / 2) == Err(RecvTimeoutError::Timeout) {
                    let request = Request::Fleet(FleetRequest::Alive);
                    let mut stream = of_thread.lock().unwrap_or_else(PoisonError::into_inner);
                    if send(&mut stream, &request).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            stream,
            replies,
            server,
            kept,
            _alive: alive,
        })
    }

    /// The address of the server.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Whether the rank's results are saved.
    pub fn kept(&self) -> Kept {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone()
    }

    /// The rank, which is the collector, has saved the merged result of a run.
    ///
    /// # Errors
    /// [`FleetError::Lost`].
    pub fn saved(&self, run: u32) -> Result<(), FleetError> {
        self.send(FleetRequest::Saved { run })
    }

    /// The next message of the server, if there is one.
    ///
    /// # Errors
    /// [`FleetError`], once.
    pub fn try_reply(&self) -> Result<Option<FleetReply>, FleetError> {
        match self.replies.try_recv() {
            Ok(reply) => reply.map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(self.ended()),
        }
    }

    /// The next message of the server; `None` if there is none within `limit`.
    ///
    /// # Errors
    /// As [`Self::try_reply`].
    pub fn reply_within(&self, limit: Duration) -> Result<Option<FleetReply>, FleetError> {
        match self.replies.recv_timeout(limit) {
            Ok(reply) => reply.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    fn ended(&self) -> FleetError {
        FleetError::Lost(self.server, "the connection was closed".to_owned())
    }

    /// The rank's session of a run is open.
    ///
    /// # Errors
    /// [`FleetError::Lost`].
    pub fn ready(&self, run: u32) -> Result<(), FleetError> {
        self.send(FleetRequest::Ready { run })
    }

    /// Sends the rank's result of a run as text.
    ///
    /// # Errors
    /// [`FleetError::Lost`].
    pub fn send_result(&self, run: u32, text: &str) -> Result<(), FleetError> {
        let mut rest = text;
        loop {
            let mut at = rest.len().min(MAX_PART);
            while !rest.is_char_boundary(at) {
                at -= 1;
            }
            let (part, others) = rest.split_at(at);
            rest = others;
            self.send(FleetRequest::Result {
                run,
                part: part.to_owned(),
                last: rest.is_empty(),
            })?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    pub(super) fn send(&self, request: FleetRequest) -> Result<(), FleetError> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        send(&mut stream, &Request::Fleet(request))
            .map_err(|error| FleetError::Lost(self.server, error.to_string()))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        // Ends the reading thread too.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn send(stream: &mut TcpStream, request: &Request) -> io::Result<()> {
    let mut bytes = Vec::new();
    framing::encode(request, &mut bytes).map_err(io::Error::other)?;
    stream.write_all(&bytes)
}

fn receive(stream: &mut TcpStream, decoder: &mut Decoder) -> io::Result<Reply> {
    let mut bytes = [0; 1 << 14];
    loop {
        if let Some(reply) = decoder.next_message().map_err(io::Error::other)? {
            return Ok(reply);
        }
        match stream.read(&mut bytes) {
            Ok(0) => return Err(io::Error::other("the connection was closed")),
            Ok(count) => decoder.push(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Passes the server's messages on until the connection ends.
fn read_all(
    mut stream: TcpStream,
    server: SocketAddr,
    mut decoder: Decoder,
    kept: &Mutex<Kept>,
    replies: &SyncSender<Result<FleetReply, FleetError>>,
) {
    loop {
        let reply = match receive(&mut stream, &mut decoder) {
            Ok(Reply::Fleet(reply)) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.receive(&reply);
                Ok(reply)
            }
            Ok(Reply::Refused { reason }) => Err(refusal(server, reason)),
            Ok(Reply::Challenge { .. }) => Err(FleetError::Greeting(server, GreetingError::NoKey)),
            Ok(_) => Err(FleetError::Greeting(server, GreetingError::OutOfTurn)),
            Err(error) => Err(FleetError::Lost(server, error.to_string())),
        };
        let is_over = reply.is_err();
        if replies.send(reply).is_err() || is_over {
            return;
        }
    }
}

fn refusal(server: SocketAddr, reason: String) -> FleetError {
    if reason.contains("unknown variant `fleet`") {
        FleetError::Older(server)
    } else if reason.starts_with(LEFT_BEHIND) {
        FleetError::LeftBehind(server, reason)
    } else {
        FleetError::Refused(server, reason)
    }
}
