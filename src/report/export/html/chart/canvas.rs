//! The drawing area of a chart: its frame, its grid and its labels, over `plotters`' SVG backend.

use std::io;

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Drawable, PathElement, PointCollection, Polygon};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, Color, IntoFont, RGBColor, ShapeStyle, TextStyle, WHITE};

use super::{Axis, Series};

/// Width of a drawing. A screen shows 330 pixels of a phone to 520 pixels, so the text has 12 to 20 pixels.
pub(in super::super) const WIDTH: u32 = 720;

/// Height of a drawing of lines.
pub(super) const HEIGHT: u32 = 460;

/// Height of a line of a label.
pub(super) const LINE: u32 = 34;

/// Height of a bar, with the space around it.
const BAR: u32 = 48;

/// Height of the labels below the horizontal axis.
const BELOW: u32 = 92;

/// Height of the title above the vertical axis.
const ABOVE: u32 = 58;

/// Text height. `plotters` divides it by 1.24.
const TEXT: f64 = 34.0;

/// Width of most characters at that height.
const CHAR: u32 = 14;

/// Space between the left edge and rows.
const LEFT: u32 = 28;

/// Space between the plane and the right edge, for half of the last label.
const RIGHT: u32 = 44;

/// Characters of a line of a row's label.
pub(super) const FITTING: usize = ((WIDTH - LEFT - 16) / CHAR) as usize;

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

/// Height of a row with a label of `lines` lines.
pub(super) fn height_of_row(lines: u32) -> u32 {
    8 + LINE * lines + BAR
}

/// Height of a drawing of `rows` rows.
pub(super) fn height_of_rows(rows: u32, row: u32) -> u32 {
    8 + BELOW + row * rows.max(1)
}

/// A failed drawing; a drawing into memory does not fail.
fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl<'b> Canvas<'_, 'b> {
    /// Draws the frame of a chart of lines.
    pub(super) fn of_lines(svg: &'b mut String, x: Axis, y: Axis) -> io::Result<Self> {
        let labels = y.ticks.iter().map(|(_, label)| label.chars().count());
        let longest = u32::try_from(labels.max().unwrap_or(0)).unwrap_or(0);
        let left = 20 + CHAR * longest.clamp(3, 16);
        let mut canvas = Self::new(svg, x, y, HEIGHT, (left, ABOVE))?;
        canvas.vertical_axis()?;
        Ok(canvas)
    }

    /// Draws the frame of a chart of rows, whose vertical axis has no ticks.
    pub(super) fn of_rows(svg: &'b mut String, x: Axis, y: Axis, height: u32) -> io::Result<Self> {
        Self::new(svg, x, y, height, (LEFT, 8))
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
            .margin_right(RIGHT)
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
            let half = label.chars().count() as i32 * CHAR as i32 / 2;
            // A label that would cover the one before it is left out.
            if at - half > end {
                self.text(&label, (at, bottom + 16), HPos::Center, VPos::Top)?;
                end = at + half + CHAR as i32;
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
        self.text(&title, (4, 4), HPos::Left, VPos::Top)
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

    /// The marker of a series at a position.
    pub(super) fn marker(&mut self, series: Series, (x, y): (f64, f64)) -> io::Result<()> {
        let ground = WHITE.filled();
        let styles = [ground, series.colour().filled(), ground];
        let layers = series.marker(self.pixel(x, y)).into_iter().zip(styles);
        for (corners, style) in layers.filter_map(|(corners, style)| Some((corners?, style))) {
            self.root
                .draw(&Polygon::new(corners, style))
                .map_err(failed)?;
        }
        Ok(())
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
