//! `bench doctor`: its output, and the refusal of features it reports as missing.

use std::collections::HashSet;
use std::fs;

use crate::common::filter::Forbidden;
use crate::common::{NOTICED, PATIENCE, Results, Running, bench};
use serde_json::Value;

/// Runs `bench` under a seccomp filter.
fn under(forbidden: Forbidden, args: &[&str]) -> crate::common::Finished {
    Running::new(forbidden.bench(args)).wait(PATIENCE)
}

fn checks(stdout: &str) -> Vec<Value> {
    let findings: Value = serde_json::from_str(stdout).unwrap();
    assert_eq!(
        (&findings["schema"], &findings["kind"]),
        (&1.into(), &"doctor".into())
    );
    findings["checks"].as_array().unwrap().clone()
}

#[track_caller]
fn named<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    let found = checks.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no check '{name}'"))
}

fn proc(path: &str) -> String {
    fs::read_to_string(path).unwrap().trim().to_owned()
}

#[test]
fn text_and_json_have_the_same_checks() {
    let results = Results::new();
    let path = results.folder.path().join("doctor.json");
    let finished = bench(["doctor", "--json", path.to_str().unwrap()]).done();
    let checks = checks(&fs::read_to_string(&path).unwrap());
    assert!(checks.len() >= 35, "{}", checks.len());
    let mut names = HashSet::new();
    for check in &checks {
        let name = check["name"].as_str().unwrap();
        assert!(names.insert(name), "{name} twice");
        let state = check["state"].as_str().unwrap();
        assert!(["ok", "limited", "missing"].contains(&state), "{check}");
        let row = format!("\n{state:<11}{name}");
        assert!(
            finished.stdout.contains(&row),
            "{row} in\n{}",
            finished.stdout
        );
        for key in ["area", "found"] {
            assert!(
                check[key].as_str().is_some_and(|text| !text.is_empty()),
                "{check}"
            );
        }
        for key in ["costs", "lifts_with"] {
            assert!(check[key].is_null() || check[key].is_string(), "{check}");
        }
    }
    for line in finished.stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn last_line_and_json_agree_on_fitness() {
    let findings: Value =
        serde_json::from_str(&bench(["doctor", "--json", "-"]).done().stdout).unwrap();
    let comparing = &findings["comparing"];
    let reasons = comparing["reasons"].as_array().unwrap();
    assert_eq!(comparing["fit"], reasons.is_empty());
    let text = bench(["doctor"]).done().stdout;
    // The line is broken at 80 columns.
    let text: Vec<_> = text.split_whitespace().collect();
    let reasons: Vec<_> = reasons.iter().map(|why| why.as_str().unwrap()).collect();
    let expected = match reasons.is_empty() {
        true => " fit for comparing".to_owned(),
        false => format!(" not fit for comparing: {}", reasons.join("; ")),
    };
    assert!(text.join(" ").ends_with(&expected), "{expected}");
}

#[test]
fn findings_match_the_system() {
    let finished = bench(["doctor", "--json", "-"]).done();
    let checks = checks(&finished.stdout);
    for (name, path) in [
        ("net.core.rmem_max", "/proc/sys/net/core/rmem_max"),
        ("net.core.wmem_max", "/proc/sys/net/core/wmem_max"),
        ("net.core.optmem_max", "/proc/sys/net/core/optmem_max"),
    ] {
        let found = named(&checks, name)["found"].as_str().unwrap();
        let number = found.split(' ').next().unwrap().replace(',', "");
        assert_eq!(number, proc(path), "{name}");
    }
    let clock = proc("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let found = named(&checks, "clock source")["found"].as_str().unwrap();
    assert!(found.starts_with(&clock), "{found}");
    // Every other test relies on it.
    assert_eq!(named(&checks, "epoll, timerfd, sendmmsg")["state"], "ok");
    let gso = named(&checks, "GSO (UDP_SEGMENT)")["state"] == "ok";
    let args = [
        "udp",
        "--no-save",
        "--mb",
        "0.1",
        "--gso",
        "on",
        "--json",
        "-",
    ];
    assert_eq!(bench(args).code == Some(0), gso);
}

#[test]
fn io_uring_forbidden_by_a_filter_is_refused_with_the_reason() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let forbidden = Forbidden::io_uring(errno);
        if !forbidden.is_supported() {
            return;
        }
        let results = Results::new();
        let out = results.arg();
        let args = ["udp", "--mb", "1", "--out", &out];
        let uring = [&args[..], &["--engine", "uring"]].concat();
        let refused = under(forbidden, &uring);
        assert_eq!(refused.stdout, "");
        refused.failed(
            3,
            &["--engine uring", "io_uring", "seccomp", "--engine mio"],
        );
        assert_eq!(results.names(), [""; 0]);
        let serve = ["proxy", "serve", "--listen", "127.0.0.1:0"];
        let refused = under(forbidden, &[&serve[..], &["--engine", "uring"]].concat());
        assert_eq!(refused.stdout, "", "it listens");
        refused.failed(
            3,
            &["--engine uring", "io_uring", "seccomp", "--engine mio"],
        );
        under(forbidden, &args).done();
        assert_eq!(results.run()["complete"], true);
    }
}

#[test]
fn io_uring_forbidden_by_a_filter_is_reported_as_missing() {
    let forbidden = Forbidden::io_uring(libc::EPERM);
    if !forbidden.is_supported() {
        return;
    }
    let all = checks(&bench(["doctor", "--json", "-"]).done().stdout);
    let checks = checks(&under(forbidden, &["doctor", "--json", "-"]).done().stdout);
    let names = |checks: &[Value]| {
        checks
            .iter()
            .map(|check| check["name"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&checks), names(&all));
    let ring = named(&checks, "a ring (io_uring_setup)");
    assert!(
        ring["found"].as_str().unwrap().contains("seccomp"),
        "{ring}"
    );
    assert!(
        ring["costs"].is_string() && ring["lifts_with"].is_string(),
        "{ring}"
    );
    for check in checks.iter().filter(|check| check["area"] == "io_uring") {
        assert_eq!(check["state"], "missing", "{check}");
    }
}

#[test]
fn server_without_io_uring_refuses_with_its_own_reason() {
    let forbidden = Forbidden::io_uring(libc::EPERM);
    if !forbidden.is_supported() {
        return;
    }
    let checks = checks(&bench(["doctor", "--json", "-"]).done().stdout);
    if checks
        .iter()
        .any(|check| check["area"] == "io_uring" && check["state"] != "ok")
    {
        println!("skipped: io_uring is unavailable to the client too");
        return;
    }
    let args = ["serve", "--bind", "127.0.0.1:0", "--no-save"];
    let mut server = Running::new(forbidden.bench(&args));
    let to = server.listening().to_string();
    let client = ["udp", "--no-save", "--mb", "1", "--to", &to];
    let uring = [&client[..], &["--engine", "uring"]].concat();
    let reason = "the server cannot use --engine uring: a seccomp filter";
    bench(uring).failed(3, &[&to, "refuses", reason]);
    bench(client).done();
    server.signal("INT");
    server.wait(NOTICED).done();
}

#[test]
fn missing_zero_copy_is_refused_with_the_reason() {
    let forbidden = Forbidden {
        call: libc::SYS_setsockopt,
        argument: Some((2, libc::SO_ZEROCOPY as u32)),
        errno: libc::ENOPROTOOPT,
    };
    if !forbidden.is_supported() {
        return;
    }
    let args = ["udp", "--no-save", "--mb", "1"];
    let asked = [&args[..], &["--zerocopy", "msg"]].concat();
    under(forbidden, &asked).failed(3, &["SO_ZEROCOPY", "--zerocopy off"]);
    under(forbidden, &args).done();
    let checks = checks(&under(forbidden, &["doctor", "--json", "-"]).done().stdout);
    assert_eq!(named(&checks, "MSG_ZEROCOPY")["state"], "missing");
}

#[test]
fn machine_without_epoll_fails() {
    let forbidden = Forbidden {
        call: libc::SYS_epoll_create1,
        argument: None,
        errno: libc::ENOSYS,
    };
    if !forbidden.is_supported() {
        return;
    }
    let finished = under(forbidden, &["doctor", "--json", "-"]);
    let checks = checks(&finished.stdout);
    assert_eq!(
        named(&checks, "epoll, timerfd, sendmmsg")["state"],
        "missing"
    );
    finished.failed(3, &["cannot measure on this host", "not implemented"]);
}

#[test]
fn unwritable_output_path_is_named() {
    bench(["doctor", "--json", "/nowhere/doctor.json"])
        .failed(3, &["/nowhere/doctor.json", "--json"]);
    bench(["doctor", "--mb", "1"]).failed(2, &["--mb"]);
}
