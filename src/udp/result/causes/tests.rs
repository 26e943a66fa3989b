use std::collections::BTreeMap;

use super::*;
use crate::udp::wire::explain::TracedDrops;
use proptest::prelude::*;

fn host_with(counters: &[(&str, u64)]) -> HostReport {
    HostReport {
        kernel: Some("k".to_owned()),
        namespace: Some("n".to_owned()),
        counters: counters
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect(),
        ..HostReport::default()
    }
}

fn traced(reason: &str, drops: u64) -> TracedDrops {
    TracedDrops {
        reason: reason.to_owned(),
        place: "place".to_owned(),
        drops,
    }
}

fn inputs(lost: u64, sender: HostReport, receiver: HostReport) -> LossInputs {
    LossInputs {
        lost,
        segments: 1,
        coalesced: 1,
        sender: Some(sender),
        receiver: Some(receiver),
        ..LossInputs::default()
    }
}

fn counts(explained: &Explained) -> Vec<(&str, u64)> {
    let causes = explained.causes.iter();
    causes
        .map(|cause| (cause.cause.as_str(), cause.datagrams))
        .collect()
}

#[test]
fn claims_are_in_the_order_of_the_way() {
    let all: Vec<(&str, u64)> = [
        "FragFails",
        "filter_drops",
        "qdisc_drops",
        "tx_errors",
        "rx_errors",
        "rx_dropped",
        "softnet_dropped",
        "InHdrErrors",
        "InNoRoutes",
        "InReceives",
        "ReasmFails",
        "InDiscards",
        "NoPorts",
        "InCsumErrors",
    ]
    .map(|name| (name, 100))
    .to_vec();
    let mut sender = host_with(&all);
    sender.refused = vec![
        (libc::EPERM, 1),
        (libc::ENETUNREACH, 1),
        (libc::EMSGSIZE, 1),
    ];
    let receiver: Vec<(&str, u64)> = all
        .iter()
        .map(|(name, _)| (*name, if *name == "InReceives" { 9_000 } else { 100 }))
        .collect();
    let inputs = LossInputs {
        not_sent: 3,
        socket_drops: 900,
        ..inputs(100_000, sender, host_with(&receiver))
    };
    let claims = claims::all(&inputs);
    let names: Vec<&str> = claims.iter().map(|claim| claim.cause).collect();
    assert_eq!(names, claims::WAY);
}

#[test]
fn drops_of_a_firewall_and_of_a_full_socket_are_distinguished() {
    let mut receiver = host_with(&[
        ("InReceives", 1_000),
        ("InDelivers", 993),
        ("RcvbufErrors", 47),
    ]);
    receiver.traced = true;
    receiver.drops = vec![
        traced("NETFILTER_DROP", 7),
        traced("SOCKET_RCVBUFF", 47),
        traced("NEIGH_FAILED", 3),
    ];
    let inputs = LossInputs {
        socket_drops: 47,
        ..inputs(54, host_with(&[]), receiver)
    };
    let explained = explain(inputs);
    assert_eq!(
        counts(&explained),
        [("receiver_firewall", 7), ("receiver_socket", 47)]
    );
    assert_eq!(
        (explained.between, explained.unexplained, explained.surplus),
        (Some(0), None, 0)
    );
    let socket = &explained.causes[1];
    assert_eq!(
        (
            socket.counters[0].name.as_str(),
            socket.counters[0].increase
        ),
        ("RcvbufErrors", 47)
    );
    assert_eq!(
        (socket.reasons.len(), socket.reasons[0].reason.as_str()),
        (1, "SOCKET_RCVBUFF")
    );
    assert!(
        !socket.estimated && explained.notes.is_empty(),
        "{explained:?}"
    );
    // The sender's host is on the same machine, and has the same trace.
    assert!(explained.sender.unwrap().traced);
    assert_eq!(explained.receiver.unwrap().reasons.len(), 3);
}

#[test]
fn refusals_are_split_by_errno() {
    let mut sender = host_with(&[("OutNoRoutes", 4)]);
    sender.refused = vec![
        (libc::EPERM, 3),
        (libc::ENETUNREACH, 4),
        (libc::EMSGSIZE, 5),
        (libc::EIO, 1),
    ];
    let inputs = LossInputs {
        not_sent: 13,
        ..inputs(15, sender, host_with(&[]))
    };
    let explained = explain(inputs);
    assert_eq!(
        counts(&explained),
        [
            ("sender_firewall", 3),
            ("sender_route", 4),
            ("sender_socket", 6)
        ]
    );
    assert_eq!(explained.between, Some(2));
}

#[test]
fn drops_of_a_qdisc_that_were_sent_again_are_no_losses() {
    let sender = || host_with(&[("qdisc_drops", 100)]);
    let repeated = |lost, repeats, partial_sends, other_partial_sends| {
        explain(LossInputs {
            repeats,
            partial_sends,
            other_partial_sends,
            ..inputs(lost, sender(), host_with(&[]))
        })
    };
    assert_eq!(counts(&repeated(40, 0, 0, 0)), [("sender_qdisc", 100)]);
    assert_eq!(counts(&repeated(100, 0, 0, 0)), [("sender_qdisc", 100)]);
    // The drops of partial sends were sent again, so the rest of the losses is elsewhere.
    let exact = repeated(30, 60, 20, 0);
    assert_eq!(
        (counts(&exact), exact.between),
        (vec![("sender_qdisc", 20)], Some(10))
    );
    let other = repeated(0, 60, 20, 0);
    assert_eq!((counts(&other), other.surplus), (Vec::new(), 0));
    let some = repeated(30, 60, 20, 900);
    assert_eq!(
        (counts(&some), some.between),
        (vec![("sender_qdisc", 30)], Some(0))
    );
    assert!(some.causes[0].estimated && some.notes[0].contains("sent them again"));
    let none = repeated(0, 100, 0, 0);
    assert_eq!((counts(&none), none.notes.len()), (Vec::new(), 1));
}

#[test]
fn refused_sends_are_no_fragments() {
    let sender = |counters: &[(&str, u64)]| {
        let explained = explain(LossInputs {
            repeats: 14_344,
            segments: 32,
            ..inputs(53, host_with(counters), host_with(&[]))
        });
        let causes = explained.causes.into_iter();
        let causes: Vec<_> = causes.map(|of| (of.cause, of.datagrams)).collect();
        (causes, explained.between)
    };
    assert_eq!(sender(&[("OutDiscards", 14_397)]), (Vec::new(), Some(53)));
    let failed = sender(&[("OutDiscards", 14_397), ("FragFails", 2)]);
    let expected = vec![("sender_fragments".to_owned(), 53)];
    assert_eq!(failed, (expected, Some(0)));
}

#[test]
fn other_traffic_is_a_surplus_with_a_note() {
    let receiver = host_with(&[("NoPorts", 9)]);
    let explained = explain(inputs(4, host_with(&[]), receiver));
    assert_eq!(
        (counts(&explained), explained.surplus),
        (vec![("receiver_no_port", 9)], 5)
    );
    assert!(
        explained.notes[0].contains("exceed the losses by 5"),
        "{explained:?}"
    );
}

#[test]
fn both_directions_in_one_namespace_share_their_counters() {
    let receiver = host_with(&[("NoPorts", 9)]);
    let one = |namespace: &str| {
        let sender = HostReport {
            namespace: Some(namespace.to_owned()),
            ..host_with(&[])
        };
        let explained = explain(LossInputs {
            both_directions: true,
            ..inputs(4, sender, receiver.clone())
        });
        explained.causes[0].datagrams
    };
    assert_eq!((one("n"), one("other")), (4, 9));
}

#[test]
fn a_full_backlog_is_counted_once() {
    // The machine, the receiver's device and the sender's device count each drop.
    let sender = host_with(&[("tx_dropped", 6)]);
    let receiver = host_with(&[("softnet_dropped", 8), ("rx_dropped", 6)]);
    let explained = explain(inputs(6, sender, receiver));
    assert_eq!(
        (counts(&explained), explained.surplus),
        (vec![("receiver_backlog", 6)], 0)
    );
}

#[test]
fn fragments_and_multicasts_are_not_drops_of_a_firewall() {
    let receiver = host_with(&[
        ("InReceives", 30),
        ("InDelivers", 10),
        ("ReasmReqds", 30),
        ("ReasmOKs", 10),
    ]);
    assert_eq!(counts(&explain(inputs(5, host_with(&[]), receiver))), []);
    let receiver = host_with(&[("InReceives", 30), ("InDelivers", 28), ("InMcastPkts", 2)]);
    let explained = explain(inputs(1, host_with(&[]), receiver));
    assert_eq!(
        (counts(&explained), explained.surplus),
        (vec![("receiver_firewall", 1)], 0)
    );
}

#[test]
fn a_segmented_drop_is_a_run_of_datagrams() {
    let receiver = host_with(&[("InReceives", 30), ("InDelivers", 28), ("NoPorts", 1)]);
    let explained = explain(LossInputs {
        segments: 64,
        coalesced: 64,
        ..inputs(192, host_with(&[]), receiver)
    });
    assert_eq!(
        counts(&explained),
        [("receiver_firewall", 128), ("receiver_no_port", 64)]
    );
    assert!(explained.causes.iter().all(|cause| cause.estimated));
    assert!(explained.notes[0].contains("--gso off"), "{explained:?}");
}

#[test]
fn without_a_host_the_rest_is_unexplained() {
    let explained = explain(LossInputs {
        receiver: None,
        socket_drops: 3,
        ..inputs(10, host_with(&[]), host_with(&[]))
    });
    assert_eq!(counts(&explained), [("receiver_socket", 3)]);
    assert_eq!((explained.between, explained.unexplained), (None, Some(7)));
    assert!(explained.notes[0].contains("receiver's host did not explain"));
}

#[test]
fn a_report_of_another_host_is_bounded() {
    let mut receiver = host_with(&[]);
    receiver.drops = vec![traced(&"é".repeat(10_000), 1); 10_000];
    receiver.notes = vec!["x".repeat(10_000); 10_000];
    receiver.counters = (0..10_000).map(|number| (number.to_string(), 1)).collect();
    let explained = explain(inputs(1, host_with(&[]), receiver));
    assert!(serde_json::to_string(&explained).unwrap().len() < 200_000);
}

proptest! {
    #[test]
    fn the_sum_equals_the_losses_or_the_difference_is_reported(
        lost in 0u64..100_000,
        own in proptest::collection::vec(0u64..2_000, 5),
        segments in 1u64..64,
        one in proptest::collection::btree_map("[a-z_]{2,12}|NoPorts|InReceives|InDelivers|rx_dropped|qdisc_drops|InCsumErrors|ReasmFails", 0u64..50_000, 0..9),
        refused in proptest::collection::vec((0i32..120, 0u64..1_000), 0..4),
        both in any::<bool>(),
    ) {
        let counters: BTreeMap<String, u64> = one;
        let report = HostReport { refused, counters, ..host_with(&[]) };
        let explained = explain(LossInputs {
            not_sent: own[0].min(lost),
            socket_drops: own[1],
            repeats: own[2],
            partial_sends: own[3],
            other_partial_sends: own[4],
            both_directions: both,
            segments,
            coalesced: segments,
            ..inputs(lost, report.clone(), report)
        });
        let sum: u64 = explained.causes.iter().map(|cause| cause.datagrams).sum();
        prop_assert_eq!(sum + explained.between.unwrap_or(0), lost + explained.surplus);
    }

    #[test]
    fn any_report_is_explained_without_panic(
        lost in any::<u64>(),
        own in any::<[u64; 6]>(),
        counters in proptest::collection::btree_map("NoPorts|InReceives|InDelivers|rx_dropped|tx_dropped|qdisc_drops|InCsumErrors|softnet_dropped|ReasmOKs", any::<u64>(), 0..9),
        refused in proptest::collection::vec(any::<(i32, u64)>(), 0..4),
    ) {
        let report = HostReport { refused, counters, ..host_with(&[]) };
        let _ = explain(LossInputs {
            not_sent: own[0],
            socket_drops: own[1],
            repeats: own[2],
            partial_sends: own[3],
            other_partial_sends: own[0],
            segments: own[4],
            coalesced: own[5],
            ..inputs(lost, report.clone(), report)
        });
    }
}

#[test]
fn drops_that_may_be_of_lost_clock_exchanges_are_a_range() {
    let receiver = host_with(&[("InReceives", 1_000), ("InDelivers", 781)]);
    let mut inputs = LossInputs {
        not_sent: 3,
        lost_exchanges: 2,
        ..inputs(415, HostReport::default(), receiver)
    };
    let explained = explain(inputs.clone());
    let firewall = |explained: &Explained| {
        let cause = explained.causes.iter();
        let cause = cause
            .clone()
            .find(|of| of.cause == "receiver_firewall")
            .cloned();
        cause.unwrap()
    };
    assert!(firewall(&explained).estimated, "{explained:?}");
    // What the sender's kernel refused are datagrams of the run alone.
    let refused = explained
        .causes
        .iter()
        .find(|of| of.cause == "sender_socket");
    assert!(refused.is_some_and(|of| of.datagrams == 3 && !of.estimated));
    inputs.lost_exchanges = 0;
    let exact = explain(inputs);
    assert_eq!(
        (firewall(&exact).datagrams, firewall(&exact).estimated),
        (219, false)
    );
}
