//! Round trips in comparisons, tables and charts, and the options without a meaning for them.

use super::*;

#[test]
fn a_comparison_and_its_formats_show_round_trips() {
    let results = Results::new();
    let out = results.arg();
    let (html, markdown) = (format!("{out}.html"), format!("{out}.md"));
    let fixed = ["udp", "--round-trip", "--out", &out, "--html", &html];
    let options = "--packets 50 --chunk 10,1000 --repeat 5 --warmup 0s --markdown";
    let options = options.split_whitespace().chain([&markdown[..]]);
    let text = bench(fixed.into_iter().chain(options)).done();
    assert!(text.stdout.contains("trips/s"), "{}", text.stdout);
    let record = results.record();
    assert_eq!(record["runs"].as_array().unwrap().len(), 10);
    let compared = &record["comparison"][1];
    assert!(compared["ratios"]["packets_per_s"]["ratio"].is_number());
    assert!(compared["ratios"]["latency_p99_ns"]["ratio"].is_number());
    assert!(fs::read_to_string(&html).unwrap().contains("round trips"));
    assert!(
        fs::read_to_string(&markdown)
            .unwrap()
            .contains("round-trip")
    );
    let rows = results.ledger();
    let modes = rows.iter().skip(1).map(|row| &row[8]);
    assert_eq!(modes.collect::<Vec<_>>(), ["round-trip"; 10]);
    let folder = results.only();
    let folder = folder.to_str().unwrap();
    let text = bench(["compare", folder, folder, "--threshold", "5%"]).done();
    assert!(text.stdout.contains("trips/s"), "{}", text.stdout);
}

#[test]
fn an_older_server_is_named_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4_096]).unwrap();
        let reason = "this is a wirebench server, and the first message is invalid: unknown variant `round_trip`, expected one of \
            `lossless`, `paced`, `blast` at line 1 column 95";
        let json = format!(r#"{{"type":"refused","reason":"{reason}"}}"#);
        stream
            .write_all(&u32::to_be_bytes(json.len() as u32))
            .unwrap();
        stream.write_all(json.as_bytes()).unwrap();
        // The client closes the connection.
        let _ = stream.read(&mut [0; 16]);
    });
    fails(&format!("--round-trip --to {to}")).failed(3, &["is older", "--echo"]);
    server.join().unwrap();
}

#[test]
fn the_titles_of_tables_and_charts_are_those_of_round_trips() {
    let results = Results::new();
    let out = results.arg();
    let (html, markdown) = (format!("{out}.html"), format!("{out}.md"));
    for (more, words) in [
        ("", "| round trip p99 |"),
        ("--repeat 2", "| round trips |"),
        (
            "--repeat 2 --chunk 10,100",
            "round trips, median (min to max)",
        ),
    ] {
        let fixed = [
            "udp",
            "--round-trip",
            "--duration",
            "60ms",
            "--interval",
            "10ms",
        ];
        let files = ["--no-save", "--html", &html, "--markdown", &markdown];
        let options = more.split_whitespace();
        bench(fixed.into_iter().chain(files).chain(options)).done();
        let text = fs::read_to_string(&markdown).unwrap();
        assert!(text.contains(words), "{text}");
        assert!(text.contains("round trips/s"), "{text}");
        let page = fs::read_to_string(&html).unwrap();
        assert!(page.contains("Round trips over time"));
        for text in [&text, &page] {
            for other in ["oodput", "KB/s", "packets/s"] {
                assert!(!text.contains(other), "{other}: {text}");
            }
        }
        fs::remove_file(&html).unwrap();
        fs::remove_file(&markdown).unwrap();
    }
}

#[test]
fn marks_are_set_but_not_counted() {
    let results = Results::new();
    let out = results.arg();
    let fixed = ["udp", "--round-trip", "--packets", "5", "--out", &out];
    let text = bench(fixed.into_iter().chain(["--dscp", "EF", "--ecn", "ect0"])).done();
    for options in ["DSCP EF", "ECN ect0"] {
        assert!(text.stdout.contains(options), "{}", text.stdout);
    }
    let run = results.run();
    assert_eq!(number(&run, "lost.packets"), 0);
    assert!(run.get("marks").is_none(), "{run:#}");
    let help = bench(["udp", "--help"]).done().stdout;
    let help: Vec<&str> = help.split_whitespace().collect();
    let help = help.join(" ");
    for option in ["--dscp", "--ecn"] {
        let (_, of_option) = help.split_once(&format!("{option} <")).unwrap();
        let (of_option, _) = of_option.split_once(" --").unwrap();
        assert!(of_option.contains("(not with"), "{of_option}");
    }
}

#[test]
fn options_without_a_meaning_for_round_trips_are_refused() {
    for option in [
        "--mb 1",
        "--reverse",
        "--bidir",
        "--rate 1M",
        "--unpaced",
        "--spin on",
        "--batch 4",
        "--gso on",
        "--zerocopy msg",
        "--clock estimate",
        "--explain",
        "--packets-csv",
    ] {
        let name = option.split(' ').next().unwrap();
        let command = match name {
            "--packets-csv" => continue,
            _ => format!("--round-trip {option}"),
        };
        fails(&command).failed(2, &["--round-trip", "cannot be used with", name]);
    }
    fails("--round-trip --streams 2").failed(2, &["leave out --streams"]);
    fails("--round-trip --pps 0").failed(2, &["cannot be paced"]);
    fails("--round-trip --echo 127.0.0.1:0").failed(2, &["--echo 127.0.0.1:0 has port 0"]);
    fails("--round-trip --echo 127.0.0.1 --to 127.0.0.1").failed(2, &["--echo", "--to"]);
    fails("--echo 127.0.0.1").failed(2, &["--round-trip"]);
    fails("--busy-poll").failed(2, &["--round-trip"]);
}
