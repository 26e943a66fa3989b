//! `--html`, `--svg` and `bench report`: one page with charts, or a picture of them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Results, bench, names};

const PROXY: &str = "proxy --scenario connect,request-response,blocked --duration 100ms --warmup 5ms --connections 2 --repeat 1 --quiet";

fn titles(page: &str) -> Vec<String> {
    let figures = page.split("<figure>\n<h3>").skip(1);
    figures
        .map(|part| part.split_once("</h3>").unwrap().0.to_owned())
        .collect()
}

#[test]
fn page_of_a_run_is_written_by_the_run_and_from_its_folder() {
    let results = Results::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.html");
    let out = results.arg();
    let run = "udp --pps 2000 --duration 300ms --interval 50ms --html";
    let args = run
        .split(' ')
        .chain([path.to_str().unwrap(), "--out", &out]);
    assert!(bench(args).done().stdout.contains("KB/s"));
    let live = fs::read_to_string(&path).unwrap();
    assert!(live.starts_with("<!DOCTYPE html>") && live.ends_with("</html>\n"));
    // Without losses there are no charts of them.
    assert_eq!(
        titles(&live),
        [
            "Latency by percentile",
            "Latency over time",
            "Goodput over time",
            "Pacing",
            "Accuracy of the schedule",
        ]
    );

    let saved = results.only();
    let before = names(&saved).len();
    let printed = bench(["report", saved.to_str().unwrap()]).done().stdout;
    let report = saved.join("report.html");
    assert_eq!(printed, format!("{}\n", report.display()));
    assert_eq!(names(&saved).len(), before + 1);
    // The file has the distribution that the run had in memory.
    assert_eq!(fs::read_to_string(&report).unwrap(), live);
    let json = saved.join("run.json");
    let shown = bench(["report", json.to_str().unwrap(), "--html", "-"]).done();
    assert_eq!(shown.stdout, live);
    // Without histograms, the summaries have fewer points.
    fs::remove_file(saved.join("latency.hgrm")).unwrap();
    let shown = bench(["report", saved.to_str().unwrap(), "--html", "-"]).done();
    assert_eq!(titles(&shown.stdout), titles(&live));
    assert!(shown.stdout.len() < live.len());
}

#[test]
fn records_are_sections_of_one_page_and_compared_where_they_can_be() {
    let (udp, proxy) = (Results::new(), Results::new());
    let (udp_out, proxy_out) = (udp.arg(), proxy.arg());
    let runs = "udp --packets 300 --batch 16,64 --repeat 2 --quiet --out";
    bench(runs.split(' ').chain([&*udp_out])).done();
    bench(PROXY.split(' ').chain(["--out", &proxy_out])).done();
    let (udp, proxy) = (udp.only(), proxy.only());
    let (udp, proxy) = (udp.to_str().unwrap(), proxy.to_str().unwrap());
    let page = bench(["report", udp, proxy, udp, "--html", "-"])
        .done()
        .stdout;
    assert_eq!(page.matches("<section ").count(), 4);
    // In the table, in the goodput and in the legend; a ratio needs a figure above zero.
    assert!(page.matches("batch 16, new").count() >= 3, "{page}");
    for title in [
        "Median goodput",
        "Requests per second",
        "Latency by percentile, connect and blocked",
    ] {
        assert!(titles(&page).iter().any(|of| of == title), "{title}");
    }
    let compared = bench(["compare", udp, udp, "--html", "-"]).done().stdout;
    assert!(compared.contains("too few runs"), "{compared}");
}

#[test]
fn picture_is_written_with_a_page_or_without() {
    let results = Results::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.svg");
    let (path, out) = (path.to_str().unwrap(), results.arg());
    let run = "udp --packets 300 --repeat 2 --batch 16,64 --svg";
    let args = run.split(' ').chain([path, "--out", &out]);
    assert!(bench(args).done().stdout.contains("KB/s"));
    let live = fs::read_to_string(path).unwrap();
    assert!(live.starts_with("<svg ") && live.contains(">Median goodput</text>"));
    assert!(
        live.contains(">bench udp --packets 300 --repeat 2 "),
        "{live}"
    );

    let saved = results.only();
    let record = saved.to_str().unwrap();
    let shown = bench(["report", record, "--svg", "-"]).done().stdout;
    assert_eq!(shown, live);
    assert!(!saved.join("report.html").exists());
    let again = folder.path().join("b.svg");
    let page = folder.path().join("b.html");
    let (again, page) = (again.to_str().unwrap(), page.to_str().unwrap());
    let printed = bench(["report", record, "--svg", again, "--html", page]).done();
    assert_eq!(printed.stdout, format!("{page}\n{again}\n"));
    assert_eq!(fs::read_to_string(again).unwrap(), live);
    let compared = bench(["compare", record, record, "--svg", "-"]).done();
    assert!(compared.stdout.contains(" compared with "));
    bench(["report", record, "--svg", "-", "--html", "-"]).failed(2, &["--html - and --svg -"]);
}

#[test]
fn errors_name_the_path_and_the_option() {
    bench(["report"]).failed(2, &["<PATH>"]);
    bench(["report", "/nowhere"]).failed(3, &["/nowhere", "run.json"]);
    for command in ["udp", "proxy"] {
        let failed = bench([command, "--no-save", "--html", "/nowhere/a.html"]);
        failed.failed(3, &["/nowhere/a.html", "--html"]);
    }
    bench(["udp", "--no-save", "--json", "-", "--html", "-"]).failed(2, &["--json - and --html -"]);
}

/// A name of the installed Chromium.
fn chromium() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    names.into_iter().find(|name| {
        let mut version = Command::new(name);
        version
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    })
}

/// Text for the content of a quoted attribute.
fn attribute(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;")
}

/// The page's content in a frame of each width, and what it measures there: a window cannot be as narrow as a phone's.
fn frames(page: &str, folder: &Path, widths: &[u32]) -> String {
    let mut outer = "<!DOCTYPE html><title>frames</title>".to_owned();
    for width in widths {
        outer += &format!(
            "<iframe style=\"width:{width}px;height:900px;border:0\" srcdoc=\"{}\"></iframe>",
            attribute(page)
        );
    }
    outer += "<script>onload = () => {for (const frame of document.querySelectorAll('iframe')) {
        const root = frame.contentDocument.documentElement;
        const charts = [...root.querySelectorAll('figure > svg')];
        const shown = charts.filter(chart => chart.getBoundingClientRect().height > 50);
        const texts = [...root.querySelectorAll('figure > svg text')];
        const smallest = Math.min(...texts.map(text => text.getBoundingClientRect().height));
        frame.replaceWith(`[${root.clientWidth} ${root.scrollWidth} ${charts.length} ${shown.length} ${Math.round(smallest)}]`);
    }}</script>";
    let path = folder.join("frames.html");
    fs::write(&path, outer).unwrap();
    format!("file://{}", path.display())
}

#[test]
fn browser_shows_the_page_without_errors_or_overflow() {
    let Some(chromium) = chromium() else {
        println!(
            "skipped browser_shows_the_page_without_errors_or_overflow: chromium is not installed"
        );
        return;
    };
    let results = Results::new();
    let out = results.arg();
    let run = "udp --packets 300 --batch 16,64 --repeat 2 --quiet --out";
    bench(run.split(' ').chain([&*out])).done();
    let saved = results.only();
    let saved = saved.to_str().unwrap();
    let page = bench(["report", saved, saved, "--html", "-"]).done().stdout;
    let folder = tempfile::tempdir().unwrap();
    let address = frames(&page, folder.path(), &[360, 768, 1_400]);
    let shown = Command::new("timeout")
        .args([
            "60",
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
        ])
        .args([
            "--enable-logging=stderr",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.path().join("profile").display()
        ))
        .arg(address)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&shown.stderr);
    assert!(!log.contains("CONSOLE"), "{log}");
    let dom = String::from_utf8_lossy(&shown.stdout);
    let charts = page.matches("<figure>").count();
    let mut measured = 0;
    for part in dom
        .split('[')
        .skip(1)
        .filter_map(|part| part.split_once(']'))
    {
        let numbers: Vec<usize> = part.0.split(' ').filter_map(|of| of.parse().ok()).collect();
        let [width, needed, all, visible, smallest] = numbers[..] else {
            continue;
        };
        assert!(needed <= width, "{needed} px in {width}");
        assert_eq!((all, visible), (charts, charts), "at {width} px");
        // The height of a text is about 1.2 times its size.
        assert!(smallest >= 13, "text of {smallest} px at {width} px");
        measured += 1;
    }
    assert_eq!(measured, 3, "{dom}\n{log}");
}
