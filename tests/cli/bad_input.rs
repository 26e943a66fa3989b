//! Invalid requests are rejected before anything is started: the right exit code, one sentence that names the bad value, nothing
//! on stdout and nothing left behind.

use std::fs;
use std::net::{SocketAddr, TcpListener};

use crate::common::{Finished, Results, bench};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// Runs `bench udp` with these options and an output folder, which must stay empty.
#[track_caller]
fn udp(options: &str) -> Finished {
    let results = Results::new();
    let out = results.arg();
    let finished = bench(["udp", "--out", &out].into_iter().chain(options.split(' ')));
    assert_eq!(results.names(), [""; 0], "{options}");
    assert_eq!(finished.stdout, "", "{options}");
    finished
}

#[test]
fn numbers_out_of_range_are_rejected_by_value() {
    for (options, named) in [
        ("--mb 0", "--mb 0 "),
        ("--mb 0.0000001", "0.0000001"),
        ("--mb -5", "-5"),
        ("--mb 1e6", "1e6"),
        ("--mb ten", "ten"),
        ("--mb 9999999999999", "9999999999999"),
        ("--packets 0", "0 datagrams"),
        ("--packets 1.5", "1.5"),
        ("--packets 281474976710656", "281474976710656"),
        ("--packets 99999999999999999999", "99999999999999999999"),
        ("--duration 0", "duration of 0"),
        ("--duration 0.0000000001s", "duration of 0"),
        ("--duration 5x", "5x"),
        ("--duration -1s", "-1"),
        ("--duration 99999999999h", "99999999999h"),
        ("--chunk 0", "0 bytes"),
        ("--chunk 65476", "65476"),
        ("--chunk 1k", "1k"),
        ("--rate 0", "--rate 0"),
        ("--rate 1", "--rate 1"),
        ("--rate fast", "fast"),
        ("--rate 99999999999G --chunk 1", "--rate 99999999999"),
        ("--pps 0", "0 datagrams a second"),
        ("--pps 9999G", "9999000000000"),
        ("--pps inf", "inf"),
        ("--batch 0", "batch of 0"),
        ("--batch 1025", "batch of 1025"),
        ("--batch many", "many"),
        ("--gso maybe", "maybe"),
        ("--engine turbo", "turbo"),
        ("--streams 0", "0 streams"),
        ("--streams 129", "129 streams"),
        ("--streams -1", "-1"),
        ("--cpus 0;1", "0;1"),
        ("--cpus 0-1", "0-1"),
        ("--cpus 4095", "CPU 4095"),
        ("--sndbuf 0", "'0'"),
        ("--sndbuf 3G", "3G"),
        ("--rcvbuf 0", "'0'"),
        ("--rcvbuf 1KB", "1KB"),
        ("--repeat 0", "expected 1 to 10000"),
        ("--repeat 10001", "10001"),
        ("--warmup never", "never"),
        ("--warmup 2h", "7200s"),
        ("--interval 0", "interval of 0ns"),
        ("--interval 9ms", "9ms"),
        ("--interval 2h", "7200s"),
        ("--clock sun", "sun"),
        ("--bind nowhere --to 127.0.0.1:9", "nowhere"),
    ] {
        udp(options).failed(2, &[named]);
    }
}

#[test]
fn conflicting_options_are_rejected() {
    for (options, named) in [
        ("--mb 1 --packets 5", "--packets"),
        ("--packets 5 --duration 1s", "--duration"),
        ("--rate 1M --pps 100", "--pps"),
        ("--unpaced --rate 1M", "--rate"),
        ("--no-save", "--no-save"),
        ("--ipv6 --to 127.0.0.1:9", "--to"),
        ("--bind 127.0.0.1:0", "--to"),
        ("--bind [::1]:0 --to 127.0.0.1:9", "[::1]:0"),
        ("--to 127.0.0.1:0", "127.0.0.1:0"),
        ("--to 127.0.0.1:70000", "'70000' is not a port"),
        ("--to [::1", "the bracket is not closed"),
        ("-4 --to [::1]:9", "--to [::1]:9 has no IPv4 address"),
        ("-4 -6", "--ipv6"),
        ("--reverse --bidir", "--bidir"),
        ("--key-file /nowhere --to 127.0.0.1:9", "/nowhere"),
        (
            "--key-file /dev/null --to 127.0.0.1:9",
            "expected 16 to 4096",
        ),
        ("--peer-timeout 0 --to 127.0.0.1:9", "--peer-timeout"),
        ("--mb 1 --mb 2", "--mb"),
        ("--speed 5", "--speed"),
    ] {
        udp(options).failed(2, &[named]);
    }
    let both = bench(["udp", "--no-save", "--json", "-", "--csv", "-"]);
    assert_eq!(error_object(&both).0, 2);
    both.failed(2, &["--json - and --csv -"]);
    bench(["udp", "--no-save", "--packets-csv"]).failed(2, &["--packets-csv"]);
    bench(["sing"]).failed(2, &["sing"]);
}

/// Exit code and message of the only JSON object on stdout.
#[track_caller]
fn error_object(finished: &Finished) -> (i64, String) {
    let object: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(object["schema"], 1);
    assert_eq!(object.as_object().unwrap().len(), 2);
    let error = &object["error"];
    let message = error["message"].as_str().unwrap().to_owned();
    (error["exit"].as_i64().unwrap(), message)
}

#[test]
fn an_invalid_quantity_names_its_option() {
    let udp = "--mb --packets --duration --chunk --rate --pps --batch --uring-ring-size --streams --sndbuf --rcvbuf \
        --repeat --warmup --interval";
    let load = "--connections --message --streams --rate --duration --mb --repeat --warmup --timeout --load-threads";
    let serve = "--threads --max-connections --max-connections-per-client --max-request --request-timeout --connect-timeout --idle-timeout \
        --half-closed-timeout --drain-timeout";
    let server = "--max-sessions --max-streams --max-connections --max-duration --idle-timeout --max-packet-rows --max-rcvbuf";
    for (command, options) in [
        ("udp", udp),
        ("serve", server),
        ("proxy", load),
        ("proxy load --origin 127.0.0.1:9", load),
        ("proxy serve --listen 127.0.0.1:0", serve),
        ("proxy send --proxy 127.0.0.1:9 --server a:9 x", "--timeout"),
        ("compare a b", "--threshold"),
    ] {
        for option in options.split_whitespace() {
            for value in ["-1", "-5s", "-2%", "x", ""] {
                let words = command.split(' ').chain([option, value]);
                let finished = bench(words);
                let first = finished.stderr.lines().next().unwrap_or_default();
                assert!(
                    first.contains(&format!("'{value}' for '{option} <")),
                    "{command} {option} {value}: {first}"
                );
                finished.failed(2, &[]);
            }
        }
    }
}

#[test]
fn with_json_on_stdout_an_error_is_an_object() {
    for (command, code) in [
        ("udp --no-save --to 127.0.0.1:9", 3),
        ("udp --no-save --packets 0", 2),
        ("udp --no-save --mb -1", 2),
        ("udp --no-save --speed 5", 2),
        ("udp --out /proc/nowhere", 3),
        (
            "proxy --no-save --no-direct --via 127.0.0.1:9 --scenario blocked",
            2,
        ),
        ("proxy load --no-save", 2),
        ("proxy load --no-save --origin 127.0.0.1:9 --rate none", 2),
        ("compare /nowhere /nowhere", 3),
        ("compare /nowhere", 2),
        ("doctor now", 2),
    ] {
        for dash in ["--json -", "--json=-"] {
            let finished = bench(command.split(' ').chain(dash.split(' ')));
            let (exit, message) = error_object(&finished);
            assert_eq!(
                (exit, finished.code),
                (code, i32::try_from(code).ok()),
                "{command}"
            );
            assert!(!message.is_empty() && !message.contains('\n'), "{message}");
            // The object has the sentence of stderr.
            let stderr = finished
                .stderr
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            assert!(stderr.contains(&message), "{stderr}: {message}");
        }
    }
}

#[test]
fn nothing_follows_a_record_on_stdout() {
    let json = |finished: &Finished| serde_json::from_str::<Value>(&finished.stdout).unwrap();
    let args = "proxy load --no-save --origin 127.0.0.1:9 --scenario connect --duration 50ms --repeat 1 --json -";
    // There is no server: the record has the errors, and the run is a failure.
    let finished = bench(args.split(' '));
    assert!(json(&finished)["runs"].is_array(), "{}", finished.stdout);
    finished.failed(3, &["no connect request was answered correctly"]);
}

#[test]
fn a_failed_command_leaves_no_partial_file() {
    let folder = Results::new();
    let path = folder.folder.path().join("run.json");
    let to = path.to_str().unwrap();
    bench(["udp", "--no-save", "--to", "127.0.0.1:9", "--json", to]).failed(3, &["127.0.0.1:9"]);
    bench(["compare", "/nowhere", "/nowhere", "--json", to]).failed(3, &["/nowhere"]);
    assert_eq!(folder.names(), [""; 0]);
    fs::write(&path, "before").unwrap();
    bench(["udp", "--no-save", "--to", "127.0.0.1:9", "--json", to]).failed(3, &["127.0.0.1:9"]);
    assert_eq!(folder.names(), ["run.json"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "before");
}

#[test]
fn an_unreachable_server_is_named() {
    // Bound but not listening, so connects to it are refused.
    let taken = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    taken.bind(&any.into()).unwrap();
    let closed = taken.local_addr().unwrap().as_socket().unwrap().to_string();
    let long = "x".repeat(70);
    for (options, named) in [
        (format!("--to {closed}"), closed.as_str()),
        ("--to 255.255.255.255:9".to_owned(), "255.255.255.255:9"),
        (format!("--to {long}:9"), &long),
        (format!("--to {long}"), &long),
        (format!("--to {closed} --bind 192.0.2.1:0"), "192.0.2.1:0"),
    ] {
        udp(&options).failed(3, &[named]);
    }
}

#[test]
fn an_unwritable_folder_is_an_error_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let file = path("file");
    fs::write(&file, "not a folder").unwrap();
    let below = path("file/below");
    let absent = path("absent/run.json");
    let cases = [
        vec!["udp", "--out", &file],
        vec!["udp", "--out", &below],
        vec!["udp", "--no-save", "--json", &absent],
        vec!["udp", "--no-save", "--csv", &absent],
        vec![
            "udp",
            "--no-save",
            "--json",
            folder.path().to_str().unwrap(),
        ],
        vec!["serve", "--bind", "127.0.0.1:0", "--out", &file],
        vec!["serve", "--bind", "127.0.0.1:0", "--out", &below],
    ];
    for args in cases {
        let place = args.last().unwrap();
        let finished = bench(&args).failed(3, &[place]);
        assert_eq!(finished.stdout, "", "{args:?}");
    }
    assert_eq!(crate::common::names(folder.path()), ["file"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a folder");
}

#[test]
fn folders_of_a_failed_run_are_removed() {
    let results = Results::new();
    let out = results.folder.path().join("a/b/c");
    let args = ["udp", "--to", "255.255.255.255:9", "--out"];
    bench(args.into_iter().chain([out.to_str().unwrap()])).failed(3, &["255.255.255.255:9"]);
    assert_eq!(results.names(), [""; 0]);
}

#[test]
fn a_full_disk_is_reported_and_the_run_is_saved_elsewhere() {
    let results = Results::new();
    let out = results.arg();
    let finished = bench(["udp", "--mb", "0.1", "--out", &out, "--csv", "/dev/full"]);
    finished.failed(3, &["/dev/full", "No space left"]);
    assert_eq!(results.run()["complete"], true);
    assert_eq!(results.ledger().len(), 2);
}

#[test]
fn a_file_that_is_not_a_ledger_is_not_changed() {
    let results = Results::new();
    let ledger = results.folder.path().join("udp.csv");
    fs::write(&ledger, "milk,eggs\n1,12\n").unwrap();
    let finished = bench(["udp", "--mb", "0.1", "--out", &results.arg()]);
    finished.failed(3, &["udp.csv", "not a ledger of wirebench"]);
    assert_eq!(fs::read_to_string(&ledger).unwrap(), "milk,eggs\n1,12\n");
    assert_eq!(results.run()["complete"], true);
}

#[test]
fn invalid_server_options_are_rejected() {
    let serve = |options: &str| {
        let results = Results::new();
        let out = results.arg();
        let fixed = ["serve", "--out", &out];
        let finished = bench(fixed.into_iter().chain(options.split(' ')));
        assert_eq!((finished.stdout.as_str(), results.names().len()), ("", 0));
        finished
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    serve(&format!("--bind {address}")).failed(3, &[&address, "in use"]);
    serve("--bind 192.0.2.1:0").failed(3, &["192.0.2.1:0"]);
    serve("--bind no.such.host.invalid").failed(2, &["no.such.host.invalid"]);
    serve("--data-ports 7-6").failed(2, &["--data-ports"]);
    serve("--key-file /nowhere").failed(2, &["/nowhere"]);
    serve("--bind 127.0.0.1:99999").failed(2, &["127.0.0.1:99999"]);
    for (options, named) in [
        ("--cpus 4095", "CPU 4095"),
        ("--cpus x", "x"),
        ("--max-sessions 0", "'0'"),
        ("--max-sessions -1", "-1"),
        ("--max-streams 0", "'0'"),
        ("--max-connections 0", "'0'"),
        ("--max-connections many", "many"),
        ("--max-packet-rows 1.5", "1.5"),
        ("--max-duration 0", "'0'"),
        ("--max-duration soon", "soon"),
        ("--idle-timeout 0s", "'0s'"),
        ("--idle-timeout -1", "-1"),
    ] {
        serve(&format!("--bind 127.0.0.1:0 {options}")).failed(2, &[named]);
    }
}

#[test]
fn unavailable_features_are_errors() {
    // Two of the largest datagrams do not fit a segmented send.
    let results = Results::new();
    let out = results.arg();
    let args = [
        "udp",
        "--out",
        &out,
        "--packets",
        "5",
        "--chunk",
        "65475",
        "--gso",
        "on",
    ];
    bench(args).failed(3, &["GSO", "--gso off or auto"]);
    assert_eq!(results.names(), [""; 0]);
}

#[test]
fn an_engine_rejects_what_it_cannot_do() {
    for (options, words) in [
        (
            "--zerocopy splice --pps 1k",
            &["lossless", "credit", "--pps"][..],
        ),
        ("--zerocopy splice --unpaced", &["lossless", "--unpaced"]),
        (
            "--zerocopy splice --engine uring",
            &["--engine mio", "--zerocopy msg"],
        ),
        ("--zerocopy most", &["most"]),
        ("--engine epoll", &["epoll"]),
        ("--uring-sqpoll", &["--uring-sqpoll", "--engine uring"]),
        (
            "--uring-ring-size 64",
            &["--uring-ring-size", "--engine uring"],
        ),
        ("--uring-recv single", &["--uring-recv", "--engine uring"]),
        (
            "--engine uring --uring-ring-size 0",
            &["--uring-ring-size 0", "32768"],
        ),
        ("--engine uring --uring-ring-size 32769", &["32769"]),
    ] {
        udp(options).failed(2, words);
    }
}
