//! The record of each direction, from the results of both sides.

use super::Observer;
use super::clock_flow::{ClockEstimate, ClockFlow};
use super::results::DirectionResults;
use super::session::{ClockState, Directions, Session};
use crate::dates;
use crate::sys::clock::WallClock;
use crate::udp::placement::Cpus;
use crate::udp::plan::Mode;
use crate::udp::result::{self, Clock, Effective, Ended, Hosts, Measured, RunInputs};
use crate::udp::send::senders;
use crate::udp::shared_loops;
use crate::udp::wire::control::ReceiverEffective;
use crate::udp::wire::explain::HostReport;
use crate::udp::wire::results::SenderEffective;

impl<O: Observer> Session<'_, O> {
    /// Computes the record of each direction.
    pub(super) fn assemble(
        &self,
        directions: Directions,
        wall: &WallClock,
        estimate: Option<ClockEstimate>,
    ) -> Vec<Measured> {
        let Directions {
            forward,
            reverse,
            senders: local_senders,
            ended,
            server,
            client,
            ..
        } = directions;
        let clock = self.control_loop.clock.as_ref();
        let hosts = |sender: &Option<HostReport>, receiver: &Option<HostReport>| {
            self.explainer.as_ref().map(|_| Hosts {
                sender: sender.clone(),
                receiver: receiver.clone(),
                lost_exchanges: clock.map_or(0, ClockFlow::lost),
            })
        };
        let clock = self.clock_record(estimate);
        let mut measured = Vec::new();
        if self.plan.direction.client_sends() {
            let mut forward = forward;
            let senders = local_senders.unwrap_or_default();
            forward.stages.add_outcomes(&senders);
            let first = senders.iter().filter_map(|sent| sent.times.first).min();
            let mut counts = senders::counts(&senders);
            if forward.done.is_none() {
                // Only the totals of the receivers are known, so only the totals of the senders are used.
                counts = vec![result::total_sent(&counts)];
            }
            let receiver = self.welcome.receiver.clone().unwrap_or_default();
            let effective = self.effective(&self.effective, &receiver, &self.setup.cpus, &clock);
            let offset = estimate.map_or(0, |estimate| estimate.offset_ns);
            measured.push(result::assemble(RunInputs {
                direction: "forward",
                effective,
                sent: counts,
                first_sent: first.map(|first| first.wrapping_add_signed(offset)),
                first_sent_at: first.map(|first| dates::rfc3339(wall.at(first))),
                senders,
                client_ip: Some(self.welcome.client_ip.clone()),
                hosts: hosts(&client, &server),
                stamp_note: self.effective.stamp_note.clone(),
                end: None,
                ..self.inputs(forward, ended.clone())
            }));
        }
        if self.plan.direction.server_sends() {
            let senders = reverse.senders();
            let mut counts = senders::counts(&senders);
            let senders_lost = reverse.senders_done.is_none();
            if senders_lost {
                // The server's counts are unknown; the highest sequence numbers are lower bounds.
                counts = result::sent_at_least(self.plan, &reverse.received());
            }
            let sender = senders.first().map(|sender| sender.effective.clone());
            // The record has the receiver's clock minus the sender's.
            let clock = Clock {
                offset_ns: clock.offset_ns.map(i64::wrapping_neg),
                drift_ns: clock.drift_ns.map(i64::wrapping_neg),
                drift_ppm: clock.drift_ppm.map(|drift| -drift),
                ..clock
            };
            let sender = sender.unwrap_or_default();
            let stamp_note = sender.stamp_note.clone();
            let effective = self.effective(&sender, &self.local, &self.welcome.sender_cpus, &clock);
            let first_sent_at = reverse.first_sent_wall().map(dates::rfc3339);
            measured.push(result::assemble(RunInputs {
                direction: "reverse",
                effective,
                sent: counts,
                first_sent: senders.iter().filter_map(|sent| sent.times.first).min(),
                first_sent_at,
                senders,
                client_ip: Some(self.welcome.client_ip.clone()),
                senders_lost,
                hosts: hosts(&server, &client),
                stamp_note,
                ..self.inputs(reverse, ended)
            }));
        }
        measured
    }

    /// The inputs that follow from the results of a direction and from the plan.
    fn inputs(&self, results: DirectionResults, ended: Ended) -> RunInputs<'_> {
        RunInputs {
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
            received: results.received(),
            last_received_at: results.last_received_wall().map(dates::rfc3339),
            done: results.done,
            client_ip: None,
            hosts: None,
            stamp_note: None,
            end: None,
            stages: Some(results.stages),
            latencies: results.latencies,
            intervals: results.intervals,
        }
    }

    fn clock_record(&self, estimate: Option<ClockEstimate>) -> Clock {
        match (self.clock, estimate) {
            (ClockState::Same, _) => Clock {
                source: "same".to_owned(),
                offset_ns: Some(0),
                error_ns: Some(0),
                ..Clock::default()
            },
            (ClockState::Estimated, Some(estimate)) => Clock {
                source: "estimated".to_owned(),
                offset_ns: Some(estimate.offset_ns),
                error_ns: Some(estimate.error_ns),
                drift_ns: Some(estimate.drift_ns),
                drift_error_ns: Some(estimate.drift_error_ns),
                drift_ppm: estimate.drift_ppm,
                drift_error_ppm: estimate.drift_error_ppm,
                ..Clock::default()
            },
            (ClockState::Estimated | ClockState::Unknown, _) => Clock {
                source: "none".to_owned(),
                note: Some(format!(
                    "the server at {} answered no clock exchange, so the offset between the two hosts' clocks is unknown",
                    self.control_loop.server
                )),
                ..Clock::default()
            },
        }
    }

    /// The settings in force.
    fn effective(
        &self,
        sender: &SenderEffective,
        receiver: &ReceiverEffective,
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
            sender_note: shared_loops::sender_note(sender.shares_loops),
            receiver_note: shared_loops::receiver_note(receiver.shares_loops),
            path_note: sender.path_note.clone(),
            sender_cpus: sender_cpus.clone(),
            receiver_cpus: receiver.cpus.clone(),
            cpu_trials: self.setup.cpu_trials.clone(),
            window: receiver.window,
            spin: sender.spin && matches!(self.plan.mode, Mode::Paced(_)),
            clock: clock.clone(),
            relay_header: self.setup.relay_header(self.control_loop.server),
            ..result::effective(self.plan)
        }
    }
}
