//! One client and its server, from the first byte to the end: what is done when something is ready.
//!
//! What is decided on the way is in [`Life`], its handshake and its relay; this does it.

use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::lane::{Lane, Turn};
use super::means::Means;
use super::servers::{Connected, Servers};
use crate::proxy::facts::{Ending, Facts};
use crate::proxy::handshake::{Next, TRIES};
use crate::proxy::life::{Lapse, Life, Outcome, Phase};
use crate::proxy::options::REQUEST;
use crate::proxy::relay::{Direction, Readable, Step, Via};
use crate::proxy::resolver::Answer;
use crate::proxy::shared::Permit;
use crate::proxy::shop;
use crate::proxy::slab::Key;
use crate::proxy::timers::Timers;
use crate::sys::endpoint::Peer;
use crate::sys::rlimit::is_exhausted;
use crate::sys::tcp::{self, Unread};

/// Lots of what a client says to nobody that are thrown away before others have their turn.
const UNHEARD: usize = 4;

/// What a thread's connections are served with.
pub(super) type Shop = shop::Shop<Means>;

/// Whose socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Client,
    /// The server, or one that is tried, by its slot: fewer than [`MOST_SLOTS`].
    Server(u8),
}

/// Sockets of servers that a token can tell apart.
const MOST_SLOTS: usize = (1 << END_BITS) - 1;

/// Bits of a token that name the end.
const END_BITS: u32 = 8;

const _: () = assert!(TRIES <= MOST_SLOTS);

/// A connection.
pub(super) struct Connection {
    life: Life,
    client: TcpStream,
    /// The client has ended (or is thought to) or broken, which was not looked at yet.
    hung_up: Option<Unread>,
    servers: Servers,
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
pub(super) fn token(key: Key, end: End) -> Token {
    let end = match end {
        End::Client => 0,
        End::Server(slot) => usize::from(slot) + 1,
    };
    Token(key.number() << END_BITS | end & MOST_SLOTS)
}

/// Whose token it is.
pub(super) fn of_token(token: Token) -> (Key, End) {
    let end = match token.0 & MOST_SLOTS {
        0 => End::Client,
        server => End::Server((server - 1) as u8),
    };
    (Key::from_number(token.0 >> END_BITS), end)
}

pub(super) fn register(
    registry: &Registry,
    stream: &mut TcpStream,
    token: Token,
) -> io::Result<()> {
    // Edge-triggered, and a stream's writability is an edge only after it was full: a standing interest costs nothing.
    let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
    registry.register(stream, token, interest)
}

impl Connection {
    /// Takes a client in, or refuses it where it has no place. It has its first turn at once.
    pub(super) fn new(
        mut client: TcpStream,
        from: Peer,
        place: Option<Permit>,
        key: Key,
        shop: &mut Shop,
        now: u64,
    ) -> io::Result<(Self, Fate)> {
        register(&shop.means.registry, &mut client, token(key, End::Client))?;
        let local = shop.local(&client)?;
        let mut connection = Self {
            life: Life::new(from, local, place, shop, now),
            client,
            hung_up: None,
            servers: Servers::Tried(Vec::new()),
            to_server: Lane::default(),
            to_client: Lane::default(),
            queued: false,
        };
        connection.life.enter(Phase::Hearing, key, shop, now);
        let next = connection.life.handshake.begin(&shop.rules);
        if let Next::Connect(_) = next {
            connection.hear_early(&mut shop.means);
        }
        let fate = match connection.follow(next, key, shop, now) {
            Some(fate) => fate,
            None if connection.life.phase == Phase::Connecting => Fate::Waits,
            None => Fate::More,
        };
        Ok((connection, fate))
    }

    /// Takes note of what an end is ready for.
    pub(super) fn ready(&mut self, end: End, event: &Event) {
        if let End::Server(slot) = end
            && !self.servers.ready(slot, event)
        {
            return;
        }
        // What the kernel says of urgent data and of the end it says in every event, as long as it is so.
        let readable = match () {
            () if event.is_priority() || event.is_error() => Some(Readable::Doubtful),
            () if event.is_read_closed() => Some(Readable::Last),
            () if event.is_readable() => Some(Readable::Open),
            () => None,
        };
        let (from, to) = match end {
            End::Client => (Direction::ToServer, Direction::ToClient),
            End::Server(_) => (Direction::ToClient, Direction::ToServer),
        };
        if let Some(what) = readable {
            self.life.relay.flow(from).readable(what);
        }
        if event.is_writable() || event.is_error() {
            self.life.relay.flow(to).writable();
        }
        // A client that said all it had to say is not read any more, and may leave before its answer comes.
        if end == End::Client && event.is_error() && self.life.relay.to_server.is_shut() {
            self.life.relay.source_failed(Direction::ToServer);
        }
        if end == End::Client && (event.is_error() || event.is_read_closed()) {
            self.hung_up = Some(match event.is_error() {
                true => Unread::Broken,
                false => Unread::End,
            });
        }
    }

    /// Does what can be done now.
    pub(super) fn serve(&mut self, key: Key, shop: &mut Shop, now: u64) -> Fate {
        loop {
            let fate = match self.life.phase {
                Phase::Hearing => self.hear(key, shop, now),
                Phase::Resolving | Phase::Connecting => self.await_server(key, shop, now),
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
    pub(super) fn resolved(&mut self, answer: Answer, key: Key, shop: &mut Shop, now: u64) -> Fate {
        // It may have given up meanwhile.
        if self.life.phase != Phase::Resolving {
            return Fate::Waits;
        }
        let next = self.life.handshake.resolved(answer, &shop.rules);
        self.go_on(next, key, shop, now)
    }

    /// Its deadline has passed, or it is time to try another address.
    pub(super) fn expired(&mut self, key: Key, shop: &mut Shop, now: u64) -> Fate {
        let next = match self.life.expired(key, shop, now) {
            Lapse::Next(next) => next,
            Lapse::GiveUp(address) => {
                self.servers.give_up(address);
                self.life.handshake.gave_up(address, &shop.rules)
            }
            Lapse::Waits => return Fate::Waits,
            Lapse::Over(ending) => return Fate::Over(ending),
        };
        self.go_on(next, key, shop, now)
    }

    /// Begins to connect to those addresses that there was no socket for when they were to be tried.
    pub(super) fn reconnect(&mut self, key: Key, shop: &mut Shop, now: u64) -> Fate {
        match self.connect(key, shop, now) {
            Some(fate) => fate,
            None => self.serve(key, shop, now),
        }
    }

    /// Begins to connect to whatever address is to be tried and is not; `None` where there is more to do.
    fn connect(&mut self, key: Key, shop: &mut Shop, now: u64) -> Option<Fate> {
        // One that starved may have been given up meanwhile.
        while self.life.phase == Phase::Connecting {
            let servers = &self.servers;
            let is_wanted = |address: &SocketAddr| !servers.is_tried(*address);
            let wanted = self.life.handshake.tried().find(is_wanted);
            let address = wanted?;
            let speaks = self.life.relay.to_server.held() > 0;
            match self.servers.begin(address, speaks, key, &shop.means) {
                Ok(()) => {}
                Err(error) if is_exhausted(&error) && self.life.handshake.tried().len() == 1 => {
                    shop.means.pipes.shrink();
                    shop.starved.push(key);
                    return None;
                }
                Err(error) => {
                    let handshake = &mut self.life.handshake;
                    let next = handshake.connect_failed(address, &error, &shop.rules);
                    return self.follow(next, key, shop, now);
                }
            }
        }
        None
    }

    /// Closes it. Whatever did not end as it should ends with a reset, so that nothing cut short looks whole.
    pub(super) fn close(mut self, ending: Ending, key: Key, shop: &mut Shop, now: u64) -> Facts {
        self.life.stop(key, shop);
        let whole = self.life.is_whole(ending);
        for stream in [Some(&self.client), self.servers.connected()]
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
                None
            }
            Next::Connect(_) => {
                self.introduce();
                self.life.connect(key, shop, now);
                self.connect(key, shop, now)
            }
            Next::Await => {
                self.life.await_servers(key, shop);
                None
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

    /// Brings the client what it is told meanwhile, and looks whether it is still there and whether its server is; `None`
    /// once that is known.
    fn await_server(&mut self, key: Key, shop: &mut Shop, now: u64) -> Option<Fate> {
        self.drive(Direction::ToClient, &mut shop.means);
        let unread = self.hung_up.take().map(|news| match news {
            Unread::Broken => news,
            _ => tcp::unread(&self.client),
        });
        if let Some(ending) = unread.and_then(|it| self.life.client_ended(it, key, shop, now)) {
            return Some(Fate::Over(ending));
        }
        while let Some((address, outcome)) = self.servers.settled() {
            match outcome {
                Ok(server) => {
                    self.connected(address, server, key, shop, now);
                    return None;
                }
                Err(error) => {
                    let handshake = &mut self.life.handshake;
                    let next = handshake.connect_failed(address, &error, &shop.rules);
                    if let Some(fate) = self.follow(next, key, shop, now) {
                        return Some(fate);
                    }
                }
            }
        }
        match self.life.phase {
            Phase::Resolving | Phase::Connecting => Some(Fate::Waits),
            _ => None,
        }
    }

    /// The first server that is connected is the server; the other sockets are closed.
    fn connected(
        &mut self,
        at: SocketAddr,
        server: Connected,
        key: Key,
        shop: &mut Shop,
        now: u64,
    ) {
        self.life.connected((at, server.local), key, shop, now);
        self.say();
        if let Some(doubtful) = server.readable {
            self.life.relay.to_client.readable(match doubtful {
                true => Readable::Doubtful,
                false => Readable::Open,
            });
        }
        self.servers = Servers::Connected(server);
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
        self.servers = Servers::Gone;
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

    /// Does what the relay says of a direction, as far as there is a server for it.
    fn drive(&mut self, direction: Direction, means: &mut Means) -> Turn {
        let (client, server) = (Some(&self.client), self.servers.connected());
        let (lane, ends) = match direction {
            Direction::ToServer => (&mut self.to_server, (client, server)),
            Direction::ToClient => (&mut self.to_client, (server, client)),
        };
        lane.drive(&mut self.life.relay, direction, ends, means)
    }

    /// Whether one that is refused may give way to another, or when.
    pub(super) fn gives_way(&self, now: u64) -> Result<(), u64> {
        self.life.gives_way(now)
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
