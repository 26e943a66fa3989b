//! The causes of losses that the ranks of a fleet share: a host's counters increase by the drops of all of its ranks, so that each rank
//! reports them. The largest report counts; that of the rank that ended last has all.

use std::collections::BTreeMap;

use crate::udp::result::causes::apportion::apportion;
use crate::udp::result::{Explained, LossCause};

/// Causes that each rank has for itself: refusals of its sends, and the drops of its own sockets.
const OWN: [&str; 4] = [
    "sender_firewall",
    "sender_route",
    "sender_socket",
    "receiver_socket",
];

/// The most datagrams that a drop may be: the segments of a message.
const MOST_SEGMENTS: u64 = 128;

/// The start of the note of a rank whose causes exceed its losses.
const SURPLUS: &str = "The causes exceed the losses";

/// The largest report of each cause, by host and cause.
#[derive(Debug, Default)]
pub(super) struct SharedCauses(BTreeMap<(String, String), LossCause>);

impl SharedCauses {
    /// Takes the shared causes from what a rank on `host` explains. The fleet has one receiver.
    pub(super) fn take(&mut self, explained: &mut Explained, host: &str) {
        let causes = std::mem::take(&mut explained.causes).into_iter();
        let (own, shared) = causes.partition(|cause| OWN.contains(&cause.cause.as_str()));
        explained.causes = own;
        explained.notes.retain(|note| !note.starts_with(SURPLUS));
        let shared: Vec<LossCause> = shared;
        for cause in shared {
            let host = if cause.cause.starts_with("sender_") {
                host
            } else {
                ""
            };
            let key = (host.to_owned(), cause.cause.clone());
            let most = self.0.entry(key).or_insert_with(|| cause.clone());
            let estimated = most.estimated || cause.estimated;
            if (cause.drops, cause.datagrams) > (most.drops, most.datagrams) {
                *most = cause;
            }
            most.estimated = estimated;
        }
    }

    /// The causes of all hosts.
    pub(super) fn into_causes(self) -> impl Iterator<Item = LossCause> {
        self.0.into_values()
    }
}

/// Distributes `lost` over the causes anew, since the ranks' own numbers are of a part of the losses each.
pub(super) fn distribute(explained: &mut Explained, lost: u64) {
    let ranges = explained.causes.iter().map(|cause| match cause.estimated {
        true => (0, cause.drops.saturating_mul(MOST_SEGMENTS)),
        false => (cause.datagrams, cause.datagrams),
    });
    let ranges: Vec<(u64, u64)> = ranges.collect();
    let apportioned = apportion(lost, &ranges);
    for (cause, datagrams) in explained.causes.iter_mut().zip(apportioned.counts) {
        cause.datagrams = datagrams;
    }
    explained.causes.retain(|cause| cause.datagrams > 0);
    match explained.unexplained.is_some() {
        true => explained.unexplained = Some(apportioned.rest),
        false => explained.between = Some(apportioned.rest),
    }
    explained.surplus = apportioned.surplus;
    if apportioned.surplus > 0 {
        explained.notes.push(format!(
            "{SURPLUS} by {}: other traffic in the network namespaces is counted too.",
            apportioned.surplus
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cause(name: &str, drops: u64, estimated: bool) -> LossCause {
        LossCause {
            cause: name.to_owned(),
            datagrams: drops,
            estimated,
            drops,
            ..LossCause::default()
        }
    }

    /// The merged causes of ranks on these hosts with a loss each.
    fn merged(ranks: &[(&str, Vec<LossCause>, u64)]) -> Explained {
        let mut shared = SharedCauses::default();
        let mut sum: Option<Explained> = None;
        let mut lost = 0u64;
        for (host, causes, of_rank) in ranks {
            let mut explained = Explained {
                causes: causes.clone(),
                between: Some(0),
                notes: vec![format!("{SURPLUS} by 7: other traffic.")],
                ..Explained::default()
            };
            shared.take(&mut explained, host);
            lost = lost.saturating_add(*of_rank);
            sum = match sum {
                None => Some(explained),
                sum => super::super::sums::explained(sum, Some(&explained)),
            };
        }
        let mut sum = super::super::sums::add_causes(sum.unwrap(), shared.into_causes());
        distribute(&mut sum, lost);
        sum
    }

    fn counts(explained: &Explained) -> Vec<(&str, u64)> {
        let causes = explained.causes.iter();
        causes
            .map(|cause| (cause.cause.as_str(), cause.datagrams))
            .collect()
    }

    #[test]
    fn counters_of_a_host_count_once() {
        let of_receiver = || cause("receiver_firewall", 400, false);
        let ranks = [
            (
                "a",
                vec![of_receiver(), cause("sender_qdisc", 30, false)],
                150,
            ),
            ("a", vec![cause("sender_qdisc", 28, false)], 100),
            (
                "b",
                vec![
                    cause("receiver_firewall", 399, false),
                    cause("sender_qdisc", 20, false),
                    cause("receiver_socket", 5, false),
                ],
                200,
            ),
            (
                "b",
                vec![of_receiver(), cause("receiver_socket", 6, false)],
                21,
            ),
        ];
        let all = merged(&ranks);
        assert_eq!(
            counts(&all),
            [
                ("receiver_firewall", 400),
                ("receiver_socket", 11),
                ("sender_qdisc", 50)
            ]
        );
        assert_eq!((all.between, all.surplus), (Some(10), 0));
        assert!(all.notes.is_empty(), "{:?}", all.notes);
    }

    #[test]
    fn estimates_have_the_losses_that_are_left() {
        let ranks = [(
            "a",
            vec![
                cause("receiver_firewall", 235, true),
                cause("receiver_no_port", 100, false),
            ],
            401,
        )];
        let all = merged(&ranks);
        assert_eq!(
            counts(&all),
            [("receiver_firewall", 301), ("receiver_no_port", 100)]
        );
        assert_eq!((all.between, all.surplus), (Some(0), 0));
    }

    proptest! {
        #[test]
        fn causes_and_rest_sum_to_the_losses(
            ranks in prop::collection::vec((any::<bool>(), 0usize..4, any::<u64>(), any::<bool>(), any::<u64>()), 1..12),
        ) {
            let names = ["sender_qdisc", "receiver_firewall", "receiver_socket", "sender_route"];
            let ranks: Vec<_> = ranks.into_iter().map(|(host, name, drops, estimated, lost)| {
                (if host { "a" } else { "b" }, vec![cause(names[name], drops >> 8, estimated)], lost >> 8)
            }).collect();
            let lost: u64 = ranks.iter().map(|(_, _, lost)| lost).sum();
            let all = merged(&ranks);
            let sum: u64 = all.causes.iter().map(|cause| cause.datagrams).sum();
            prop_assert_eq!(sum + all.between.unwrap(), lost + all.surplus);
        }
    }
}
