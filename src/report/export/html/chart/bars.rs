//! A chart of horizontal bars, each below its name and its value.

use std::io;

use plotters::element::Rectangle;
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{LINE, height_of_rows};
use super::{Axis, Canvas, Chart, Series, axes_label};

/// A bar.
#[derive(Debug)]
pub(in super::super) struct Bar {
    pub(in super::super) series: Series,
    pub(in super::super) name: String,
    /// The value as text.
    pub(in super::super) text: String,
    /// `None` draws no bar.
    pub(in super::super) value: Option<f64>,
    pub(in super::super) whisker: Option<Whisker>,
    /// A value that shows nothing is drawn as an outline.
    pub(in super::super) is_hollow: bool,
}

/// An interval around a value.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Whisker {
    pub(in super::super) low: f64,
    pub(in super::super) high: f64,
}

/// A chart of bars.
#[derive(Debug)]
pub(in super::super) struct Bars {
    pub(in super::super) title: String,
    pub(in super::super) how: String,
    pub(in super::super) x: Axis,
    /// What the rows are.
    pub(in super::super) rows: &'static str,
    /// Where bars begin: 0, or 1 for ratios.
    pub(in super::super) origin: f64,
    pub(in super::super) bars: Vec<Bar>,
}

/// Characters that fit above a bar.
const FITTING: usize = 58;

impl Bar {
    /// Name and value, on one line if they fit for all bars. A very long name is shortened.
    fn label(&self, on_one_line: bool) -> Vec<String> {
        if on_one_line {
            return vec![format!("{}: {}", self.name, self.text)];
        }
        let name = match self.name.chars().count() {
            0..=FITTING => self.name.clone(),
            _ => self.name.chars().take(FITTING - 1).chain(['…']).collect(),
        };
        vec![name, self.text.clone()]
    }

    fn length(&self) -> usize {
        self.name.chars().count() + self.text.chars().count() + 2
    }
}

/// Most bars of a chart.
pub(in super::super) const MOST_BARS: usize = 12;

impl Bars {
    /// Draws the chart.
    pub(in super::super) fn draw(mut self) -> io::Result<Chart> {
        if self.bars.len() > MOST_BARS {
            self.bars.truncate(MOST_BARS);
            self.how += &format!(" Only the first {MOST_BARS} are drawn.");
        }
        let mut svg = String::new();
        let rows = self.bars.len().max(1) as f64;
        let y = Axis::linear(self.rows, "a row each".to_owned(), 0.0, rows).cut(rows);
        let axes = axes_label(&self.x, &y);
        let on_one_line = self.bars.iter().all(|bar| bar.length() <= FITTING);
        let height = height_of_rows(self.bars.len(), on_one_line);
        let mut canvas = Canvas::of_rows(&mut svg, self.x, y, height)?;
        let (left, _) = canvas.ends();
        let labels_at = canvas.pixel(left, 0.0).0 + 8;
        for (row, bar) in self.bars.iter().enumerate() {
            let top = rows - row as f64;
            // The label has the upper part of the row, the bar the lower.
            let (high, low) = match on_one_line {
                true => (top - 0.50, top - 0.90),
                false => (top - 0.64, top - 0.93),
            };
            let mut y = canvas.pixel(left, top).1 + 8;
            for line in bar.label(on_one_line) {
                canvas.text(&line, (labels_at, y), HPos::Left, VPos::Top)?;
                y += LINE;
            }
            if let Some(value) = bar.value {
                let (end, _) = canvas.at(value, 0.0);
                let (start, _) = canvas.at(self.origin, 0.0);
                let corners = [(start.min(end), low), (start.max(end), high)];
                let colour = bar.series.colour();
                let opacity = if bar.is_hollow { 0.2 } else { 0.9 };
                canvas.element(Rectangle::new(corners, colour.mix(opacity).filled()))?;
                if bar.is_hollow {
                    canvas.element(Rectangle::new(corners, colour.stroke_width(3)))?;
                }
            }
            let (start, _) = canvas.at(self.origin, 0.0);
            canvas.rule(vec![(start, low - 0.04), (start, high + 0.04)], 4)?;
            if let Some(Whisker {
                low: from,
                high: to,
            }) = bar.whisker
            {
                let (from, middle) = canvas.at(from, f64::midpoint(low, high));
                let (to, _) = canvas.at(to, 0.0);
                canvas.rule(vec![(from, middle), (to, middle)], 4)?;
                for end in [from, to] {
                    let (above, below) = (middle + 0.14, middle - 0.14);
                    canvas.rule(vec![(end, above), (end, below)], 4)?;
                }
            }
        }
        canvas.finish()?;
        Ok(Chart {
            title: self.title,
            how: self.how,
            axes,
            svg,
            height,
            legend: Vec::new(),
        })
    }
}
