//! Fleets under the launchers that are installed, and the manifests of Kubernetes.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::fleet::{BENCH, assert_sums, free_port, names};
use crate::common::{Results, number, start};

/// Runs a script of `tools/fleet`, which exits with 77 if its launcher is missing.
fn script(name: &str, arguments: &[&str]) -> Option<Output> {
    script_of(name, "udp", arguments)
}

/// As [`script`], for a command with a fleet.
fn script_of(name: &str, fleet: &str, arguments: &[&str]) -> Option<Output> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tools/fleet")
        .join(name);
    let mut command = Command::new("timeout");
    let output = command
        .env("FLEET_COMMAND", fleet)
        .arg("90")
        .arg(path)
        .args(arguments)
        .output()
        .unwrap();
    if output.status.code() == Some(77) {
        println!("{}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(output)
}

/// Number of ranks of the launchers' tests.
fn ranks_of_launchers() -> u32 {
    let ranks = std::env::var("WIREBENCH_FLEET_RANKS").ok();
    ranks.map_or(6, |ranks| ranks.parse().unwrap())
}

fn launched_by(name: &str) {
    let results = Results::new();
    let ranks = ranks_of_launchers();
    let (size, out) = (ranks.to_string(), results.arg());
    let to = format!("127.0.0.1:{}", free_port());
    let mut arguments = vec![
        BENCH[0],
        &size,
        "--packets",
        "6200",
        "--pps",
        "3100",
        "--out",
        &out,
    ];
    if name == "mpirun.sh" {
        arguments.extend(["--rendezvous", &to]);
    }
    let Some(output) = script(name, &arguments) else {
        return;
    };
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}{}",
        shown(&output.stdout),
        shown(&output.stderr)
    );
    let run = results.run();
    assert_sums(&run);
    assert_eq!(number(&run, "sent.packets"), 6_200);
    assert_eq!(
        names(&run, "ranks"),
        (1..u64::from(ranks)).collect::<Vec<_>>()
    );
    println!(
        "{name}: {ranks} ranks, start skew {} ns, {} lost",
        number(&run, "fleet.start_skew_ns"),
        number(&run, "lost.packets")
    );
}

#[test]
fn open_mpi_launches_a_fleet() {
    launched_by("mpirun.sh");
}

#[test]
fn slurm_launches_a_fleet() {
    launched_by("slurm.sh");
}

#[test]
fn open_mpi_launches_load_generators() {
    let mut origin = start(["proxy", "origin", "--listen", "127.0.0.1:0", "--quiet"]);
    let origin = origin.listening().to_string();
    let results = Results::new();
    let ranks = ranks_of_launchers();
    let (size, out) = (ranks.to_string(), results.arg());
    let to = format!("127.0.0.1:{}", free_port());
    let options = format!(
        "{} {size} --origin {origin} --scenario connect --connections 64 --rate 300 --duration 200ms --warmup 0s --repeat 1 --out {out} \
         --rendezvous {to}",
        BENCH[0]
    );
    let arguments: Vec<&str> = options.split_whitespace().collect();
    let Some(output) = script_of("mpirun.sh", "proxy load", &arguments) else {
        return;
    };
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}");
    let run = results.run();
    // On a busy machine, some requests of the schedule may not be started.
    let left = number(&run, "errors.not_started");
    assert_eq!(number(&run, "errors.total"), left);
    assert_eq!(number(&run, "requests") + left, 60);
    assert_eq!(
        names(&run, "ranks"),
        (0..u64::from(ranks)).collect::<Vec<_>>()
    );
    println!(
        "{ranks} ranks, start skew {} ns",
        number(&run, "fleet.start_skew_ns")
    );
}

#[test]
fn manifests_fit_the_schema_of_kubernetes() {
    if let Some(output) = script("kubernetes/check.sh", &[]) {
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
    }
}
