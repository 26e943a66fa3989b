//! Instructions in user space, counted by callgrind: a guard that the noise of a machine cannot fool.
//!
//! ```text
//! tools/instructions/check.sh             compares with budget.csv; exit 1 if a count rose by more than 3 %, or 20 % with two threads
//! tools/instructions/check.sh --update    writes budget.csv
//! ```
//!
//! Each case runs twice in a process of its own, with fewer and with more operations. The difference is the cost of the operations,
//! without startup. The counts of another compiler are not comparable, nor those of another CPU, for which the C library chooses
//! other functions, so the file names both. rustls measures its handshakes in this way (its ci-bench).

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use wirebench::blocklist::policy::{Policy, Sources};
use wirebench::blocklist::reload::Policies;
use wirebench::protocol::Settings;
use wirebench::proxy::handshake::Handshake;
use wirebench::proxy::relay::{Direction, Forwarding, Readable, Relay, Step};
use wirebench::proxy::rules::Rules;
use wirebench::stats::latency::Latency;
use wirebench::udp::plan::Quota;
use wirebench::udp::receive::accounting::StreamAccounting;
use wirebench::udp::send::pacing::Pacer;
use wirebench::udp::send::stream::Stream;
use wirebench::udp::wire::header::HEADER;

/// The counts that a change is compared with.
const BUDGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/budget.csv");

/// Rise that fails, in percent.
const TOLERANCE: f64 = 3.0;

/// Rise that fails for the cases with two threads, [`UDP`]: their waits and polls vary, and so do their counts by 6 %.
const TOLERANCE_OF_THREADS: f64 = 20.0;

/// Counts that a case is given to come within its budget. The hash maps have random seeds: where two keys of a case collide, each of
/// its lookups costs up to 6 % more, in one process of eight.
const COUNTS: usize = 6;

/// How the names of the cases with two threads begin.
const UDP: &str = "datagram of bench udp";

const TOKEN: u64 = 0x1234_5678_9abc_def0;
const CHUNK: usize = 1_000;

/// Datagrams of a segmented message of this chunk.
const DATAGRAMS: usize = 63;

/// Entries of the list that is read, and of the list that is looked up in.
const ENTRIES: u32 = 10_000;
const LOOKED_UP: u32 = 3_000;

/// A case that this process runs.
struct Case {
    name: &'static str,
    /// Operations of the shorter run; the longer one has three times as many.
    operations: u64,
    /// Runs so many operations.
    run: fn(u64),
}

const CASES: [Case; 9] = [
    Case {
        name: "datagram written and counted",
        operations: 63 * 400,
        run: datagrams,
    },
    Case {
        name: "pacing decision",
        operations: 50_000,
        run: pacing,
    },
    Case {
        name: "latency recorded",
        operations: 50_000,
        run: latencies,
    },
    Case {
        name: "list entry read",
        operations: ENTRIES as u64,
        run: entries,
    },
    Case {
        name: "IPv4 address looked up",
        operations: 200_000,
        run: |count| lookups(count, |number| format!("{}:443", v4(number))),
    },
    Case {
        name: "IPv4 address in IPv6 looked up",
        operations: 200_000,
        run: |count| lookups(count, |number| format!("[::ffff:{}]:443", v4(number))),
    },
    Case {
        name: "IPv6 address looked up",
        operations: 200_000,
        run: |count| lookups(count, |number| format!("[2a00:{number:x}::1]:443")),
    },
    Case {
        name: "SOCKS5 request parsed and permitted",
        operations: 5_000,
        run: requests,
    },
    Case {
        name: "relayed chunk decided",
        operations: 50_000,
        run: chunks,
    },
];

/// A message is filled by the sender's part, and its datagrams are taken by the receiver's.
fn datagrams(count: u64) {
    let quota = Quota {
        packets: None,
        last_chunk: CHUNK,
        time: None,
    };
    let mut stream = Stream::new(TOKEN, CHUNK, quota, None, false, 0);
    let mut accounting = StreamAccounting::new(TOKEN, CHUNK, false, Box::default());
    let mut slot = vec![0; DATAGRAMS * (CHUNK + HEADER)];
    let mut now = 1 << 40;
    for _ in 0..count / DATAGRAMS as u64 {
        stream.fill(&mut slot, DATAGRAMS as u64, || now);
        now += 20_000;
        for datagram in slot.chunks(CHUNK + HEADER) {
            black_box(accounting.datagram(datagram, now));
        }
    }
    assert_eq!(
        accounting.unique(),
        count / DATAGRAMS as u64 * DATAGRAMS as u64
    );
}

fn pacing(count: u64) {
    let mut pacer = Pacer::new(3e6, 0);
    for _ in 0..count {
        black_box(pacer.take(black_box(u64::MAX)));
    }
}

fn latencies(count: u64) {
    let mut latency = Latency::new();
    let mut ns = 10_000;
    for _ in 0..count {
        ns = ns * 25 % 100_003;
        latency.record(black_box(ns));
    }
    black_box(latency.max());
}

/// Multiplication by an odd factor permutes 32-bit numbers.
fn v4(number: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from_bits(number.wrapping_mul(2_654_435_761))
}

/// A policy with a third each of IPv4 addresses, IPv6 networks and names.
fn policy(entries: u32) -> Policy {
    let mut list = String::new();
    for number in 0..entries / 3 {
        writeln!(list, "{}", v4(number)).unwrap();
        writeln!(list, "2a00:{number:x}::/32").unwrap();
        writeln!(list, "d{number}.example").unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), list).unwrap();
    Policy::load(&Sources {
        block: vec![file.path().to_owned()],
        ..Sources::default()
    })
    .unwrap()
}

fn entries(count: u64) {
    black_box(policy(count as u32));
}

/// Half of the destinations are listed.
fn lookups(count: u64, destination: fn(u32) -> String) {
    let policy = policy(LOOKED_UP);
    let asked: Vec<SocketAddr> = (0..512)
        .map(|number| destination(number * 4).parse().unwrap())
        .collect();
    for address in asked.iter().cycle().take(count as usize) {
        black_box(policy.decide(*address, None));
    }
}

fn requests(count: u64) {
    const SOCKS5: &[u8] = &[5, 1, 0, 5, 1, 0, 1, 192, 0, 2, 1, 0x23, 0x28];
    let policies = Policies::load(Sources::default()).unwrap();
    let rules = Rules::new(Settings::default(), policies);
    let peer = SocketAddr::from(([203, 0, 113, 1], 4_000));
    for _ in 0..count {
        let mut handshake = Handshake::new(&rules, peer.into(), None, false);
        handshake.begin(&rules);
        black_box(handshake.on_read(black_box(SOCKS5), &rules));
    }
}

fn chunks(count: u64) {
    let mut relay = Relay::new(Forwarding::Copy, 1 << 16);
    relay.to_server.readable(Readable::Open);
    relay.to_server.writable();
    for _ in 0..count {
        if let Step::Fill { most, .. } = relay.step(Direction::ToServer) {
            relay.to_server.filled(black_box(most));
        }
        if let Step::Drain { most, .. } = relay.step(Direction::ToServer) {
            relay.to_server.drained(most);
        }
    }
    assert_eq!(relay.to_server.counts().fills, count);
}

/// The instructions of a command under callgrind; `during` gets its standard output and ends it.
fn count(
    command: &[&str],
    during: impl FnOnce(&mut BufReader<std::process::ChildStdout>, u32),
) -> u64 {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--log-file={}", log.path().display()))
        .args(command)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    during(&mut stdout, child.id());
    let _ = stdout.read_to_end(&mut Vec::new());
    let status = child.wait().unwrap();
    assert!(status.success(), "{command:?}: {status}");
    let log = fs::read_to_string(log.path()).unwrap();
    let count = log.lines().find_map(|line| line.split_once("Collected : "));
    count.unwrap().1.trim().parse().unwrap()
}

/// The release build of `bench`, which is beside this program.
fn bench() -> String {
    let own = std::env::current_exe().unwrap();
    own.with_file_name("bench").to_str().unwrap().to_owned()
}

/// Instructions an operation, by the difference of two runs.
fn per_operation(operations: u64, run: impl Fn(u64) -> u64) -> f64 {
    let (short, long) = (run(operations), run(3 * operations));
    long.saturating_sub(short) as f64 / (2 * operations) as f64
}

/// A datagram of `bench udp`, with its two threads: the least of three runs, as waits vary.
fn udp_datagram(gso: &str) -> f64 {
    let run = |packets: u64| {
        let packets = packets.to_string();
        let options = [
            "--packets",
            &packets,
            "--gso",
            gso,
            "--cpus",
            "free",
            "--no-save",
            "--quiet",
        ];
        let bench = bench();
        let command: Vec<&str> = [&*bench, "udp"].into_iter().chain(options).collect();
        (0..3).map(|_| count(&command, |_, _| {})).min().unwrap()
    };
    per_operation(100_000, run)
}

/// A request and its response through `bench proxy serve`, on one kept connection.
fn proxied_request() -> f64 {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = origin.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in origin.incoming() {
            echo(stream.unwrap());
        }
    });
    let bench = bench();
    let command = [
        &*bench,
        "proxy",
        "serve",
        "--engine",
        "mio",
        "--threads",
        "1",
        "--listen",
        "127.0.0.1:0",
        "--forward",
        &to,
    ];
    per_operation(1_000, |requests| {
        count(&command, |stdout, process| {
            let mut line = String::new();
            while !line.starts_with("listening on ") {
                line.clear();
                assert!(stdout.read_line(&mut line).unwrap() > 0, "no address");
            }
            let address = line.trim().trim_start_matches("listening on ");
            let mut client = TcpStream::connect(address).unwrap();
            client.set_nodelay(true).unwrap();
            let mut message = [1; 64];
            for _ in 0..requests {
                client.write_all(&message).unwrap();
                client.read_exact(&mut message).unwrap();
            }
            drop(client);
            let kill = Command::new("kill").arg(process.to_string()).status();
            assert!(kill.unwrap().success());
        })
    })
}

fn echo(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut message = [0; 64];
    while stream.read_exact(&mut message).is_ok() && stream.write_all(&message).is_ok() {}
}

/// Counts the instructions of an operation.
type Count = Box<dyn Fn() -> f64>;

/// The least of several counts, which ends with the first that is within the budget.
fn least(name: &str, budget: Option<&f64>, count: Count) -> f64 {
    let mut least = count();
    for _ in 1..COUNTS {
        if budget.is_some_and(|budget| change(least, *budget) <= tolerance(name)) {
            break;
        }
        least = least.min(count());
    }
    least
}

/// All counts, in the order of the file.
fn measure(filter: Option<&str>, budget: &BTreeMap<String, f64>) -> Vec<(&'static str, f64)> {
    let own = std::env::current_exe().unwrap();
    let own = own.to_str().unwrap().to_owned();
    let pure = CASES.iter().map(|case| {
        let own = own.clone();
        let run = move |operations: u64| {
            count(
                &[&own, "--case", case.name, &operations.to_string()],
                |_, _| {},
            )
        };
        let run: Count = Box::new(move || per_operation(case.operations, &run));
        (case.name, run)
    });
    let whole: [(&'static str, Count); 3] = [
        ("datagram of bench udp", Box::new(|| udp_datagram("on"))),
        (
            "datagram of bench udp without GSO",
            Box::new(|| udp_datagram("off")),
        ),
        (
            "request through bench proxy serve",
            Box::new(proxied_request),
        ),
    ];
    pure.chain(whole)
        .filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter)))
        .map(|(name, run)| (name, least(name, budget.get(name), run)))
        .collect()
}

fn output_of(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// The compiler and the CPU, which the counts depend on.
fn circumstances() -> String {
    let compiler = output_of("rustc", "--version").unwrap_or_default();
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model
        .unwrap_or_default()
        .trim_start_matches(['\t', ' ', ':']);
    format!("{compiler}, {model}")
}

/// The circumstances and the counts of the file.
fn budget() -> (String, BTreeMap<String, f64>) {
    let text = fs::read_to_string(BUDGET).unwrap_or_default();
    let circumstances = text
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("# ");
    let counts = text.lines().skip(2).filter_map(|line| {
        let (name, count) = line.rsplit_once(',')?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    (circumstances.to_owned(), counts.collect())
}

fn tolerance(name: &str) -> f64 {
    match name.starts_with(UDP) {
        true => TOLERANCE_OF_THREADS,
        false => TOLERANCE,
    }
}

/// The change in percent.
fn change(now: f64, budget: f64) -> f64 {
    (now / budget - 1.0) * 100.0
}

/// Prints a row for each count, and the names of those that rose.
fn compare(counts: &[(&'static str, f64)], before: &BTreeMap<String, f64>) -> Vec<&'static str> {
    println!(
        "{:40} {:>12} {:>12} {:>8}",
        "instructions in user space", "budget", "now", "change"
    );
    let mut rose = Vec::new();
    for &(name, now) in counts {
        match before.get(name) {
            None => println!("{name:40} {:>12} {now:12.1}", "-"),
            Some(budget) => {
                let change = change(now, *budget);
                println!("{name:40} {budget:12.1} {now:12.1} {change:+7.1} %");
                if change > tolerance(name) {
                    rose.push(name);
                }
            }
        }
    }
    rose
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, operations] = arguments.as_slice()
        && flag == "--case"
    {
        let case = CASES.iter().find(|case| case.name == name).unwrap();
        (case.run)(operations.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    if output_of("valgrind", "--version").is_none() {
        println!("skipped: instruction counts: valgrind is not installed");
        return ExitCode::SUCCESS;
    }
    let update = arguments.iter().any(|argument| argument == "--update");
    // The file has all cases.
    let filter = arguments
        .iter()
        .find(|argument| !update && !argument.starts_with('-'));
    let here = circumstances();
    let (recorded, before) = budget();
    if !update && recorded != here {
        println!("skipped: instruction counts: the budget is of {recorded}, and this is {here}");
        return ExitCode::SUCCESS;
    }
    // An update takes the least of all counts.
    let none = BTreeMap::new();
    let counts = measure(
        filter.map(String::as_str),
        if update { &none } else { &before },
    );
    let rose = compare(&counts, &before);
    if update {
        let rows = counts
            .iter()
            .map(|(name, count)| format!("{name},{count:.1}\n"));
        let text = format!("# {here}\ncase,instructions\n{}", rows.collect::<String>());
        fs::write(Path::new(BUDGET), text).unwrap();
        println!("written: budget.csv");
        return ExitCode::SUCCESS;
    }
    if rose.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!(
        "more than {TOLERANCE} % above the budget ({TOLERANCE_OF_THREADS} % with two threads): {}; find the cause, or record the cost with `tools/instructions/check.sh --update`",
        rose.join(", ")
    );
    ExitCode::FAILURE
}
