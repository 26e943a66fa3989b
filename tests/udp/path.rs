//! `bench udp` over routed paths: a smaller path MTU, and ICMP errors.

use crate::common::engine::{Engine, available, on_both_engines, on_every_engine};
use crate::common::routed::{Routed, V4, V6};
use crate::common::{PATIENCE, assert_identities, number};
use serde_json::Value;

on_both_engines!(
    a_smaller_path_mtu_costs_a_round_trip_and_not_the_run,
    an_mtu_that_shrinks_during_the_run_costs_a_round_trip,
    required_segments_that_the_path_refuses_are_an_error_with_the_chunk_that_fits,
    df_applies_with_and_without_segmentation,
    no_icmp_error_costs_a_datagram,
);

/// Each with its largest chunk over a path of 1300 bytes: minus 20 or 40, 8, and the header of 32.
const FAMILIES: [(&str, &str); 2] = [(V4, "1240"), (V6, "1220")];

/// The record of a run whose path MTU shrinks from 1500 to 1300 bytes after the first interval.
#[track_caller]
fn run_with_shrinking_mtu(lab: &Routed, to: &str, engine: Engine, options: &str) -> Value {
    lab.narrow(1_500);
    lab.forget();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let fixed = "--chunk 1400 --duration 1s --no-save";
    let mut running = lab.udp(to, &format!("{} {fixed} {options} --json {path}", engine.0));
    running.first_row();
    lab.narrow(1_300);
    running.wait(PATIENCE).done();
    let mut record: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    record["runs"][0].take()
}

/// Checks a run whose datagrams need two fragments each.
#[track_caller]
fn assert_fell_back(run: &Value) {
    assert_identities(run);
    assert_eq!(run["ended"], "complete");
    assert_eq!(number(run, "lost.not_sent"), 0, "{run:#}");
    // Requests in flight in a ring may overtake a request that an ICMP error fails.
    let most = if run["engine"] == "uring" { 64 } else { 0 };
    assert!(number(run, "received.reordered") <= most, "{run:#}");
    let set = &run["effective"];
    assert_eq!(
        (&set["gso"], &set["segments"], &set["path_mtu"]),
        (&false.into(), &1.into(), &1_300.into()),
        "{set:#}"
    );
}

fn a_smaller_path_mtu_costs_a_round_trip_and_not_the_run(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    lab.narrow(1_300);
    for (to, _) in FAMILIES {
        // In flight: the window, or two messages of a sender that is late on a busy machine.
        for (way, most_lost) in [
            ("--pps 2000 --packets 400", 100),
            ("--mb 6", 2_500),
            ("--pps 2000 --packets 300 --gso off", 70),
        ] {
            lab.forget();
            let run = lab.run(to, &format!("{} --chunk 1400 {way}", engine.0));
            assert_fell_back(&run);
            let lost = number(&run, "lost.packets");
            assert!(lost <= most_lost, "{way}: {lost} lost: {run:#}");
            if !way.contains("--gso off") {
                let note = run["effective"]["offload_note"].as_str().unwrap();
                assert!(note.contains("1300"), "{note}");
            }
        }
        // The kernel knows the path MTU before the first datagram.
        let run = lab.run(
            to,
            &format!("{} --chunk 4000 --pps 500 --packets 200", engine.0),
        );
        assert_fell_back(&run);
        assert_eq!(number(&run, "lost.packets"), 0);
    }
}

fn an_mtu_that_shrinks_during_the_run_costs_a_round_trip(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    for (to, _) in FAMILIES {
        let run = run_with_shrinking_mtu(&lab, to, engine, "--pps 2000 --interval 200ms");
        assert_fell_back(&run);
        assert_eq!(number(&run, "engine_stats.gso_fallbacks"), 1);
        assert!(number(&run, "engine_stats.icmp.fragmentation_needed") > 0);
        // A sender that is late on a busy machine has several datagrams in a message.
        assert!(number(&run, "lost.packets") <= 200, "{run:#}");
        let warnings = run["warnings"].to_string();
        assert!(warnings.contains("segmented"), "{warnings}");
    }
}

fn required_segments_that_the_path_refuses_are_an_error_with_the_chunk_that_fits(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    lab.narrow(1_300);
    for (to, fits) in FAMILIES {
        // Detected during the run, and known before the next one.
        for _ in 0..2 {
            let way = "--chunk 1400 --pps 2000 --packets 400 --gso on";
            let finished = lab.finish(to, &format!("{} {way}", engine.0));
            finished.failed(3, &["--gso on", &format!("--chunk {fits}"), "1300"]);
        }
        let run = lab.run(
            to,
            &format!(
                "{} --chunk {fits} --pps 2000 --packets 200 --gso on",
                engine.0
            ),
        );
        assert_eq!(number(&run, "lost.packets"), 0);
    }
}

fn df_applies_with_and_without_segmentation(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    lab.narrow(1_300);
    // The router fragments, so that nothing is lost and the path MTU stays unknown.
    let options = "--chunk 1400 --pps 2000 --packets 300 --df off";
    for way in ["", "--gso off", "--batch 1"] {
        let run = lab.run(V4, &format!("{} {options} {way}", engine.0));
        assert_eq!(number(&run, "lost.packets"), 0, "{way}: {run:#}");
        assert_eq!(run["requested"]["df"], "off");
        assert_eq!(run["effective"]["df"], "off");
    }
    for (to, fits) in FAMILIES {
        // Discovers the path MTU.
        lab.run(
            to,
            &format!("{} --chunk 1400 --pps 1000 --packets 20", engine.0),
        );
        for gso in ["auto", "off", "on"] {
            let options = format!("--chunk 1400 --pps 1000 --packets 100 --df on --gso {gso}");
            let finished = lab.finish(to, &format!("{} {options}", engine.0));
            finished.failed(3, &["--df on", &format!("--chunk {fits}"), "1300"]);
            let options = format!("--chunk {fits} --pps 1000 --packets 100 --df on --gso {gso}");
            let run = lab.run(to, &format!("{} {options}", engine.0));
            assert_eq!(number(&run, "lost.packets"), 0);
            assert_eq!(run["effective"]["df"], "on");
        }
    }
}

#[test]
fn datagrams_of_zero_copy_sends_are_sent_again() {
    for options in [
        "--zerocopy splice",
        "--zerocopy msg",
        "--engine uring --zerocopy msg",
        "--engine uring --uring-sqpoll --uring-ring-size 2 --uring-recv single",
    ] {
        let Some(engine) = available(options) else {
            continue;
        };
        let Some(lab) = Routed::start() else { return };
        // The path probe detects a path that is narrow from the start, and nothing is lost.
        lab.narrow(1_300);
        let run = lab.run(V4, &format!("{} --chunk 1400 --mb 6", engine.0));
        assert_fell_back(&run);
        assert_eq!(number(&run, "engine_stats.gso_fallbacks"), 0);
        assert_eq!(number(&run, "lost.packets"), 0, "{run:#}");
        let run = run_with_shrinking_mtu(&lab, V4, engine, "--interval 100ms");
        assert_fell_back(&run);
        assert_eq!(number(&run, "engine_stats.gso_fallbacks"), 1);
        assert!(number(&run, "lost.packets") <= 2_500, "{run:#}");
        lab.narrow(1_500);
        lab.forget();
        if let Err(reason) = lab.reject("ip", "icmp type host-prohibited") {
            return println!("skipped: no rejecting firewall: {reason}");
        }
        let run = lab.run(V4, &format!("{} --gso off --packets 4000", engine.0));
        assert_eq!(number(&run, "lost.packets"), lab.rejected(), "{run:#}");
        assert_eq!(number(&run, "lost.not_sent"), 0);
    }
}

#[test]
fn datagrams_that_become_too_long_are_not_sent_and_the_run_continues() {
    let Some(lab) = Routed::start() else { return };
    for options in ["", "--engine uring"] {
        let Some(engine) = available(options) else {
            continue;
        };
        let options = "--df on --pps 2000 --interval 200ms";
        let run = run_with_shrinking_mtu(&lab, V4, engine, options);
        assert_identities(&run);
        let not_sent = number(&run, "lost.not_sent");
        assert!(not_sent > 0);
        assert_eq!(number(&run, "engine_stats.send_too_long"), not_sent);
        assert!(number(&run, "lost.elsewhere") <= 200);
        let warnings = run["warnings"].to_string();
        assert!(warnings.contains("1300 B"), "{warnings}");
    }
}

fn no_icmp_error_costs_a_datagram(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    for (to, family, error, kind) in [
        (V4, "ip", "icmp type host-prohibited", "admin_prohibited"),
        (V4, "ip", "icmp type port-unreachable", "port_unreachable"),
        (V4, "ip", "icmp type net-unreachable", "net_unreachable"),
        (
            V6,
            "ip6",
            "icmpv6 type admin-prohibited",
            "admin_prohibited",
        ),
        (
            V6,
            "ip6",
            "icmpv6 type addr-unreachable",
            "host_unreachable",
        ),
    ] {
        if let Err(reason) = lab.reject(family, error) {
            return println!("skipped: no rejecting firewall: {reason}");
        }
        let way = "--gso off --pps 10000 --packets 3000";
        let run = lab.run(to, &format!("{} {way}", engine.0));
        assert_identities(&run);
        let rejected = lab.rejected();
        assert!(rejected > 5, "{rejected}");
        assert_eq!(number(&run, "lost.packets"), rejected, "{error}: {run:#}");
        assert_eq!(number(&run, "lost.elsewhere"), rejected);
        let counted = number(&run, &format!("engine_stats.icmp.{kind}"));
        assert!((1..=rejected).contains(&counted), "{counted} of {rejected}");
        // The datagrams of a rejected message are lost on the path: the sender refuses none of them.
        let run = lab.run(to, &format!("{} --pps 50000 --packets 20000", engine.0));
        assert_eq!(number(&run, "engine_stats.send_errors"), 0, "{run:#}");
        assert_eq!(number(&run, "lost.not_sent"), 0);
    }
}

/// A black hole: the router drops packets longer than 1300 B, without an ICMP error.
fn black_hole(lab: &Routed) -> bool {
    let chain = "nft add chain inet t f { type filter hook forward priority 0 ; }";
    let rule = "nft add rule inet t f meta l4proto udp meta length > 1300 drop";
    let steps = ["nft add table inet t", chain, rule].map(|words| lab.router(words));
    let failed = steps.into_iter().find_map(Result::err);
    failed
        .inspect(|reason| println!("skipped: {reason}"))
        .is_none()
}

#[test]
fn round_trips_probe_the_path() {
    let Some(lab) = Routed::start() else { return };
    if !black_hole(&lab) {
        return;
    }
    let options = "--round-trip --pps 100 --packets 20";
    let failed = lab.finish(V4, &format!("{options} --chunk 1400"));
    failed.failed(
        3,
        &["do not arrive while short ones do", "use --chunk 1240"],
    );
    let run = lab.run(V4, &format!("{options} --chunk 1240"));
    assert_eq!(number(&run, "received.unique"), 20);
    assert_eq!(number(&run, "round_trip.requests_received"), 20);
    assert_eq!(number(&run, "received.foreign"), 0);
}

#[test]
fn datagrams_that_stop_arriving_in_the_middle_are_a_warning() {
    let Some(lab) = Routed::start() else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let options = "--chunk 1400 --pps 500 --duration 1500ms --interval 100ms --no-save --json";
    let mut running = lab.udp(V4, &format!("{options} {path}"));
    running.first_row();
    if !black_hole(&lab) {
        return;
    }
    running.wait(PATIENCE).done();
    let record: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let run = &record["runs"][0];
    assert_identities(run);
    assert!(number(run, "lost.packets") > 250, "{run:#}");
    let warnings = run["warnings"].to_string();
    assert!(warnings.contains("No datagram arrived after"), "{warnings}");
}
