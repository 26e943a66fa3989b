//! One fleet: its ranks, its runs, and the messages that are due.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Now;
use super::queue::{Entry, MissingRanks};
use super::round::Round;
use crate::udp::wire::fleet::{FleetReply, MAX_PART};

/// From the release of a run to its start: the reply reaches each rank earlier.
const LEAD: Duration = Duration::from_millis(250);

/// More time for each rank: the server sends the replies one after the other.
const LEAD_OF_RANK: Duration = Duration::from_micros(50);

/// A fleet that has not ended.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) size: u32,
    pub(super) options: String,
    pub(super) wait: Duration,
    /// When the first rank came.
    pub(super) since: Instant,
    /// Whether the roster was sent.
    pub(super) is_assembled: bool,
    pub(super) members: BTreeMap<u32, Member>,
    pub(super) collector: u32,
    /// Ranks that are not lost, and those among them that have a session.
    pub(super) alive: usize,
    pub(super) alive_senders: usize,
    /// Bytes that wait for the collector.
    pub(super) queued: usize,
    /// Whether all ranks keep their results until these are saved.
    pub(super) confirms: bool,
    /// Number of the first run that the collector has not saved.
    pub(super) saved: u32,
    /// Why the collector is lost, until the other ranks have the message.
    pub(super) unsaved: Option<String>,
    /// The runs that have not ended.
    pub(super) rounds: BTreeMap<u32, Round>,
    /// Number of the first run that was not released.
    pub(super) next: u32,
    /// Whether a run ended because all senders were lost before it.
    pub(super) is_given_up: bool,
}

/// A rank that has come.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) connection: usize,
    pub(super) sends: bool,
    /// Whether the rank keeps its results until these are saved.
    pub(super) keeps: bool,
    /// When the last message came.
    pub(super) last_message: Instant,
    /// Why the rank is lost.
    pub(super) lost: Option<String>,
}

impl Fleet {
    pub(super) fn lose(&mut self, rank: u32, reason: &str) {
        let Some(member) = self.members.get_mut(&rank) else {
            return;
        };
        if member.lost.is_some() {
            return;
        }
        self.alive -= 1;
        self.alive_senders -= usize::from(member.sends);
        if self.confirms && rank == self.collector {
            self.unsaved = Some(reason.to_owned());
        }
        match self.is_assembled {
            true => member.lost = Some(reason.to_owned()),
            // It may come again.
            false => drop(self.members.remove(&rank)),
        }
        for round in self.rounds.values_mut() {
            round.lose(rank);
        }
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = (u32, &Member)> {
        let members = self.members.iter();
        let alive = members.filter(|(_, member)| member.lost.is_none());
        alive.map(|(rank, member)| (*rank, member))
    }

    /// The connection of the collector, unless it is lost.
    pub(super) fn collector(&self) -> Option<usize> {
        let collector = self.members.get(&self.collector)?;
        collector.lost.is_none().then_some(collector.connection)
    }

    pub(super) fn on_ready(&mut self, rank: u32, run: u32, now: Now) -> Result<(), String> {
        let sends = self.members.get(&rank).is_some_and(|member| member.sends);
        let is_pending = self.rounds.values().any(|round| round.is_pending(rank));
        if !self.is_assembled || !sends || is_pending || run > self.next {
            return Err("the rank is ready for a run that is not next".to_owned());
        }
        if run < self.next {
            return Err(format!(
                "run {run} started without this rank, after a wait of {} s (--fleet-wait)",
                self.wait.as_secs_f64()
            ));
        }
        let round = self
            .rounds
            .entry(run)
            .or_insert_with(|| Round::new(now.instant));
        round.ready(rank);
        Ok(())
    }

    /// Returns the part for the collector, if it is from another rank.
    pub(super) fn on_result(
        &mut self,
        rank: u32,
        run: u32,
        part: String,
        last: bool,
    ) -> Result<Option<FleetReply>, String> {
        // As JSON, the part must fit a message again.
        if part.len() > MAX_PART || part.bytes().any(|byte| byte.is_ascii_control()) {
            return Err("a part of a result is too long or has control characters".to_owned());
        }
        let round = self.rounds.get_mut(&run);
        let Some(round) = round.filter(|round| round.is_running(rank)) else {
            return Err("the rank has a result of a run that it is not in".to_owned());
        };
        if last {
            round.done(rank);
        }
        if rank == self.collector || self.collector().is_none() {
            return Ok(None);
        }
        Ok(Some(FleetReply::Result {
            run,
            rank,
            part,
            last,
        }))
    }

    /// The collector has saved a run. Returns the messages to all ranks; its own, the last, shows that the others are sent.
    pub(super) fn on_saved(&mut self, rank: u32, run: u32) -> Result<Vec<(usize, Entry)>, String> {
        let is_new = run >= self.saved && run < self.next;
        if !self.confirms || rank != self.collector || !is_new {
            return Err("the rank has saved a run that it did not collect".to_owned());
        }
        self.saved = run.saturating_add(1);
        let others = self.alive().filter(|(of, _)| *of != rank);
        let connections = others.map(|(_, member)| member.connection);
        let connections = connections.chain(self.collector());
        Ok(connections
            .map(|connection| (connection, FleetReply::Saved { run }.into()))
            .collect())
    }

    /// Whether the collector has saved all runs that ranks were in.
    pub(super) fn is_saved(&self) -> bool {
        let runs = self.next.saturating_sub(u32::from(self.is_given_up));
        runs > 0 && self.saved >= runs
    }

    /// The messages that are due, each with its connection.
    pub(super) fn due(&mut self, now: Now) -> Vec<(usize, Entry)> {
        let mut replies = Vec::new();
        if !self.is_assembled {
            let is_over = now.instant.duration_since(self.since) >= self.wait;
            if (self.members.len() as u32) < self.size && !is_over {
                return replies;
            }
            self.assemble(&mut replies);
        }
        if let Some(reason) = self.unsaved.take() {
            let connections = self.alive().map(|(_, member)| member.connection);
            let reply = FleetReply::Unsaved { reason };
            replies.extend(connections.map(|connection| (connection, reply.clone().into())));
        }
        self.give_up(now);
        self.end(now, &mut replies);
        self.release(now, &mut replies);
        replies
    }

    fn assemble(&mut self, replies: &mut Vec<(usize, Entry)>) {
        self.is_assembled = true;
        self.collector = self.members.keys().next().copied().unwrap_or(0);
        self.confirms = self.members.values().all(|member| member.keeps);
        let senders = self.alive_senders;
        let roster = FleetReply::Roster {
            collector: self.collector,
            senders: senders as u32,
            confirms: self.confirms,
        };
        let connections = self.alive().map(|(_, member)| member.connection);
        replies.extend(connections.map(|connection| (connection, roster.clone().into())));
    }

    /// Once all senders are lost, no rank is ever ready: the next run has no results, which ends the wait of a collector that only
    /// receives.
    fn give_up(&mut self, now: Now) {
        let is_over = self.alive_senders == 0 && self.rounds.is_empty();
        if is_over && !self.is_given_up {
            self.is_given_up = true;
            let mut round = Round::new(now.instant);
            round.start();
            self.rounds.insert(self.next, round);
            self.next = self.next.saturating_add(1);
        }
    }

    /// Starts the next run once all ranks are ready, or the wait is over.
    fn release(&mut self, now: Now, replies: &mut Vec<(usize, Entry)>) {
        let run = self.next;
        // The runs of a fleet do not overlap.
        if self.rounds.keys().any(|earlier| *earlier < run) {
            return;
        }
        let Some(round) = self.rounds.get(&run) else {
            return;
        };
        let is_over = now.instant.duration_since(round.since) >= self.wait;
        if round.ready_ranks() < self.alive_senders && !is_over {
            return;
        }
        let senders: Vec<(u32, usize)> = self
            .alive()
            .filter(|(_, member)| member.sends)
            .map(|(rank, member)| (rank, member.connection))
            .collect();
        let Some(round) = self.rounds.get_mut(&run) else {
            return;
        };
        let lead = LEAD + LEAD_OF_RANK * senders.len() as u32;
        let at_ns = now.ns.saturating_add(lead.as_nanos() as u64);
        round.start();
        self.next = self.next.saturating_add(1);
        for (rank, connection) in senders {
            if round.is_ready(rank) {
                replies.push((connection, FleetReply::Start { run, at_ns }.into()));
            }
        }
        let receives = self
            .members
            .get(&self.collector)
            .is_some_and(|member| !member.sends);
        if receives && let Some(collector) = self.collector() {
            replies.push((collector, FleetReply::Start { run, at_ns }.into()));
        }
    }

    /// Ends the runs whose results are all sent, in order.
    fn end(&mut self, now: Now, replies: &mut Vec<(usize, Entry)>) {
        while let Some((&run, round)) = self.rounds.first_key_value() {
            if !round.is_over() {
                return;
            }
            if let Some(collector) = self.collector() {
                let came = self.members.iter().map(|(rank, member)| {
                    let missing = || round.missing(*rank, member.lost.as_deref());
                    (*rank, member.sends.then(missing).flatten())
                });
                let missing = MissingRanks {
                    run,
                    rank: 0,
                    size: self.size,
                    came: came.collect(),
                };
                replies.push((collector, Entry::Missing(missing)));
                replies.push((collector, FleetReply::End { run }.into()));
            }
            self.rounds.remove(&run);
            if let Some(next) = self.rounds.get_mut(&self.next) {
                // The ranks that were not done had no time to be ready.
                next.since = now.instant;
            }
        }
    }
}
