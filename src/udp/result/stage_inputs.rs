//! The stages of latency, computed from the stamps of both sides. Pure.

use std::collections::BTreeMap;

use super::run::Clock;
use super::stages::{Stage, Stages, StampCost};
use crate::stats::latency::{Latency, NamedHistograms};
use crate::udp::plan::{Mode, Offload, Plan};
use crate::udp::send::outcome::SenderOutcome;
use crate::udp::send::stamps::SentStamps;
use crate::udp::stages::MOST_ROWS;
use crate::udp::wire::results::Histogram;
use crate::udp::wire::stages::{ReceiverStages, SenderStages, StampedEnd};
use crate::units::counted;

/// Sequence numbers and stamps by stream.
type Rows = BTreeMap<usize, Vec<(u64, u64)>>;

/// The stamps of both sides.
#[derive(Debug, Clone)]
pub struct StageInputs {
    sender: Latency,
    qdisc: Latency,
    receiver: Latency,
    sent: Rows,
    received: Rows,
    at_sender: Option<SenderStages>,
    at_receiver: Option<ReceiverStages>,
    /// Number of streams. Stamps of more streams are dropped.
    streams: usize,
}

impl StageInputs {
    /// No stamps yet.
    pub fn new(streams: usize) -> Self {
        Self {
            sender: Latency::small(),
            qdisc: Latency::small(),
            receiver: Latency::small(),
            sent: Rows::new(),
            received: Rows::new(),
            at_sender: None,
            at_receiver: None,
            streams,
        }
    }

    /// Adds a part of a histogram. Other histograms are ignored.
    pub fn add_counts(&mut self, of: Histogram, counts: &[(u64, u64)]) {
        match of {
            Histogram::SenderStage => self.sender.absorb(counts),
            Histogram::QdiscStage => self.qdisc.absorb(counts),
            Histogram::ReceiverStage => self.receiver.absorb(counts),
            _ => {}
        }
    }

    /// Adds stamps of one side of a stream. They may come from another process, so their number is limited.
    pub fn add_rows(&mut self, stream: usize, of: StampedEnd, rows: &[(u64, u64)]) {
        if stream >= self.streams {
            return;
        }
        let all = match of {
            StampedEnd::Sent => &mut self.sent,
            StampedEnd::Received => &mut self.received,
        };
        let all = all.entry(stream).or_default();
        let room = MOST_ROWS.saturating_sub(all.len());
        all.extend(rows.iter().take(room));
    }

    /// Adds the counts of a stream's sender at another side.
    pub fn add_sender(&mut self, counts: &SenderStages) {
        let [sender, qdisc] = &counts.sums_ns;
        let sums = [sender, qdisc].map(|sum| sum.parse().unwrap_or(0));
        let stages = [&mut self.sender, &mut self.qdisc];
        for ((stage, sum), outside) in stages.into_iter().zip(sums).zip(counts.out_of_range) {
            stage.absorb_totals(sum, outside.into());
        }
        self.add_sender_counts(counts);
    }

    fn add_sender_counts(&mut self, counts: &SenderStages) {
        let all = self.at_sender.get_or_insert_default();
        for (sum, part) in [
            (&mut all.requested, counts.requested),
            (&mut all.scheduled, counts.scheduled),
            (&mut all.sent, counts.sent),
            (&mut all.read_ns, counts.read_ns),
            (&mut all.waited, counts.waited),
        ] {
            *sum = sum.saturating_add(part);
        }
        all.clock_steps = all.clock_steps.max(counts.clock_steps);
        all.trial = all.trial.or(counts.trial);
    }

    /// Adds the counts of the receivers.
    pub fn add_receiver(&mut self, counts: &ReceiverStages) {
        let sum = counts.sum_ns.parse().unwrap_or(0);
        self.receiver.absorb_totals(sum, counts.out_of_range.into());
        self.at_receiver = Some(counts.clone());
    }

    /// Adds the stamps of this side's senders.
    pub fn add_outcomes(&mut self, senders: &[SenderOutcome]) {
        for (stream, outcome) in senders.iter().enumerate() {
            let Some(stamps) = outcome.stamps.as_deref() else {
                continue;
            };
            let SentStamps {
                sender,
                qdisc,
                rows,
                ..
            } = stamps;
            self.sender.merge(sender);
            self.qdisc.merge(qdisc);
            self.add_rows(stream, StampedEnd::Sent, rows);
            self.add_sender_counts(&stamps.message());
        }
    }

    /// First arrivals without a stamp of the kernel; `None` if no stamps were requested, or by a receiver that does not know them.
    pub fn unstamped(&self) -> Option<u64> {
        self.at_receiver.as_ref().map(|counts| counts.unstamped)
    }
}

/// Computes the stages. `note` is why the sender stamped nothing, if it reported a reason.
pub(super) fn stages(
    plan: &Plan,
    inputs: StageInputs,
    clock: &Clock,
    note: Option<&str>,
) -> (Stages, NamedHistograms) {
    let wire = join(&inputs.sent, &inputs.received);
    let StageInputs {
        sender,
        qdisc,
        receiver,
        at_sender,
        at_receiver,
        ..
    } = inputs;
    let counts = at_sender.clone().unwrap_or_default();
    let no_sender = match (note, &at_sender) {
        (Some(note), _) => note.to_owned(),
        (None, None) => "the sender's side reported no stamps".to_owned(),
        (None, Some(_)) => "the sender's kernel stamped no datagram".to_owned(),
    };
    let no_driver = match counts.scheduled {
        0 => no_sender.clone(),
        _ => "the driver of the sender's device takes no software stamps".to_owned(),
    };
    let no_receiver = match &at_receiver {
        None => "the receiver's side reported no stamps".to_owned(),
        Some(_) => "the receiver's kernel stamped no datagram".to_owned(),
    };
    let is_related = clock.source != "none";
    let no_wire = match (is_related, counts.sent, receiver.is_empty()) {
        (false, ..) => "the offset between the clocks of the two hosts is unknown".to_owned(),
        (true, 0, _) => no_driver.clone(),
        (true, _, true) => no_receiver.clone(),
        (true, ..) => "no datagram has the stamps of both sides".to_owned(),
    };
    let wire = if is_related { wire } else { Latency::small() };
    let stage = |latency: &Latency, reason: String| Stage {
        latency_ns: (!latency.is_empty()).then(|| latency.summary()),
        reason: latency.is_empty().then_some(reason),
    };
    let trial = counts.trial;
    let stages = Stages {
        every: plan.stamped_every(),
        sender: stage(&sender, no_sender),
        qdisc: stage(&qdisc, no_driver),
        wire: stage(&wire, no_wire),
        receiver: stage(&receiver, no_receiver),
        cost: StampCost {
            read_ns: (counts.sent > 0).then(|| counts.read_ns as f64 / counts.sent as f64),
            plain_send_ns: trial.map(|of| of.send_ns.0),
            stamped_send_ns: trial.map(|of| of.send_ns.1),
            plain_receive_ns: trial.map(|of| of.receive_ns.0),
            stamped_receive_ns: trial.map(|of| of.receive_ns.1),
        },
        notes: notes(plan, &counts, at_receiver.as_ref(), &wire),
    };
    let histograms = [
        ("stage-sender", sender),
        ("stage-qdisc", qdisc),
        ("stage-wire", wire),
        ("stage-receiver", receiver),
    ];
    let known = histograms.into_iter().filter(|(_, of)| !of.is_empty());
    (stages, known.collect())
}

/// The limits of the figures.
fn notes(
    plan: &Plan,
    sender: &SenderStages,
    receiver: Option<&ReceiverStages>,
    wire: &Latency,
) -> Vec<String> {
    let mut notes = Vec::new();
    let is_paced = matches!(plan.mode, Mode::Paced(_));
    if !is_paced {
        notes.push(format!(
            "One in {} datagrams is stamped, since the run is not paced (--pps or --rate); with GSO or GRO a stamp is that of the first datagram of its message.",
            plan.stamped_every()
        ));
    } else if plan.offload == Offload::On {
        notes.push(
            "With --gso on, the kernel stamps the first datagram of each message at the sender: the sender, the qdisc and the wire are those of fewer datagrams than the receiver."
                .to_owned(),
        );
    }
    if sender.waited > 0 {
        notes.push(format!(
            "{} of {} waited because the sender's kernel refused a message, as a full qdisc does; the wait is part of no stage, and of the latency from the intended send in a paced run.",
            sender.waited,
            counted(sender.requested, "datagram")
        ));
    }
    let missing = sender.requested.saturating_sub(sender.sent);
    if missing > 0 && sender.sent > 0 {
        notes.push(format!(
            "{missing} of {} without a stamp of the sender's driver: dropped before, or the error queue was full, or a send failed on a kernel before Linux 6.13, which ends the stamps.",
            counted(sender.requested, "datagram")
        ));
    }
    if let Some(receiver) = receiver
        && receiver.unstamped > 0
        && receiver.stamped > 0
    {
        notes.push(format!(
            "{} without a stamp of the receiver's kernel, which begins to stamp some time after the request.",
            counted(receiver.unstamped, "datagram")
        ));
    }
    let stamped = receiver.map_or(0, |receiver| receiver.stamped);
    let joined = wire.summary();
    let joined = joined
        .count
        .saturating_add(joined.out_of_range.negative)
        .saturating_add(joined.out_of_range.too_long);
    // Without the sample's limit the wire would have each datagram that has both stamps.
    if is_paced
        && joined > 0
        && joined.saturating_mul(2) < stamped.min(sender.sent).saturating_add(2)
    {
        notes.push(format!(
            "The wire is that of {}, evenly chosen, to bound memory.",
            counted(joined, "datagram")
        ));
    }
    let steps = sender
        .clock_steps
        .saturating_add(receiver.map_or(0, |receiver| receiver.clock_steps));
    if steps > 0 {
        notes.push(format!(
            "Wall time, the clock of the stamps, stepped {} during the run; stamps around the steps are left out.",
            counted(steps, "time")
        ));
    }
    notes
}

/// The times from the stamps in `sent` to those in `received`, by stream and sequence number. Of duplicates, the first counts.
fn join(sent: &Rows, received: &Rows) -> Latency {
    let mut wire = Latency::small();
    for (stream, sent) in sent {
        let Some(received) = received.get(stream) else {
            continue;
        };
        let mut arrivals = BTreeMap::new();
        for (sequence, at) in received {
            arrivals.entry(*sequence).or_insert(*at);
        }
        for (sequence, at) in sent {
            if let Some(arrived) = arrivals.remove(sequence) {
                wire.record_between(*at, arrived);
            }
        }
    }
    wire
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::plan::tests::small_plan;
    use proptest::prelude::*;

    fn paced() -> Plan {
        Plan {
            mode: Mode::Paced(1_000.0),
            stages: true,
            ..small_plan()
        }
    }

    fn clock(source: &str) -> Clock {
        Clock {
            source: source.to_owned(),
            ..Clock::default()
        }
    }

    fn inputs() -> StageInputs {
        let mut inputs = StageInputs::new(2);
        inputs.add_counts(Histogram::SenderStage, &[(2_000, 3)]);
        inputs.add_counts(Histogram::QdiscStage, &[(1_000, 3)]);
        inputs.add_counts(Histogram::ReceiverStage, &[(5_000, 3)]);
        inputs.add_counts(Histogram::Latency, &[(9_000, 3)]);
        for stream in 0..3 {
            inputs.add_rows(stream, StampedEnd::Sent, &[(0, 100), (1, 200), (2, 300)]);
            inputs.add_rows(
                stream,
                StampedEnd::Received,
                &[(2, 390), (0, 150), (0, 170)],
            );
        }
        inputs.add_sender(&SenderStages {
            requested: 4,
            scheduled: 3,
            sent: 3,
            read_ns: 600,
            sums_ns: ["6000".to_owned(), "x".to_owned()],
            ..SenderStages::default()
        });
        inputs.add_receiver(&ReceiverStages {
            stamped: 3,
            sum_ns: "15000".to_owned(),
            ..ReceiverStages::default()
        });
        inputs
    }

    #[test]
    fn the_wire_joins_both_sides_by_sequence_number() {
        let (stages, histograms) = stages(&paced(), inputs(), &clock("same"), None);
        let wire = stages.wire.latency_ns.unwrap();
        assert_eq!((wire.count, wire.min, wire.max), (4, Some(50), Some(90)));
        let mean = |stage: &Stage| stage.latency_ns.and_then(|of| of.mean);
        assert_eq!(mean(&stages.sender), Some(2_000.0));
        assert_eq!(mean(&stages.receiver), Some(5_000.0));
        assert_eq!(stages.cost.read_ns, Some(200.0));
        assert_eq!(histograms.len(), 4);
        assert!(
            stages.notes[0].contains("1 of 4 datagrams without a stamp"),
            "{stages:?}"
        );
    }

    #[test]
    fn a_stage_without_stamps_is_empty_with_the_reason() {
        let nothing = || StageInputs::new(1);
        let of = |inputs, source: &str, note| stages(&paced(), inputs, &clock(source), note).0;
        let none = of(nothing(), "same", Some("zero-copy sends are not stamped"));
        for (name, stage) in none.all() {
            assert_eq!(stage.latency_ns, None, "{name}");
            assert!(stage.reason.is_some(), "{name}");
        }
        assert!(none.qdisc.reason.unwrap().contains("zero-copy"));
        assert!(none.receiver.reason.unwrap().contains("reported no stamps"));
        let mut no_driver = nothing();
        no_driver.add_counts(Histogram::SenderStage, &[(2_000, 3)]);
        no_driver.add_sender(&SenderStages {
            requested: 3,
            scheduled: 3,
            ..SenderStages::default()
        });
        let found = of(no_driver, "same", None);
        assert!(found.sender.reason.is_none());
        assert!(found.qdisc.reason.unwrap().contains("driver"));
        assert!(found.wire.reason.unwrap().contains("driver"));
        let unrelated = of(inputs(), "none", None);
        assert!(unrelated.wire.reason.unwrap().contains("offset"));
        assert!(unrelated.receiver.latency_ns.is_some());
    }

    proptest! {
        #[test]
        fn any_stamps_are_joined_without_panic(
            sent in prop::collection::vec(any::<(u64, u64)>(), 0..50),
            received in prop::collection::vec(any::<(u64, u64)>(), 0..50),
            numbers in any::<(u64, u64, u64, u64)>(),
            sum in "[0-9]{0,45}",
        ) {
            let mut inputs = StageInputs::new(1);
            inputs.add_rows(0, StampedEnd::Sent, &sent);
            inputs.add_rows(0, StampedEnd::Received, &received);
            inputs.add_rows(0, StampedEnd::Received, &sent);
            let (requested, scheduled, sent, read_ns) = numbers;
            for _ in 0..2 {
                inputs.add_sender(&SenderStages { requested, scheduled, sent, read_ns, clock_steps: requested, sums_ns: [sum.clone(), sum.clone()], ..SenderStages::default() });
                inputs.add_receiver(&ReceiverStages { stamped: requested, unstamped: scheduled, clock_steps: sent, sum_ns: sum.clone(), ..ReceiverStages::default() });
            }
            let _ = stages(&paced(), inputs, &clock("estimated"), None);
        }
    }
}
