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

/// Markers of a line.
const MARKERS: usize = 6;

impl Lines {
    /// Draws the chart.
    pub(in super::super) fn draw(mut self) -> io::Result<Chart> {
        if self.lines.iter().any(|line| line.series.is_hollow()) {
            self.how +=
                " Of two lines of one colour, one has filled markers, the other hollow ones.";
        }
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
        let mut drawn = Vec::new();
        for line in &self.lines {
            let mut of_line = Vec::new();
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
                canvas.element(PathElement::new(points.clone(), style))?;
                of_line.push(points);
            }
            drawn.push(of_line);
        }
        // The title names a single line.
        let has_legend = self.lines.len() > 1;
        if has_legend {
            for (number, (line, parts)) in self.lines.iter().zip(&drawn).enumerate() {
                let offset = (number as f64 + 0.5) / drawn.len() as f64;
                for at in marked(parts, canvas.ends(), offset) {
                    canvas.marker(line.series, at)?;
                }
            }
        }
        canvas.finish()?;
        let legend = self.lines.into_iter().filter(|_| has_legend);
        Ok(Chart {
            title: self.title,
            how: self.how,
            axes,
            svg,
            height: HEIGHT,
            legend: legend.map(|line| (line.series, line.name)).collect(),
        })
    }
}

/// Points of a line at equal distances along the horizontal axis from `low` to `high`; `offset`, from 0 to 1, keeps the markers of
/// different lines apart. A line too short for all of them has one in its middle.
fn marked(parts: &[Vec<(f64, f64)>], (low, high): (f64, f64), offset: f64) -> Vec<(f64, f64)> {
    let targets = (0..MARKERS).map(|n| low + (high - low) * (n as f64 + offset) / MARKERS as f64);
    let found: Vec<_> = targets
        .filter_map(|x| parts.iter().find_map(|part| on(part, x)))
        .collect();
    if !found.is_empty() {
        return found;
    }
    let longest = parts.iter().max_by_key(|part| part.len());
    let middle = longest.and_then(|part| part.get(part.len() / 2));
    middle.copied().into_iter().collect()
}

/// The point at `x` on a line whose points are sorted by `x`.
fn on(part: &[(f64, f64)], x: f64) -> Option<(f64, f64)> {
    let next = part.partition_point(|of| of.0 <= x);
    let (from, to) = (part.get(next.checked_sub(1)?)?, part.get(next)?);
    let share = (x - from.0) / (to.0 - from.0);
    Some((x, from.1 + share * (to.1 - from.1)))
}

/// The uninterrupted parts of `points`.
fn parts<P, Q: Copy>(points: &[P], known: impl Fn(&P) -> Option<Q>) -> Vec<Vec<Q>> {
    let known: Vec<Option<Q>> = points.iter().map(known).collect();
    let parts = known.split(Option::is_none);
    let parts = parts.map(|part| part.iter().flatten().copied().collect::<Vec<Q>>());
    parts.filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_on_the_line_and_a_short_line_has_one() {
        let parts = [
            vec![(0.0, 0.0), (10.0, 20.0)],
            vec![(30.0, 5.0), (60.0, 5.0)],
        ];
        assert_eq!(
            marked(&parts, (0.0, 60.0), 0.5),
            [(5.0, 10.0), (35.0, 5.0), (45.0, 5.0), (55.0, 5.0)]
        );
        let short = [vec![(1.0, 3.0), (2.0, 4.0)]];
        assert_eq!(marked(&short, (0.0, 60.0), 0.5), [(2.0, 4.0)]);
        assert!(marked(&[], (0.0, 60.0), 0.5).is_empty());
    }
}
