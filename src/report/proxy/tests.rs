use super::*;
use crate::report::ledger::Row as _;
use crate::report::proxy::columns::Row;

#[test]
fn a_record_is_read_back_as_it_was_written() {
    let record = sample::record();
    let text = serde_json::to_string(&record).unwrap();
    let again: Record = serde_json::from_str(&text).unwrap();
    let lengths = |of: &Record| {
        let frame = &of.frame;
        [
            frame.runs.len(),
            frame.comparison.len(),
            of.totals.len(),
            of.overhead.len(),
        ]
    };
    assert_eq!(lengths(&again), lengths(&record));
    assert_eq!(again.frame.kind, "proxy");
    let (last, same) = (&record.frame.runs[34], &again.frame.runs[34]);
    assert_eq!(last.latency_ns.unwrap().p99, same.latency_ns.unwrap().p99);
    assert_eq!(last.errors, same.errors);
    assert_eq!(last.requested, same.requested);
}

#[test]
fn what_a_proxy_adds_is_found_although_the_machine_drifts() {
    let record = sample::record();
    let of = |scenario: &str, setting: &str| {
        let mut all = record.overhead.iter();
        all.find(|of| of.scenario == scenario && of.setting.as_deref() == Some(setting))
            .unwrap()
    };
    let mio = of("request-response", "mio");
    assert_eq!(mio.rounds, 5);
    let p50 = mio.added_ns.unwrap().p50.unwrap();
    // Values in a histogram have three digits.
    assert!((p50.difference - 100_000.0).abs() < 300.0, "{p50:?}");
    let interval = p50.interval.unwrap();
    assert!(
        interval.low > 99_000.0 && interval.high < 101_000.0,
        "{interval:?}"
    );
    assert!((mio.rate.unwrap().ratio - 0.5).abs() < 0.01);
    assert_eq!(of("bulk", "uring").added_ns, None);
    assert!(of("bulk", "uring").rate.is_some());
    assert!(!record.overhead.iter().any(|of| of.scenario == "blocked"));
}

#[test]
fn settings_are_compared_with_the_first_of_their_scenario() {
    let record = sample::record();
    let told: Vec<_> = record
        .frame
        .comparison
        .iter()
        .map(|of| (&of.scenario[..], &of.setting[..], &of.base[..]))
        .collect();
    assert_eq!(
        told,
        [
            ("request-response", "uring", "mio"),
            ("bulk", "uring", "mio")
        ]
    );
    let first = &record.frame.comparison[0];
    assert!((first.latency_p99_ns.unwrap().ratio - 1.5).abs() < 0.01);
    assert!((first.proxy_cpu.unwrap().ratio - 1.0).abs() < 1e-9);
}

#[test]
fn totals_have_the_direct_path_first_and_count_errors_of_incomplete_runs() {
    let mut dead = sample::measured("connect", "proxied", None, 0, 1_000);
    dead.run.complete = false;
    dead.run.errors = Errors {
        total: 3,
        reset: 3,
        ..Errors::default()
    };
    let record = sample::of(&[dead, sample::measured("connect", "direct", None, 0, 1_000)]);
    let [direct, proxied] = &record.totals[..] else {
        panic!("{:?}", record.totals)
    };
    assert_eq!((&direct.path[..], direct.runs), ("direct", 1));
    assert_eq!((proxied.runs, proxied.incomplete), (0, 1));
    assert_eq!((proxied.errors.reset, proxied.requests), (3, 0));
    assert!(proxied.requests_per_s.is_none() && proxied.latency_ns.is_none());
    assert!(record.overhead.is_empty());
}

#[test]
fn every_column_has_one_name_and_what_is_missing_is_empty() {
    let record = sample::of(&[sample::measured("bulk", "direct", None, 0, 1_000)]);
    let rows = Row::all("id", &record);
    let cells: std::collections::HashMap<_, _> = Row::names().zip(rows[0].cells()).collect();
    assert_eq!(cells.len(), Row::names().count());
    for name in [
        "protocol",
        "message",
        "requests_per_s",
        "latency_p50_ns",
        "setting",
        "via",
    ] {
        assert_eq!(cells[name], "", "{name}");
    }
    assert_eq!(cells["requests"], "100");
    assert_eq!(cells["error_kinds"], "");
}

#[test]
fn the_table_fits_a_terminal_and_tells_costs_errors_and_doubts() {
    let mut record = sample::record();
    record.frame.runs[1].errors.total = 2;
    record.frame.runs[1].errors.timeout = 2;
    record.frame.runs[1].first_errors = vec!["timeout: no whole\x1b answer came".to_owned()];
    record.totals[0].load_busy = Some(0.99);
    record.frame.runs[0].warnings = vec!["load generator busy: 99 %".to_owned()];
    for run in &mut record.frame.runs[3..5] {
        run.warnings = vec!["late starts: by much".to_owned()];
    }
    record.interrupted = true;
    let last = record.frame.runs.last_mut().unwrap();
    (last.complete, last.interrupted) = (false, true);
    let mut out = Vec::new();
    text::summary(&record, &mut out).unwrap();
    let told = String::from_utf8(out).unwrap();
    for line in told.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.chars().any(char::is_control), "{line}");
    }
    for words in [
        "request-response",
        "added",
        "at least",
        "0.50 x",
        "s per 10k requests",
        "uring against mio",
        "request-response proxied: 2 timeout: no whole? answer came",
        "busy 99 %",
        "bulk proxied, 1 of 5 runs: late starts: by much",
        "ended by a signal; 34 runs were measured to their end",
        "blocked blocked, round 5: ",
    ] {
        assert!(told.contains(words), "no '{words}' in:\n{told}");
    }
    assert!(!told.contains("load generator busy"), "told twice:\n{told}");
}
