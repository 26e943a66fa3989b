//! Both sides' figures of each direction, put together into records.

use super::clock_flow::Verdict;
use super::gathered::Gathered;
use super::{ClockState, Directions, Observer, Session};
use crate::dates;
use crate::sys::clock::WallClock;
use crate::udp::placement::Cpus;
use crate::udp::plan::Mode;
use crate::udp::result::{self, Ended, Facts};
use crate::udp::result::{Clock, Effective, Measured};
use crate::udp::send::senders;
use crate::udp::wire::control::{ReceiverFacts, SenderEffective};

impl<O: Observer> Session<'_, O> {
    /// Puts the figures of each direction together.
    pub(super) fn assemble(
        &self,
        directions: Directions,
        wall: &WallClock,
        verdict: Option<Verdict>,
    ) -> Vec<Measured> {
        let Directions {
            forward,
            reverse,
            sent,
            ended,
            ..
        } = directions;
        let clock = self.clock_record(verdict);
        let mut measured = Vec::new();
        if self.plan.direction.client_sends() {
            let senders = sent.unwrap_or_default();
            let first = senders.iter().filter_map(|sent| sent.written.first).min();
            let mut counted = senders::counts(&senders);
            if forward.done.is_none() {
                // The receivers are known only together, and so are the senders.
                counted = vec![result::together(&counted)];
            }
            let receiver = self.welcome.receiver.clone().unwrap_or_default();
            let effective = self.effective(&self.effective, &receiver, &self.setup.cpus, &clock);
            let offset = verdict.map_or(0, |verdict| verdict.offset_ns);
            measured.push(result::assemble(Facts {
                direction: "forward",
                effective,
                sent: counted,
                first_sent: first.map(|first| first.wrapping_add_signed(offset)),
                first_sent_at: first.map(|first| dates::rfc3339(wall.at(first))),
                senders,
                client_ip: Some(self.welcome.client_ip.clone()),
                ..self.facts(forward, ended.clone())
            }));
        }
        if self.plan.direction.server_sends() {
            let senders = reverse.sent();
            let mut counted = senders::counts(&senders);
            let senders_lost = reverse.senders_done.is_none();
            if senders_lost {
                // What the server sent is not known; it was at least what the highest numbers say.
                counted = result::at_least(self.plan, &reverse.received());
            }
            let sender = senders.first().map(|sent| sent.effective.clone());
            // The record has the receiver's clock less the sender's.
            let clock = Clock {
                offset_ns: clock.offset_ns.map(i64::wrapping_neg),
                drift_ns: clock.drift_ns.map(i64::wrapping_neg),
                drift_ppm: clock.drift_ppm.map(|drift| -drift),
                ..clock
            };
            let effective = self.effective(
                &sender.unwrap_or_default(),
                &self.local,
                &self.welcome.sender_cpus,
                &clock,
            );
            let first_sent_at = reverse.first_sent_wall().map(dates::rfc3339);
            measured.push(result::assemble(Facts {
                direction: "reverse",
                effective,
                sent: counted,
                first_sent: senders.iter().filter_map(|sent| sent.written.first).min(),
                first_sent_at,
                senders,
                client_ip: Some(self.welcome.client_ip.clone()),
                senders_lost,
                ..self.facts(reverse, ended)
            }));
        }
        measured
    }

    /// What a direction's result and the plan say.
    fn facts(&self, gathered: Gathered, ended: Ended) -> Facts<'_> {
        Facts {
            plan: self.plan,
            direction: "",
            requested: self.setup.requested.clone(),
            effective: Effective::default(),
            ended,
            sent: Vec::new(),
            senders_lost: false,
            senders: Vec::new(),
            first_sent: None,
            first_sent_at: None,
            received: gathered.received(),
            last_received_at: gathered.last_received_wall().map(dates::rfc3339),
            done: gathered.done,
            client_ip: None,
            latencies: gathered.latencies,
            intervals: gathered.intervals,
        }
    }

    fn clock_record(&self, verdict: Option<Verdict>) -> Clock {
        match (self.clock, verdict) {
            (ClockState::Same, _) => Clock {
                source: "same".to_owned(),
                offset_ns: Some(0),
                error_ns: Some(0),
                ..Clock::default()
            },
            (ClockState::Estimated, Some(verdict)) => Clock {
                source: "estimated".to_owned(),
                offset_ns: Some(verdict.offset_ns),
                error_ns: Some(verdict.error_ns),
                drift_ns: Some(verdict.drift_ns),
                drift_ppm: verdict.drift_ppm,
                ..Clock::default()
            },
            (ClockState::Estimated | ClockState::Unknown, _) => Clock {
                source: "none".to_owned(),
                note: Some(format!(
                    "the server at {} answered no clock exchange, so the two hosts' clocks cannot be related",
                    self.conversation.server
                )),
                ..Clock::default()
            },
        }
    }

    /// What was in force.
    fn effective(
        &self,
        sender: &SenderEffective,
        receiver: &ReceiverFacts,
        sender_cpus: &Cpus,
        clock: &Clock,
    ) -> Effective {
        Effective {
            gso: sender.gso,
            batch: sender.batch,
            segments: sender.segments,
            sndbuf: sender.send_buffer,
            gro: receiver.gro,
            rcvbuf: receiver.receive_buffer,
            offload_note: sender.gso_note.clone().or(receiver.gro_note.clone()),
            path_note: sender.path_note.clone(),
            sender_cpus: sender_cpus.clone(),
            receiver_cpus: receiver.cpus.clone(),
            window: receiver.window,
            spin: sender.spin && matches!(self.plan.mode, Mode::Paced(_)),
            clock: clock.clone(),
            ..result::effective(self.plan)
        }
    }
}
