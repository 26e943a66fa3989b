use std::collections::{HashMap, HashSet};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::report::compare::records::{SavedRuns, compare_records};
use crate::report::compare::udp::tests::rounds;
use crate::report::sample;
use crate::udp::result::{Lost, Received, Run};

fn written(document: &Document<'_>, format: Format) -> String {
    let mut text = Vec::new();
    let exporter: &dyn Exporter = match format {
        Format::Prometheus => &Prometheus,
        Format::OpenMetrics => &OpenMetrics,
    };
    exporter.write(document, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// Name, labels and value of a sample.
type Sample = (String, Vec<(String, String)>, f64);

/// Parses a sample as the formats define it.
fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    while rest.starts_with(['{', ',']) {
        let (label, text) = rest[1..].split_once("=\"").unwrap();
        let (mut value, mut chars) = (String::new(), text.char_indices());
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    char @ ('\\' | '"') => char,
                    char => panic!("\\{char} in {line}"),
                }),
                (_, char) => value.push(char),
            }
        };
        labels.push((label.to_owned(), value));
        rest = &text[end..];
    }
    let value = rest.trim_start_matches('}').strip_prefix(' ').unwrap();
    (name.to_owned(), labels, value.parse().unwrap())
}

/// Checks the rules of the format, and returns the samples.
fn parsed(text: &str, format: Format) -> Vec<Sample> {
    let (mut types, mut seen, mut family) = (HashMap::new(), HashSet::new(), String::new());
    let mut samples = Vec::new();
    let text = match format {
        Format::OpenMetrics => text.strip_suffix("# EOF\n").unwrap(),
        Format::Prometheus => text,
    };
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name.to_owned(), kind).is_none(), "{line}");
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            assert_eq!(format, Format::OpenMetrics);
            let (name, unit) = rest.split_once(' ').unwrap();
            assert!(name.ends_with(&format!("_{unit}")), "{line}");
        } else if !line.starts_with("# HELP ") {
            let sample = sample(line);
            let (name, labels, value) = &sample;
            let suffix = name.strip_prefix(&family).unwrap();
            let allowed: &[&str] = match (types[&family], format) {
                ("counter", Format::OpenMetrics) => &["_total"],
                ("info", _) => &["_info"],
                ("summary", _) => &["", "_sum", "_count"],
                _ => &[""],
            };
            assert!(allowed.contains(&suffix), "{line}");
            assert!(value.is_finite(), "{line}");
            let names: HashSet<_> = labels.iter().map(|(label, _)| label).collect();
            assert_eq!(names.len(), labels.len(), "{line}");
            assert!(seen.insert((name.clone(), labels.clone())), "{line}");
            samples.push(sample);
        }
    }
    samples
}

fn value(samples: &[Sample], name: &str, label: (&str, &str)) -> Option<f64> {
    let label = (label.0.to_owned(), label.1.to_owned());
    let mut found = samples
        .iter()
        .filter(|(of, labels, _)| of == name && labels.contains(&label));
    found.next().map(|(.., value)| *value)
}

#[test]
fn metrics_are_the_figures_of_the_run_in_base_units() {
    let run = sample::udp::measured().run;
    let record = sample::udp::record(vec![run.clone()]);
    let document = Document::UdpRuns {
        id: "",
        record: &record,
    };
    let text = written(&document, Format::OpenMetrics);
    let samples = parsed(&text, Format::OpenMetrics);
    let of = |name: &str, label, text| value(&samples, name, (label, text)).unwrap();
    let goodput = of("wirebench_udp_goodput_bytes_per_second", "engine", "mio");
    assert!((goodput - 2_134_567_400.0).abs() < 1.0);
    assert_eq!(
        of("wirebench_udp_sent_datagrams_total", "run", "0"),
        100_010.0
    );
    assert_eq!(
        of(
            "wirebench_udp_lost_datagrams_total",
            "at",
            "receiver_socket"
        ),
        5.0
    );
    let latency = run.latency_ns.unwrap();
    assert_eq!(
        of("wirebench_udp_latency_seconds", "quantile", "0.99"),
        latency.p99.unwrap() as f64 / 1e9
    );
    assert_eq!(of("wirebench_udp_latency_seconds_count", "run", "0"), 1e3);
    let sum = of("wirebench_udp_latency_seconds_sum", "run", "0");
    assert!((sum - 0.5005).abs() < 1e-9, "{sum}");
    assert_eq!(
        of("wirebench_udp_build_info", "version", "0.1.0"),
        1.0,
        "{text}"
    );
    assert!(text.contains("# UNIT wirebench_udp_latency_seconds seconds\n"));
}

#[test]
fn unknown_values_have_no_sample() {
    let run = Run {
        received: Received {
            is_unknown: true,
            ..Received::default()
        },
        lost: Lost {
            is_unknown: true,
            ..Lost::default()
        },
        ..Run::default()
    };
    let record = sample::udp::record(vec![run]);
    let document = Document::UdpRuns {
        id: "",
        record: &record,
    };
    let text = written(&document, Format::Prometheus);
    for name in [
        "lost",
        "received",
        "latency",
        "goodput",
        "jitter",
        "cpu_seconds",
    ] {
        assert!(!text.contains(name), "{name}:\n{text}");
    }
    assert!(text.contains("\nwirebench_udp_sent_datagrams_total{run=\"0\","));
}

#[test]
fn proxy_runs_and_comparisons_are_valid_in_both_formats() {
    let proxy = sample::proxy::record();
    let udp = sample::udp::record(rounds(6));
    let path = Path::new("a");
    let saved = SavedRuns::new(path, &udp.meta, &udp.runs);
    let compared = compare_records(&saved, &saved).unwrap();
    let saved = SavedRuns::new(path, &proxy.meta, &proxy.runs);
    let compared_proxy = compare_records(&saved, &saved).unwrap();
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let of = |document: &Document<'_>| parsed(&written(document, format), format);
        let samples = of(&Document::ProxyRuns {
            id: "",
            record: &proxy,
        });
        let requests = "wirebench_load_requests_total";
        assert_eq!(value(&samples, requests, ("round", "4")), Some(100.0));
        let samples = of(&Document::UdpComparison(&compared));
        let ratios = "wirebench_udp_goodput_ratio";
        assert_eq!(value(&samples, ratios, ("bound", "estimate")), Some(1.0));
        assert!(value(&samples, ratios, ("bound", "low")).unwrap() <= 1.0);
        let samples = of(&Document::ProxyComparison(&compared_proxy));
        assert!(value(&samples, "wirebench_load_rate_ratio", ("bound", "high")).is_some());
    }
}

proptest! {
    /// Any text in a label is read back, and any number is a sample or absent.
    #[test]
    fn any_run_is_read_back(
        setting in prop::option::of(".*"), engine in ".*", kernel in ".*", seconds in prop::option::of(any::<f64>()), packets: u64,
    ) {
        let run = Run { setting: setting.clone(), engine: engine.clone(), seconds, ..sample::udp::measured().run };
        let mut runs = vec![run.clone(), run];
        runs[1].sent.packets = packets;
        let mut record = sample::udp::record(runs);
        record.meta.host.kernel = kernel.clone();
        let document = Document::UdpRuns { id: "", record: &record };
        for format in [Format::Prometheus, Format::OpenMetrics] {
            let samples = parsed(&written(&document, format), format);
            let name = "wirebench_udp_sent_datagrams_total";
            let sent = samples.iter().filter(|(of, ..)| of == name).nth(1).unwrap();
            prop_assert_eq!(sent.2, packets as f64);
            prop_assert!(sent.1.contains(&("engine".to_owned(), engine.clone())));
            let read = sent.1.iter().find(|(label, _)| label == "setting").map(|(_, text)| text.clone());
            prop_assert_eq!(read, setting.clone());
            let info = &samples[0].1;
            prop_assert!(info.contains(&("kernel".to_owned(), kernel.clone())));
        }
    }
}
