//! A connection's life on either engine, apart from its sockets: in which phase it is, until when, and what is left of it.
//!
//! ```text
//!   Hearing --> Resolving --> Connecting --> Relaying
//!      |            |           |  ^ next address |
//!      +------------+-----------+--+--------------+--> Lingering
//! ```
//!
//! Resolving and connecting share one deadline, however many addresses a name has. While addresses are left, the next
//! one is tried beside the others after [`ATTEMPT_DELAY`]. The first server of a connection has a socket by right; those beside it
//! need a permit, and without one the oldest address gives way.

use std::net::SocketAddr;
use std::time::Duration;

use super::facts::{Ending, Facts};
use super::handshake::{Handshake, Next};
use super::lot::BUFFER;
use super::options::{ATTEMPT_DELAY, ATTEMPT_LEAST, ENDED_GRACE, LINGER, REFUSAL, Timeouts};
use super::relay::{Counts, Relay, Side, Verdict};
use super::shared::Permit;
use super::shop::Shop;
use super::slab::Key;
use super::tally::Tally;
use super::timers::{Timer, Timers};
use crate::destination::Name;
use crate::sys::clock::realtime_ns;
use crate::sys::endpoint::{Endpoint, Peer};
use crate::sys::tcp::Unread;

/// Where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client says what it wants.
    Hearing,
    /// A name is looked up.
    Resolving,
    /// A server is asked.
    Connecting,
    /// Each end is brought what the other says.
    Relaying,
    /// What was said last is brought, and the client is to hang up; `heard` when it has.
    Lingering {
        /// What it comes to.
        ending: Ending,
        /// Nothing more comes of the client.
        heard: bool,
    },
}

/// A connection without its sockets. Times are in ns of [`crate::sys::clock::monotonic_ns`].
#[derive(Debug)]
pub(super) struct Life {
    pub(super) phase: Phase,
    pub(super) handshake: Box<Handshake>,
    pub(super) relay: Relay,
    timer: Timer,
    /// Among the connections that are allowed at once, unless it is one too many.
    place: Option<Permit>,
    accepted: u64,
    connected: Option<u64>,
    /// When the server has to be connected.
    deadline: u64,
    /// When the last address was begun to be tried, and when to look whether to try the next.
    tried: u64,
    look: u64,
    /// For the servers that are tried beside another one.
    spares: Vec<Permit>,
    /// The client has ended without a word, and its server has a little longer.
    ended: bool,
    /// Bytes that are counted already, to the server and to the client.
    moved: [u64; 2],
    half_closed: bool,
}

/// What became of a deadline that has passed.
pub(super) enum Lapse {
    /// The handshake goes on like this.
    Next(Next),
    /// This address is to be given up, for [`Handshake::gave_up`].
    GiveUp(SocketAddr),
    /// Nothing is to be done yet.
    Waits,
    /// It is over.
    Over(Ending),
}

/// What a relay that has nothing more to do comes to.
pub(super) enum Outcome {
    /// All is said, and the client is to hang up.
    Linger(Ending),
    /// It is over.
    Over(Ending),
}

impl Life {
    /// Of a client that came `from` there to `local`; one without a `place` is refused.
    pub(super) fn new<M>(
        from: Peer,
        local: Option<Endpoint>,
        place: Option<Permit>,
        shop: &Shop<M>,
        now: u64,
    ) -> Self {
        let handshake = Handshake::new(&shop.rules, from, local, place.is_none());
        Self {
            phase: Phase::Hearing,
            handshake: Box::new(handshake),
            relay: Relay::new(shop.forwarding, BUFFER),
            timer: Timer::default(),
            place,
            accepted: now,
            connected: None,
            deadline: 0,
            tried: 0,
            look: 0,
            spares: Vec::new(),
            ended: false,
            moved: [0; 2],
            half_closed: false,
        }
    }

    /// Goes over to a phase, whose deadline begins: until then.
    pub(super) fn enter<M>(&mut self, phase: Phase, key: Key, shop: &mut Shop<M>, now: u64) -> u64 {
        self.phase = phase;
        let until = later(now, self.patience(&shop.timeouts));
        shop.timers.set(key, &mut self.timer, until);
        until
    }

    /// How long the phase may take, or nothing may happen in it.
    fn patience(&self, timeouts: &Timeouts) -> Duration {
        match self.phase {
            Phase::Hearing if self.is_extra() => LINGER,
            Phase::Hearing => timeouts.request,
            Phase::Resolving | Phase::Connecting => timeouts.connect,
            Phase::Relaying if self.awaits_an_end() => timeouts.half_closed,
            Phase::Relaying => timeouts.idle,
            Phase::Lingering { .. } => LINGER,
        }
    }

    /// Has `name` looked up.
    pub(super) fn resolve<M>(&mut self, name: Name, key: Key, shop: &mut Shop<M>, now: u64) {
        self.deadline = self.enter(Phase::Resolving, key, shop, now);
        shop.tally.looked_up();
        let client = self.handshake.known.client.ip().map(|client| client.ip());
        shop.resolver.ask(name, client, key, &shop.inbox);
    }

    /// Another address is tried.
    pub(super) fn connect<M>(&mut self, key: Key, shop: &mut Shop<M>, now: u64) {
        if !matches!(self.phase, Phase::Resolving | Phase::Connecting) {
            self.deadline = later(now, shop.timeouts.connect);
        }
        self.phase = Phase::Connecting;
        self.tried = now;
        self.look = now.saturating_add(ATTEMPT_DELAY);
        self.await_servers(key, shop);
    }

    /// Nothing but the addresses that are tried already, and the next one in time.
    pub(super) fn await_servers<M>(&mut self, key: Key, shop: &mut Shop<M>) {
        let tried = self.handshake.tried().len();
        self.spares.truncate(tried.saturating_sub(1));
        let until = match self.handshake.has_more() {
            true => self.deadline.min(self.look),
            false => self.deadline,
        };
        shop.timers.set(key, &mut self.timer, until);
    }

    /// No address has answered yet: has the next one tried beside the others.
    fn hurry<M>(&mut self, key: Key, shop: &mut Shop<M>, now: u64) -> Lapse {
        let lapse = match (self.handshake.has_more(), shop.shared.spare()) {
            (true, Some(spare)) => {
                self.spares.push(spare);
                return Lapse::Next(self.handshake.hurry(&shop.rules));
            }
            (true, None) if now >= self.tried.saturating_add(ATTEMPT_LEAST) => {
                let oldest = self.handshake.tried().next();
                oldest.map_or(Lapse::Waits, Lapse::GiveUp)
            }
            _ => Lapse::Waits,
        };
        self.look = now.saturating_add(ATTEMPT_DELAY);
        self.await_servers(key, shop);
        lapse
    }

    /// What the end of a client comes to that has no server yet, where its connection has this to read. A reset ends it
    /// at once. One that ended and said nothing for a server has most likely left, and is given up unless its server
    /// is there in a moment.
    pub(super) fn client_ended<M>(
        &mut self,
        unread: Unread,
        key: Key,
        shop: &mut Shop<M>,
        now: u64,
    ) -> Option<Ending> {
        let spoke = self.handshake.has_spoken() || self.relay.to_server.counts().fills > 0;
        match unread {
            Unread::Broken => {
                self.handshake.hung_up(Ending::ClientReset);
                return Some(Ending::ClientReset);
            }
            // It may only listen from now on.
            Unread::End if !spoke && !self.ended => {
                self.ended = true;
                self.deadline = self.deadline.min(now.saturating_add(ENDED_GRACE));
                self.await_servers(key, shop);
            }
            Unread::End | Unread::Data | Unread::Nothing => {}
        }
        None
    }

    /// What the handshake has for the client, of which the relay knows from now on.
    pub(super) fn say(&mut self) -> Vec<u8> {
        let said = self.handshake.take_said();
        self.relay.to_client.hold(said.len());
        said
    }

    /// What it has for the server to get first, likewise.
    pub(super) fn introduce(&mut self) -> Vec<u8> {
        let first = self.handshake.take_to_server();
        self.relay.to_server.hold(first.len());
        first
    }

    /// The server is there, at this address, connected from this one.
    pub(super) fn connected<M>(
        &mut self,
        (server, local): (SocketAddr, SocketAddr),
        key: Key,
        shop: &mut Shop<M>,
        now: u64,
    ) {
        self.handshake.connected(server, local);
        self.spares.clear();
        if self.handshake.is_whole() {
            self.relay.to_server.ended();
        }
        self.relay.to_server.writable();
        self.connected = Some(now);
        self.enter(Phase::Relaying, key, shop, now);
    }

    /// What the relay comes to, once it has nothing more to do.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        Some(match self.relay.verdict()? {
            // What it said behind its request was not read, and would turn the answer into a reset.
            Verdict::Finished if self.handshake.is_whole() => Outcome::Linger(Ending::Finished),
            Verdict::Finished => Outcome::Over(Ending::Finished),
            Verdict::Reset(Side::Client) => Outcome::Over(Ending::ClientReset),
            Verdict::Reset(Side::Server) => Outcome::Over(Ending::ServerReset),
        })
    }

    /// The relay had its turn: where anything moved, its deadline begins anew.
    pub(super) fn moved<M>(&mut self, key: Key, shop: &mut Shop<M>, now: u64) {
        let half_closed = self.awaits_an_end();
        if self.count(&shop.tally) || half_closed != self.half_closed {
            self.half_closed = half_closed;
            self.enter(Phase::Relaying, key, shop, now);
        }
    }

    /// Its deadline has passed.
    pub(super) fn expired<M>(&mut self, key: Key, shop: &mut Shop<M>, now: u64) -> Lapse {
        Lapse::Next(match self.phase {
            Phase::Hearing => self.handshake.request_timed_out(),
            Phase::Resolving | Phase::Connecting if self.ended && now >= self.deadline => {
                self.handshake.hung_up(Ending::Left);
                return Lapse::Over(Ending::Left);
            }
            Phase::Resolving => {
                self.forget(key, shop);
                self.handshake.lookup_timed_out()
            }
            Phase::Connecting if now < self.deadline => return self.hurry(key, shop, now),
            Phase::Connecting => self.handshake.connect_timed_out(),
            Phase::Relaying if self.awaits_an_end() => {
                return Lapse::Over(Ending::HalfClosedTimeout);
            }
            Phase::Relaying => return Lapse::Over(Ending::IdleTimeout),
            Phase::Lingering { ending, .. } => return Lapse::Over(ending),
        })
    }

    /// Its name is not to be looked up any more.
    fn forget<M>(&mut self, key: Key, shop: &mut Shop<M>) {
        if let (Phase::Resolving, Some(name)) = (self.phase, self.handshake.name()) {
            shop.resolver.forget(name.clone(), key, &shop.inbox);
        }
    }

    /// Its timer came up: whether it is due.
    pub(super) fn is_due(&mut self, key: Key, timers: &mut Timers<Key>, now: u64) -> bool {
        timers.is_due(key, &mut self.timer, now)
    }

    /// It has no deadline any more.
    pub(super) fn stop<M>(&mut self, key: Key, shop: &mut Shop<M>) {
        self.forget(key, shop);
        shop.timers.clear(key, &mut self.timer);
    }

    /// It is refused, as one too many, and may give way to another: it was told so, or had its time to say in which
    /// protocol. Otherwise when that time is over.
    pub(super) fn gives_way(&self, now: u64) -> Result<(), u64> {
        let until = self.accepted.saturating_add(REFUSAL);
        match self.phase {
            Phase::Lingering { .. } if self.relay.to_client.held() == 0 => Ok(()),
            _ if until <= now => Ok(()),
            _ => Err(until),
        }
    }

    /// It is one too many, and refused for that.
    pub(super) fn is_extra(&self) -> bool {
        self.place.is_none()
    }

    /// Whether all was said that was to be, when it ends like this. If not it is to end with a reset, so that nothing cut
    /// short looks whole.
    pub(super) fn is_whole(&self, ending: Ending) -> bool {
        ending == Ending::Finished || matches!(self.phase, Phase::Lingering { .. })
    }

    /// What the pipes to the server and to the client still hold at its end: what broke has nothing in hand by its own
    /// account.
    pub(super) fn unsent(&self) -> [usize; 2] {
        [&self.relay.to_server, &self.relay.to_client].map(|flow| {
            let Counts {
                filled, drained, ..
            } = flow.counts();
            usize::try_from(filled - drained).unwrap_or(usize::MAX)
        })
    }

    /// What is left of it.
    pub(super) fn facts(mut self, ending: Ending, tally: &Tally, now: u64) -> Facts {
        self.count(tally);
        Facts {
            known: self.handshake.known,
            accepted_at: realtime_ns().saturating_sub(now.saturating_sub(self.accepted)),
            accepted: self.accepted,
            connected: self.connected,
            closed: now,
            to_server: self.relay.to_server.counts(),
            to_client: self.relay.to_client.counts(),
            ending,
        }
    }

    /// Counts the bytes that moved since last time; whether there were any.
    fn count(&mut self, tally: &Tally) -> bool {
        let moved =
            [&self.relay.to_server, &self.relay.to_client].map(|flow| flow.counts().drained);
        if moved == self.moved {
            return false;
        }
        let [to_server, to_client] = moved;
        let [before_to_server, before_to_client] = self.moved;
        tally.moved(to_server - before_to_server, to_client - before_to_client);
        self.moved = moved;
        true
    }

    /// One end has ended and the other is to. The end of a request that is whole says nothing of the kind.
    fn awaits_an_end(&self) -> bool {
        match self.handshake.is_whole() {
            true => !self.relay.to_client.is_open(),
            false => self.relay.is_half_closed(),
        }
    }
}

/// So long after `now`, in ns.
fn later(now: u64, after: Duration) -> u64 {
    now.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
}
