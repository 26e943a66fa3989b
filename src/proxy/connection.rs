//! One client and its server, from the request to the end: what is done when something is ready.
//!
//! ```text
//!   Request ----> Connecting ----> Relaying
//!       \             \
//!        +-------------+---> Refusing: what is said is brought, then the client is to hang up
//! ```
//!
//! Looking a name up, off the loop, will be one more phase before `Connecting`.

use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::facts::{Ending, Facts, Wait};
use super::front::{Answer, Decision, Failed, FrontEnd, Request, Target};
use super::lane::{BUFFER, Lane, Means, Turn};
use super::relay::{Direction, Forwarding, Relay, Side, Step, Verdict};
use super::server::Place;
use super::slab::Key;
use super::timers::{Timer, Timers};
use crate::sys::tcp;

/// Lots that a direction may take before others have their turn: 256 KiB, 100 µs or so.
const TURN: usize = 4;

/// How long a client that is refused has to hear it and hang up. Closing before would take the words back
/// where it had sent more than was read.
const REFUSAL: Duration = Duration::from_secs(2);

/// Bytes of a request that are read at once.
const REQUEST: usize = 4_096;

/// How long a connection may wait.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the client to say what it wants.
    pub request: Duration,
    /// For the server to answer connect(2).
    pub connect: Duration,
    /// For either end to say anything.
    pub idle: Duration,
    /// For the other end to say or take anything, once one has ended.
    pub half_closed: Duration,
}

/// What a thread's connections are served with.
pub(super) struct Shop<F> {
    pub(super) front: F,
    pub(super) registry: Registry,
    pub(super) timers: Timers<Key>,
    pub(super) means: Means,
    pub(super) timeouts: Timeouts,
    pub(super) forwarding: Forwarding,
    /// Connections that could not be given a socket for want of file descriptors or memory.
    pub(super) starved: Vec<Key>,
}

enum Phase<R> {
    Request(R),
    Connecting(R),
    Relaying,
    Refusing(Ending),
}

/// A connection.
pub(super) struct Connection<R> {
    phase: Phase<R>,
    client: TcpStream,
    server: Option<TcpStream>,
    relay: Relay,
    to_server: Lane,
    to_client: Lane,
    timer: Timer,
    /// Bytes that had moved when the deadline was last put off.
    moved: u64,
    /// It is among those to have a turn.
    pub(super) queued: bool,
    from: SocketAddr,
    to: Option<SocketAddr>,
    accepted: u64,
    connected: Option<u64>,
    /// Among the connections that are allowed at once, unless it is one too many.
    place: Option<Place>,
}

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits.
    Waits,
    /// It could go on at once.
    More,
    /// It is over.
    Over(Ending),
}

/// The token of one end of a connection.
pub(super) fn token(key: Key, side: Side) -> Token {
    Token(key.number() << 1 | usize::from(side == Side::Server))
}

/// Whose token it is.
pub(super) fn of_token(token: Token) -> (Key, Side) {
    let side = if token.0 & 1 == 1 {
        Side::Server
    } else {
        Side::Client
    };
    (Key::from_number(token.0 >> 1), side)
}

/// For want of file descriptors or memory: it may go well later.
pub(super) fn is_starved(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

fn register(registry: &Registry, stream: &mut TcpStream, token: Token) -> io::Result<()> {
    tcp::for_relaying(stream)?;
    // Edge-triggered, and a stream's writability is an edge only after it was full: a standing interest costs nothing.
    let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
    registry.register(stream, token, interest)
}

impl<R: Request> Connection<R> {
    /// Takes a client in, or refuses it where it has no place. It has its first turn at once.
    pub(super) fn new<F: FrontEnd<Request = R>>(
        mut client: TcpStream,
        from: SocketAddr,
        place: Option<Place>,
        key: Key,
        shop: &mut Shop<F>,
        now: u64,
    ) -> io::Result<(Self, Fate)> {
        register(&shop.registry, &mut client, token(key, Side::Client))?;
        let (request, answer) = match &place {
            Some(_) => shop.front.begin(from),
            None => (
                shop.front.begin(from).0,
                Answer::Refuse(shop.front.crowded()),
            ),
        };
        let mut connection = Self {
            phase: Phase::Request(request),
            client,
            server: None,
            relay: Relay::new(shop.forwarding, BUFFER),
            to_server: Lane::default(),
            to_client: Lane::default(),
            timer: Timer::default(),
            moved: 0,
            queued: false,
            from,
            to: None,
            accepted: now,
            connected: None,
            place,
        };
        connection.put_off(key, shop, now);
        let fate = connection.answer(answer, key, shop, now);
        Ok((connection, fate.unwrap_or(Fate::More)))
    }

    /// Takes note of what an end is ready for.
    pub(super) fn ready(&mut self, side: Side, event: &Event) {
        let (from, to) = match side {
            Side::Client => (Direction::ToServer, Direction::ToClient),
            Side::Server => (Direction::ToClient, Direction::ToServer),
        };
        let doubtful = event.is_read_closed() || event.is_priority() || event.is_error();
        if event.is_readable() || doubtful {
            self.relay.flow(from).readable(doubtful);
        }
        if event.is_writable() || event.is_error() {
            self.relay.flow(to).writable();
        }
    }

    /// Does what can be done now.
    pub(super) fn serve<F: FrontEnd<Request = R>>(
        &mut self,
        key: Key,
        shop: &mut Shop<F>,
        now: u64,
    ) -> Fate {
        loop {
            let fate = match self.phase {
                Phase::Request(_) => self.hear(key, shop, now),
                Phase::Connecting(_) => self.connecting(key, shop, now),
                Phase::Relaying => Some(self.relay(key, shop, now)),
                Phase::Refusing(ending) => Some(self.refuse(ending, &mut shop.means)),
            };
            if let Some(fate) = fate {
                return fate;
            }
        }
    }

    /// Its deadline has passed.
    pub(super) fn expired<F: FrontEnd<Request = R>>(
        &mut self,
        key: Key,
        shop: &mut Shop<F>,
        now: u64,
    ) -> Fate {
        let failed = match self.phase {
            Phase::Request(_) => Failed::RequestTimedOut,
            Phase::Connecting(_) => Failed::TimedOut,
            Phase::Relaying if self.relay.is_half_closed() => {
                return Fate::Over(Ending::TimedOut(Wait::HalfClosed));
            }
            Phase::Relaying => return Fate::Over(Ending::TimedOut(Wait::Idle)),
            Phase::Refusing(ending) => return Fate::Over(ending),
        };
        match self.failed(&failed, key, shop, now) {
            Some(fate) => fate,
            None => self.serve(key, shop, now),
        }
    }

    /// Begins to connect to the server; `None` where that failed and there is more to do. To be tried again where it
    /// starved.
    pub(super) fn connect<F: FrontEnd<Request = R>>(
        &mut self,
        key: Key,
        shop: &mut Shop<F>,
        now: u64,
    ) -> Option<Fate> {
        // One that starved may have been given up meanwhile.
        let (Phase::Connecting(_), Some(address)) = (&self.phase, self.to) else {
            return Some(Fate::Waits);
        };
        let connected = TcpStream::connect(address).and_then(|mut server| {
            register(&shop.registry, &mut server, token(key, Side::Server))?;
            Ok(server)
        });
        match connected {
            Ok(server) => {
                self.server = Some(server);
                Some(Fate::Waits)
            }
            Err(error) if is_starved(&error) => {
                shop.means.pipes.shrink();
                shop.starved.push(key);
                Some(Fate::Waits)
            }
            Err(error) => self.failed(&Failed::Connect(error), key, shop, now),
        }
    }

    /// Closes it. Whatever did not end as it should ends with a reset, so that nothing cut short looks whole.
    pub(super) fn close<F>(
        mut self,
        ending: Ending,
        key: Key,
        shop: &mut Shop<F>,
        now: u64,
    ) -> Facts {
        shop.timers.clear(key, &mut self.timer);
        let whole = ending == Ending::Finished || matches!(self.phase, Phase::Refusing(_));
        for stream in [Some(&self.client), self.server.as_ref()]
            .into_iter()
            .flatten()
        {
            if !whole {
                let _ = tcp::reset_on_close(stream);
            }
        }
        let Relay {
            to_server,
            to_client,
            ..
        } = &self.relay;
        // What broke has nothing in hand by its own account, and yet its pipe is not empty.
        self.to_server
            .put_down(&mut shop.means, unsent(to_server.counts()));
        self.to_client
            .put_down(&mut shop.means, unsent(to_client.counts()));
        Facts {
            client: self.from,
            server: self.to,
            accepted: self.accepted,
            connected: self.connected,
            closed: now,
            to_server: to_server.counts(),
            to_client: to_client.counts(),
            ending,
        }
    }

    /// Hears what the client wants, as far as it is there; `None` once it is known.
    fn hear<F: FrontEnd<Request = R>>(
        &mut self,
        key: Key,
        shop: &mut Shop<F>,
        now: u64,
    ) -> Option<Fate> {
        loop {
            // Only what the front end has said: there is no server that could say anything.
            self.drive(Direction::ToClient, &mut shop.means);
            let Step::Fill { .. } = self.relay.step(Direction::ToServer) else {
                return Some(Fate::Waits);
            };
            let Phase::Request(request) = &mut self.phase else {
                return None;
            };
            let buffer = shop.means.buffer.get_mut(..REQUEST).unwrap_or_default();
            match self.client.read(buffer) {
                Ok(0) => return Some(Fate::Over(Ending::Reset(Side::Client))),
                Ok(bytes) => {
                    let answer = request.take(buffer.get(..bytes).unwrap_or_default());
                    let goes_on = matches!(answer, Answer::More(_));
                    let fate = self.answer(answer, key, shop, now);
                    if fate.is_some() || !goes_on {
                        return fate;
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.relay.to_server.source_empty(),
                    ErrorKind::Interrupted => {}
                    _ => return Some(Fate::Over(Ending::Reset(Side::Client))),
                },
            }
        }
    }

    /// Does what a request has come to; `None` where there is more to do.
    fn answer<F: FrontEnd<Request = R>>(
        &mut self,
        answer: Answer,
        key: Key,
        shop: &mut Shop<F>,
        now: u64,
    ) -> Option<Fate> {
        match answer {
            Answer::More(said) => {
                self.say(&said);
                None
            }
            Answer::Refuse(said) => {
                self.say(&said);
                self.begin_refusal(Ending::Refused, key, shop, now);
                None
            }
            Answer::Connect(target) => self.begin_connecting(target, key, shop, now),
        }
    }

    /// The address that is decided about is the one that is connected to.
    fn begin_connecting<F: FrontEnd<Request = R>>(
        &mut self,
        target: Target,
        key: Key,
        shop: &mut Shop<F>,
        now: u64,
    ) -> Option<Fate> {
        let decision = shop.front.decide(target.address, target.name.as_deref());
        if let Decision::Block(reason) = decision {
            return self.failed(&Failed::Blocked(reason), key, shop, now);
        }
        self.to_server.hold(&target.to_server);
        if !target.to_server.is_empty() {
            self.relay.to_server.hold(target.to_server.len());
        }
        self.to = Some(target.address);
        let waiting = std::mem::replace(&mut self.phase, Phase::Relaying);
        if let Phase::Request(request) = waiting {
            self.phase = Phase::Connecting(request);
        }
        self.put_off(key, shop, now);
        self.connect(key, shop, now)
    }

    /// Looks whether the server is there; `None` once that is known.
    fn connecting<F: FrontEnd<Request = R>>(
        &mut self,
        key: Key,
        shop: &mut Shop<F>,
        now: u64,
    ) -> Option<Fate> {
        let Some(server) = &self.server else {
            return Some(Fate::Waits);
        };
        let outcome = match server.take_error() {
            Ok(None) => server.peer_addr(),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match outcome {
            Ok(address) => {
                let done = std::mem::replace(&mut self.phase, Phase::Relaying);
                if let Phase::Connecting(mut request) = done {
                    self.say(&request.connected(address));
                }
                self.connected = Some(now);
                self.put_off(key, shop, now);
                None
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => Some(Fate::Waits),
            Err(error) => self.failed(&Failed::Connect(error), key, shop, now),
        }
    }

    fn relay<F>(&mut self, key: Key, shop: &mut Shop<F>, now: u64) -> Fate {
        let turns = [Direction::ToServer, Direction::ToClient]
            .map(|direction| self.drive(direction, &mut shop.means));
        if let Some(verdict) = self.relay.verdict() {
            return Fate::Over(match verdict {
                Verdict::Finished => Ending::Finished,
                Verdict::Reset(side) => Ending::Reset(side),
            });
        }
        let moved = self.relay.to_server.counts().drained + self.relay.to_client.counts().drained;
        // One more for the half that closed, which puts the deadline forward.
        let moved = moved * 2 + u64::from(self.relay.is_half_closed());
        if moved != self.moved {
            self.moved = moved;
            self.put_off(key, shop, now);
        }
        if turns.contains(&Turn::More) {
            Fate::More
        } else {
            Fate::Waits
        }
    }

    /// Brings the client what it is told, and waits for it to hang up.
    fn refuse(&mut self, ending: Ending, means: &mut Means) -> Fate {
        self.drive(Direction::ToClient, means);
        for _ in 0..TURN {
            if !matches!(self.relay.to_server.step(), Step::Fill { .. }) {
                break;
            }
            match self.client.read(&mut means.buffer) {
                Ok(0) => self.relay.to_server.ended(),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.relay.to_server.source_empty(),
                    ErrorKind::Interrupted => {}
                    _ => return Fate::Over(ending),
                },
            }
        }
        let told = self.relay.to_client.step() == Step::Over;
        match self.relay.to_server.step() {
            _ if told && !self.relay.to_server.is_open() => Fate::Over(ending),
            Step::Fill { .. } => Fate::More,
            _ => Fate::Waits,
        }
    }

    /// There will be no server. Tells the client so if the front end has words for it.
    fn failed<F: FrontEnd<Request = R>>(
        &mut self,
        why: &Failed,
        key: Key,
        shop: &mut Shop<F>,
        now: u64,
    ) -> Option<Fate> {
        let ending = match why {
            Failed::Blocked(_) => Ending::Blocked,
            Failed::Connect(_) => Ending::NoServer,
            Failed::TimedOut => Ending::TimedOut(Wait::Connect),
            Failed::RequestTimedOut => Ending::TimedOut(Wait::Request),
        };
        let (Phase::Request(request) | Phase::Connecting(request)) = &mut self.phase else {
            return Some(Fate::Over(ending));
        };
        let said = request.failed(why);
        if said.is_empty() {
            return Some(Fate::Over(ending));
        }
        self.say(&said);
        self.begin_refusal(ending, key, shop, now);
        None
    }

    fn begin_refusal<F>(&mut self, ending: Ending, key: Key, shop: &mut Shop<F>, now: u64) {
        self.phase = Phase::Refusing(ending);
        self.server = None;
        self.relay.to_client.ended();
        // What was meant for the server goes nowhere.
        self.to_server = Lane::default();
        self.relay.to_server = Relay::new(Forwarding::Copy, BUFFER).to_server;
        self.relay.to_server.readable(true);
        self.put_off(key, shop, now);
    }

    /// The client is to get this next.
    fn say(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.to_client.hold(bytes);
            self.relay.to_client.hold(bytes.len());
        }
    }

    /// Where there is no server, nothing is ever ready of it, and it is not touched.
    fn drive(&mut self, direction: Direction, means: &mut Means) -> Turn {
        let server = self.server.as_ref().unwrap_or(&self.client);
        let (lane, ends) = match direction {
            Direction::ToServer => (&mut self.to_server, (&self.client, server)),
            Direction::ToClient => (&mut self.to_client, (server, &self.client)),
        };
        lane.drive(&mut self.relay, direction, ends, means, TURN)
    }

    /// The deadline of the phase it is in begins anew.
    fn put_off<F>(&mut self, key: Key, shop: &mut Shop<F>, now: u64) {
        let after = match self.phase {
            Phase::Request(_) => shop.timeouts.request,
            Phase::Connecting(_) => shop.timeouts.connect,
            Phase::Relaying if self.relay.is_half_closed() => shop.timeouts.half_closed,
            Phase::Relaying => shop.timeouts.idle,
            Phase::Refusing(_) => REFUSAL,
        };
        let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        shop.timers
            .set(key, &mut self.timer, now.saturating_add(after));
    }

    /// It is one too many, and refused for that.
    pub(super) fn is_extra(&self) -> bool {
        self.place.is_none()
    }

    /// Its timer came up: whether it is due.
    pub(super) fn is_due(&mut self, key: Key, timers: &mut Timers<Key>, now: u64) -> bool {
        timers.is_due(key, &mut self.timer, now)
    }
}

fn unsent(counts: super::relay::Counts) -> usize {
    usize::try_from(counts.filled - counts.drained).unwrap_or(usize::MAX)
}
