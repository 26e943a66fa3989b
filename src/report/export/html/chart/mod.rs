//! Charts as inline SVG, drawn by `plotters`.
//!
//! A [`Chart`] has a title, two axes with units and a sentence on how to read it. Colours are the presentation attributes that
//! `plotters` writes; the style sheet replaces them for the dark scheme ([`palette`]).

mod axis;
mod bars;
mod canvas;
mod lines;
pub(super) mod palette;
mod thin;

use std::fmt::Write;
use std::io;

use super::escape::Escaped;

pub(super) use axis::Axis;
pub(super) use bars::{Bar, Bars, Whisker, wrapped};
use canvas::Canvas;
pub(super) use canvas::WIDTH;
pub(super) use lines::{Band, Line, Lines};
use palette::MOST_SERIES;
pub(super) use palette::{Series, keep_distinct};

/// A drawn chart.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    /// How to read it: a sentence.
    pub(super) how: String,
    /// Name and unit of each axis.
    pub(super) axes: String,
    svg: String,
    /// Height of the drawing, which is [`WIDTH`] wide.
    pub(super) height: u32,
    /// Series and their names.
    pub(super) legend: Vec<(Series, String)>,
}

impl Chart {
    /// Writes the chart as a `figure`.
    pub(super) fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let Self {
            title, how, axes, ..
        } = self;
        writeln!(out, "<figure>\n<h3>{}</h3>", Escaped(title))?;
        writeln!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {}\" paint-order=\"stroke\" role=\"img\" aria-label=\"{}. {}\">{}",
            self.height,
            Escaped(title),
            Escaped(axes),
            self.drawing()
        )?;
        if !self.legend.is_empty() {
            writeln!(out, "<ul class=\"legend\">")?;
            for (series, name) in &self.legend {
                let (sample, name) = (series.sample(), Escaped(name));
                writeln!(
                    out,
                    "<li><svg class=\"key\" viewBox=\"0 0 80 28\" aria-hidden=\"true\">{sample}</svg>{name}</li>"
                )?;
            }
            writeln!(out, "</ul>")?;
        }
        writeln!(out, "<figcaption>{}</figcaption>\n</figure>", Escaped(how))
    }

    /// The content of an `svg` element, and its end tag.
    pub(super) fn drawing(&self) -> &str {
        // plotters' own tag has a fixed size.
        let body = self.svg.split_once('>').map_or("", |(_, body)| body);
        body.trim_end()
    }
}

/// The axes of a chart, for readers without a view of it.
fn axes_label(x: &Axis, y: &Axis) -> String {
    let mut text = format!("Horizontal axis: {}", x.title());
    // Writing to a string cannot fail.
    let _ = write!(text, "; vertical axis: {}", y.title());
    text
}
