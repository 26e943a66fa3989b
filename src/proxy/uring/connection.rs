//! One client and its server, from the first byte to the end: what is done when something asked for is done.
//!
//! What is decided on the way is in [`Life`], its handshake and its relay; this does it.

use std::io;
use std::net::{SocketAddr, TcpStream};

use super::lane::{Heard, Lane};
use super::means::{Act, Means};
use super::servers::Servers;
use super::watch::{Until, Watch};
use crate::proxy::facts::{Ending, Facts};
use crate::proxy::handshake::Next;
use crate::proxy::life::{Lapse, Life, Outcome, Phase};
use crate::proxy::lot::BUFFER;
use crate::proxy::options::REQUEST;
use crate::proxy::relay::{Direction, Forwarding, Readable, Relay, Step};
use crate::proxy::resolver::Answer;
use crate::proxy::shared::Permit;
use crate::proxy::shop;
use crate::proxy::slab::Key;
use crate::proxy::timers::Timers;
use crate::sys::endpoint::Peer;
use crate::sys::rlimit::is_exhausted;
use crate::sys::tcp::{self, Unread};
use crate::uring::ring::Completion;

/// What a thread's connections are served with.
pub(super) type Shop = shop::Shop<Means>;

/// A connection.
pub(super) struct Connection {
    life: Life,
    /// How it ended. It goes when nothing of it is under way.
    over: Option<Ending>,
    client: TcpStream,
    servers: Servers,
    to_server: Lane,
    to_client: Lane,
    watch: Watch,
    /// Its server is slow, so its client is watched meanwhile.
    is_slow: bool,
    /// The client has ended, and before that said something that its server is to have.
    ended: bool,
}

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits.
    Waits,
    /// It is over.
    Over(Ending),
}

impl Connection {
    /// Takes a client in, or refuses it where it has no place. It has its first turn at once.
    ///
    /// # Errors
    /// The client is gone already.
    pub(super) fn new(
        client: TcpStream,
        from: Peer,
        place: Option<Permit>,
        key: Key,
        shop: &mut Shop,
        now: u64,
    ) -> io::Result<(Self, Fate)> {
        let local = shop.local(&client)?;
        let mut connection = Self {
            life: Life::new(from, local, place, shop, now),
            over: None,
            client,
            servers: Servers::default(),
            to_server: Lane::new(true),
            to_client: Lane::new(false),
            watch: Watch::default(),
            is_slow: false,
            ended: false,
        };
        connection.life.relay.to_client.writable();
        connection.life.enter(Phase::Hearing, key, shop, now);
        let next = connection.life.handshake.begin(&shop.rules);
        let fate = connection.go_on(next, key, shop, now);
        Ok((connection, fate))
    }

    /// Something of it is done.
    pub(super) fn done(
        &mut self,
        act: Act,
        completion: Completion,
        key: Key,
        shop: &mut Shop,
        now: u64,
    ) -> Fate {
        let means = &mut shop.means;
        if self.is_over() {
            self.let_go(act, completion, key, means);
            return Fate::Waits;
        }
        match (act, self.life.phase) {
            (Act::Receive(Direction::ToServer), Phase::Hearing) => {
                return self.heard(completion, key, shop, now);
            }
            (Act::Receive(Direction::ToServer), Phase::Lingering { ending, .. }) => {
                match self.to_server.heard(completion, key, means) {
                    // Nobody is there for that any more.
                    Heard::Bytes(buffer, _) => means.uring.memory.put_down(buffer),
                    Heard::Nothing => {}
                    Heard::End => {
                        self.life.phase = Phase::Lingering {
                            ending,
                            heard: true,
                        }
                    }
                    Heard::Failed => return Fate::Over(ending),
                }
            }
            (Act::Receive(direction), _) => {
                let (lane, relay) = self.hands(direction);
                lane.received(completion, relay, (key, direction), means);
            }
            (Act::Send(direction), _) => {
                let (lane, relay) = self.hands(direction);
                lane.sent(completion, relay, direction, means);
            }
            (Act::Connect(slot), _) => {
                if let Some((to, outcome)) = self.servers.done(slot, completion) {
                    return self.connecting(to, outcome, key, shop, now);
                }
            }
            (Act::Watch, phase) => {
                let told = self.watch.told(completion);
                match (told, phase) {
                    (Some(told), Phase::Resolving | Phase::Connecting) => {
                        if let Some(ending) = self.hung_up(told, key, shop, now) {
                            return Fate::Over(ending);
                        }
                    }
                    // Otherwise the receive under way fails by itself.
                    (Some(Until::Broken), _) if self.life.relay.to_server.is_shut() => {
                        self.life.relay.source_failed(Direction::ToServer);
                    }
                    _ => {}
                }
            }
        }
        self.serve(key, shop, now)
    }

    /// Something of one that is over is done.
    fn let_go(&mut self, act: Act, completion: Completion, key: Key, means: &mut Means) {
        match act {
            Act::Receive(direction) => {
                let heard = self.hands(direction).0.heard(completion, key, means);
                if let Heard::Bytes(buffer, _) = heard {
                    means.uring.memory.put_down(buffer);
                }
            }
            Act::Send(direction) => {
                let (lane, relay) = self.hands(direction);
                lane.sent(completion, relay, direction, means);
            }
            Act::Connect(slot) => {
                self.servers.done(slot, completion);
            }
            Act::Watch => {
                self.watch.told(completion);
            }
        }
    }

    /// Asks for what can be done now.
    pub(super) fn serve(&mut self, key: Key, shop: &mut Shop, now: u64) -> Fate {
        if self.is_over() {
            return Fate::Waits;
        }
        loop {
            let fate = match self.life.phase {
                Phase::Hearing => {
                    self.hear(key, &mut shop.means);
                    Some(Fate::Waits)
                }
                Phase::Resolving | Phase::Connecting => {
                    self.drive(Direction::ToClient, key, &mut shop.means);
                    self.watch_client(key, &mut shop.means);
                    Some(Fate::Waits)
                }
                Phase::Relaying => self.relay(key, shop, now),
                Phase::Lingering { ending, heard } => {
                    Some(self.linger(ending, heard, key, &mut shop.means))
                }
            };
            if let Some(fate) = fate {
                return fate;
            }
        }
    }

    /// There are buffers to receive into again.
    pub(super) fn refill(&mut self, key: Key, shop: &mut Shop, now: u64) -> Fate {
        self.to_server.refill();
        self.to_client.refill();
        self.serve(key, shop, now)
    }

    /// Its name was looked up.
    pub(super) fn resolved(&mut self, answer: Answer, key: Key, shop: &mut Shop, now: u64) -> Fate {
        // It may have given up meanwhile.
        if self.is_over() || self.life.phase != Phase::Resolving {
            return Fate::Waits;
        }
        let next = self.life.handshake.resolved(answer, &shop.rules);
        self.go_on(next, key, shop, now)
    }

    /// Its deadline has passed, or it is time to try another address.
    pub(super) fn expired(&mut self, key: Key, shop: &mut Shop, now: u64) -> Fate {
        if self.is_over() {
            return Fate::Waits;
        }
        let next = match self.life.expired(key, shop, now) {
            Lapse::Next(next) => next,
            Lapse::GiveUp(address) => {
                self.servers.give_up(address, key, &mut shop.means);
                self.life.handshake.gave_up(address, &shop.rules)
            }
            Lapse::Waits => return Fate::Waits,
            Lapse::Over(ending) => return Fate::Over(ending),
        };
        self.go_on(next, key, shop, now)
    }

    /// Begins to connect to those addresses that there was no socket for when they were to be tried.
    pub(super) fn reconnect(&mut self, key: Key, shop: &mut Shop, now: u64) -> Fate {
        if self.is_over() {
            return Fate::Waits;
        }
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
            match self.servers.begin(address, key, &mut shop.means) {
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

    /// Nothing is asked for any more, and what is under way is given up. It is to be closed once that [`Self::is_busy`] no more.
    pub(super) fn end(&mut self, ending: Ending, key: Key, shop: &mut Shop) {
        self.over = Some(ending);
        self.life.stop(key, shop);
        for act in Act::OF_CLIENT {
            if self.is_under_way(act) {
                shop.means.cancel(act.of(key));
            }
        }
        self.servers.give_up_all(key, &mut shop.means);
    }

    /// The kernel has something to do for it still.
    pub(super) fn is_busy(&self) -> bool {
        self.servers.is_busy() || Act::OF_CLIENT.into_iter().any(|act| self.is_under_way(act))
    }

    /// It was ended.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Closes it. Whatever did not end as it should ends with a reset, so that nothing cut short looks whole.
    pub(super) fn close(mut self, shop: &mut Shop, now: u64) -> Facts {
        let ending = self.over.unwrap_or(Ending::Stopped);
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

    /// Asks for more of what the client has to say. Until there is a server, nobody else says anything.
    fn hear(&mut self, key: Key, means: &mut Means) {
        self.drive(Direction::ToClient, key, means);
        let lane = (key, Direction::ToServer);
        self.to_server.receive(lane, &self.client, REQUEST, means);
    }

    /// Takes what the client said.
    fn heard(&mut self, completion: Completion, key: Key, shop: &mut Shop, now: u64) -> Fate {
        let next = match self.to_server.heard(completion, key, &mut shop.means) {
            Heard::Bytes(buffer, bytes) => {
                let said = shop.means.uring.memory.filled(buffer, bytes);
                let next = self.life.handshake.take(said, &shop.rules);
                shop.means.uring.memory.put_down(buffer);
                next
            }
            Heard::End => self.life.handshake.ended(&shop.rules),
            Heard::Nothing => return self.serve(key, shop, now),
            Heard::Failed => return Fate::Over(Ending::ClientReset),
        };
        self.go_on(next, key, shop, now)
    }

    /// Does what the handshake says, and then whatever else can be done.
    fn go_on(&mut self, next: Next, key: Key, shop: &mut Shop, now: u64) -> Fate {
        match self.follow(next, key, shop, now) {
            Some(Fate::Waits) | None => self.serve(key, shop, now),
            Some(fate) => fate,
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

    /// Its server was not there at once: watches its client meanwhile.
    pub(super) fn is_slow(&mut self, key: Key, means: &mut Means) {
        self.is_slow = true;
        if !self.is_over() && matches!(self.life.phase, Phase::Resolving | Phase::Connecting) {
            self.watch_client(key, means);
        }
    }

    /// A poll of each client would cost a tenth of a connection's CPU, so one whose server is there by the next turn
    /// of the loop is not watched.
    fn watch_client(&mut self, key: Key, means: &mut Means) {
        if !self.is_slow {
            return means.waits.begun(key);
        }
        let until = match self.ended {
            true => Until::Broken,
            false => Until::Ended,
        };
        self.watch.begin(until, &self.client, key, means);
    }

    /// What the end of a client comes to that has no server yet.
    fn hung_up(&mut self, told: Until, key: Key, shop: &mut Shop, now: u64) -> Option<Ending> {
        self.ended = true;
        let unread = match told {
            Until::Broken => Unread::Broken,
            Until::Ended => tcp::unread(&self.client),
        };
        self.life.client_ended(unread, key, shop, now)
    }

    /// An address that was tried has answered or failed. The first that is connected is the server.
    fn connecting(
        &mut self,
        to: SocketAddr,
        outcome: io::Result<SocketAddr>,
        key: Key,
        shop: &mut Shop,
        now: u64,
    ) -> Fate {
        match outcome {
            Ok(local) => {
                self.servers.give_up_all(key, &mut shop.means);
                self.life.connected((to, local), key, shop, now);
                self.begin_relaying(shop);
                self.serve(key, shop, now)
            }
            Err(error) => {
                let next = self.life.handshake.connect_failed(to, &error, &shop.rules);
                self.go_on(next, key, shop, now)
            }
        }
    }

    fn begin_relaying(&mut self, shop: &Shop) {
        self.say();
        self.to_server.hold(&self.life.introduce());
        match shop.forwarding {
            Forwarding::Splice => self.set_nonblocking(true),
            // A receive or a send waits by itself, so both ends are always ready; a short receive proves nothing that its
            // completion does not say.
            Forwarding::Auto | Forwarding::Copy => {
                self.life.relay.to_server.readable(Readable::Doubtful);
                self.life.relay.to_client.readable(Readable::Doubtful);
            }
        }
    }

    /// Brings each end what the other said; `None` where the client is only to hang up.
    fn relay(&mut self, key: Key, shop: &mut Shop, now: u64) -> Option<Fate> {
        self.drive(Direction::ToServer, key, &mut shop.means);
        self.drive(Direction::ToClient, key, &mut shop.means);
        match self.life.outcome() {
            None => {}
            Some(Outcome::Over(ending)) => return Some(Fate::Over(ending)),
            Some(Outcome::Linger(ending)) => {
                self.begin_lingering(ending, key, shop, now);
                return None;
            }
        }
        // A client that said all it had to say is not read any more, and may leave before its answer comes.
        if self.life.relay.to_server.is_shut() {
            self.watch
                .begin(Until::Broken, &self.client, key, &mut shop.means);
        }
        self.life.moved(key, shop, now);
        Some(Fate::Waits)
    }

    fn begin_lingering(&mut self, ending: Ending, key: Key, shop: &mut Shop, now: u64) {
        self.servers.close(key, &mut shop.means);
        if shop.forwarding == Forwarding::Splice {
            self.set_nonblocking(false);
        }
        let heard = false;
        let phase = Phase::Lingering { ending, heard };
        self.life.enter(phase, key, shop, now);
    }

    /// Whether an attempt comes back at once instead of waiting, as splice(2) by this very thread has to.
    fn set_nonblocking(&mut self, nonblocking: bool) {
        let ends = [
            (Direction::ToServer, Some(&self.client)),
            (Direction::ToClient, self.servers.connected()),
        ];
        for (direction, stream) in ends {
            if stream.is_some_and(|stream| stream.set_nonblocking(nonblocking).is_err()) {
                self.life.relay.source_failed(direction);
            }
        }
        self.to_server.set_nonblocking(nonblocking);
        self.to_client.set_nonblocking(nonblocking);
    }

    /// Brings the client what it is told last, and waits for it to hang up. What it says is thrown away.
    fn linger(&mut self, ending: Ending, heard: bool, key: Key, means: &mut Means) -> Fate {
        self.drive(Direction::ToClient, key, means);
        if !heard {
            let lane = (key, Direction::ToServer);
            self.to_server.receive(lane, &self.client, BUFFER, means);
        }
        match self.life.relay.to_client.step() {
            Step::Over if heard => Fate::Over(ending),
            _ => Fate::Waits,
        }
    }

    /// The client is to get next what the handshake has for it.
    fn say(&mut self) {
        self.to_client.hold(&self.life.say());
    }

    /// Asks for what the relay says of a direction, as far as there is a server for it.
    fn drive(&mut self, direction: Direction, key: Key, means: &mut Means) {
        let (client, server) = (Some(&self.client), self.servers.connected());
        let (lane, ends) = match direction {
            Direction::ToServer => (&mut self.to_server, (client, server)),
            Direction::ToClient => (&mut self.to_client, (server, client)),
        };
        lane.drive(&mut self.life.relay, (key, direction), ends, means);
    }

    /// Whether one that is refused may give way to another, or when.
    pub(super) fn gives_way(&self, now: u64) -> Result<(), u64> {
        match self.is_over() {
            true => Ok(()),
            false => self.life.gives_way(now),
        }
    }

    fn hands(&mut self, direction: Direction) -> (&mut Lane, &mut Relay) {
        match direction {
            Direction::ToServer => (&mut self.to_server, &mut self.life.relay),
            Direction::ToClient => (&mut self.to_client, &mut self.life.relay),
        }
    }

    fn is_under_way(&self, act: Act) -> bool {
        let lane = |direction| match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        };
        match act {
            Act::Receive(direction) => lane(direction).is_receiving(),
            Act::Send(direction) => lane(direction).is_sending(),
            Act::Watch => self.watch.is_under_way(),
            Act::Connect(_) => self.servers.is_busy(),
        }
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
