//! The headline charts of a document as one SVG: a file without script or font that a README or a pull request can show.

use std::io::{self, Write};

use super::chart::{Chart, WIDTH, wrapped};
use super::escape::Escaped;
use super::page;

/// Most charts of a picture.
const MOST_CHARTS: usize = 4;

/// Space around a chart.
const MARGIN: u32 = 28;

/// Height of the heading of a chart.
const HEADING: u32 = 40;

/// Height of an entry of the legend.
const ENTRY: u32 = 34;

/// Height of a line of small text.
const SMALL: u32 = 30;

/// Characters of small text that fit below a chart.
const FITTING: usize = 57;

/// Characters of a heading that fit above a chart.
const FITTING_HEADING: usize = 38;

/// Writes a picture of the first of `charts`, two side by side, below `heading` and lines of small text.
pub(super) fn write(
    heading: &str,
    small: &[String],
    charts: &[Chart],
    out: &mut dyn Write,
) -> io::Result<()> {
    let charts = &charts[..charts.len().min(MOST_CHARTS)];
    let columns = charts.len().clamp(1, 2);
    let panel = WIDTH + 2 * MARGIN;
    let width = panel * u32::try_from(columns).unwrap_or(1);
    let fitting = FITTING * columns;
    let headings = wrapped(heading, FITTING_HEADING * columns);
    let small: Vec<String> = small
        .iter()
        .flat_map(|line| wrapped(line, fitting))
        .collect();
    let above = MARGIN + HEADING * count(&headings) + SMALL * count(&small);
    let heights = charts
        .chunks(columns)
        .map(|row| row.iter().map(height).max());
    let heights: Vec<u32> = heights.flatten().collect();
    let whole = above + heights.iter().sum::<u32>() + MARGIN / 2;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {whole}\" paint-order=\"stroke\" width=\"{}\" height=\"{}\">\n\
         <title>{}</title>\n<style>\n{}{STYLE}</style>\n\
         <rect class=\"panel\" x=\"1\" y=\"1\" width=\"{}\" height=\"{}\" rx=\"12\"/>",
        width / 2,
        whole / 2,
        Escaped(heading),
        page::scheme(),
        width - 2,
        whole - 2,
    )?;
    let mut y = MARGIN + 24;
    for line in &headings {
        text("heading", (MARGIN, y), line, out)?;
        y += HEADING;
    }
    for line in &small {
        text("small", (MARGIN, y - 8), line, out)?;
        y += SMALL;
    }
    let mut top = above;
    for (row, height) in charts.chunks(columns).zip(heights) {
        for (column, chart) in (0..).zip(row) {
            write_chart(chart, (column * panel + MARGIN, top), out)?;
        }
        top += height;
    }
    writeln!(out, "</svg>")
}

const STYLE: &str = "svg{font-family:system-ui,sans-serif}\n\
    .panel{fill:var(--panel);stroke:var(--edge)}\n\
    .heading{font-size:32px;font-weight:600}\n\
    .chart{font-size:30px;font-weight:600}\n\
    .small{font-size:24px;fill:var(--soft)}\n\
    .name{font-size:26px}\n";

fn count(lines: &[String]) -> u32 {
    u32::try_from(lines.len()).unwrap_or(u32::MAX)
}

/// The height of a chart with its heading, its legend and its sentences.
fn height(chart: &Chart) -> u32 {
    let legend = u32::try_from(chart.legend.len()).unwrap_or(0);
    let how = count(&wrapped(&chart.how, FITTING));
    let title = count(&wrapped(&chart.title, FITTING_HEADING));
    MARGIN + HEADING * title + chart.height + ENTRY * legend + SMALL * how
}

fn write_chart(chart: &Chart, (x, top): (u32, u32), out: &mut dyn Write) -> io::Result<()> {
    let mut y = top + MARGIN;
    for line in wrapped(&chart.title, FITTING_HEADING) {
        text("chart", (x, y + 24), &line, out)?;
        y += HEADING;
    }
    writeln!(
        out,
        "<svg x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{0}\" viewBox=\"0 0 {WIDTH} {0}\" overflow=\"visible\">{1}",
        chart.height,
        chart.drawing()
    )?;
    y += chart.height;
    for (series, name) in &chart.legend {
        writeln!(
            out,
            "<svg x=\"{x}\" y=\"{y}\" width=\"80\" height=\"28\" viewBox=\"0 0 80 28\">{}</svg>",
            series.sample()
        )?;
        text("name", (x + 96, y + 23), name, out)?;
        y += ENTRY;
    }
    for line in wrapped(&chart.how, FITTING) {
        text("small", (x, y + 24), &line, out)?;
        y += SMALL;
    }
    Ok(())
}

fn text(class: &str, (x, y): (u32, u32), text: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>",
        Escaped(text)
    )
}
