use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::*;
use crate::cli::live::model::{Count, Unit};
use crate::stats::latency::LONGEST_NS;

const COLOURS: Theme = Theme { colours: true };

fn panel(title: &str) -> Panel {
    let mut panel = Panel::new(title, Unit::Kilobytes, 0.25);
    for number in 0..500 {
        panel.add_rate(f64::from(number % 40) * 1e5, 0.25);
    }
    let count = |name, text: &str, is_failure| Count {
        name,
        text: text.to_owned(),
        is_failure,
    };
    panel.counts = vec![
        count("packets", "123,456,789", false),
        count("lost", "12 (0.010 %)", true),
        count("duplicates", "0", false),
        count("reordered", "1,234", false),
    ];
    (1..10_000).for_each(|n| panel.latency.record(n * 1_000));
    panel
}

/// A run of four seconds, one of which has passed at `now`.
fn model(panels: Vec<Panel>, now: Instant) -> Model {
    Model {
        command: "bench udp",
        subject: "mio: lossless over mio, 1000 B data".to_owned(),
        position: "setting 3 of 8, round 1 of 4".to_owned(),
        phase: Phase::Running(now.checked_sub(Duration::from_secs(1)).unwrap()),
        goal: Some(Goal::Time(Duration::from_secs(4))),
        panels,
        finished: vec![
            Finished {
                name: "mio".to_owned(),
                rate: "10,725,741 KB/s".to_owned(),
                failures: "0".to_owned(),
                p50: Some(34_500),
                p99: Some(96_700),
            },
            Finished {
                name: "uring".to_owned(),
                rate: "-".to_owned(),
                failures: "0.01 %".to_owned(),
                ..Finished::default()
            },
        ],
        failures: "lost",
        runs: 2,
        ..Model::default()
    }
}

fn buffer(model: &Model, now: Instant, (width, height): (u16, u16), theme: Theme) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, model, now, theme))
        .unwrap();
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width);
    let cells: Vec<&str> = buffer.content.iter().map(|cell| cell.symbol()).collect();
    let rows = cells.chunks(width.max(1)).map(|row| row.concat());
    rows.map(|row| row.trim_end().to_owned()).collect()
}

fn shown(model: &Model, now: Instant, size: (u16, u16)) -> Vec<String> {
    lines(&buffer(model, now, size, COLOURS))
}

#[track_caller]
fn assert_has(lines: &[String], parts: &[&str]) {
    for part in parts {
        assert!(
            lines.iter().any(|line| line.contains(part)),
            "no '{part}' in:\n{}",
            lines.join("\n")
        );
    }
}

#[test]
fn a_usual_terminal_shows_everything() {
    let now = Instant::now();
    let lines = shown(&model(vec![panel("forward: goodput")], now), now, (80, 24));
    assert_eq!(
        lines[..2],
        [
            " bench udp  mio: lossless over mio, 1000 B data    setting 3 of 8, round 1 of 4",
            " running    1.0 s, 3.0 s left          ██████                    25 %"
        ]
    );
    assert_has(
        &lines,
        &[
            "┌ forward: goodput ",
            "│ 1,900,000 KB/s ",
            "at most 3,900,000 KB/s",
            "packets 123,456,789   lost 12 (0.010 %)",
            "duplicates 0   reordered 1,234",
            "p50    5.00 ms",
            "p99.9  9.99 ms",
            "max    10.0 ms",
            "≤    10 ms ██",
            " 90.0 % │",
            "1 mio",
            "10,725,741 KB/s         0   34.5 us   96.7 us │",
            "2 uring",
            "-    0.01 %         -         - │",
            " q or Ctrl-C ends the run",
        ],
    );
    assert!(lines.iter().all(|line| line.chars().count() <= 80));
}

#[test]
fn a_large_terminal_has_no_gap_below_the_frames() {
    let now = Instant::now();
    for panels in [
        vec![panel("forward: goodput")],
        vec![panel("forward: goodput"), panel("reverse: goodput")],
    ] {
        let count = panels.len();
        let lines = shown(&model(panels, now), now, (200, 60));
        assert_eq!(lines.len(), 60);
        let frames = lines.iter().filter(|line| line.starts_with('┌')).count();
        assert_eq!(frames, count + 1);
        assert!(lines[58].starts_with('└') && lines[59].starts_with(" q or"));
        assert_eq!(lines[58].chars().count(), 200);
    }
}

#[test]
fn two_directions_fit_a_usual_terminal() {
    let now = Instant::now();
    let both = vec![panel("forward: goodput"), panel("reverse: goodput")];
    let lines = shown(&model(both, now), now, (80, 24));
    assert_has(
        &lines,
        &["┌ forward: goodput", "┌ reverse: goodput", "max    10.0 ms"],
    );
}

#[test]
fn a_small_terminal_has_a_sentence() {
    let now = Instant::now();
    let model = model(vec![panel("forward: goodput")], now);
    let text = shown(&model, now, (20, 8)).join(" ");
    assert_eq!(
        text.trim_end(),
        "The live view needs 60x12, this terminal has 20x8. The run goes on; q ends it."
    );
    for size in [(1, 1), (0, 0), (59, 60), (200, 11), (20, 5)] {
        shown(&model, now, size);
    }
    assert_has(&shown(&model, now, (60, 12)), &["┌ forward", "p99.9", "≤"]);
}

#[test]
fn a_view_without_data_has_dashes() {
    let now = Instant::now();
    let mut empty = Panel::new("forward: goodput", Unit::Kilobytes, 0.25);
    let mut model = Model {
        phase: Phase::Starting,
        finished: Vec::new(),
        runs: 1,
        ..model(vec![empty.clone()], now)
    };
    let lines = shown(&model, now, (80, 24));
    assert_has(
        &lines,
        &[
            " starting",
            "- KB/s",
            "no interval has ended yet",
            "latency: -",
        ],
    );
    assert!(!lines.concat().contains("finished"));
    empty.no_latency = "since the offset of the two clocks is unknown";
    model.panels = vec![empty];
    let lines = shown(&model, now, (80, 24));
    assert_has(&lines, &["latency: unknown, since the"]);
    model.panels = Vec::new();
    model.phase = Phase::Stopping;
    assert_has(&shown(&model, now, (80, 24)), &["stopping, waiting"]);
}

#[test]
fn without_colours_no_cell_has_one() {
    let now = Instant::now();
    let model = model(vec![panel("forward: goodput")], now);
    let coloured = |theme| {
        let buffer = buffer(&model, now, (80, 24), theme);
        let has =
            |cell: &&ratatui::buffer::Cell| (cell.fg, cell.bg) != (Color::Reset, Color::Reset);
        buffer.content.iter().filter(has).count()
    };
    assert!(coloured(COLOURS) > 0);
    assert_eq!(coloured(Theme { colours: false }), 0);
}

#[test]
fn many_finished_runs_show_the_last_ones() {
    let now = Instant::now();
    let mut model = model(vec![panel("forward: goodput")], now);
    model.runs = 1_000;
    model.finished = vec![model.finished[0].clone(); 1_000];
    assert_has(&shown(&model, now, (80, 24)), &["│ 999 mio", "│ 1000 mio"]);
}

#[test]
fn figures_of_any_size_are_drawn() {
    let now = Instant::now();
    let mut huge = panel("forward: goodput");
    huge.add_rate(f64::MAX, f64::MAX);
    huge.add_rate(f64::NAN, f64::NAN);
    huge.latency.record(LONGEST_NS);
    huge.latency.record(1);
    let mut model = model(vec![huge], now);
    model.subject = "x".repeat(500);
    model.finished[0].name = "x".repeat(500);
    for size in [(60, 12), (80, 24), (300, 100)] {
        shown(&model, now, size);
    }
}

#[test]
fn bars_grow_by_eighths_and_a_share_above_0_is_visible() {
    assert_eq!(
        [0.0, 1e-9, 0.5, 1.0, 7.0].map(|share| bar(share, 3)),
        ["", "▏", "█▌", "███", "███"]
    );
    assert_eq!(bar(0.5, 0), "");
}

#[test]
fn small_shares_are_not_0() {
    assert_eq!(
        [(0, 0), (1, 100_000), (1, 1_000), (5, 5)].map(|(part, all)| percent(part, all)),
        ["0 %", "< 0.1 %", "0.1 %", "100.0 %"]
    );
}
