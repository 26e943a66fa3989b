//! `bench proxy load --fleet` as several processes, started by hand.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::common::fleet::{free_port, names, wait};
use crate::common::{NOTICED, PATIENCE, Results, Running, bench, number, start, table, until};
use serde_json::Value;
use tempfile::TempDir;

/// A running origin and a forwarding proxy with an access log.
struct Proxied {
    _origin: Running,
    _proxy: Running,
    origin: SocketAddr,
    via: SocketAddr,
    folder: TempDir,
}

impl Proxied {
    fn start() -> Self {
        let mut origin = start(["proxy", "origin", "--listen", "127.0.0.1:0", "--quiet"]);
        let to = origin.listening();
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let line = format!(
            "proxy serve --listen 127.0.0.1:0 --forward {to} --log {} --quiet",
            log.display()
        );
        let mut proxy = start(line.split(' '));
        let via = proxy.listening();
        Self {
            _origin: origin,
            _proxy: proxy,
            origin: to,
            via,
            folder,
        }
    }

    /// The options of every rank. Without a warm-up and a direct path, the proxy has the connections that count.
    fn options(&self, options: &str) -> String {
        format!(
            "--origin {} --via {} --protocol forward --no-direct --rendezvous 127.0.0.1:{} --repeat 1 --warmup 0s {options}",
            self.origin,
            self.via,
            free_port()
        )
    }

    /// Waits until the ranks measure, which start at one time.
    fn is_loaded(&self) {
        until("the ranks measure", || {
            let log = fs::read_to_string(self.folder.path().join("log"));
            log.unwrap_or_default().lines().count() > 20
        });
    }

    /// The closed connections, once there are so many.
    #[track_caller]
    fn connections(&self, count: u64) -> Vec<Value> {
        let mut lines = Vec::new();
        until(&format!("{count} connections are logged"), || {
            let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            lines = text.lines().map(str::to_owned).collect();
            lines.len() as u64 >= count
        });
        assert_eq!(lines.len() as u64, count);
        let lines = lines.iter().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }
}

/// Starts a rank. All ranks have one result folder.
fn rank(number: u32, size: u32, options: &str, results: &Results) -> Running {
    let out = results.arg();
    let line = format!("proxy load --fleet --rank {number} --size {size} --out {out} {options}");
    start(line.split_whitespace())
}

/// Starts all ranks, the last one first: rank 0, which the others wait for, is last.
fn fleet(size: u32, options: &str, results: &Results) -> Vec<Running> {
    let mut ranks: Vec<Running> = (0..size)
        .rev()
        .map(|number| rank(number, size, options, results))
        .collect();
    ranks.reverse();
    ranks
}

fn ranks(run: &Value) -> &Vec<Value> {
    run["fleet"]["ranks"].as_array().unwrap()
}

/// Asserts that the counts of a merged run are the sums of those of its ranks.
#[track_caller]
fn assert_sums(run: &Value) {
    for path in ["requests", "bytes", "errors.total"] {
        let sum: u64 = ranks(run).iter().map(|rank| number(rank, path)).sum();
        assert_eq!(sum, number(run, path), "{path}");
    }
    if run["latency_ns"].is_object() {
        assert_eq!(number(run, "latency_ns.count"), number(run, "requests"));
    }
}

/// A figure of each rank.
fn of_ranks(run: &Value, key: &str) -> Vec<f64> {
    let figures = ranks(run).iter().map(|rank| rank[key].as_f64().unwrap());
    figures.collect()
}

/// The requests of the schedule of each rank. On a busy machine, some of them may not be started.
#[track_caller]
fn scheduled(run: &Value) -> Vec<u64> {
    let all = ranks(run).iter().map(|rank| {
        let [failed, left] = ["total", "not_started"].map(|kind| number(&rank["errors"], kind));
        assert_eq!(failed, left, "{rank:#}");
        number(rank, "requests") + left
    });
    all.collect()
}

#[test]
fn ranks_load_as_one_and_rank_0_writes_the_result() {
    let (proxied, results) = (Proxied::start(), Results::new());
    let options = proxied.options("--scenario connect --connections 9 --duration 300ms");
    for (rank, finished) in wait(fleet(4, &options, &results)).into_iter().enumerate() {
        let finished = finished.done();
        if rank > 0 {
            assert_eq!(finished.stdout, "");
            continue;
        }
        for part in [
            "ranks      connect proxied, 4 of 4 with a result, start skew ",
            "spread ",
            "slowest rank ",
            "\nrank 3 ",
            "\ntotal ",
        ] {
            let text = &finished.stdout;
            assert!(text.contains(part), "no '{part}' in:\n{text}");
        }
    }
    let run = results.run();
    assert_sums(&run);
    assert_eq!(run["complete"], true);
    assert_eq!(names(&run, "ranks"), [0, 1, 2, 3]);
    assert_eq!(of_ranks(&run, "connections"), [3.0, 2.0, 2.0, 2.0]);
    assert_eq!(number(&run, "requested.connections"), 9);
    assert_eq!(number(&run, "errors.total"), 0);
    assert_eq!(number(&run, "fleet.start_skew_error_ns"), 0);
    // Loose, as the machine may be busy with other tests.
    assert!(number(&run, "fleet.start_skew_ns") < 500_000_000, "{run:#}");
    assert!(run["seconds"].as_f64().unwrap() >= 0.3);
    // A request is a connection.
    proxied.connections(number(&run, "requests"));
    let rows = table(&results.only().join("ranks.csv"));
    assert_eq!(rows.len(), 6);
    let column = rows[0].iter().position(|name| name == "requests").unwrap();
    assert_eq!(rows[5][column], number(&run, "requests").to_string());
    assert_eq!(table(&results.folder.path().join("proxy.csv")).len(), 2);
}

#[test]
fn closed_loop_requests_are_those_of_the_proxy() {
    let (proxied, results) = (Proxied::start(), Results::new());
    let options = "--scenario request-response --connections 5 --message 100 --duration 300ms";
    for finished in wait(fleet(4, &proxied.options(options), &results)) {
        finished.done();
    }
    let run = results.run();
    assert_sums(&run);
    assert!(number(&run, "requests") > 4, "{run:#}");
    let connections = proxied.connections(5);
    let answered: u64 = connections.iter().map(|of| number(of, "to_client")).sum();
    // The origin answers with its prefix once for each connection.
    let prefixes = 5 * "RESPONSE || ".len() as u64;
    assert_eq!(answered, number(&run, "requests") * 100 + prefixes);
}

#[test]
fn rate_of_the_open_loop_is_shared_out_exactly() {
    let (proxied, results) = (Proxied::start(), Results::new());
    let options = "--scenario connect --connections 40 --rate 203 --duration 1s";
    for finished in wait(fleet(4, &proxied.options(options), &results)) {
        finished.done();
    }
    let run = results.run();
    assert_sums(&run);
    assert_eq!(of_ranks(&run, "rate_per_s"), [51.0, 51.0, 51.0, 50.0]);
    assert_eq!(run["requested"]["rate_per_s"], 203.0);
    assert_eq!(scheduled(&run), [51, 51, 51, 50]);
    let requests = number(&run, "requests");
    proxied.connections(requests);
    for key in ["latency_from_intended_ns", "lateness_ns"] {
        assert_eq!(number(&run, &format!("{key}.count")), requests);
    }
}

#[test]
fn bulk_data_is_shared_out_and_rounds_are_repeated() {
    let (proxied, results) = (Proxied::start(), Results::new());
    let options =
        "--scenario bulk,connect --mb 4.000002 --connections 4 --duration 200ms --repeat 2";
    let options = proxied.options(options).replace("--repeat 1 ", "");
    for finished in wait(fleet(3, &options, &results)) {
        finished.done();
    }
    let record = results.record();
    let runs = record["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    runs.iter().for_each(assert_sums);
    let bulk: Vec<&Value> = runs
        .iter()
        .filter(|run| run["scenario"] == "bulk")
        .collect();
    for run in bulk {
        assert_eq!(number(run, "bytes"), 4_000_002);
        assert_eq!(of_ranks(run, "bytes"), [1_333_334.0; 3]);
    }
    assert_eq!(record["totals"].as_array().unwrap().len(), 2);
}

#[test]
fn killed_rank_costs_its_share_and_is_named() {
    let (proxied, results) = (Proxied::start(), Results::new());
    let options = "--scenario connect --connections 8 --rate 200 --duration 1s";
    let ranks = fleet(4, &proxied.options(options), &results);
    proxied.is_loaded();
    ranks[3].signal("KILL");
    let words = ["the run is incomplete: rank 3 is missing (rank 3 was lost during the run)"];
    for (rank, finished) in wait(ranks).into_iter().enumerate() {
        match rank {
            0 => {
                let finished = finished.failed(3, &words);
                let text = &finished.stdout;
                assert!(
                    text.contains("INCOMPLETE round 1: rank 3 is missing"),
                    "{text}"
                );
                assert!(text.contains("3 of 4 with a result"), "{text}");
                assert!(finished.took < PATIENCE / 2, "{:?}", finished.took);
            }
            3 => assert_eq!(finished.code, None),
            _ => drop(finished.done()),
        }
    }
    let run = results.run();
    assert_sums(&run);
    assert_eq!(
        (names(&run, "ranks"), names(&run, "missing")),
        (vec![0, 1, 2], vec![3])
    );
    assert_eq!(scheduled(&run), [50; 3]);
}

#[test]
fn ranks_save_their_own_runs_if_the_collector_is_killed() {
    let (proxied, results) = (Proxied::start(), Results::new());
    let options = "--scenario connect --connections 8 --rate 150 --duration 800ms --quiet";
    let ranks = fleet(3, &proxied.options(options), &results);
    proxied.is_loaded();
    ranks[0].signal("KILL");
    for finished in wait(ranks).into_iter().skip(1) {
        assert!(finished.took < PATIENCE / 2, "{:?}", finished.took);
        finished.failed(3, &["the ranks are not merged, as ", "`bench merge`"]);
    }
    let merged = bench(["merge", &results.arg(), "--json", "-"]).done();
    let record: Value = serde_json::from_str(&merged.stdout).unwrap();
    let run = &record["runs"][0];
    assert_sums(run);
    assert_eq!(scheduled(run), [40; 2]);
    assert_eq!(run["requested"]["rate_per_s"], 100.0);
}

#[test]
fn saved_runs_merge_to_the_run_of_all_requests() {
    let (proxied, hosts) = (Proxied::start(), [Results::new(), Results::new()]);
    let alone = |options: &str, results: &Results| {
        let (origin, via, out) = (proxied.origin, proxied.via, results.arg());
        let line = format!(
            "proxy load --origin {origin} --via {via} --protocol forward --repeat 1 --quiet --out {out} {options}"
        );
        bench(line.split_whitespace()).done();
        results.only()
    };
    let options = "--scenario connect,bulk --mb 1 --duration 100ms --rate 300";
    // Folders of one name, as of hosts with a home of their own.
    let folders = hosts.each_ref().map(|host| {
        let folder = host.folder.path().join("run1");
        fs::rename(alone(options, host), &folder).unwrap();
        folder
    });
    let merge = |paths: [&Path; 2], more: &str| {
        let paths = paths.map(|path| path.to_str().unwrap());
        bench(
            ["merge"]
                .into_iter()
                .chain(paths)
                .chain(more.split_whitespace()),
        )
    };
    let both = [&*folders[0], &*folders[1]];
    let finished = merge(both, "").done();
    assert!(
        finished
            .stdout
            .contains("connect proxied, 2 of 2 with a result")
    );
    let finished = merge(both, "--json -").done();
    let record: Value = serde_json::from_str(&finished.stdout).unwrap();
    let runs = record["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    for run in runs {
        assert_sums(run);
        match run["scenario"] == "bulk" {
            true => assert_eq!(number(run, "requests"), 2),
            false => assert_eq!(scheduled(run), [30, 30]),
        }
        assert_eq!(run["complete"], true);
        let names: BTreeSet<&str> = ranks(run)
            .iter()
            .map(|of| of["name"].as_str().unwrap())
            .collect();
        assert_eq!(names.len(), 2);
        assert!(
            names.iter().all(|name| name.ends_with("/run1")),
            "{names:?}"
        );
    }
    assert_eq!(merge(both, "--csv -").done().stdout.lines().count(), 13);
    merge([both[0], both[0]], "").failed(3, &["is given twice"]);
    let other = Results::new();
    let other = alone("--scenario connect --duration 100ms --message 9", &other);
    merge([both[0], &other], "").failed(3, &["has other settings than"]);
    let udp = Results::new();
    bench(["udp", "--packets", "9", "--quiet", "--out", &udp.arg()]).done();
    merge([both[0], &udp.only()], "").failed(3, &["is a record of kind 'udp'"]);
    let path = folders[1].join("run.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut changed: Value = serde_json::from_str(&text).unwrap();
    let of_connect = changed["runs"].as_array_mut().unwrap().iter_mut();
    let mut of_connect = of_connect.filter(|run| run["scenario"] == "connect");
    let requests = &mut of_connect.next().unwrap()["requests"];
    *requests = (requests.as_u64().unwrap() + 1).into();
    fs::write(&path, changed.to_string()).unwrap();
    merge(both, "").failed(3, &["contradicts itself: the answered requests are"]);
    fs::write(&path, text).unwrap();
    fs::remove_file(folders[1].join("histograms.jsonl")).unwrap();
    merge(both, "").failed(3, &["has no histograms.jsonl"]);
}

#[test]
fn signal_to_all_ranks_ends_the_run_with_what_there_is() {
    let (proxied, results) = (Proxied::start(), Results::new());
    let options = "--scenario connect --connections 4 --duration 20s";
    let ranks = fleet(2, &proxied.options(options), &results);
    proxied.is_loaded();
    ranks.iter().for_each(|rank| rank.signal("INT"));
    for finished in wait(ranks) {
        finished.done();
    }
    let record = results.record();
    let run = &record["runs"][0];
    assert_sums(run);
    assert_eq!(
        (&record["interrupted"], &run["complete"]),
        (&true.into(), &false.into())
    );
    assert_eq!(names(run, "ranks"), [0, 1]);
    assert!(number(run, "requests") > 0);
}

#[test]
fn rank_that_never_comes_does_not_hold_the_others() {
    let (proxied, results) = (Proxied::start(), Results::new());
    let options = "--scenario connect --connections 6 --duration 100ms --fleet-wait 1s";
    let options = proxied.options(options);
    let ranks = [0, 1].map(|number| rank(number, 3, &options, &results));
    let mut finished = wait(ranks.into()).into_iter();
    let first = finished.next().unwrap();
    let first = first.failed(3, &["rank 2 is missing (rank 2 never came)"]);
    assert!(
        first.took < Duration::from_secs(1) + NOTICED,
        "{:?}",
        first.took
    );
    finished.next().unwrap().done();
    let run = results.run();
    assert_sums(&run);
    assert_eq!(names(&run, "ranks"), [0, 1]);
}

#[test]
fn path_without_answers_ends_all_ranks() {
    let (mut proxied, results) = (Proxied::start(), Results::new());
    proxied.via = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let options = "--scenario connect --connections 2 --duration 100ms --json -";
    let mut finished = wait(fleet(2, &proxied.options(options), &results)).into_iter();
    let first = finished.next().unwrap();
    let words = ["no connect request was answered correctly on the proxied path: connect_refused"];
    let record: Value = serde_json::from_str(&first.stdout).unwrap();
    first.failed(3, &words);
    assert_sums(&record["runs"][0]);
    assert_eq!(number(&record["runs"][0], "requests"), 0);
    let other = finished.next().unwrap();
    other.failed(
        3,
        &["the run is incomplete: no request was answered correctly"],
    );
}

#[test]
fn wrong_fleets_are_refused_by_one_sentence() {
    let via = "--origin 127.0.0.1:1 --via 127.0.0.1:1 --no-save";
    for (options, words) in [
        ("--fleet", "--fleet needs a rank and a size"),
        ("--fleet --rank 2 --size 2", "rank 2 is not one of 2 ranks"),
        (
            "--fleet --rank 0 --size 40",
            "--connections 32 cannot be shared by 40 ranks",
        ),
        (
            "--fleet --rank 0 --size 9 --scenario bulk --mb 0.000008",
            "--mb 0.000008 cannot be shared by 9 ranks",
        ),
        ("--rank 0 --size 2", "--fleet"),
        ("--fleet --rank 0 --size 2 --live", "--live"),
        ("--fleet --rank 0 --size 2 --scenario udp", "udp"),
    ] {
        let line = format!("proxy load {via} {options}");
        bench(line.split(' ')).failed(2, &[words]);
    }
    let alone = format!(
        "proxy load {via} --fleet --rank 1 --size 2 --rendezvous 127.0.0.1:1 --fleet-wait 300ms"
    );
    let words = "cannot reach the server of the fleet at 127.0.0.1:1";
    bench(alone.split(' ')).failed(3, &[words, "does rank 0 run there"]);
}

#[test]
fn rank_of_another_command_line_is_refused() {
    let (proxied, results) = (Proxied::start(), Results::new());
    let options = proxied.options("--scenario connect --duration 100ms");
    let first = rank(0, 2, &options, &results);
    let other = rank(1, 2, &format!("{options} --message 32"), &results);
    other
        .wait(PATIENCE)
        .failed(3, &["rank 1 has other options"]);
    let second = rank(1, 2, &options, &results);
    for finished in wait(vec![first, second]) {
        finished.done();
    }
    assert_sums(&results.run());
}
