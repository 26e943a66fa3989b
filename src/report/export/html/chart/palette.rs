//! Colours that colour-blind readers can tell apart (Okabe and Ito, *Color Universal Design*, 2008), each with a marker.
//!
//! A series is recognised by its colour in the SVG, which is unique. The style sheet gives it the shade for the light or the dark
//! scheme. The second series of a shade has hollow markers and dashes.

use std::fmt::Write;

use plotters::style::RGBColor;

/// Shades on a light and on a dark ground: blue, vermilion, green, orange, purple, sky blue, black, olive.
const SHADES: [(&str, &str); 8] = [
    ("#0072b2", "#4aa8e0"),
    ("#d55e00", "#f0803c"),
    ("#009e73", "#2cc295"),
    ("#b87d00", "#f0b83a"),
    ("#b0578c", "#e09cc2"),
    ("#2f8fc4", "#9ad4f5"),
    ("#1e2227", "#dfe3e8"),
    ("#7d7a00", "#f0e442"),
];

/// Dashes of the second series of a shade, in units of the drawing.
const DASHES: &str = "16 8";

/// Distinguishable series of a chart.
pub(in super::super) const MOST_SERIES: usize = 2 * SHADES.len();

/// Corners of a polygon in units of the drawing.
type Corners = Vec<(i32, i32)>;

/// Radius of a marker in units of the drawing.
const RADIUS: f64 = 10.0;

/// Corners of the markers, in radii: circle, square, triangle, diamond, inverted triangle, plus, hourglass, bar.
const MARKERS: [&[(f64, f64)]; 8] = [
    &[
        (1.0, 0.0),
        (0.87, 0.5),
        (0.5, 0.87),
        (0.0, 1.0),
        (-0.5, 0.87),
        (-0.87, 0.5),
        (-1.0, 0.0),
        (-0.87, -0.5),
        (-0.5, -0.87),
        (0.0, -1.0),
        (0.5, -0.87),
        (0.87, -0.5),
    ],
    &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    &[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
    &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
    &[(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
    &[
        (-0.4, -1.2),
        (0.4, -1.2),
        (0.4, -0.4),
        (1.2, -0.4),
        (1.2, 0.4),
        (0.4, 0.4),
        (0.4, 1.2),
        (-0.4, 1.2),
        (-0.4, 0.4),
        (-1.2, 0.4),
        (-1.2, -0.4),
        (-0.4, -0.4),
    ],
    &[(-1.1, -1.1), (1.1, -1.1), (-1.1, 1.1), (1.1, 1.1)],
    &[(-0.5, -1.4), (0.5, -1.4), (0.5, 1.4), (-0.5, 1.4)],
];

/// A series: its number selects colour and marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Series(pub(in super::super) usize);

impl Series {
    fn number(self) -> usize {
        self.0 % MOST_SERIES
    }

    /// The colour in the SVG, unique to the series. The last digit differs between series of equal shade.
    pub(super) fn colour(self) -> RGBColor {
        let (shade, _) = SHADES[self.number() % SHADES.len()];
        let part = |at: usize| u8::from_str_radix(&shade[at..at + 2], 16).unwrap_or_default();
        RGBColor(part(1), part(3), part(5) ^ u8::from(self.is_hollow()))
    }

    /// The second series of its shade.
    pub(super) fn is_hollow(self) -> bool {
        self.number() >= SHADES.len()
    }

    fn attribute(self) -> String {
        let RGBColor(red, green, blue) = self.colour();
        format!("#{red:02X}{green:02X}{blue:02X}")
    }

    /// The corners of the marker at `centre`, in layers: the margin that a dense line needs, the marker, and its hole.
    pub(super) fn marker(self, centre: (i32, i32)) -> [Option<Corners>; 3] {
        let corners = |radius: f64| {
            let corner = |&(x, y): &(f64, f64)| {
                let at = |centre: i32, by: f64| centre + (by * radius).round() as i32;
                (at(centre.0, x), at(centre.1, y))
            };
            let corners = MARKERS[self.number() % MARKERS.len()].iter();
            corners.map(corner).collect()
        };
        let (size, hole) = match self.is_hollow() {
            true => (1.3 * RADIUS, Some(corners(0.75 * RADIUS))),
            false => (RADIUS, None),
        };
        [Some(corners(size + 4.0)), Some(corners(size)), hole]
    }

    /// A piece of the series' line with its marker, `80` wide and `28` high, for legends.
    pub(in super::super) fn sample(self) -> String {
        let colour = self.attribute();
        let [_, outline, hole] = self.marker((40, 14));
        let polygon = |corners: &[(i32, i32)], fill: &str| {
            let points = corners.iter().map(|(x, y)| format!("{x},{y}"));
            let points = points.collect::<Vec<_>>().join(" ");
            format!("<polygon points=\"{points}\" fill=\"{fill}\"/>")
        };
        let outline = outline.map(|outline| polygon(&outline, &colour));
        let hole = hole.map(|hole| polygon(&hole, HOLE));
        format!(
            "<polyline points=\"2,14 78,14\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"5\"/>{}{}",
            outline.unwrap_or_default(),
            hole.unwrap_or_default()
        )
    }
}

/// Removes the items of `all` without a colour and marker of their own. Returns a sentence about them, or an empty text.
pub(in super::super) fn keep_distinct<T>(
    all: &mut Vec<T>,
    series: impl Fn(&T) -> Series,
) -> String {
    let count = all.len();
    all.retain(|of| series(of).0 < MOST_SERIES);
    match all.len() == count {
        true => String::new(),
        false => format!(" Only the first {MOST_SERIES} are drawn."),
    }
}

/// The colour of a marker's margin and hole. The style sheet replaces it by that of the chart's ground.
const HOLE: &str = "#FFFFFF";

/// The rules for all series: dashes, and `--s0` and so on as colours.
pub(in super::super) fn rules() -> String {
    let mut css = format!("svg [fill=\"{HOLE}\"]{{fill:var(--panel)}}\n");
    for number in 0..MOST_SERIES {
        let series = Series(number);
        let colour = series.attribute();
        // Writing to a string cannot fail.
        let _ = write!(
            css,
            "svg [fill=\"{colour}\"]{{fill:var(--s{number})}}svg [stroke=\"{colour}\"]{{stroke:var(--s{number})}}"
        );
        // Dashes make a dense line illegible; it is thinner.
        if series.is_hollow() {
            let _ = write!(
                css,
                "svg polyline[stroke=\"{colour}\"]:not([stroke-width=\"2\"]){{stroke-dasharray:{DASHES}}}"
            );
        }
        css.push('\n');
    }
    css
}

/// The values of `--s0` and so on.
pub(in super::super) fn variables(is_dark: bool) -> String {
    let shade = |number: usize| {
        let (light, dark) = SHADES[number % SHADES.len()];
        if is_dark { dark } else { light }
    };
    (0..MOST_SERIES)
        .map(|number| format!("--s{number}:{};", shade(number)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_its_own_colour_attribute_and_marker() {
        let mut seen = Vec::new();
        for number in 0..MOST_SERIES {
            let series = Series(number);
            let look = (series.number() % SHADES.len(), series.marker((0, 0)));
            assert!(
                seen.iter()
                    .all(|(colour, other)| *colour != series.attribute() && *other != look),
                "{number}"
            );
            seen.push((series.attribute(), look));
        }
        assert_eq!(Series(MOST_SERIES).attribute(), Series(0).attribute());
        let outlines: Vec<_> = (0..8).map(|number| Series(number).marker((0, 0))).collect();
        assert!((1..8).all(|at| !outlines[..at].contains(&outlines[at])));
    }
}
