//! One client and its server, from the first byte to the end: what is done when something is ready.
//!
//! What is decided on the way is in [`Life`], its handshake and its relay; this does it.

use std::io::{self, ErrorKind, Read};
use std::net::IpAddr;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::lane::{Lane, Turn};
use super::means::Means;
use crate::proxy::facts::{Ending, Facts};
use crate::proxy::handshake::Next;
use crate::proxy::life::{Lapse, Life, Outcome, Phase};
use crate::proxy::options::REQUEST;
use crate::proxy::relay::{Direction, Readable, Side, Step, Via};
use crate::proxy::shared::{Place, is_starved};
use crate::proxy::shop;
use crate::proxy::slab::Key;
use crate::proxy::timers::Timers;
use crate::sys::endpoint::Peer;
use crate::sys::tcp;

/// Lots of what a client says to nobody that are thrown away before others have their turn.
const UNHEARD: usize = 4;

/// What a thread's connections are served with.
pub(super) type Shop = shop::Shop<Means>;

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
    life: Life,
    /// Of the phase in which it is to connect.
    attempt: Attempt,
    client: TcpStream,
    server: Option<TcpStream>,
    to_server: Lane,
    to_client: Lane,
    /// It is among those to have a turn.
    pub(super) queued: bool,
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
        from: Peer,
        place: Option<Place>,
        key: Key,
        shop: &mut Shop,
        now: u64,
    ) -> io::Result<(Self, Fate)> {
        register(&shop.means.registry, &mut client, token(key, Side::Client))?;
        let local = shop.local(&client)?;
        let mut connection = Self {
            life: Life::new(from, local, place, shop, now),
            attempt: Attempt::Waits,
            client,
            server: None,
            to_server: Lane::default(),
            to_client: Lane::default(),
            queued: false,
        };
        connection.life.enter(Phase::Hearing, key, shop, now);
        let next = connection.life.handshake.begin(&shop.rules);
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
        if (side, self.life.phase) == (Side::Server, Phase::Connecting) {
            let sound = matches!(readable, None | Some(Readable::Open));
            self.attempt = match event.is_writable() && sound {
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
            self.life.relay.flow(from).readable(what);
        }
        if event.is_writable() || event.is_error() {
            self.life.relay.flow(to).writable();
        }
        // A client that said all it had to say is not read any more, and may leave before its answer comes.
        if side == Side::Client && event.is_error() && self.life.relay.to_server.is_shut() {
            self.life.relay.source_failed(Direction::ToServer);
        }
    }

    /// Does what can be done now.
    pub(super) fn serve(&mut self, key: Key, shop: &mut Shop, now: u64) -> Fate {
        loop {
            let fate = match self.life.phase {
                Phase::Hearing => self.hear(key, shop, now),
                Phase::Resolving => Some(Fate::Waits),
                Phase::Connecting => self.connecting(key, shop, now),
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
        if self.life.phase != Phase::Resolving {
            return Fate::Waits;
        }
        let next = self.life.handshake.resolved(answer, &shop.rules);
        self.go_on(next, key, shop, now)
    }

    /// Its deadline has passed.
    pub(super) fn expired(&mut self, key: Key, shop: &mut Shop, now: u64) -> Fate {
        match self.life.expired(&shop.rules) {
            Lapse::Next(next) => self.go_on(next, key, shop, now),
            Lapse::Over(ending) => Fate::Over(ending),
        }
    }

    /// Begins to connect to the server; `None` where that failed and there is more to do. To be tried again where it
    /// starved.
    pub(super) fn connect(&mut self, key: Key, shop: &mut Shop, now: u64) -> Option<Fate> {
        // One that starved may have been given up meanwhile.
        let (Phase::Connecting, Some(address)) =
            (self.life.phase, self.life.handshake.known.server)
        else {
            return Some(Fate::Waits);
        };
        let speaks = self.life.relay.to_server.held() > 0;
        let connected = tcp::connect(address, speaks).and_then(|server| {
            let mut server = TcpStream::from_std(server);
            register(&shop.means.registry, &mut server, token(key, Side::Server))?;
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
                let next = self.life.handshake.connect_failed(&error, &shop.rules);
                self.follow(next, key, shop, now)
            }
        }
    }

    /// Closes it. Whatever did not end as it should ends with a reset, so that nothing cut short looks whole.
    pub(super) fn close(mut self, ending: Ending, key: Key, shop: &mut Shop, now: u64) -> Facts {
        self.life.stop(key, shop);
        let whole = self.life.is_whole(ending);
        for stream in [Some(&self.client), self.server.as_ref()]
            .into_iter()
            .flatten()
        {
            if !whole {
                let _ = tcp::reset_on_close(stream);
            }
        }
        let [to_server, to_client] = self.life.unsent();
        self.to_server.put_down(&mut shop.means, to_server);
        self.to_client.put_down(&mut shop.means, to_client);
        self.life.facts(ending, &shop.tally, now)
    }

    /// Hears what the client wants, as far as it is there; `None` once it is known.
    fn hear(&mut self, key: Key, shop: &mut Shop, now: u64) -> Option<Fate> {
        loop {
            // Only what the proxy itself has said: there is no server that could say anything.
            self.drive(Direction::ToClient, &mut shop.means);
            let Step::Fill { .. } = self.life.relay.step(Direction::ToServer) else {
                return Some(Fate::Waits);
            };
            let buffer = shop.means.buffer.get_mut(..REQUEST).unwrap_or_default();
            let next = match self.client.read(buffer) {
                Ok(0) => self.life.handshake.ended(&shop.rules),
                Ok(bytes) => {
                    if bytes < buffer.len() {
                        self.life.relay.to_server.source_drained();
                    }
                    let heard = buffer.get(..bytes).unwrap_or_default();
                    self.life.handshake.take(heard, &shop.rules)
                }
                Err(error) => {
                    match error.kind() {
                        ErrorKind::WouldBlock => self.life.relay.to_server.source_empty(),
                        ErrorKind::Interrupted => {}
                        _ => return Some(Fate::Over(Ending::ClientReset)),
                    }
                    continue;
                }
            };
            let fate = self.follow(next, key, shop, now);
            if fate.is_some() || self.life.phase != Phase::Hearing {
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
                self.life.resolve(name, key, shop, now);
                Some(Fate::Waits)
            }
            Next::Connect(_) => {
                self.server = None;
                self.attempt = Attempt::Waits;
                self.introduce();
                self.life.enter(Phase::Connecting, key, shop, now);
                self.connect(key, shop, now)
            }
            Next::Refuse(ending) if self.life.relay.to_client.held() == 0 => {
                Some(Fate::Over(ending))
            }
            Next::Refuse(ending) => {
                self.life.relay.to_client.ended();
                self.begin_lingering(ending, key, shop, now);
                None
            }
        }
    }

    /// Looks whether the server is there; `None` once that is known.
    fn connecting(&mut self, key: Key, shop: &mut Shop, now: u64) -> Option<Fate> {
        let Some(server) = &self.server else {
            return Some(Fate::Waits);
        };
        let readable = match self.attempt {
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
                        let next = self.life.handshake.connect_failed(&error, &shop.rules);
                        return self.follow(next, key, shop, now);
                    }
                }
            }
        };
        let local = || server.local_addr().ok();
        self.life.connected(local, key, shop, now);
        self.say();
        if readable {
            self.life.relay.to_client.readable(match self.attempt {
                Attempt::Doubtful => Readable::Doubtful,
                _ => Readable::Open,
            });
        }
        None
    }

    /// Brings each end what the other said; `None` where the client is only to hang up.
    fn relay(&mut self, key: Key, shop: &mut Shop, now: u64) -> Option<Fate> {
        let turns = [Direction::ToServer, Direction::ToClient]
            .map(|direction| self.drive(direction, &mut shop.means));
        match self.life.outcome() {
            None => {}
            Some(Outcome::Over(ending)) => return Some(Fate::Over(ending)),
            Some(Outcome::Linger(ending)) => {
                self.begin_lingering(ending, key, shop, now);
                return None;
            }
        }
        self.life.moved(key, shop, now);
        Some(if turns.contains(&Turn::More) {
            Fate::More
        } else {
            Fate::Waits
        })
    }

    fn begin_lingering(&mut self, ending: Ending, key: Key, shop: &mut Shop, now: u64) {
        self.server = None;
        let heard = false;
        let phase = Phase::Lingering { ending, heard };
        self.life.enter(phase, key, shop, now);
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
        self.life.phase = Phase::Lingering { ending, heard };
        match self.life.relay.to_client.step() {
            Step::Over if heard => Fate::Over(ending),
            _ if more => Fate::More,
            _ => Fate::Waits,
        }
    }

    /// A client that is asked nothing has often spoken already: what it said then leaves with the server's handshake.
    fn hear_early(&mut self, means: &mut Means) {
        self.introduce();
        self.life.relay.to_server.readable(Readable::Open);
        if let Step::Fill { via: Via::Copy, .. } = self.life.relay.step(Direction::ToServer) {
            self.drive(Direction::ToServer, means);
        }
    }

    /// The server is to get first what the handshake has for it.
    fn introduce(&mut self) {
        self.to_server.hold(&self.life.introduce());
    }

    /// The client is to get next what the handshake has for it.
    fn say(&mut self) {
        self.to_client.hold(&self.life.say());
    }

    /// Where there is no server, nothing is ever ready of it, and it is not touched.
    fn drive(&mut self, direction: Direction, means: &mut Means) -> Turn {
        let server = self.server.as_ref().unwrap_or(&self.client);
        let (lane, ends) = match direction {
            Direction::ToServer => (&mut self.to_server, (&self.client, server)),
            Direction::ToClient => (&mut self.to_client, (server, &self.client)),
        };
        lane.drive(&mut self.life.relay, direction, ends, means)
    }

    /// It is one too many, and refused for that.
    pub(super) fn is_extra(&self) -> bool {
        self.life.is_extra()
    }

    /// Its timer came up: whether it is due.
    pub(super) fn is_due(&mut self, key: Key, timers: &mut Timers<Key>, now: u64) -> bool {
        self.life.is_due(key, timers, now)
    }
}
