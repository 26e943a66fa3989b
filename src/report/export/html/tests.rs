use super::*;
use crate::report::compare::records::{SavedRuns, compare_records};
use crate::report::compare::udp::tests::{compared, rounds};
use crate::report::model::search::SearchGoal;
use crate::report::model::{Distributed, ProxyRecord, SearchRecord, UdpRecord};
use crate::report::sample;
use crate::udp::result::{Interval, MAX_INTERVALS, Run};
use std::path::Path;
use std::time::{Duration, Instant};

/// Elements without an end tag.
const VOID: [&str; 1] = ["meta"];

fn written(document: &Document<'_>) -> String {
    let mut page = Vec::new();
    Html.write(document, &mut page).unwrap();
    let page = String::from_utf8(page).unwrap();
    check(&page);
    page
}

fn udp(record: &UdpRecord) -> String {
    written(&Document::UdpRuns { id: "", record })
}

fn proxy(record: &ProxyRecord) -> String {
    written(&Document::ProxyRuns { id: "", record })
}

/// Tags, one after the other, without the text between them.
fn tags(page: &str) -> impl Iterator<Item = &str> {
    let (_, body) = page.split_once('>').unwrap();
    let mut in_style = false;
    body.split('<').skip(1).map(move |part| {
        let is_style = std::mem::replace(&mut in_style, part.starts_with("style"));
        // The style sheet has no `<`.
        assert!(!is_style || part.starts_with("/style"), "{part}");
        let (tag, text) = part
            .split_once('>')
            .unwrap_or_else(|| panic!("'<' in text: {part}"));
        assert!(in_style || !text.contains('>'), "'>' in text: {part}");
        tag
    })
}

/// The page is well-formed, needs no network and no script, and each chart can be read by itself.
fn check(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    assert!(page.starts_with("<!DOCTYPE html>"));
    for tag in tags(page) {
        let name = tag.split([' ', '/']).next().unwrap();
        if let Some(end) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(end), "</{end}>");
        } else {
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            assert!(
                !["script", "link", "img", "iframe"].contains(&name),
                "{tag}"
            );
            assert!(!tag.contains(" on") && !tag.contains("src="), "{tag}");
            if !tag.ends_with('/') && !VOID.contains(&name) {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("url("));
    assert!(
        !page.contains("NaN") && !page.contains("inf"),
        "a number that is none"
    );
    for figure in page.split("<figure>").skip(1) {
        let (figure, _) = figure.split_once("</figure>").unwrap();
        let (_, label) = figure.split_once("aria-label=\"").unwrap();
        let (label, _) = label.split_once('"').unwrap();
        let (_, axes) = label.split_once("Horizontal axis: ").unwrap();
        let (x, y) = axes.split_once("; vertical axis: ").unwrap();
        for axis in [x, y] {
            assert!(
                axis.contains(", ") || axis.contains("(in "),
                "no unit: {axis}"
            );
        }
        let (_, caption) = figure.split_once("<figcaption>").unwrap();
        assert!(caption.split_once('<').unwrap().0.len() > 20, "{caption}");
        assert!(figure.contains("<h3>") && figure.contains("<text "));
    }
}

fn titles(page: &str) -> Vec<&str> {
    let titles = page.split("<figure>\n<h3>").skip(1);
    titles
        .map(|part| part.split_once("</h3>").unwrap().0)
        .collect()
}

#[test]
fn run_has_all_charts_and_its_environment() {
    let page = udp(&sample::udp::record(vec![sample::udp::measured().run]));
    assert_eq!(
        titles(&page),
        [
            "Latency by percentile",
            "Stages of the latency",
            "Latency over time",
            "Goodput over time",
            "Loss over time",
            "Losses by cause",
            "Pacing",
            "Accuracy of the schedule",
        ]
    );
    for part in [
        "<code>bench udp</code>",
        "<dd>Linux 6.18.0</dd>",
        "<dd>A CPU, &quot;quoted&quot; @ 3 GHz, 2 usable</dd>",
        "<dt>goodput</dt><dd>2,134,567 ± 38.60 KB/s</dd>",
        "<dt>latency p99</dt><dd>990 us ± 850 ns</dd>",
        "<b>note</b> run 0, mio: The sender was late by more than one gap.",
        "<li><svg class=\"key\"",
        "from the intended send</li>",
        "prefers-color-scheme:dark",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn text_of_a_record_is_escaped() {
    let evil = "<script>alert(\"1\")</script>&'\u{1b}";
    let mut run = sample::udp::measured().run;
    run.warnings = vec![evil.into()];
    (run.setting, run.reason, run.complete) = (Some(evil.into()), Some(evil.into()), false);
    run.engine = evil.into();
    let mut record = sample::udp::record(vec![run.clone()]);
    (record.meta.host.cpu, record.meta.host.kernel) = (evil.into(), evil.into());
    record.meta.command.push(evil.into());
    let page = written(&Document::UdpRuns {
        id: evil,
        record: &record,
    });
    assert!(page.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;?"));
    assert!(!page.contains("<script") && !page.contains('\u{1b}'));

    let mut runs = rounds(2);
    runs.iter_mut()
        .for_each(|run| run.setting = run.setting.take().map(|name| name + evil));
    let mut record = sample::udp::record(runs.clone());
    record.comparison = compared(&runs);
    assert!(!udp(&record).contains("<script"));
    let mut proxied = sample::proxy::record();
    proxied.totals.iter_mut().for_each(|total| {
        (total.scenario, total.setting) = (evil.into(), Some(evil.into()));
    });
    proxied.runs[0].first_errors = vec![evil.into()];
    assert!(!proxy(&proxied).contains("<script"));
}

#[test]
fn unknown_values_are_blank_and_an_incomplete_run_is_marked() {
    let mut run = Run {
        reason: Some("the receiver went away".into()),
        intervals: vec![Interval {
            seconds: 1.0,
            ..Interval::default()
        }],
        ..Run::default()
    };
    (run.lost.is_unknown, run.received.is_unknown) = (true, true);
    let page = udp(&sample::udp::record(vec![run]));
    assert!(page.contains("<b>incomplete</b> run 0: the receiver went away"));
    for figure in ["goodput", "lost", "latency p50", "sender CPU"] {
        assert!(
            page.contains(&format!("<dt>{figure}</dt><dd></dd>")),
            "{figure}"
        );
    }
    assert!(!page.contains("from the intended send"), "{page}");
    assert_eq!(titles(&page), ["Goodput over time"]);
    udp(&sample::udp::record(vec![Run::default()]));
    udp(&sample::udp::record(vec![Run::default(), Run::default()]));
    udp(&sample::udp::record(Vec::new()));
}

#[test]
fn long_run_is_a_small_page() {
    let mut run = sample::udp::measured().run;
    let row = |n: u64| Interval {
        start_s: n as f64,
        kb_per_s: 700_000.0 + (n * 7_919 % 10_000) as f64,
        missing: (n % 7) as i64 - 3,
        latency_p50_ns: Some(10_000 + n * 31 % 977),
        latency_p99_ns: Some(40_000 + n * 7_919 % 9_973),
        latency_max_ns: Some(100_000 + n * n % 9_999_991),
        ..sample::udp::interval()
    };
    run.intervals = (0..MAX_INTERVALS as u64).map(row).collect();
    run.intervals[2_000].latency_p50_ns = None;
    let record = sample::udp::record(vec![run]);
    let start = Instant::now();
    let mut page = Vec::new();
    let document = Document::UdpRuns {
        id: "",
        record: &record,
    };
    Html.write(&document, &mut page).unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert!(page.len() < 300_000, "{}", page.len());
    check(std::str::from_utf8(&page).unwrap());
}

#[test]
fn settings_have_bars_with_intervals_and_overlaid_curves() {
    let runs = rounds(6);
    let mut record = sample::udp::record(runs.clone());
    record.comparison = compared(&runs);
    let page = udp(&record);
    assert_eq!(
        titles(&page),
        [
            "Median goodput",
            "Goodput as a multiple of the base&#39;s",
            "CPU time per datagram as a multiple of the base&#39;s",
            "99 % latency as a multiple of the base&#39;s",
            "Latency by percentile",
        ]
    );
    assert!(
        page.contains("batch 16: 2.000 (2.000-2.000), higher"),
        "{page}"
    );
    assert!(page.contains("<td class=\"n\">2.000 <span>(2.000 to 2.000)</span></td>"));
    assert!(page.contains("no difference shown"));
    assert!(page.contains("batch 1</li>") && page.contains("batch 16</li>"));
}

#[test]
fn curve_of_a_histogram_replaces_that_of_the_summary() {
    let measured = sample::udp::measured();
    let mut record = sample::udp::record(vec![measured.run.clone()]);
    let before = udp(&record);
    let [actual, _] = measured.run.histograms();
    record
        .curves
        .add(actual, |_| super::super::hgrm::curve(&measured.latency));
    let points = |page: &str| {
        let (_, svg) = page.split_once("Latency by percentile.").unwrap();
        svg.split_once("</svg>").unwrap().0.len()
    };
    assert!(points(&udp(&record)) > points(&before) + 200);
}

#[test]
fn records_are_compared_on_one_page() {
    let record = sample::udp::record(rounds(5));
    let saved = |path: &'static str| SavedRuns::new(Path::new(path), &record.meta, &record.runs);
    let found = compare_records(&saved("a"), &saved("b<")).unwrap();
    let proxied = sample::proxy::record();
    let other = SavedRuns::new(Path::new("p"), &proxied.meta, &proxied.runs);
    let proxies = compare_records(&other, &other).unwrap();
    let documents = [
        Document::UdpComparison(&found),
        Document::ProxyComparison(&proxies),
        Document::UdpRuns {
            id: "a",
            record: &record,
        },
        Document::ProxyRuns {
            id: "p",
            record: &proxied,
        },
    ];
    let mut page = Vec::new();
    write_page(&documents, &["a note".into()], &mut page).unwrap();
    let page = String::from_utf8(page).unwrap();
    check(&page);
    assert!(
        page.contains("<a href=\"#s0\">b&lt; compared with a</a>"),
        "{page}"
    );
    assert!(page.contains("<h2>bench proxy: p</h2>") && page.contains("a note"));
    assert!(page.contains("no difference shown"));
}

#[test]
fn proxy_has_its_paths_side_by_side() {
    let page = proxy(&sample::proxy::record());
    let titles = titles(&page);
    for title in [
        "Requests per second",
        "Bulk transfer",
        "Latency by percentile, request-response",
        "Latency by percentile, blocked",
        "Latency added by the proxy, request-response, mio",
        "Proxy CPU per 10,000 requests",
        "Proxy CPU per GB",
        "99 % latency as a multiple of the base&#39;s",
    ] {
        assert!(titles.contains(&title), "{title}: {titles:?}");
    }
    assert!(page.contains("request-response direct: "), "{page}");
    assert!(page.contains("99 %: 100 us (100 us to 100 us)"));
    let interrupted = ProxyRecord {
        interrupted: true,
        ..sample::proxy::record()
    };
    assert!(proxy(&interrupted).contains("<b>incomplete</b> The command was interrupted."));
}

#[test]
fn long_name_has_lines_of_its_own() {
    let suffix = ", multishot, ring 64, zerocopy msg, GSO off, DF auto, 4 streams, default CPUs";
    let mut runs = rounds(6);
    for run in &mut runs {
        run.setting = run.setting.take().map(|name| name + suffix);
    }
    let mut record = sample::udp::record(runs.clone());
    record.comparison = compared(&runs);
    let page = udp(&record);
    let lines = [
        "batch 16, multishot, ring 64, zerocopy msg, GSO",
        "off, DF auto, 4 streams, default CPUs",
    ];
    for line in lines.into_iter().chain(["2.000 (2.000-2.000), higher"]) {
        assert!(page.contains(&format!("\n{line}\n")), "{line}: {page}");
    }
    for run in &mut runs {
        run.setting = run.setting.take().map(|name| name.repeat(4));
    }
    record = sample::udp::record(runs.clone());
    record.comparison = compared(&runs);
    assert!(udp(&record).contains("…\n"));
}

/// Runs of 20 settings with an hour of intervals each, and one without.
fn long_comparison(settings: usize, intervals: u64) -> UdpRecord {
    let first = rounds(2).remove(0);
    let name = |at: usize| format!("batch {}", 10 + at);
    let run = |at: usize| Run {
        setting: Some(name(at)),
        requested: crate::udp::result::Requested {
            batch: Some(10 + at),
            ..first.requested.clone()
        },
        intervals: (0..if at == 1 { 0 } else { intervals })
            .map(|n| Interval {
                start_s: n as f64,
                kb_per_s: 700_000.0 + (n * 7_919 % 10_000) as f64 + 9_000.0 * at as f64,
                latency_p99_ns: Some(40_000 + n * 7_919 % 9_973 + 30_000 * at as u64),
                ..sample::udp::interval()
            })
            .collect(),
        ..first.clone()
    };
    let runs: Vec<Run> = (0..settings).map(run).collect();
    let mut record = sample::udp::record(runs.clone());
    record.comparison = compared(&runs);
    record
}

#[test]
fn settings_have_goodput_and_latency_over_time_in_one_colour_each() {
    let page = udp(&long_comparison(3, 30));
    let found = titles(&page);
    assert!(
        found.ends_with(&["Goodput over time", "99 % latency over time"]),
        "{found:?}"
    );
    let (_, over_time) = page.split_once("<h3>Goodput over time</h3>").unwrap();
    let (chart, _) = over_time.split_once("</figure>").unwrap();
    let (drawing, legend) = chart.split_once("<ul class=\"legend\">").unwrap();
    // The second setting has no intervals; the third keeps its colour.
    for (name, colour, is_drawn) in [
        ("batch 10", "#0072B2", true),
        ("batch 11", "#D55E00", false),
        ("batch 12", "#009E73", true),
    ] {
        assert_eq!(drawing.contains(&format!("stroke=\"{colour}\"")), is_drawn);
        assert_eq!(legend.contains(name) && legend.contains(colour), is_drawn);
    }
}

#[test]
fn compared_records_have_their_intervals_over_time() {
    let record = long_comparison(1, 30);
    let saved = |path: &'static str| SavedRuns::new(Path::new(path), &record.meta, &record.runs);
    let found = compare_records(&saved("a"), &saved("b")).unwrap();
    let page = written(&Document::UdpComparison(&found));
    let (_, chart) = page.split_once("<h3>Goodput over time</h3>").unwrap();
    let (chart, _) = chart.split_once("</figure>").unwrap();
    assert!(chart.contains("</svg>base</li>"), "{chart}");
    assert!(chart.contains("</svg>new</li>"), "{chart}");
}

#[test]
fn hour_of_many_settings_is_a_page_below_a_megabyte() {
    let page = udp(&long_comparison(20, 3_600));
    assert!(page.len() < 1_000_000, "{}", page.len());
    assert!(page.contains("Only the first 16 are drawn."));
    assert!(page.contains("Of two lines of one colour"));
    assert!(page.contains("batch 25</li>") && !page.contains("batch 26</li>"));
}

#[test]
fn picture_is_small_and_has_the_headline_charts() {
    fn picture(document: &Document<'_>) -> String {
        let mut svg = Vec::new();
        Picture.write(document, &mut svg).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<svg ").count(), svg.matches("</svg>").count());
        for needs in ["<script", "url(", "@import", "href", "NaN"] {
            assert!(!svg.contains(needs), "{needs}");
        }
        svg
    }
    let runs = rounds(6);
    let mut record = sample::udp::record(runs.clone());
    record.comparison = compared(&runs);
    let svg = picture(&Document::UdpRuns {
        id: "",
        record: &record,
    });
    assert!(svg.len() < 30_000, "{}", svg.len());
    assert!(svg.contains("prefers-color-scheme:dark"));
    // A long title has two lines.
    for line in [
        "Median goodput",
        "Goodput as a multiple of the base&#39;s",
        "99 % latency as a multiple of the",
    ] {
        assert!(svg.contains(&format!(">{line}</text>")), "{line}");
    }
    assert!(!svg.contains("Latency by percentile"));

    let record = sample::udp::record(vec![sample::udp::measured().run]);
    let svg = picture(&Document::UdpRuns {
        id: "",
        record: &record,
    });
    assert!(svg.contains(">from the intended send</text>"), "{svg}");
    let record = sample::proxy::record();
    let svg = picture(&Document::ProxyRuns {
        id: "",
        record: &record,
    });
    assert!(svg.contains(">Requests per second</text>"));
    // A record without runs has no chart.
    picture(&Document::UdpRuns {
        id: "",
        record: &sample::udp::record(Vec::new()),
    });
}

#[test]
fn a_search_is_a_section_with_bounds_and_curves() {
    let mut record = sample::search::record();
    fn document(record: &SearchRecord) -> Document<'_> {
        Document::UdpSearch { id: "", record }
    }
    let page = written(&document(&record));
    for words in [
        "100,000 packets/s",
        "Latency by load",
        "Loss by load",
        "limit",
        "bound is that of the sender",
        "goal of 0.5 %, up to its lower bound",
    ] {
        assert!(page.contains(words), "{words}");
    }
    let picture = |record: &SearchRecord| {
        let mut svg = Vec::new();
        Picture.write(&document(record), &mut svg).unwrap();
        String::from_utf8(svg).unwrap()
    };
    assert!(picture(&record).contains("Latency by load"));
    // A search that ended before its first bound.
    record.complete = false;
    record.trials.truncate(1);
    record.goals = vec![SearchGoal::default()];
    let page = written(&document(&record));
    assert!(page.contains("incomplete") && !page.contains("by load"));
    assert!(!picture(&record).contains("by load"));
}
