//! Ranks that send much, and ranks that read nothing.

use super::*;
use crate::udp::wire::fleet::MAX_PART;

#[test]
fn results_are_not_read_while_the_collector_is_slow() {
    let mut lab = Lab::new();
    (0..2).for_each(|rank| lab.join(rank, 2).unwrap());
    lab.ready(1, 0);
    let part = "x".repeat(MAX_PART);
    let mut parts = 0;
    while !lab.hub.is_congested(1) {
        let part = part.clone();
        let request = FleetRequest::Result {
            run: 0,
            part,
            last: false,
        };
        lab.ask(1, request).unwrap();
        parts += 1;
    }
    assert!(parts * MAX_PART <= CONGESTED + MAX_PART);
    lab.replies(0);
    assert!(!lab.hub.is_congested(1));
    assert_eq!(lab.hub.queued, 0);
}

/// Sends parts of a result until the fleet of the rank is congested. Returns their bytes.
fn congest(lab: &mut Lab, connection: usize) -> usize {
    let mut bytes = 0;
    while !lab.hub.is_congested(connection) {
        let (run, part, last) = (0, "x".repeat(MAX_PART), false);
        lab.ask(connection, FleetRequest::Result { run, part, last })
            .unwrap();
        bytes += MAX_PART;
    }
    bytes
}

#[test]
fn slow_collectors_do_not_stop_other_fleets() {
    let mut lab = Lab::new();
    let fleets = ALL_CONGESTED / CONGESTED + 1;
    for number in 0..=fleets {
        let (collector, sender) = (2 * number, 2 * number + 1);
        lab.fleet = number.to_string();
        lab.join_as(collector, 0, 2, false).unwrap();
        lab.join_as(sender, 1, 2, true).unwrap();
        lab.ready(sender, 0);
        if number < fleets {
            congest(&mut lab, sender);
        }
    }
    assert!(lab.hub.queued > ALL_CONGESTED);
    let (collector, sender) = (2 * fleets, 2 * fleets + 1);
    for _ in 0..10 {
        let bytes = congest(&mut lab, sender);
        assert!((SHARE..=SHARE + MAX_PART).contains(&bytes), "{bytes}");
        lab.replies(collector);
    }
}

#[test]
fn ranks_that_are_not_read_are_not_silent() {
    let mut lab = Lab::new();
    (0..2).for_each(|rank| lab.join(rank, 2).unwrap());
    lab.ready(1, 0);
    congest(&mut lab, 1);
    lab.pass(2 * SILENT.as_millis() as u64, &[0]);
    lab.replies(0);
    lab.pass(100, &[0]);
    lab.ask(1, FleetRequest::Alive).unwrap();
}

#[test]
fn rank_that_reads_no_replies_is_refused() {
    let mut lab = Lab::new();
    (0..2).for_each(|rank| lab.join(rank, 2).unwrap());
    let ask = |lab: &mut Lab| lab.ask(1, FleetRequest::Clock { sent_ns: 1 });
    for _ in 0..1_000 {
        ask(&mut lab).unwrap();
        lab.replies(1);
    }
    let asked = (0..1_000).take_while(|_| ask(&mut lab).is_ok()).count();
    assert!((32..100).contains(&asked), "{asked}");
    let refusal = ask(&mut lab).unwrap_err();
    assert!(refusal.contains("does not read the replies"), "{refusal}");
    // Its connection is polled once for all of them.
    lab.hub.take_woken();
    lab.replies(1);
    assert!(ask(&mut lab).is_ok() && ask(&mut lab).is_ok());
    assert_eq!(lab.hub.take_woken(), [1]);
}

#[test]
fn ranks_that_never_came_take_no_memory() {
    let mut lab = Lab::new();
    lab.join_as(7, 5, MAX_RANKS, true).unwrap();
    lab.pass(1_000, &[7]);
    for run in 0..10 {
        lab.ready(7, run);
        lab.result(7, run, "");
    }
    assert_eq!(lab.hub.queued, 0);
    let replies = lab.replies(7);
    // A roster, then for each run its start, the other ranks and its end.
    assert_eq!(replies.len(), 1 + 10 * (MAX_RANKS as usize + 1));
    assert_eq!(replies[2], "0: rank 0 never came");
    assert_eq!(replies[7], "0: rank 6 never came");
}
