//! Fleets of plain processes.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;

use serde_json::Value;

use super::{Finished, PATIENCE, Results, Running, assert_identities, number};

/// A port that is free for TCP and UDP.
pub(crate) fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address.port();
        }
    }
}

/// Starts a rank. All ranks have one result folder.
pub(crate) fn rank(
    program: &[&str],
    rank: u32,
    size: u32,
    options: &str,
    results: &Results,
) -> Running {
    let (first, more) = program.split_first().unwrap();
    let mut command = Command::new(first);
    command.args(more);
    let (rank, size) = (rank.to_string(), size.to_string());
    command.args(["udp", "--fleet", "--rank", &rank, "--size", &size]);
    command.args(["--out", &results.arg()]);
    command.args(options.split_whitespace());
    Running::new(command)
}

pub(crate) const BENCH: &[&str] = &[env!("CARGO_BIN_EXE_bench")];

/// Starts all ranks, the last one first: rank 0, which the others wait for, is last.
pub(crate) fn fleet(size: u32, options: &str, results: &Results) -> Vec<Running> {
    let mut ranks: Vec<Running> = (0..size)
        .rev()
        .map(|number| rank(BENCH, number, size, options, results))
        .collect();
    ranks.reverse();
    ranks
}

/// Options of a fleet whose rank 0 receives.
pub(crate) fn receiving(options: &str) -> String {
    format!("--rendezvous 127.0.0.1:{} {options}", free_port())
}

pub(crate) fn wait(ranks: Vec<Running>) -> Vec<Finished> {
    ranks.into_iter().map(|rank| rank.wait(PATIENCE)).collect()
}

/// Asserts that the counts of a merged run are the sums of those of its ranks.
#[track_caller]
pub(crate) fn assert_sums(run: &Value) {
    assert_identities(run);
    let ranks = run["fleet"]["ranks"].as_array().unwrap();
    let sum = |path: &str| ranks.iter().map(|rank| number(rank, path)).sum::<u64>();
    for path in [
        "sent.packets",
        "sent.bytes",
        "received.packets",
        "received.unique",
        "received.bytes",
        "lost.packets",
        "lost.elsewhere",
    ] {
        assert_eq!(sum(path), number(run, path), "{path}");
    }
    let unique = number(run, "received.unique");
    let out = ["negative", "too_long"];
    let out = out.map(|key| number(run, &format!("latency_ns.out_of_range.{key}")));
    assert_eq!(
        number(run, "latency_ns.count") + out.iter().sum::<u64>(),
        unique
    );
    let rows = run["intervals"].as_array().unwrap();
    let of_rows = rows.iter().map(|row| number(row, "packets")).sum::<u64>();
    assert_eq!(of_rows, number(run, "received.packets"));
}

pub(crate) fn names(run: &Value, key: &str) -> Vec<u64> {
    let ranks = run["fleet"][key].as_array().unwrap();
    ranks.iter().map(|rank| number(rank, "rank")).collect()
}

/// A network namespace of its own, which is removed when it is dropped.
pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    pub(crate) fn build(&self) -> bool {
        let ip = |words: &str| {
            let output = Command::new("ip").args(words.split(' ')).output();
            output.is_ok_and(|output| output.status.success())
        };
        let name = &self.0;
        // A test process of this id that was killed may have left it.
        ip(&format!("netns del {name}"));
        ip(&format!("netns add {name}")) && ip(&format!("-n {name} link set lo up"))
    }

    /// `InDatagrams`, `NoPorts`, `InErrors` and `OutDatagrams`.
    pub(crate) fn udp_counters(&self) -> Vec<u64> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, "cat", "/proc/net/snmp"]);
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let line = text.lines().filter(|line| line.starts_with("Udp:")).nth(1);
        let numbers = line.unwrap().split_whitespace().skip(1).take(4);
        numbers.map(|number| number.parse().unwrap()).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}
