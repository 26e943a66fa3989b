//! The drawing area of a chart: its frame, its grid and its labels, over `plotters`' SVG backend.

use std::io;

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Drawable, PathElement, PointCollection};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, Color, IntoFont, RGBColor, ShapeStyle, TextStyle};

use super::Axis;

/// Width of a drawing. Twice that on a screen, as `plotters` rounds to whole units.
pub(super) const WIDTH: u32 = 960;

/// Height of a drawing of lines.
pub(super) const HEIGHT: u32 = 560;

/// Height of a line of a label.
pub(super) const LINE: i32 = 36;

/// Height of a row: a label of one line, and a bar.
const ROW: u32 = 92;

/// Height of the labels below the horizontal axis.
const BELOW: u32 = 98;

/// Text height. `plotters` divides it by 1.24.
const TEXT: f64 = 36.0;

/// Width of most characters at that height.
const CHAR: i32 = 15;

/// The style sheet replaces this colour by that of the grid.
pub(super) const GREY: RGBColor = RGBColor(136, 136, 136);

type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A chart being drawn.
pub(in super::super) struct Canvas<'a, 'b> {
    root: DrawingArea<SVGBackend<'b>, Shift>,
    plane: Plane<'a, 'b>,
    x: Axis,
    y: Axis,
}

/// Height of a drawing of `rows` rows with labels of one or two lines.
pub(super) fn height_of_rows(rows: usize, on_one_line: bool) -> u32 {
    let row = ROW + if on_one_line { 0 } else { LINE.unsigned_abs() };
    8 + BELOW + row * u32::try_from(rows.max(1)).unwrap_or(1)
}

/// A failed drawing; a drawing into memory does not fail.
fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl<'b> Canvas<'_, 'b> {
    /// Draws the frame of a chart of lines.
    pub(super) fn of_lines(svg: &'b mut String, x: Axis, y: Axis) -> io::Result<Self> {
        let mut canvas = Self::new(svg, x, y, HEIGHT, (144, 60))?;
        canvas.vertical_axis()?;
        Ok(canvas)
    }

    /// Draws the frame of a chart of rows, whose vertical axis has no ticks.
    pub(super) fn of_rows(svg: &'b mut String, x: Axis, y: Axis, height: u32) -> io::Result<Self> {
        Self::new(svg, x, y, height, (24, 8))
    }

    fn new(
        svg: &'b mut String,
        x: Axis,
        y: Axis,
        height: u32,
        (left, top): (u32, u32),
    ) -> io::Result<Self> {
        let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
        let ((x_low, x_high), (y_low, y_high)) = (x.range(), y.range());
        let plane = ChartBuilder::on(&root)
            .margin_left(left)
            .margin_right(48)
            .margin_top(top)
            .margin_bottom(BELOW)
            .build_cartesian_2d(x_low..x_high, y_low..y_high)
            .map_err(failed)?;
        let mut canvas = Self { root, plane, x, y };
        canvas.horizontal_axis()?;
        Ok(canvas)
    }

    fn horizontal_axis(&mut self) -> io::Result<()> {
        let ((x_low, x_high), (y_low, y_high)) = (self.x.range(), self.y.range());
        let grid = GREY.mix(0.35).stroke_width(2);
        let (_, bottom) = self.pixel(x_low, y_low);
        let mut end = i32::MIN;
        for (value, label) in self.x.ticks.clone() {
            let x = self.x.position(value);
            self.element(PathElement::new(vec![(x, y_low), (x, y_high)], grid))?;
            let (at, _) = self.pixel(x, y_low);
            let half = label.chars().count() as i32 * CHAR / 2;
            // A label that would cover the one before it is left out.
            if at - half > end {
                self.text(&label, (at, bottom + 10), HPos::Center, VPos::Top)?;
                end = at + half + CHAR;
            }
        }
        let (right, _) = self.pixel(x_high, y_low);
        let (title, below) = (self.x.short_title(), bottom + 54);
        self.text(&title, (right, below), HPos::Right, VPos::Top)
    }

    fn vertical_axis(&mut self) -> io::Result<()> {
        let ((x_low, x_high), (y_low, _)) = (self.x.range(), self.y.range());
        let grid = GREY.mix(0.35).stroke_width(2);
        let (left, _) = self.pixel(x_low, y_low);
        for (value, label) in self.y.ticks.clone() {
            let y = self.y.position(value);
            self.element(PathElement::new(vec![(x_low, y), (x_high, y)], grid))?;
            let (_, at) = self.pixel(x_low, y);
            self.text(&label, (left - 12, at), HPos::Right, VPos::Center)?;
        }
        let title = self.y.short_title();
        self.text(&title, (8, 6), HPos::Left, VPos::Top)
    }

    /// The position of a value pair.
    pub(super) fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.x.position(x), self.y.position(y))
    }

    /// Both ends of the horizontal axis, as positions.
    pub(super) fn ends(&self) -> (f64, f64) {
        self.x.range()
    }

    /// The drawing's own coordinates of a position.
    pub(super) fn pixel(&self, x: f64, y: f64) -> (i32, i32) {
        self.plane.backend_coord(&(x, y))
    }

    pub(super) fn element<E>(&mut self, element: E) -> io::Result<()>
    where
        for<'e> &'e E: PointCollection<'e, (f64, f64)>,
        E: Drawable<SVGBackend<'b>>,
    {
        self.plane
            .draw_series(std::iter::once(element))
            .map(|_| ())
            .map_err(failed)
    }

    /// A line in the colour of the text.
    pub(super) fn rule(&mut self, points: Vec<(f64, f64)>, width: u32) -> io::Result<()> {
        let style: ShapeStyle = BLACK.stroke_width(width);
        self.element(PathElement::new(points, style))
    }

    pub(super) fn text(
        &self,
        text: &str,
        at: (i32, i32),
        horizontal: HPos,
        vertical: VPos,
    ) -> io::Result<()> {
        let style = TextStyle::from(("sans-serif", TEXT).into_font());
        let style = style.pos(Pos::new(horizontal, vertical));
        self.root.draw_text(text, &style, at).map_err(failed)
    }

    /// Completes the drawing.
    pub(super) fn finish(self) -> io::Result<()> {
        self.root.present().map_err(failed)
    }
}
