//! A chart of horizontal bars, each below its name and its value.

use std::io;

use plotters::element::Rectangle;
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{FITTING, LINE, height_of_row, height_of_rows};
use super::{Axis, Canvas, Chart, MOST_SERIES, Series, axes_label};

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
    /// The noun of a row.
    pub(in super::super) rows: &'static str,
    /// Where bars begin: 0, or 1 for ratios.
    pub(in super::super) origin: f64,
    pub(in super::super) bars: Vec<Bar>,
}

/// Most lines of a bar's name. A longer name is shortened.
const MOST_LINES: usize = 3;

impl Bar {
    /// Name and value, on one line if they fit for all bars.
    fn label(&self, on_one_line: bool) -> Vec<String> {
        if on_one_line {
            return vec![match &self.text[..] {
                "" => format!("{}: unknown", self.name),
                text => format!("{}: {text}", self.name),
            }];
        }
        let mut lines = wrapped(&self.name, FITTING);
        if lines.len() > MOST_LINES {
            lines.truncate(MOST_LINES);
            if let Some(last) = lines.last_mut() {
                *last = last.chars().take(FITTING - 1).chain(['…']).collect();
            }
        }
        let text = match &self.text[..] {
            "" => "unknown",
            text => text,
        };
        lines.extend(wrapped(text, FITTING));
        lines
    }

    fn length(&self) -> usize {
        self.name.chars().count() + self.text.chars().count().max("unknown".len()) + 2
    }
}

/// `text` in lines of at most `width` characters, broken at spaces where there are any.
pub(in super::super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        loop {
            let line = lines.last_mut().map_or(0, |line| line.chars().count());
            let space = usize::from(line > 0);
            match lines.last_mut() {
                Some(last) if line + space + rest.len() <= width => {
                    if space > 0 {
                        last.push(' ');
                    }
                    last.extend(rest);
                    break;
                }
                Some(last) if line == 0 => {
                    last.extend(rest.drain(..width.max(1)));
                    lines.push(String::new());
                }
                _ => lines.push(String::new()),
            }
        }
    }
    lines
}

/// Most bars of a chart.
pub(in super::super) const MOST_BARS: usize = MOST_SERIES;

impl Bars {
    /// Draws the chart.
    pub(in super::super) fn draw(mut self) -> io::Result<Chart> {
        if self.bars.len() > MOST_BARS {
            self.bars.truncate(MOST_BARS);
            self.how += &format!(" Only the first {MOST_BARS} are drawn.");
        }
        let mut svg = String::new();
        let count = u32::try_from(self.bars.len().max(1)).unwrap_or(1);
        let rows = f64::from(count);
        let y = Axis::linear(self.rows, "a row each".to_owned(), 0.0, rows).cut(rows);
        let axes = axes_label(&self.x, &y);
        let on_one_line = self.bars.iter().all(|bar| bar.length() <= FITTING);
        let labels: Vec<_> = self.bars.iter().map(|bar| bar.label(on_one_line)).collect();
        let lines = labels.iter().map(Vec::len).max().unwrap_or(1);
        let lines = u32::try_from(lines).unwrap_or(1);
        let row_height = height_of_row(lines);
        let height = height_of_rows(count, row_height);
        let mut canvas = Canvas::of_rows(&mut svg, self.x, y, height)?;
        let (left, _) = canvas.ends();
        let labels_at = canvas.pixel(left, 0.0).0 + 8;
        let share = |units: u32| f64::from(units) / f64::from(row_height);
        for (row, (bar, label)) in self.bars.iter().zip(&labels).enumerate() {
            let top = rows - row as f64;
            // The label has the upper part of the row, the bar the lower.
            let (high, low) = (top - share(12 + LINE * lines), top - 1.0 + share(6));
            let mut y = canvas.pixel(left, top).1 + 8;
            for line in label {
                canvas.text(line, (labels_at, y), HPos::Left, VPos::Top)?;
                y += LINE as i32;
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
            let beyond = share(4);
            canvas.rule(vec![(start, low - beyond), (start, high + beyond)], 4)?;
            if let Some(Whisker {
                low: from,
                high: to,
            }) = bar.whisker
            {
                let (from, middle) = canvas.at(from, f64::midpoint(low, high));
                let (to, _) = canvas.at(to, 0.0);
                canvas.rule(vec![(from, middle), (to, middle)], 4)?;
                for end in [from, to] {
                    let (above, below) = (middle + share(11), middle - share(11));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_at_spaces_and_long_words_are_cut() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("0123456789", 4), ["0123", "4567", "89"]);
        assert_eq!(wrapped("a 0123456", 4), ["a", "0123", "456"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
