//! Colours that colour-blind readers can tell apart (Okabe and Ito, *Color Universal Design*, 2008), each with a dash pattern.
//!
//! A series is recognised by its colour in the SVG, which is unique. The style sheet gives it the shade for the light or the dark
//! scheme and its dashes.

use std::fmt::Write;

use plotters::style::RGBColor;

/// Shades on a light and on a dark ground: blue, vermilion, green, orange, purple, sky blue.
const SHADES: [(&str, &str); 6] = [
    ("#0072b2", "#4aa8e0"),
    ("#d55e00", "#f0803c"),
    ("#009e73", "#2cc295"),
    ("#b87d00", "#f0b83a"),
    ("#b0578c", "#e09cc2"),
    ("#2f8fc4", "#9ad4f5"),
];

/// Dash patterns in units of the drawing, which is 960 wide.
const DASHES: [&str; 6] = ["", "18 9", "5 8", "24 8 5 8", "12 6", "24 6 5 6 5 6"];

/// Distinguishable series of a chart.
pub(in super::super) const MOST_SERIES: usize = 12;

/// A series: its number selects colour and dashes.
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
        RGBColor(
            part(1),
            part(3),
            part(5) ^ u8::from(self.number() >= SHADES.len()),
        )
    }

    fn attribute(self) -> String {
        let RGBColor(red, green, blue) = self.colour();
        format!("#{red:02X}{green:02X}{blue:02X}")
    }

    /// Another pattern for the second series of a shade.
    fn dashes(self) -> &'static str {
        let turn = self.number() / SHADES.len();
        DASHES[(self.number() + 3 * turn) % DASHES.len()]
    }

    /// A piece of the series' line, for legends.
    pub(super) fn key(self) -> String {
        format!(
            "<svg class=\"key\" viewBox=\"0 0 80 20\" aria-hidden=\"true\"><line x1=\"2\" y1=\"10\" x2=\"78\" y2=\"10\" stroke=\"{}\" stroke-width=\"6\"/></svg>",
            self.attribute()
        )
    }
}

/// The rules for all series: dashes, and `--s0` to `--s11` as colours.
pub(in super::super) fn rules() -> String {
    let mut css = String::new();
    for number in 0..MOST_SERIES {
        let series = Series(number);
        let colour = series.attribute();
        // Writing to a string cannot fail.
        let _ = write!(
            css,
            "svg [fill=\"{colour}\"]{{fill:var(--s{number})}}svg [stroke=\"{colour}\"]{{stroke:var(--s{number})}}"
        );
        // Dashes make a dense line illegible; it is thinner.
        if !series.dashes().is_empty() {
            let _ = write!(
                css,
                "svg polyline[stroke=\"{colour}\"]:not([stroke-width=\"2\"]),.key [stroke=\"{colour}\"]{{stroke-dasharray:{}}}",
                series.dashes()
            );
        }
        css.push('\n');
    }
    css
}

/// The values of `--s0` to `--s11`.
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
    fn every_series_has_its_own_colour_attribute_and_dashes() {
        let mut seen = Vec::new();
        for number in 0..MOST_SERIES {
            let series = Series(number);
            let look = (series.number() % SHADES.len(), series.dashes());
            assert!(!seen.contains(&(series.attribute(), look)), "{number}");
            assert!(seen.iter().all(|(_, other)| *other != look), "{number}");
            seen.push((series.attribute(), look));
        }
        assert_eq!(Series(MOST_SERIES).attribute(), Series(0).attribute());
    }
}
