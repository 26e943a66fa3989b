//! `bench udp --fleet` as several processes, started by hand.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::common::fleet::{BENCH, Namespace, assert_sums, fleet, names, rank, receiving, wait};
use crate::common::{NOTICED, PATIENCE, Results, Running, Serve, bench, number, table, until};
use wirebench::udp::wire::control::Reply;
use wirebench::udp::wire::framing;

#[test]
fn ranks_measure_as_one_and_rank_0_writes_the_result() {
    let results = Results::new();
    let options = receiving("--pps 1001 --packets 902 --interval 200ms");
    let finished = wait(fleet(4, &options, &results));
    for (rank, finished) in finished.into_iter().enumerate() {
        let finished = finished.done();
        if rank > 0 {
            assert_eq!(finished.stdout, "");
            continue;
        }
        for part in [
            "3 of 3 with a result, start skew ",
            "\nrank 3 ",
            "slowest rank ",
        ] {
            assert!(
                finished.stdout.contains(part),
                "{part}: {}",
                finished.stdout
            );
        }
    }
    let run = results.run();
    assert_sums(&run);
    assert_eq!(run["complete"], true);
    // The remainders of both go to the lower ranks.
    let sent = run["fleet"]["ranks"].as_array().unwrap().iter();
    let sent: Vec<u64> = sent.map(|rank| number(rank, "sent.packets")).collect();
    assert_eq!(sent, [301, 301, 300]);
    // A third of the interval of each.
    let phases = run["fleet"]["ranks"].as_array().unwrap().iter();
    let phases: Vec<u64> = phases
        .map(|rank| number(rank, "phase_ns") / 1_000)
        .collect();
    assert_eq!(phases, [0, 998, 2_002]);
    assert_eq!(run["requested"]["pps"], 1001.0);
    assert_eq!(number(&run, "requested.packets"), 902);
    assert_eq!(names(&run, "ranks"), [1, 2, 3]);
    // Loose, as the machine may be busy with other tests.
    assert!(number(&run, "fleet.start_skew_ns") < 500_000_000, "{run:#}");
    let rows = table(&results.only().join("ranks.csv"));
    assert_eq!(rows.len(), 5);
    let column = rows[0].iter().position(|name| name == "unique").unwrap();
    assert_eq!(rows[4][column], number(&run, "received.unique").to_string());
    assert_eq!(results.ledger().len(), 2);
}

#[test]
fn kernel_counts_the_datagrams_of_the_ranks() {
    let namespace = Namespace(format!("wbfleet{}", std::process::id()));
    if !namespace.build() {
        println!("skipped: no network namespaces here");
        return;
    }
    let results = Results::new();
    let inside = ["ip", "netns", "exec", &namespace.0, BENCH[0]];
    let counters = || namespace.udp_counters();
    let before = counters();
    // One datagram a message, so that the kernel counts each.
    let options = "--packets 3000 --pps 3k --gso off --batch 1";
    let ranks = (0..4).map(|number| rank(&inside, number, 4, options, &results));
    for finished in wait(ranks.collect()) {
        finished.done();
    }
    let run = results.run();
    assert_sums(&run);
    assert_eq!(number(&run, "sent.packets"), 3_000);
    let of_kernel: Vec<u64> = counters()
        .iter()
        .zip(before)
        .map(|(now, then)| now - then)
        .collect();
    let [received, unreachable, errors, sent] = of_kernel[..] else {
        panic!("{of_kernel:?}");
    };
    assert_eq!((received, unreachable, errors), (sent, 0, 0));
    // The others open the flows and keep them open.
    let others = received - number(&run, "received.packets");
    assert!(others < 100, "{others}");
}

#[test]
fn all_ranks_send_to_a_server_or_receive_from_it() {
    let server = Serve::start(&[]);
    for direction in [
        "",
        "--reverse",
        "--bidir",
        "--reverse --pps 6000",
        "--bidir --pps 6000",
    ] {
        let results = Results::new();
        let pace = if direction.contains("--pps") {
            ""
        } else {
            "--unpaced"
        };
        let options = format!("--to {} --mb 0.3 {pace} {direction}", server.address);
        for finished in wait(fleet(3, &options, &results)) {
            finished.done();
        }
        let record = results.record();
        let runs = record["runs"].as_array().unwrap();
        let is_both = direction.starts_with("--bidir");
        assert_eq!(runs.len(), if is_both { 2 } else { 1 });
        for run in runs {
            assert_sums(run);
            // The mean of a remote sender's schedule is that of its values.
            if let Some(lateness) = run["pacing"]["lateness_ns"].as_object() {
                let figure = |key: &str| lateness[key].as_f64().unwrap();
                assert!((figure("min")..=figure("max")).contains(&figure("mean")));
            }
            assert_eq!(number(run, "sent.bytes"), 300_000);
            assert_eq!(names(run, "ranks"), [0, 1, 2]);
        }
    }
}

#[test]
fn compared_settings_are_those_of_all_ranks() {
    let results = Results::new();
    let options = receiving("--packets 300 --pps 3k --batch 1,16 --repeat 2 --warmup 50ms");
    for finished in wait(fleet(3, &options, &results)) {
        finished.done();
    }
    let record = results.record();
    let runs = record["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    runs.iter().for_each(assert_sums);
    let settings = record["comparison"].as_array().unwrap();
    assert_eq!(settings.len(), 2);
    assert!(
        settings
            .iter()
            .all(|setting| number(setting, "sent_packets") == 600)
    );
}

/// Waits until a rank has a thread of this name.
fn has_thread(rank: &Running, wanted: &str) {
    let tasks = format!("/proc/{}/task", rank.id());
    until(wanted, || {
        let tasks = fs::read_dir(&tasks).into_iter().flatten().flatten();
        let mut names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.any(|name| name.trim() == wanted)
    });
}

/// Waits until a rank's sender is set up, and has had time to send.
fn sending(rank: &Running, time: Duration) {
    has_thread(rank, "send-0");
    thread::sleep(time);
}

#[test]
fn killed_rank_costs_its_share_and_is_named() {
    let results = Results::new();
    let options = receiving("--duration 3s --pps 400");
    let ranks = fleet(5, &options, &results);
    sending(&ranks[3], Duration::from_secs(1));
    ranks[3].signal("KILL");
    let finished = wait(ranks);
    let words = ["the run is incomplete: rank 3 is missing (rank 3 was lost during the run)"];
    for (rank, finished) in finished.into_iter().enumerate() {
        match rank {
            0 => {
                let finished = finished.failed(3, &words);
                assert!(
                    finished.stdout.contains("INCOMPLETE"),
                    "{}",
                    finished.stdout
                );
                assert!(finished.stdout.contains("3 of 4 with a result"));
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
        (vec![1, 2, 4], vec![3])
    );
    assert_eq!(run["ended"], "peer_lost");
    // Each of the others had the time for its share of 300 datagrams.
    let ranks = run["fleet"]["ranks"].as_array().unwrap().iter();
    ranks.for_each(|rank| assert!(number(rank, "sent.packets") > 250, "{rank:#}"));
}

/// Waits for ranks whose collector is lost, and merges what they have saved. Returns the merged run.
fn merged(ranks: Vec<Running>, results: &Results, exit: i32) -> serde_json::Value {
    let mut folders = Vec::new();
    for finished in wait(ranks) {
        assert!(finished.took < PATIENCE / 2, "{:?}", finished.took);
        let finished = finished.failed(3, &["the ranks are not merged", "`bench merge`"]);
        let mut words = finished.stderr.split_whitespace();
        folders.extend(
            words
                .find_map(|word| word.strip_suffix(':').filter(|word| word.contains("-udp-")))
                .map(str::to_owned),
        );
    }
    let json = results.folder.path().join("merged.json");
    let out = results.arg();
    let merge = bench(["merge", &out, "--json", json.to_str().unwrap()]);
    match exit {
        0 => drop(merge.done()),
        exit => drop(merge.failed(exit, &["the merged run is incomplete: "])),
    }
    let record: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let run = record["runs"][0].clone();
    let names: Vec<&str> = run["fleet"]["ranks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rank| rank["name"].as_str().unwrap())
        .collect();
    assert!(
        folders
            .iter()
            .all(|folder| names.iter().any(|name| folder.ends_with(name))),
        "{folders:?} {names:?}"
    );
    run
}

#[test]
fn ranks_save_their_own_results_if_rank_0_dies_with_the_server() {
    let namespace = Namespace(format!("wbrank0{}", std::process::id()));
    if !namespace.build() {
        println!("skipped: no network namespaces here");
        return;
    }
    let results = Results::new();
    let inside = ["ip", "netns", "exec", &namespace.0, BENCH[0]];
    let before = namespace.udp_counters();
    let options = "--duration 3s --pps 900 --gso off --batch 1";
    let ranks = (0..4).map(|number| rank(&inside, number, 4, options, &results));
    let mut ranks: Vec<Running> = ranks.collect();
    sending(&ranks[3], Duration::from_millis(900));
    ranks[0].signal("KILL");
    let first = ranks.remove(0);
    let run = merged(ranks, &results, 3);
    drop(first);
    assert_eq!(
        (
            run["complete"].as_bool(),
            run["fleet"]["ranks"].as_array().unwrap().len()
        ),
        (Some(false), 3)
    );
    let now = namespace.udp_counters();
    let (sent, of_kernel) = (number(&run, "sent.packets"), now[3] - before[3]);
    assert!(sent > 200, "{sent}");
    // The others open the flows and keep them open.
    assert!(
        of_kernel >= sent && of_kernel - sent < 100,
        "{of_kernel} {sent}"
    );
}

#[test]
fn ranks_save_their_own_results_if_the_collector_or_the_server_dies() {
    let server = Serve::start(&[]);
    let results = Results::new();
    let options = format!("--to {} --packets 1350 --pps 900", server.address);
    let mut ranks = fleet(3, &options, &results);
    sending(&ranks[2], Duration::from_millis(600));
    ranks[0].signal("KILL");
    drop(ranks.remove(0));
    let run = merged(ranks, &results, 0);
    assert_sums(&run);
    assert_eq!(number(&run, "sent.packets"), 2 * 450);

    let results = Results::new();
    let ranks = fleet(3, &options, &results);
    sending(&ranks[2], Duration::from_millis(600));
    server.program.signal("KILL");
    let run = merged(ranks, &results, 3);
    assert_eq!(run["fleet"]["ranks"].as_array().unwrap().len(), 3);
    assert!(number(&run, "sent.packets") > 100, "{run:#}");
}

#[test]
fn rank_that_never_comes_does_not_hold_the_others() {
    let results = Results::new();
    let options = receiving("--packets 300 --pps 3k --fleet-wait 3s");
    let ranks = [0, 1].map(|number| rank(BENCH, number, 3, &options, &results));
    let mut finished = wait(ranks.into()).into_iter();
    let first = finished.next().unwrap();
    let first = first.failed(3, &["rank 2 is missing (rank 2 never came)"]);
    assert!(
        first.took < Duration::from_secs(3) + NOTICED,
        "{:?}",
        first.took
    );
    finished.next().unwrap().done();
    let run = results.run();
    assert_sums(&run);
    assert_eq!(number(&run, "sent.packets"), 150);
}

#[test]
fn wrong_fleets_are_refused_by_one_sentence() {
    for (options, words) in [
        ("--fleet", "--fleet needs a rank and a size"),
        ("--fleet --rank 1", "--rank gives a rank without a size"),
        ("--fleet --rank 2 --size 2", "rank 2 is not one of 2 ranks"),
        (
            "--fleet --rank 0 --size 1",
            "a fleet of one rank has no sender",
        ),
        (
            "--fleet --rank 5 --size 9 --packets 7",
            "--packets 7 cannot be shared by 8 senders",
        ),
        ("--rank 0 --size 2", "--fleet"),
        ("--fleet --rank 0 --size 2 --live", "--live"),
        ("--fleet --rank 0 --size 2 --round-trip", "--round-trip"),
        (
            "--fleet --rank 0 --size 2 --to a --rendezvous b",
            "--rendezvous",
        ),
    ] {
        let args = ["udp", "--no-save"].into_iter().chain(options.split(' '));
        bench(args).failed(2, &[words]);
    }
    let pod = |size: &str| {
        let mut command = Command::new(BENCH[0]);
        command.args(["udp", "--fleet", "--no-save"]);
        command.envs([("JOB_COMPLETION_INDEX", "1"), ("JOB_COMPLETIONS", size)]);
        Running::new(command).wait(PATIENCE)
    };
    pod("4").failed(2, &["the address of rank 0 is unknown", "--rendezvous"]);
    pod("four").failed(2, &["JOB_COMPLETIONS=four is not a number"]);
    let server = "udp --fleet --rank 0 --size 2 --to 127.0.0.1:1 --fleet-wait 300ms";
    bench(server.split(' ')).failed(3, &["does `bench serve` run there"]);
    let alone = "udp --fleet --rank 1 --size 2 --rendezvous 127.0.0.1:1 --fleet-wait 300ms";
    bench(alone.split(' ')).failed(3, &["cannot reach the server of the fleet at 127.0.0.1:1"]);
}

#[test]
fn ranks_of_other_command_lines_and_of_taken_numbers_are_refused() {
    let results = Results::new();
    let options = receiving("--packets 300 --pps 3k --fleet-wait 8s");
    let first = rank(BENCH, 0, 3, &options, &results);
    let second = rank(BENCH, 1, 3, &options, &results);
    // The thread starts after the rank has joined.
    has_thread(&first, "fleet-read");
    has_thread(&second, "fleet-read");
    let other = rank(BENCH, 2, 3, &format!("{options} --chunk 64"), &results);
    other
        .wait(PATIENCE)
        .failed(3, &["rank 2 has other options"]);
    let twin = rank(BENCH, 1, 3, &options, &results);
    twin.wait(PATIENCE).failed(
        3,
        &[
            "rank 1 of this fleet is here already",
            "another name (--fleet-name)",
        ],
    );
    let third = rank(BENCH, 2, 3, &options, &results);
    for finished in wait(vec![first, second, third]) {
        finished.done();
    }
    assert_sums(&results.run());
}

#[test]
fn older_server_is_named_in_one_sentence() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let finished = thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read(&mut [0; 4_096]);
            let reason = "this is a wirebench server, and the first message is invalid: unknown variant `fleet`, expected one of `greet`";
            let refusal = Reply::Refused {
                reason: reason.to_owned(),
            };
            let mut bytes = Vec::new();
            framing::encode(&refusal, &mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
            let _ = stream.read(&mut [0; 4_096]);
        });
        bench([
            "udp",
            "--fleet",
            "--rank",
            "0",
            "--size",
            "2",
            "--no-save",
            "--to",
            &to,
        ])
    });
    finished.failed(
        3,
        &["is older and has no fleets; install this wirebench there"],
    );
}

#[test]
fn keys_are_proved_to_the_server_of_a_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, "a key of more than 16 bytes").unwrap();
    let server = Serve::start(&["--key-file", key.to_str().unwrap()]);
    let options = format!("--to {} --packets 20", server.address);
    let results = Results::new();
    let keyed = format!("{options} --key-file {}", key.display());
    for finished in wait(fleet(2, &keyed, &results)) {
        finished.done();
    }
    assert_sums(&results.run());
    let refused = rank(BENCH, 0, 2, &options, &results).wait(PATIENCE);
    refused.failed(3, &["requires a key"]);
    // Rank 0's own server requires the key too.
    let results = Results::new();
    let unkeyed = receiving("--packets 20");
    let keyed = format!("{unkeyed} --key-file {}", key.display());
    let first = rank(BENCH, 0, 2, &keyed, &results);
    let refused = rank(BENCH, 1, 2, &unkeyed, &results).wait(PATIENCE);
    refused.failed(3, &["requires a key"]);
    for finished in wait(vec![first, rank(BENCH, 1, 2, &keyed, &results)]) {
        finished.done();
    }
    assert_sums(&results.run());
}
