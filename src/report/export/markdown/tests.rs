use super::*;
use crate::report::compare::records::{SavedRuns, compare_records};
use crate::report::compare::udp::tests::{compared, rounds};
use crate::report::sample;
use crate::udp::result::Run;
use std::path::Path;

fn written(document: &Document<'_>) -> String {
    let mut text = Vec::new();
    Markdown.write(document, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn udp(record: &UdpRecord) -> String {
    written(&Document::UdpRuns { id: "", record })
}

/// Without the heading, which names the machine.
fn tables(record: &ProxyRecord) -> String {
    let text = written(&Document::ProxyRuns { id: "", record });
    text[text.find("\n\n").unwrap() + 2..].to_owned()
}

#[test]
fn single_run_is_a_list_of_figures() {
    let run = sample::udp::measured().run;
    assert_eq!(
        udp(&sample::udp::record(vec![run])),
        "`bench udp`, 2026-11-22T14:05:01Z, wirebench 0.1.0, Linux 6.18.0, A CPU, \"quoted\" @ 3 GHz

| figure | value |
|---|---|
| setting | mio |
| engine | mio |
| mode | paced |
| direction | forward |
| complete | yes |
| message per datagram | 100:3,1000:1 |
| batch | 64 |
| GSO | yes |
| streams | 2 |
| goodput | 2,134,567 ± 38.60 KB/s |
| bit rate | 17.08 Gbit/s |
| datagram rate | 2,134,567 packets/s |
| duration | 47.0 ms ± 850 ns |
| sent | 100,010 |
| lost | 10 (0.010 %) |
| duplicates | 5 |
| reordered | 7 |
| latency p50 | 500 us ± 850 ns |
| latency p90 | 900 us ± 850 ns |
| latency p99 | 990 us ± 850 ns |
| latency p99.9 | 1.00 ms ± 850 ns |
| latency max | 1.00 ms ± 850 ns |
| latency p99 from the intended send | 991 us ± 850 ns |
| jitter | 850 ns |
| sender CPU | 0.120 s/M packets |
| receiver CPU | 0.080 s/M packets |
| losses by cause | sender firewall 2, receiver socket 5 |
| stage sender, p50 | 500 us |
| stage sender, p99 | 990 us |
| stage qdisc, p50 | 500 us |
| stage qdisc, p99 | 990 us |
| stage wire, p50 | 500 us ± 850 ns |
| stage wire, p99 | 990 us ± 850 ns |
| stage receiver, p50 | 500 us |
| stage receiver, p99 | 990 us |

- run 0, mio: The sender was late by more than one gap.
- run 0, mio: datagrams that arrived: 1,000 (1.00 %) with a CE mark, 5 (0.005 %) with another DSCP
"
    );
}

#[test]
fn command_is_code_whatever_it_has() {
    let mut record = sample::udp::record(Vec::new());
    record.meta.command = ["bench", "udp", "--out", "a``*b*"]
        .map(str::to_owned)
        .into();
    assert!(udp(&record).starts_with("``` bench udp --out 'a``*b*' ```, 2026-"));
}

#[test]
fn figures_that_a_run_lacks_are_absent_and_a_single_run_has_no_range() {
    let (mut run, mut record) = (sample::udp::measured().run, sample::udp::record(rounds(1)));
    (run.setting, run.latency_from_intended_ns) = (None, None);
    let text = udp(&sample::udp::record(vec![run]));
    assert!(
        !text.contains("| setting |") && !text.contains("intended"),
        "{text}"
    );
    record.comparison = compared(&record.runs);
    let text = udp(&record);
    assert!(text.contains("| batch 1 | 1 | 1,000 KB/s |"), "{text}");
    assert!(text.contains("| 2.000 | too few runs |"), "{text}");
    record.comparison[1].incomplete = 1;
    let text = udp(&record);
    assert!(text.contains("| batch 1 | 1 | 0 | 1,000 KB/s |"), "{text}");
}

#[test]
fn repeated_runs_are_rows_and_unknown_values_are_blank() {
    let mut same = sample::udp::measured().run;
    (same.setting, same.effective.clock.error_ns) = (None, Some(0));
    let mut lost = Run {
        reason: Some("the receiver\nwent | away".into()),
        ..Run::default()
    };
    (lost.lost.is_unknown, lost.received.is_unknown) = (true, true);
    let text = udp(&sample::udp::record(vec![same.clone(), same, lost]));
    let (_, tables) = text.split_once("\n\n").unwrap();
    assert_eq!(
        tables,
        "\
| run | complete | goodput | datagram rate | lost | latency p50 | latency p99 | latency p99.9 | sender CPU | receiver CPU |
|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|
| 0 | yes | 2,134,567 ± 38.60 KB/s | 2,134,567 packets/s | 10 (0.010 %) | 500 us | 990 us | 1.00 ms | 0.120 s/M packets | 0.080 s/M packets |
| 1 | yes | 2,134,567 ± 38.60 KB/s | 2,134,567 packets/s | 10 (0.010 %) | 500 us | 990 us | 1.00 ms | 0.120 s/M packets | 0.080 s/M packets |
| 2 | no |  |  |  |  |  |  |  |  |

- goodput: median 2,134,567 KB/s (2,134,567 to 2,134,567) of 2 complete runs
- run 0: The sender was late by more than one gap.
- run 0: datagrams that arrived: 1,000 (1.00 %) with a CE mark, 5 (0.005 %) with another DSCP
- run 2: incomplete: the receiver?went \\| away
"
    );
}

#[test]
fn settings_of_a_command_are_rows_with_their_intervals() {
    let mut record = sample::udp::record(rounds(5));
    record.comparison = compared(&record.runs);
    let text = udp(&record);
    let (_, tables) = text.split_once("\n\n").unwrap();
    assert_eq!(
        tables,
        "\
| setting | runs | goodput, median (min to max) | goodput ratio (95 % interval) | verdict | lost | CPU | CPU ratio (95 % interval) | p50 | p99 | p99 ratio (95 % interval) |
|---|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|
| batch 1 | 5 | 800.0 KB/s (600.0 to 1,000) |  |  | 0.010 % | 0.200 s/M packets |  | 500 us | 990 us |  |
| batch 16 | 5 | 1,600 KB/s (1,200 to 2,000) | 2.000 (2.000 to 2.000) | higher | 0.010 % | 0.200 s/M packets | 1.000 (1.000 to 1.000) | 500 us | 990 us | 1.000 (1.000 to 1.000) |

- run 0, batch 1: The sender was late by more than one gap.
- run 0, batch 1: datagrams that arrived: 1,000 (1.00 %) with a CE mark, 5 (0.005 %) with another DSCP
- run 1, batch 16: The sender was late by more than one gap.
- run 1, batch 16: datagrams that arrived: 1,000 (1.00 %) with a CE mark, 5 (0.005 %) with another DSCP
"
    );
}

#[test]
fn udp_comparison_has_its_sources_and_notes() {
    let base = sample::udp::record(rounds(5));
    let mut new = base.clone();
    new.runs
        .retain(|run| run.setting.as_deref() == Some("batch 16"));
    fn saved<'a>(path: &'a str, record: &'a UdpRecord) -> SavedRuns<'a, Run> {
        SavedRuns::new(Path::new(path), &record.meta, &record.runs)
    }
    let found = compare_records(&saved("a|b", &base), &saved("<new>", &new)).unwrap();
    assert_eq!(
        written(&Document::UdpComparison(&found)),
        "\
- base: a\\|b, 2026-11-22T14:05:01Z, wirebench 0.1.0
- new: \\<new\\>, 2026-11-22T14:05:01Z, wirebench 0.1.0

| setting | runs | goodput, median (min to max) | goodput ratio (95 % interval) | verdict | lost | CPU | CPU ratio (95 % interval) | p50 | p99 | p99 ratio (95 % interval) |
|---|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|
| batch 16, base | 5 | 1,600 KB/s (1,200 to 2,000) |  |  | 0.010 % | 0.200 s/M packets |  | 500 us | 990 us |  |
| batch 16, new | 5 | 1,600 KB/s (1,200 to 2,000) | 1.000 (0.700 to 1.429) | no difference shown | 0.010 % | 0.200 s/M packets | 1.000 (1.000 to 1.000) | 500 us | 990 us | 1.000 (1.000 to 1.000) |

- the runs of two commands did not take turns: drift between the commands counts as a difference; only runs within one command are free of it
- the kernel's stamps of --explain add to the CPU time and the latency of each stamped datagram
- only in base, not compared: batch 1
"
    );
}

#[test]
fn proxy_run_has_totals_overhead_and_ratios() {
    let mut record = sample::proxy::record();
    record.runs[1].first_errors = vec!["timeout: <b> | no answer".to_owned()];
    record.runs[1].errors.timeout = 2;
    assert_eq!(
        tables(&record),
        "\
| scenario | path | setting | runs | rate, median (min to max) | p50 | p90 | p99 | p99.9 | errors | proxy CPU |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|
| request-response | direct |  | 5 | 9,980 requests/s (9,960 to 10,000) | 100 us | 100 us | 100 us | 100 us | 0 | 3.00 s/10k requests |
| request-response | proxied | mio | 5 | 4,995 requests/s (4,990 to 5,000) | 200 us | 200 us | 200 us | 200 us | 0 | 3.00 s/10k requests |
| request-response | proxied | uring | 5 | 3,331 requests/s (3,329 to 3,333) | 300 us | 300 us | 300 us | 300 us | 0 | 3.00 s/10k requests |
| bulk | direct |  | 5 | 6.39e-4 GB/s (6.37e-4 to 6.40e-4) |  |  |  |  | 0 | 4,688 s/GB |
| bulk | proxied | mio | 5 | 3.20e-4 GB/s (3.19e-4 to 3.20e-4) |  |  |  |  | 0 | 4,688 s/GB |
| bulk | proxied | uring | 5 | 2.13e-4 GB/s (2.13e-4 to 2.13e-4) |  |  |  |  | 0 | 4,688 s/GB |
| blocked | blocked | mio | 5 | 20,000 requests/s (20,000 to 20,000) | 50.0 us | 50.0 us | 50.0 us | 50.0 us | 0 | 3.00 s/10k requests |

| scenario | setting | rounds | rate, proxied to direct (95 % interval) | added p50 (95 % interval) | added p90 (95 % interval) | added p99 (95 % interval) | added p99.9 (95 % interval) |
|---|---|---:|---:|---:|---:|---:|---:|
| request-response | mio | 5 | 0.500 (0.500 to 0.501) | 100 us (100 us to 100 us) | 100 us (100 us to 100 us) | 100 us (100 us to 100 us) | 100 us (100 us to 100 us) |
| request-response | uring | 5 | 0.334 (0.333 to 0.334) | 200 us (200 us to 200 us) | 200 us (200 us to 200 us) | 200 us (200 us to 200 us) | 200 us (200 us to 200 us) |
| bulk | mio | 5 | 0.500 (0.500 to 0.501) |  |  |  |  |
| bulk | uring | 5 | 0.334 (0.333 to 0.334) |  |  |  |  |

| scenario | path | setting | base | rounds | rate ratio (95 % interval) | p99 ratio (95 % interval) | CPU ratio (95 % interval) |
|---|---|---|---|---:|---:|---:|---:|
| request-response | proxied | uring | mio | 5 | 0.667 (0.667 to 0.667) | 1.500 (1.499 to 1.500) | 1.000 (1.000 to 1.000) |
| bulk | proxied | uring | mio | 5 | 0.667 (0.667 to 0.667) |  | 1.000 (1.000 to 1.000) |

- request-response proxied: 2 timeout: \\<b\\> \\| no answer
"
    );
}

#[test]
fn proxy_comparison_has_both_records_of_each_setting() {
    let measured = |round| sample::proxy::measured("connect", "proxied", Some("a|b"), round, 1_000);
    let record = sample::proxy::of(&[measured(0), measured(1)]);
    let saved = SavedRuns::new(Path::new("run.json"), &record.meta, &record.runs);
    let found = compare_records(&saved, &saved).unwrap();
    let text = written(&Document::ProxyComparison(&found));
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(
        rows,
        [
            "| setting | runs | rate, median (min to max) | rate ratio (95 % interval) | verdict | p50 | p99 | p99 ratio (95 % interval) | proxy CPU | CPU ratio (95 % interval) | errors |",
            "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|",
            "| connect proxied, base | 2 | 1,000,000 requests/s (1,000,000 to 1,000,000) |  |  | 1.00 us | 1.00 us |  | 3.00 s/10k requests |  | 0 |",
            "| connect proxied, new | 2 | 1,000,000 requests/s (1,000,000 to 1,000,000) | 1.000 | too few runs | 1.00 us | 1.00 us | 1.000 | 3.00 s/10k requests | 1.000 | 0 |",
        ]
    );
}

#[test]
fn special_characters_are_escaped_and_stay_on_one_line() {
    assert_eq!(
        escaped("a|b\n<i>*c*</i> `d` [e](f) \\ $g$ 1_2"),
        "a\\|b?\\<i\\>\\*c\\*\\</i\\> \\`d\\` \\[e\\](f) \\\\ \\$g\\$ 1_2"
    );
    let mut run = sample::udp::measured().run;
    run.setting = Some("x | y".into());
    let text = udp(&sample::udp::record(vec![run]));
    assert!(text.contains("\n| setting | x \\| y |\n"), "{text}");
}

#[test]
fn a_search_is_a_table_of_goals_and_a_table_of_its_curve() {
    let record = sample::search::record();
    let text = written(&Document::UdpSearch {
        id: "",
        record: &record,
    });
    for row in [
        "| 0 % | 100,000 packets/s | 100,400 packets/s | path |",
        "| 50.00 % | 50,000 packets/s | 0 |",
    ] {
        assert!(text.contains(row), "no {row} in {text}");
    }
}
