//! Draws a [`Model`]. Pure: the model and the time in, cells out.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Sparkline, Wrap};

use super::buckets::buckets;
use super::model::{Finished, Goal, Model, Panel, Phase};
use crate::report::figures::figure;
use crate::units::{grouped, short_ns};

/// Smallest width.
const WIDTH: u16 = 60;

/// Lines above and below the panels.
const AROUND: u16 = 3;

/// Smallest height of a panel, with its border.
const PANEL: u16 = 9;

/// Columns of a percentile with its name.
const CELL: usize = 16;

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    pub(super) colours: bool,
}

impl Theme {
    fn colour(self, colour: Color) -> Style {
        match self.colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    fn strong() -> Style {
        Style::new().bold()
    }

    fn weak() -> Style {
        Style::new().dim()
    }
}

/// Draws the model, or a sentence if the terminal is too small.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, now: Instant, theme: Theme) {
    let area = frame.area();
    let panels = u16::try_from(model.panels.len().max(1)).unwrap_or(u16::MAX);
    let height = AROUND.saturating_add(PANEL.saturating_mul(panels));
    if area.width < WIDTH || area.height < height {
        let sentence = format!(
            "The live view needs {WIDTH}x{height}, this terminal has {}x{}. The run goes on; q ends it.",
            area.width, area.height
        );
        let sentence = Paragraph::new(sentence).wrap(Wrap { trim: true });
        return frame.render_widget(sentence, area);
    }
    let table = table_height(model, area.height - height);
    let mut rest = Rows(area);
    heading(frame, model, rest.take(1));
    progress(frame, model, now, theme, rest.take(1));
    let keys = " q or Ctrl-C ends the run and prints its summary";
    let last = Rect {
        y: area.bottom() - 1,
        height: 1,
        ..area
    };
    frame.render_widget(Line::styled(keys, Theme::weak()), last);
    let for_panels = area.height - AROUND - table;
    for (number, panel) in (0..).zip(&model.panels) {
        let height = for_panels / panels + u16::from(number < for_panels % panels);
        draw_panel(frame, panel, theme, rest.take(height));
    }
    if model.panels.is_empty() {
        rest.take(for_panels);
    }
    finished(frame, model, theme, rest.take(table));
}

/// The rows of an area that are not drawn yet.
struct Rows(Rect);

impl Rows {
    /// The next `height` rows.
    fn take(&mut self, height: u16) -> Rect {
        let height = height.min(self.0.height);
        let taken = Rect { height, ..self.0 };
        self.0.y += height;
        self.0.height -= height;
        taken
    }
}

/// The height of the finished runs: room for all planned ones, but at most half of what the panels leave. It does not change
/// between runs, so that nothing moves.
fn table_height(model: &Model, spare: u16) -> u16 {
    const BORDER_AND_HEADING: u16 = 3;
    if model.runs < 2 {
        return 0;
    }
    let all = u16::try_from(model.runs).unwrap_or(u16::MAX);
    let wanted = all.saturating_add(BORDER_AND_HEADING);
    let most = (spare / 2).max(BORDER_AND_HEADING + 1);
    match wanted.min(most) {
        height if height <= spare => height,
        _ => 0,
    }
}

fn heading(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let right = format!("{} ", model.position);
    let width = usize::from(area.width);
    let left = width.saturating_sub(right.chars().count() + model.command.len() + 4);
    let subject = cut(&model.subject, left);
    let line = Line::from(vec![
        Span::styled(format!(" {}  ", model.command), Theme::strong()),
        Span::raw(format!("{subject:<left$} ")),
        Span::raw(right),
    ]);
    frame.render_widget(line, area);
}

/// The phase, the time and a bar.
fn progress(frame: &mut Frame<'_>, model: &Model, now: Instant, theme: Theme, area: Rect) {
    const BAR: usize = 24;
    let text = match model.phase {
        Phase::Starting => "starting".to_owned(),
        Phase::WarmingUp => "warming up".to_owned(),
        Phase::Stopping => "stopping, waiting for the results".to_owned(),
        Phase::Running(since) => {
            let elapsed = now.saturating_duration_since(since).as_secs_f64();
            match model.goal {
                Some(Goal::Time(time)) => {
                    let left = (time.as_secs_f64() - elapsed).max(0.0);
                    format!("running  {elapsed:5.1} s, {left:.1} s left")
                }
                Some(Goal::Packets(packets)) => {
                    format!("running  {elapsed:5.1} s of {} packets", grouped(packets))
                }
                None => format!("running  {elapsed:5.1} s"),
            }
        }
    };
    let mut spans = vec![Span::raw(format!(" {text:<38}"))];
    if let Some(share) = model.share(now) {
        spans.push(Span::styled(
            format!("{:<BAR$}", bar(share, BAR)),
            theme.colour(Color::Cyan),
        ));
        // 100 % is for a run that is over.
        spans.push(Span::raw(format!(" {:3.0} %", (share * 100.0).floor())));
    }
    frame.render_widget(Line::from(spans), area);
}

fn draw_panel(frame: &mut Frame<'_>, panel: &Panel, theme: Theme, area: Rect) {
    let block =
        Block::bordered().title(Span::styled(format!(" {} ", panel.title), Theme::strong()));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let left = inner.width * 11 / 20;
    let rates = Rect {
        width: left,
        ..inner
    };
    let latencies = Rect {
        x: inner.x + left + 1,
        width: inner.width - left - 2,
        ..inner
    };
    draw_rates(frame, panel, theme, inset(rates));
    draw_latencies(frame, panel, theme, inset(latencies));
}

/// The area without its first column.
fn inset(area: Rect) -> Rect {
    Rect {
        x: area.x + 1,
        width: area.width.saturating_sub(1),
        ..area
    }
}

/// The rate, its chart and the counts.
fn draw_rates(frame: &mut Frame<'_>, panel: &Panel, theme: Theme, area: Rect) {
    let unit = panel.unit.name();
    let columns = usize::from(area.width);
    let shown: Vec<f64> = panel
        .rates
        .iter()
        .rev()
        .take(columns)
        .rev()
        .copied()
        .collect();
    let highest = shown.iter().copied().fold(0.0, f64::max);
    let rate = match panel.rates.back() {
        Some(rate) => format!("{} {unit}", figure(*rate)),
        None => format!("- {unit}"),
    };
    let scale = match panel.rates.is_empty() {
        true => "no interval has ended yet".to_owned(),
        false => format!(
            "last {:.1} s, at most {} {unit}",
            shown.len() as f64 * panel.interval,
            figure(highest)
        ),
    };
    let counts = count_lines(panel, theme, columns);
    let mut rows = Rows(area);
    let rate = Line::styled(rate, Theme::strong().patch(theme.colour(Color::Cyan)));
    frame.render_widget(rate, rows.take(1));
    frame.render_widget(Line::styled(scale, Theme::weak()), rows.take(1));
    let lines = u16::try_from(counts.len()).unwrap_or(u16::MAX);
    let chart = rows.take(rows.0.height.saturating_sub(lines));
    // Whole numbers with three decimals.
    let scaled = |rate: f64| (rate * 1e3) as u64;
    let chart_of_rates = Sparkline::default()
        .data(shown.into_iter().map(scaled))
        .max(scaled(highest).max(1))
        .style(theme.colour(Color::Cyan));
    frame.render_widget(chart_of_rates, chart);
    frame.render_widget(Paragraph::new(counts), rows.0);
}

/// The counts, as many in a line as fit.
fn count_lines(panel: &Panel, theme: Theme, columns: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for count in &panel.counts {
        let text = format!("{} {}", count.name, count.text);
        let style = match count.is_failure {
            true => Theme::strong().patch(theme.colour(Color::Red)),
            false => Style::new(),
        };
        let size = text.chars().count();
        match lines.last_mut() {
            Some(line) if line.width() + 3 + size <= columns => {
                line.push_span("   ");
                line.push_span(Span::styled(text, style));
            }
            _ => lines.push(Line::styled(text, style)),
        }
    }
    lines
}

/// The percentiles and the histogram.
fn draw_latencies(frame: &mut Frame<'_>, panel: &Panel, theme: Theme, area: Rect) {
    let mut rows = Rows(area);
    let title = panel.latency_title;
    let latency = &panel.latency;
    if latency.count() == 0 {
        let text = match panel.no_latency {
            "" => format!("{title}: -"),
            why => format!("{title}: unknown, {why}"),
        };
        let text = Paragraph::new(text).wrap(Wrap { trim: true });
        return frame.render_widget(text, area);
    }
    frame.render_widget(Line::styled(title, Theme::weak()), rows.take(1));
    let values = [
        ("p50", latency.percentile(50.0)),
        ("p90", latency.percentile(90.0)),
        ("p99", latency.percentile(99.0)),
        ("p99.9", latency.percentile(99.9)),
        ("max", latency.max()),
    ];
    let cells = values.map(|(name, ns)| format!("{name:<5} {:>8}", time(ns)));
    let in_a_line = match area.height {
        14.. => 1,
        _ => (usize::from(area.width) / CELL).clamp(1, cells.len()),
    };
    let width = CELL;
    for line in cells.chunks(in_a_line) {
        let cells = line.iter().map(|cell| format!("{cell:<width$}"));
        let line = cells.collect::<String>();
        frame.render_widget(Line::styled(line, Theme::strong()), rows.take(1));
    }
    histogram(frame, panel, theme, rows.0);
}

/// A row for each bucket: its largest value, a bar and its share.
fn histogram(frame: &mut Frame<'_>, panel: &Panel, theme: Theme, area: Rect) {
    const LABEL: usize = 10;
    const SHARE: usize = 8;
    let buckets = buckets(&panel.latency, usize::from(area.height));
    let all: u64 = buckets.iter().map(|bucket| bucket.count).sum();
    let most = buckets.iter().map(|bucket| bucket.count).max().unwrap_or(0);
    let longest = usize::from(area.width).saturating_sub(LABEL + 1 + SHARE);
    let mut rows = Rows(area);
    for bucket in buckets {
        let share = bucket.count as f64 / most.max(1) as f64;
        let length = bar(share, longest);
        let line = Line::from(vec![
            Span::raw(format!("≤ {:>8} ", short(bucket.to))),
            Span::styled(format!("{length:<longest$}"), theme.colour(Color::Green)),
            Span::raw(format!("{:>SHARE$}", percent(bucket.count, all))),
        ]);
        frame.render_widget(line, rows.take(1));
    }
}

/// The finished runs, or the last ones.
fn finished(frame: &mut Frame<'_>, model: &Model, theme: Theme, area: Rect) {
    if area.height == 0 {
        return;
    }
    let block = Block::bordered().title(Span::styled(" finished runs ", Theme::strong()));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let mut rows = Rows(inset(inner));
    let columns = usize::from(rows.0.width);
    let name = columns.saturating_sub(22 + 10 + 10 + 10 + 1);
    let line = |row: [&str; 5]| {
        let [of, rate, failures, p50, p99] = row;
        let of = cut(of, name);
        format!("{of:<name$}{rate:>22}{failures:>10}{p50:>10}{p99:>10}")
    };
    let heading = line(["", "rate", model.failures, "p50", "p99"]);
    frame.render_widget(Line::styled(heading, Theme::weak()), rows.take(1));
    let room = usize::from(rows.0.height);
    let hidden = model.finished.len().saturating_sub(room);
    for (number, run) in model.finished.iter().enumerate().skip(hidden) {
        let Finished {
            rate,
            failures,
            p50,
            p99,
            ..
        } = run;
        let of = format!("{} {}", number + 1, run.name);
        let text = line([&of, rate, failures, &time(*p50), &time(*p99)]);
        let style = match failures.as_str() {
            "0" | "-" => Style::new(),
            _ => theme.colour(Color::Red),
        };
        frame.render_widget(Line::styled(text, style), rows.take(1));
    }
}

/// A bar of `share` of `most` characters, in eighths. A share above 0 is visible.
fn bar(share: f64, most: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * most as f64 * 8.0).round() as usize;
    let eighths = match share > 0.0 && most > 0 {
        true => eighths.max(1),
        false => 0,
    };
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

fn time(ns: Option<u64>) -> String {
    ns.map_or("-".to_owned(), |ns| short_ns(ns as f64))
}

/// A bound of a bucket, which has one digit.
fn short(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} us", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{} s", ns / 1_000_000_000),
    }
}

/// A share with one decimal; a small one is not 0.
fn percent(part: u64, all: u64) -> String {
    match part as f64 / all.max(1) as f64 * 100.0 {
        0.0 => "0 %".to_owned(),
        share if share < 0.05 => "< 0.1 %".to_owned(),
        share => format!("{share:.1} %"),
    }
}

/// The text, cut to `most` characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    match most {
        0 => String::new(),
        _ => kept + "…",
    }
}

#[cfg(test)]
mod tests;
