//! One client and its server, from the first byte to the end: what is done when something is ready.
//!
//! ```text
//!   Hearing --> Resolving --> Connecting --> Relaying
//!      |            |           |  ^ next address
//!      +------------+-----------+--+--> Lingering: what is said is brought, then the client is to hang up
//! ```
//!
//! What is decided on the way is in [`Handshake`] and [`Relay`]; this does it.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::lane::{Lane, Turn};
use super::means::Means;
use crate::proxy::facts::{Ending, Facts};
use crate::proxy::handshake::{Handshake, Next};
use crate::proxy::lot::BUFFER;
use crate::proxy::options::{LINGER, REQUEST, Timeouts};
use crate::proxy::pipes::unsent;
use crate::proxy::progress::Progress;
use crate::proxy::relay::{Direction, Forwarding, Readable, Relay, Side, Step, Verdict, Via};
use crate::proxy::resolver::{Inbox, Resolver};
use crate::proxy::rules::Rules;
use crate::proxy::shared::{Place, is_starved};
use crate::proxy::slab::Key;
use crate::proxy::tally::Tally;
use crate::proxy::timers::{Timer, Timers};
use crate::sys::tcp;

/// Lots of what a client says to nobody that are thrown away before others have their turn.
const UNHEARD: usize = 4;

/// What a thread's connections are served with.
pub(super) struct Shop {
    pub(super) rules: Arc<Rules>,
    pub(super) registry: Registry,
    pub(super) timers: Timers<Key>,
    pub(super) means: Means,
    pub(super) resolver: Resolver,
    pub(super) inbox: Arc<Inbox>,
    pub(super) tally: Arc<Tally>,
    pub(super) timeouts: Timeouts,
    pub(super) forwarding: Forwarding,
    /// Connections that could not be given a socket for want of file descriptors or memory.
    pub(super) starved: Vec<Key>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Hearing,
    Resolving,
    Connecting(Attempt),
    Relaying,
    /// Nothing more comes for the client; `heard` when it has hung up too.
    Lingering {
        ending: Ending,
        heard: bool,
    },
}

/// How a connect(2) goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Waits,
    /// The socket is writable, and perhaps readable too: it is connected.
    Done {
        readable: bool,
    },
    /// It may have failed.
    Doubtful,
}

/// A connection.
pub(super) struct Connection {
    phase: Phase,
    handshake: Box<Handshake>,
    client: TcpStream,
    server: Option<TcpStream>,
    relay: Relay,
    to_server: Lane,
    to_client: Lane,
    timer: Timer,
    half_closed: bool,
    /// It is among those to have a turn.
    pub(super) queued: bool,
    progress: Progress,
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

fn register(registry: &Registry, stream: &mut TcpStream, token: Token) -> io::Result<()> {
    // Edge-triggered, and a stream's writability is an edge only after it was full: a standing interest costs nothing.
    let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
    registry.register(stream, token, interest)
}

impl Connection {
    /// Takes a client in, or refuses it where it has no place. It has its first turn at once.
    pub(super) fn new(
        mut client: TcpStream,
        from: SocketAddr,
        place: Option<Place>,
        key: Key,
        shop: &mut Shop,
        now: u64,
    ) -> io::Result<(Self, Fate)> {
        register(&shop.registry, &mut client, token(key, Side::Client))?;
        // Only a header for the server tells where the client connected to.
        let local = match shop.rules.send_header {
            Some(_) => client.local_addr()?,
            None => from,
        };
        let handshake = Handshake::new(&shop.rules, from, local, place.is_none());
        let mut connection = Self {
            phase: Phase::Hearing,
            handshake: Box::new(handshake),
            client,
            server: None,
            relay: Relay::new(shop.forwarding, BUFFER),
            to_server: Lane::default(),
            to_client: Lane::default(),
            timer: Timer::default(),
            half_closed: false,
            queued: false,
            progress: Progress::new(now),
            place,
        };
        connection.put_off(key, shop, now);
        let next = connection.handshake.begin(&shop.rules);
        if let Next::Connect(_) = next {
            connection.hear_early(&mut shop.means);
        }
        let fate = connection.follow(next, key, shop, now);
        Ok((connection, fate.unwrap_or(Fate::More)))
    }

    /// Takes note of what an end is ready for.
    pub(super) fn ready(&mut self, side: Side, event: &Event) {
        // What the kernel says of urgent data and of the end it says in every event, as long as it is so.
        let readable = match () {
            () if event.is_priority() || event.is_error() => Some(Readable::Doubtful),
            () if event.is_read_closed() => Some(Readable::Last),
            () if event.is_readable() => Some(Readable::Open),
            () => None,
        };
        if let (Side::Server, Phase::Connecting(attempt)) = (side, &mut self.phase) {
            let sound = matches!(readable, None | Some(Readable::Open));
            *attempt = match event.is_writable() && sound {
                true => Attempt::Done {
                    readable: readable.is_some(),
                },
                false => Attempt::Doubtful,
            };
            return;
        }
        let (from, to) = match side {
            Side::Client => (Direction::ToServer, Direction::ToClient),
            Side::Server => (Direction::ToClient, Direction::ToServer),
        };
        if let Some(what) = readable {
            self.relay.flow(from).readable(what);
        }
        if event.is_writable() || event.is_error() {
            self.relay.flow(to).writable();
        }
        // A client that said all it had to say is not read any more, and may leave before its answer comes.
        if side == Side::Client && event.is_error() && self.relay.to_server.is_shut() {
            self.relay.source_failed(Direction::ToServer);
        }
    }

    /// Does what can be done now.
    pub(super) fn serve(&mut self, key: Key, shop: &mut Shop, now: u64) -> Fate {
        loop {
            let fate = match self.phase {
                Phase::Hearing => self.hear(key, shop, now),
                Phase::Resolving => Some(Fate::Waits),
                Phase::Connecting(attempt) => self.connecting(attempt, key, shop, now),
                Phase::Relaying => self.relay(key, shop, now),
                Phase::Lingering { ending, heard } => {
                    Some(self.linger(ending, heard, &mut shop.means))
                }
            };
            if let Some(fate) = fate {
                return fate;
            }
        }
    }

    /// Its name was looked up.
    pub(super) fn resolved(
        &mut self,
        answer: io::Result<Vec<IpAddr>>,
        key: Key,
        shop: &mut Shop,
        now: u64,
    ) -> Fate {
        // It may have given up meanwhile.
        if self.phase != Phase::Resolving {
            return Fate::Waits;
        }
        let next = self.handshake.resolved(answer, &shop.rules);
        self.go_on(next, key, shop, now)
    }

    /// Its deadline has passed.
    pub(super) fn expired(&mut self, key: Key, shop: &mut Shop, now: u64) -> Fate {
        let next = match self.phase {
            Phase::Hearing => self.handshake.request_timed_out(),
            Phase::Resolving => self.handshake.lookup_timed_out(),
            Phase::Connecting(_) => self.handshake.connect_timed_out(&shop.rules),
            Phase::Relaying if self.awaits_an_end() => {
                return Fate::Over(Ending::HalfClosedTimeout);
            }
            Phase::Relaying => return Fate::Over(Ending::IdleTimeout),
            Phase::Lingering { ending, .. } => return Fate::Over(ending),
        };
        self.go_on(next, key, shop, now)
    }

    /// Begins to connect to the server; `None` where that failed and there is more to do. To be tried again where it
    /// starved.
    pub(super) fn connect(&mut self, key: Key, shop: &mut Shop, now: u64) -> Option<Fate> {
        // One that starved may have been given up meanwhile.
        let (Phase::Connecting(_), Some(address)) = (self.phase, self.handshake.known.server)
        else {
            return Some(Fate::Waits);
        };
        let speaks = self.relay.to_server.held() > 0;
        let connected = tcp::connect(address, speaks).and_then(|server| {
            let mut server = TcpStream::from_std(server);
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
            Err(error) => {
                let next = self.handshake.connect_failed(&error, &shop.rules);
                self.follow(next, key, shop, now)
            }
        }
    }

    /// Closes it. Whatever did not end as it should ends with a reset, so that nothing cut short looks whole.
    pub(super) fn close(mut self, ending: Ending, key: Key, shop: &mut Shop, now: u64) -> Facts {
        shop.timers.clear(key, &mut self.timer);
        let whole = ending == Ending::Finished || matches!(self.phase, Phase::Lingering { .. });
        for stream in [Some(&self.client), self.server.as_ref()]
            .into_iter()
            .flatten()
        {
            if !whole {
                let _ = tcp::reset_on_close(stream);
            }
        }
        self.progress.count(&self.relay, &shop.tally);
        let [to_server, to_client] =
            [&self.relay.to_server, &self.relay.to_client].map(|flow| flow.counts());
        self.to_server.put_down(&mut shop.means, unsent(to_server));
        self.to_client.put_down(&mut shop.means, unsent(to_client));
        self.progress
            .facts(self.handshake.known, &self.relay, ending, now)
    }

    /// Hears what the client wants, as far as it is there; `None` once it is known.
    fn hear(&mut self, key: Key, shop: &mut Shop, now: u64) -> Option<Fate> {
        loop {
            // Only what the proxy itself has said: there is no server that could say anything.
            self.drive(Direction::ToClient, &mut shop.means);
            let Step::Fill { .. } = self.relay.step(Direction::ToServer) else {
                return Some(Fate::Waits);
            };
            let buffer = shop.means.buffer.get_mut(..REQUEST).unwrap_or_default();
            let next = match self.client.read(buffer) {
                Ok(0) => self.handshake.ended(&shop.rules),
                Ok(bytes) => {
                    if bytes < buffer.len() {
                        self.relay.to_server.source_drained();
                    }
                    let heard = buffer.get(..bytes).unwrap_or_default();
                    self.handshake.take(heard, &shop.rules)
                }
                Err(error) => {
                    match error.kind() {
                        ErrorKind::WouldBlock => self.relay.to_server.source_empty(),
                        ErrorKind::Interrupted => {}
                        _ => return Some(Fate::Over(Ending::ClientReset)),
                    }
                    continue;
                }
            };
            let fate = self.follow(next, key, shop, now);
            if fate.is_some() || self.phase != Phase::Hearing {
                return fate;
            }
        }
    }

    /// Does what the handshake says, and then whatever else can be done.
    fn go_on(&mut self, next: Next, key: Key, shop: &mut Shop, now: u64) -> Fate {
        match self.follow(next, key, shop, now) {
            Some(fate) => fate,
            None => self.serve(key, shop, now),
        }
    }

    /// Does what the handshake says; `None` where there is more to do.
    fn follow(&mut self, next: Next, key: Key, shop: &mut Shop, now: u64) -> Option<Fate> {
        self.say();
        match next {
            Next::Hear => None,
            Next::Resolve(name) => {
                self.phase = Phase::Resolving;
                let until = self.put_off(key, shop, now);
                shop.tally.looked_up();
                shop.resolver.ask(name, key, until, &shop.inbox);
                Some(Fate::Waits)
            }
            Next::Connect(_) => {
                self.server = None;
                self.hold_first();
                self.phase = Phase::Connecting(Attempt::Waits);
                self.put_off(key, shop, now);
                self.connect(key, shop, now)
            }
            Next::Refuse(ending) if self.relay.to_client.held() == 0 => Some(Fate::Over(ending)),
            Next::Refuse(ending) => {
                self.relay.to_client.ended();
                self.begin_lingering(ending, key, shop, now);
                None
            }
        }
    }

    /// Looks whether the server is there; `None` once that is known.
    fn connecting(
        &mut self,
        attempt: Attempt,
        key: Key,
        shop: &mut Shop,
        now: u64,
    ) -> Option<Fate> {
        let Some(server) = &self.server else {
            return Some(Fate::Waits);
        };
        let readable = match attempt {
            Attempt::Waits => return Some(Fate::Waits),
            Attempt::Done { readable } => readable,
            Attempt::Doubtful => {
                let outcome = match server.take_error() {
                    Ok(None) => server.peer_addr().map(drop),
                    Ok(Some(error)) | Err(error) => Err(error),
                };
                match outcome {
                    Ok(()) => true,
                    Err(error) if error.kind() == ErrorKind::NotConnected => {
                        return Some(Fate::Waits);
                    }
                    Err(error) => {
                        let next = self.handshake.connect_failed(&error, &shop.rules);
                        return self.follow(next, key, shop, now);
                    }
                }
            }
        };
        self.handshake.connected(|| server.local_addr().ok());
        self.say();
        if self.handshake.is_whole() {
            self.relay.to_server.ended();
        }
        self.relay.to_server.writable();
        if readable {
            self.relay.to_client.readable(match attempt {
                Attempt::Doubtful => Readable::Doubtful,
                _ => Readable::Open,
            });
        }
        self.phase = Phase::Relaying;
        self.progress.connected(now);
        self.put_off(key, shop, now);
        None
    }

    /// Brings each end what the other said; `None` where the client is only to hang up.
    fn relay(&mut self, key: Key, shop: &mut Shop, now: u64) -> Option<Fate> {
        let turns = [Direction::ToServer, Direction::ToClient]
            .map(|direction| self.drive(direction, &mut shop.means));
        match self.relay.verdict() {
            None => {}
            // What it said behind its request was not read, and would turn the answer into a reset.
            Some(Verdict::Finished) if self.handshake.is_whole() => {
                self.begin_lingering(Ending::Finished, key, shop, now);
                return None;
            }
            Some(Verdict::Finished) => return Some(Fate::Over(Ending::Finished)),
            Some(Verdict::Reset(Side::Client)) => return Some(Fate::Over(Ending::ClientReset)),
            Some(Verdict::Reset(Side::Server)) => return Some(Fate::Over(Ending::ServerReset)),
        }
        let half_closed = self.awaits_an_end();
        if self.progress.count(&self.relay, &shop.tally) || half_closed != self.half_closed {
            self.half_closed = half_closed;
            self.put_off(key, shop, now);
        }
        Some(if turns.contains(&Turn::More) {
            Fate::More
        } else {
            Fate::Waits
        })
    }

    fn begin_lingering(&mut self, ending: Ending, key: Key, shop: &mut Shop, now: u64) {
        let heard = false;
        self.phase = Phase::Lingering { ending, heard };
        self.server = None;
        self.put_off(key, shop, now);
    }

    /// Brings the client what it is told last, and waits for it to hang up. What it says is thrown away.
    fn linger(&mut self, ending: Ending, mut heard: bool, means: &mut Means) -> Fate {
        self.drive(Direction::ToClient, means);
        let mut lots = UNHEARD;
        let mut more = !heard;
        while more && lots > 0 {
            lots -= 1;
            match self.client.read(&mut means.buffer) {
                Ok(0) => (heard, more) = (true, false),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => more = false,
                    ErrorKind::Interrupted => {}
                    _ => return Fate::Over(ending),
                },
            }
        }
        self.phase = Phase::Lingering { ending, heard };
        match self.relay.to_client.step() {
            Step::Over if heard => Fate::Over(ending),
            _ if more => Fate::More,
            _ => Fate::Waits,
        }
    }

    /// A client that is asked nothing has often spoken already: what it said then leaves with the server's handshake.
    fn hear_early(&mut self, means: &mut Means) {
        self.hold_first();
        self.relay.to_server.readable(Readable::Open);
        if let Step::Fill { via: Via::Copy, .. } = self.relay.step(Direction::ToServer) {
            self.drive(Direction::ToServer, means);
        }
    }

    /// The server is to get first what the handshake has for it.
    fn hold_first(&mut self) {
        let first = self.handshake.take_to_server();
        if !first.is_empty() {
            self.to_server.hold(&first);
            self.relay.to_server.hold(first.len());
        }
    }

    /// The client is to get next what the handshake has for it.
    fn say(&mut self) {
        let said = self.handshake.take_said();
        if !said.is_empty() {
            self.to_client.hold(&said);
            self.relay.to_client.hold(said.len());
        }
    }

    /// Where there is no server, nothing is ever ready of it, and it is not touched.
    fn drive(&mut self, direction: Direction, means: &mut Means) -> Turn {
        let server = self.server.as_ref().unwrap_or(&self.client);
        let (lane, ends) = match direction {
            Direction::ToServer => (&mut self.to_server, (&self.client, server)),
            Direction::ToClient => (&mut self.to_client, (server, &self.client)),
        };
        lane.drive(&mut self.relay, direction, ends, means)
    }

    /// The deadline of the phase it is in begins anew: until then.
    fn put_off(&mut self, key: Key, shop: &mut Shop, now: u64) -> u64 {
        let after = match self.phase {
            Phase::Hearing if self.is_extra() => LINGER,
            Phase::Hearing => shop.timeouts.request,
            Phase::Resolving | Phase::Connecting(_) => shop.timeouts.connect,
            Phase::Relaying if self.awaits_an_end() => shop.timeouts.half_closed,
            Phase::Relaying => shop.timeouts.idle,
            Phase::Lingering { .. } => LINGER,
        };
        let until = now.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        shop.timers.set(key, &mut self.timer, until);
        until
    }

    /// One end has ended and the other is to. The end of a request that is whole says nothing of the kind.
    fn awaits_an_end(&self) -> bool {
        match self.handshake.is_whole() {
            true => !self.relay.to_client.is_open(),
            false => self.relay.is_half_closed(),
        }
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
