//! A chart of lines and bands over a numeric axis.

use std::io;

use plotters::element::{PathElement, Polygon};
use plotters::style::Color;

use super::canvas::HEIGHT;
use super::{Axis, Canvas, Chart, Series, axes_label, thin};

/// A line. Unknown values interrupt it.
#[derive(Debug)]
pub(in super::super) struct Line {
    pub(in super::super) series: Series,
    pub(in super::super) name: String,
    pub(in super::super) points: Vec<(f64, Option<f64>)>,
    /// Of dense points, only the highest are drawn.
    pub(in super::super) is_envelope: bool,
}

/// The area between two values. Unknown values interrupt it.
#[derive(Debug)]
pub(in super::super) struct Band {
    pub(in super::super) series: Series,
    pub(in super::super) points: Vec<(f64, Option<(f64, f64)>)>,
}

/// A chart of bands, and lines above them.
#[derive(Debug)]
pub(in super::super) struct Lines {
    pub(in super::super) title: String,
    pub(in super::super) how: String,
    pub(in super::super) x: Axis,
    pub(in super::super) y: Axis,
    pub(in super::super) bands: Vec<Band>,
    pub(in super::super) lines: Vec<Line>,
}

impl Lines {
    /// Draws the chart.
    pub(in super::super) fn draw(self) -> io::Result<Chart> {
        let mut svg = String::new();
        let axes = axes_label(&self.x, &self.y);
        let mut canvas = Canvas::of_lines(&mut svg, self.x, self.y)?;
        for band in &self.bands {
            for part in parts(&band.points, |&(x, of)| {
                of.map(|(low, high)| (x, low, high))
            }) {
                let part = thin::band(&part);
                let low = part.iter().map(|&(x, low, _)| canvas.at(x, low));
                let high = part.iter().rev().map(|&(x, _, high)| canvas.at(x, high));
                let outline: Vec<_> = low.chain(high).collect();
                let fill = band.series.colour().mix(0.25).filled();
                canvas.element(Polygon::new(outline, fill))?;
            }
        }
        for line in &self.lines {
            for part in parts(&line.points, |&(x, of)| of.map(|y| (x, y))) {
                let all = part.len();
                let part = match line.is_envelope {
                    true => thin::highest(&part),
                    false => thin::line(&part),
                };
                let width = if part.len() < all { thin::STROKE } else { 4 };
                let mut points: Vec<_> = part.iter().map(|&(x, y)| canvas.at(x, y)).collect();
                if let [(x, y)] = points[..] {
                    // A single point is as visible as a line.
                    let (low, high) = canvas.ends();
                    let half = (high - low) / 100.0;
                    points = vec![(x - half, y), (x + half, y)];
                }
                let style = line.series.colour().stroke_width(width);
                canvas.element(PathElement::new(points, style))?;
            }
        }
        canvas.finish()?;
        let named = |line: Line| (line.series, line.name);
        Ok(Chart {
            title: self.title,
            how: self.how,
            axes,
            svg,
            height: HEIGHT,
            // The title names a single line.
            legend: match self.lines.len() {
                ..2 => Vec::new(),
                2.. => self.lines.into_iter().map(named).collect(),
            },
        })
    }
}

/// The uninterrupted parts of `points`.
fn parts<P, Q: Copy>(points: &[P], known: impl Fn(&P) -> Option<Q>) -> Vec<Vec<Q>> {
    let known: Vec<Option<Q>> = points.iter().map(known).collect();
    let parts = known.split(Option::is_none);
    let parts = parts.map(|part| part.iter().flatten().copied().collect::<Vec<Q>>());
    parts.filter(|part| !part.is_empty()).collect()
}
