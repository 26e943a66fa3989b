//! `--markdown`: headline figures as Markdown tables.

use std::fs;

use crate::common::{Results, bench, names};

const PROXY: &str =
    "proxy --scenario connect,bulk --duration 100ms --warmup 5ms --connections 2 --repeat 1";

/// The value of a figure in a table of one run.
fn value<'a>(text: &'a str, figure: &str) -> &'a str {
    let start = format!("| {figure} | ");
    let mut values = text.lines().filter_map(|line| line.strip_prefix(&start));
    values.next().unwrap().trim_end_matches(" |")
}

#[test]
fn standard_output_is_the_table_of_a_run() {
    let results = Results::new();
    let out = results.arg();
    let text = bench(["udp", "--mb", "0.1", "--markdown", "-", "--out", &out])
        .done()
        .stdout;
    let (heading, rest) = text.split_once("\n\n").unwrap();
    assert!(heading.starts_with("`bench udp --mb 0.1 "), "{heading}");
    assert!(
        rest.starts_with("| figure | value |\n|---|---|\n"),
        "{text}"
    );
    let run = results.run();
    assert_eq!(value(rest, "sent"), "100");
    assert_eq!(value(rest, "mode"), "lossless");
    assert!(!rest.contains("| setting |"), "{text}");
    assert_eq!(value(rest, "complete"), "yes");
    let goodput = value(rest, "goodput").strip_suffix(" KB/s").unwrap();
    let goodput: f64 = goodput.replace(',', "").parse().unwrap();
    let saved = run["kb_per_s"].as_f64().unwrap();
    assert!(
        (goodput / saved - 1.0).abs() < 0.01,
        "{goodput} and {saved}"
    );
    assert!(!text.contains("listening on"), "{text}");
}

#[test]
fn files_of_all_formats_are_written_beside_the_text() {
    let results = Results::new();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("a.md"), "an earlier file").unwrap();
    let (json, csv, markdown) = (path("a.json"), path("a.csv"), path("a.md"));
    let files = ["--json", &json, "--csv", &csv, "--markdown", &markdown];
    let runs = ["udp", "--packets", "200", "--batch", "16,64", "--out"];
    let out = results.arg();
    let args = runs.into_iter().chain([&*out]).chain(files);
    assert!(bench(args).done().stdout.contains("KB/s"));
    assert_eq!(names(folder.path()), ["a.csv", "a.json", "a.md"]);
    let text = fs::read_to_string(&markdown).unwrap();
    assert!(text.contains("\n| setting | runs | goodput, "), "{text}");
    assert!(text.contains("\n| batch 64 | 1 | "), "{text}");

    let folder_path = results.only();
    let saved = folder_path.to_str().unwrap();
    let compared = path("b.md");
    let finished = bench(["compare", saved, saved, "--markdown", &compared]).done();
    assert!(finished.stdout.contains("setting"), "{}", finished.stdout);
    let text = fs::read_to_string(&compared).unwrap();
    assert!(text.starts_with("- base: "), "{text}");
    assert!(text.contains("\n| batch 16, new | 1 | "), "{text}");
    let printed = bench(["compare", saved, saved, "--markdown", "-"]).done();
    assert_eq!(printed.stdout, text);
}

#[test]
fn proxy_runs_and_their_comparison_are_tables() {
    let results = Results::new();
    let out = results.arg();
    let options = PROXY.split(' ').chain(["--markdown", "-", "--out", &out]);
    let text = bench(options).done().stdout;
    for row in [
        "| scenario | path | runs | rate, median (min to max) | ",
        "| connect | direct | 1 | ",
        "| bulk | proxied | 1 | ",
        "| scenario | rounds | rate, proxied to direct (95 % interval) | ",
        "- intervals need 5 complete rounds",
    ] {
        assert!(text.contains(&format!("\n{row}")), "{row}:\n{text}");
    }
    let folder = results.only();
    let saved = folder.to_str().unwrap();
    let text = bench(["compare", saved, saved, "--markdown", "-"])
        .done()
        .stdout;
    assert!(text.contains("\n| connect proxied, "), "{text}");
    assert!(text.contains(" | too few runs | "), "{text}");
}

#[test]
fn standard_output_takes_one_document() {
    for (other, named) in [
        ("--json", "--json - and --markdown -"),
        ("--csv", "--markdown - and --csv -"),
    ] {
        for command in ["udp", "proxy"] {
            bench([command, "--no-save", other, "-", "--markdown", "-"]).failed(2, &[named]);
        }
    }
    bench(["compare", "a", "b", "--json", "-", "--markdown", "-"])
        .failed(2, &["--json - and --markdown -"]);
    for command in ["udp", "proxy"] {
        let failed = bench([command, "--no-save", "--markdown", "/nowhere/a.md"]);
        failed.failed(3, &["/nowhere/a.md", "--markdown"]);
    }
}
