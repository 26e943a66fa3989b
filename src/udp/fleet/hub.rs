//! The fleets at a server: who has come, when a run starts, and which results are missing. Pure: time is an argument.
//!
//! A rank that never comes is waited for once, for the time that the ranks ask for. A rank that is lost is not waited for: its
//! connection has ended, or it was silent for [`SILENT`].

mod fleet;
mod queue;
mod round;

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::sys::clock;
use crate::udp::wire::fleet::{FleetJoin, FleetReply, FleetRequest, MAX_RANKS};
use fleet::{Fleet, Member};
use queue::{Entry, Queue};

/// A rank sends a message more often than this, unless it is lost.
pub const ALIVE: Duration = Duration::from_secs(2);

/// A rank without a message for this long is lost.
pub const SILENT: Duration = Duration::from_secs(8);

/// Silence of a server that was suspended, or too busy to read: its ticks are more often than this.
const SUSPENDED: Duration = Duration::from_secs(2);

/// The start of the refusal of a rank that is lost while others are not.
pub const LEFT_BEHIND: &str = "the fleet went on without this rank";

/// Most characters of a name in a message.
const MAX_NAME: usize = 300;

/// Bytes of results that wait for a collector, above which the ranks of its fleet are not read.
const CONGESTED: usize = 16 << 20;

/// Bytes that wait for the collectors of all fleets, above which [`SHARE`] is the limit of each.
const ALL_CONGESTED: usize = 64 << 20;

/// What a fleet may have waiting whatever other fleets have: these do not stop it.
const SHARE: usize = 64 << 10;

/// The identity of the server's clock.
static CLOCK: LazyLock<Option<String>> = LazyLock::new(clock::identity);

/// The present.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For waits.
    pub instant: Instant,
    /// For starts: ns of the server's clock.
    pub ns: u64,
}

/// All fleets of a server. A connection is identified by a number.
#[derive(Debug, Default)]
pub struct Hub {
    fleets: HashMap<String, Fleet>,
    /// Fleet and rank of each connection.
    members: HashMap<usize, (String, u32)>,
    /// Messages for each connection.
    replies: HashMap<usize, Queue>,
    /// Connections that had no messages and have some.
    woken: Vec<usize>,
    /// Bytes that wait for all collectors.
    queued: usize,
    /// The last tick.
    ticked: Option<Instant>,
    /// Connections of lost ranks whose fleet has ended with all results saved, and why they were lost.
    left_behind: HashMap<usize, String>,
}

impl Hub {
    /// Adds a rank.
    ///
    /// # Errors
    /// A sentence for the rank.
    pub fn join(&mut self, connection: usize, join: FleetJoin, now: Now) -> Result<(), String> {
        let FleetJoin { rank, size, .. } = join;
        let is_long = [&join.fleet, &join.host, &join.options]
            .iter()
            .any(|name| name.len() > MAX_NAME);
        if size == 0 || size > MAX_RANKS || rank >= size || is_long {
            return Err("the fleet's rank, size or name is invalid".to_owned());
        }
        let fleet = self
            .fleets
            .entry(join.fleet.clone())
            .or_insert_with(|| Fleet {
                size,
                options: join.options.clone(),
                wait: Duration::from_millis(join.wait_ms),
                since: now.instant,
                is_assembled: false,
                members: BTreeMap::new(),
                collector: 0,
                alive: 0,
                alive_senders: 0,
                queued: 0,
                confirms: false,
                saved: 0,
                unsaved: None,
                rounds: BTreeMap::new(),
                next: 0,
                is_given_up: false,
            });
        if fleet
            .members
            .get(&rank)
            .is_some_and(|member| member.lost.is_none())
        {
            return Err(format!(
                "rank {rank} of this fleet is here already; give each process a rank of its own, and a second fleet another name (--fleet-name)"
            ));
        }
        if fleet.is_assembled {
            return Err(format!(
                "the fleet started without rank {rank}, after a wait of {} s; start the ranks at one time, or wait longer with --fleet-wait",
                fleet.wait.as_secs_f64()
            ));
        }
        if size != fleet.size || join.options != fleet.options {
            return Err(format!(
                "rank {rank} has other options than the ranks before it; start each rank with one command line"
            ));
        }
        let member = Member {
            connection,
            sends: join.sends,
            keeps: join.keeps,
            last_message: now.instant,
            lost: None,
        };
        fleet.alive += 1;
        fleet.alive_senders += usize::from(member.sends);
        fleet.members.insert(rank, member);
        self.members.insert(connection, (join.fleet, rank));
        self.replies.insert(connection, Queue::default());
        self.poll(connection, now);
        Ok(())
    }

    /// Processes a message of a rank that has joined.
    ///
    /// # Errors
    /// A sentence for the rank, which is lost then.
    pub fn on_request(
        &mut self,
        connection: usize,
        request: FleetRequest,
        now: Now,
    ) -> Result<(), String> {
        if self.replies.get(&connection).is_some_and(Queue::is_unread) {
            return Err("the rank sends requests and does not read the replies".to_owned());
        }
        if let Some(reason) = self.left_behind.get(&connection) {
            return Err(format!("{LEFT_BEHIND}, which {reason}"));
        }
        let Some((fleet, rank)) = self.of(connection) else {
            return Err("the rank is not in a fleet".to_owned());
        };
        if let Some(member) = fleet.members.get_mut(&rank) {
            if let Some(reason) = &member.lost {
                return Err(format!("{LEFT_BEHIND}, which {reason}"));
            }
            member.last_message = now.instant;
        }
        match request {
            FleetRequest::Alive => return Ok(()),
            FleetRequest::Clock { sent_ns } => {
                let reply = FleetReply::Clock {
                    sent_ns,
                    at_ns: now.ns,
                    clock: CLOCK.clone(),
                };
                self.reply(connection, reply.into());
                return Ok(());
            }
            FleetRequest::Join(_) => return Err("the rank has joined already".to_owned()),
            FleetRequest::Ready { run } => fleet.on_ready(rank, run, now)?,
            FleetRequest::Saved { run } => {
                for (connection, reply) in fleet.on_saved(rank, run)? {
                    self.reply(connection, reply);
                }
            }
            FleetRequest::Result { run, part, last } => {
                if let Some(reply) = fleet.on_result(rank, run, part, last)?
                    && let Some(collector) = fleet.collector()
                {
                    self.reply(collector, reply.into());
                }
            }
        }
        self.poll(connection, now);
        Ok(())
    }

    /// A connection has ended, or its rank is lost for another reason.
    pub fn closed(&mut self, connection: usize, now: Now) {
        self.lose(connection, "was lost", now);
        // Messages that are never read do not count.
        let queue = self.replies.remove(&connection).unwrap_or_default();
        self.dequeued(connection, queue.size());
        self.members.remove(&connection);
        self.left_behind.remove(&connection);
    }

    fn lose(&mut self, connection: usize, reason: &str, now: Now) {
        let Some((fleet, rank)) = self.of(connection) else {
            return;
        };
        fleet.lose(rank, reason);
        let is_empty = fleet.alive == 0;
        self.poll(connection, now);
        if is_empty
            && let Some((name, _)) = self.members.get(&connection)
            && let Some(fleet) = self.fleets.remove(&name.clone())
        {
            self.queued = self.queued.saturating_sub(fleet.queued);
            if fleet.is_saved() {
                let lost = fleet.members.into_values();
                let lost = lost.filter_map(|member| Some((member.connection, member.lost?)));
                let open = lost.filter(|(connection, _)| self.members.contains_key(connection));
                self.left_behind.extend(open);
            }
        }
    }

    /// Ends waits that are over, and drops ranks that are silent.
    pub fn tick(&mut self, now: Now) {
        let since = self.ticked.replace(now.instant).unwrap_or(now.instant);
        let was_suspended = now.instant.duration_since(since) > SUSPENDED;
        let mut silent = Vec::new();
        let mut one_of_each = Vec::new();
        for fleet in self.fleets.values_mut() {
            // The messages of these ranks wait to be read.
            let is_unread = was_suspended || fleet.queued > limit(self.queued);
            let alive = fleet.members.values_mut();
            let mut alive = alive.filter(|member| member.lost.is_none()).peekable();
            one_of_each.extend(alive.peek().map(|member| member.connection));
            for member in alive {
                if is_unread {
                    member.last_message = now.instant;
                }
                if now.instant.duration_since(member.last_message) > SILENT {
                    silent.push(member.connection);
                }
            }
        }
        for connection in silent {
            let reason = format!("was silent for {} s", SILENT.as_secs());
            self.lose(connection, &reason, now);
        }
        for connection in one_of_each {
            self.poll(connection, now);
        }
    }

    /// The next message for a connection.
    pub fn next_reply(&mut self, connection: usize) -> Option<FleetReply> {
        let reply = self.replies.get_mut(&connection)?.pop()?;
        self.dequeued(connection, queue::size_of(&reply));
        Some(reply)
    }

    fn dequeued(&mut self, connection: usize, size: usize) {
        if let Some((fleet, _)) = self.of(connection) {
            fleet.queued = fleet.queued.saturating_sub(size);
            self.queued = self.queued.saturating_sub(size);
        }
    }

    /// Whether the messages of a rank are not to be read now, as too many results wait for the collector.
    pub fn is_congested(&self, connection: usize) -> bool {
        let fleet = self
            .members
            .get(&connection)
            .and_then(|(name, _)| self.fleets.get(name));
        fleet.is_some_and(|fleet| fleet.queued > limit(self.queued))
    }

    /// The connections that have got messages since the last call.
    pub fn take_woken(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.woken)
    }

    fn of(&mut self, connection: usize) -> Option<(&mut Fleet, u32)> {
        let (name, rank) = self.members.get(&connection)?;
        let fleet = self.fleets.get_mut(name)?;
        // Another fleet may have the name by now.
        let member = fleet.members.get(rank)?;
        (member.connection == connection).then_some((fleet, *rank))
    }

    fn reply(&mut self, connection: usize, entry: Entry) {
        if let Some(queue) = self.replies.get_mut(&connection) {
            if queue.is_empty() {
                self.woken.push(connection);
            }
            let size = entry.size();
            queue.push(entry);
            self.queued = self.queued.saturating_add(size);
            if let Some((fleet, _)) = self.of(connection) {
                fleet.queued = fleet.queued.saturating_add(size);
            }
        }
    }

    /// Sends what is due to the fleet of this connection.
    fn poll(&mut self, connection: usize, now: Now) {
        let Some((fleet, _)) = self.of(connection) else {
            return;
        };
        for (connection, reply) in fleet.due(now) {
            self.reply(connection, reply);
        }
    }
}

/// Bytes that may wait for the collector of a fleet, if `all` wait for the collectors of all fleets.
fn limit(all: usize) -> usize {
    match all > ALL_CONGESTED {
        true => SHARE,
        false => CONGESTED,
    }
}

#[cfg(test)]
mod tests;
