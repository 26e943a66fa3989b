//! Fewer points for a line that has more of them than its chart has columns: the extremes of each column.

/// Columns of a chart.
const COLUMNS: usize = 360;

/// Stroke width of a thinned line.
pub(super) const STROKE: u32 = 2;

/// The largest value of each column.
pub(super) fn highest(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    by_column(
        points,
        |point| point.0,
        |column, thin| {
            thin.extend(column.iter().max_by(|one, other| one.1.total_cmp(&other.1)));
        },
    )
}

/// The smallest and the largest value of each column, in the order of their points.
pub(super) fn line(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    by_column(
        points,
        |point| point.0,
        |column, thin| {
            let order = |one: &&(f64, f64), other: &&(f64, f64)| one.1.total_cmp(&other.1);
            let (Some(low), Some(high)) =
                (column.iter().min_by(order), column.iter().max_by(order))
            else {
                return;
            };
            let (first, second) = if low.0 <= high.0 {
                (low, high)
            } else {
                (high, low)
            };
            thin.push(*first);
            if first != second {
                thin.push(*second);
            }
        },
    )
}

/// The outermost bounds of each column, at its first point.
pub(super) fn band(points: &[(f64, f64, f64)]) -> Vec<(f64, f64, f64)> {
    by_column(
        points,
        |point| point.0,
        |column, thin| {
            let Some(&(x, ..)) = column.first() else {
                return;
            };
            let low = column.iter().map(|of| of.1).fold(f64::MAX, f64::min);
            let high = column.iter().map(|of| of.2).fold(f64::MIN, f64::max);
            thin.push((x, low, high));
        },
    )
}

/// Splits `points`, which are sorted by `x`, into columns if there are more than two a column.
fn by_column<P: Copy>(
    points: &[P],
    x: impl Fn(&P) -> f64,
    each: impl Fn(&[P], &mut Vec<P>),
) -> Vec<P> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Vec::new();
    };
    let (start, width) = (x(first), (x(last) - x(first)) / COLUMNS as f64);
    if points.len() <= 2 * COLUMNS || width <= 0.0 {
        return points.to_vec();
    }
    // The last point belongs to the last column.
    let column = |point: &P| (((x(point) - start) / width) as usize).min(COLUMNS - 1);
    let mut thin = Vec::with_capacity(2 * COLUMNS);
    for points in points.chunk_by(|one, next| column(one) == column(next)) {
        each(points, &mut thin);
    }
    thin
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn peak_of_one_point_remains() {
        let mut points: Vec<_> = (0..4_096).map(|n| (f64::from(n), 1.0)).collect();
        (points[1_234].1, points[3_000].1) = (9.0, 0.0);
        let thin = line(&points);
        assert!(thin.len() <= 2 * COLUMNS + 2, "{}", thin.len());
        assert!(thin.contains(&(1_234.0, 9.0)) && thin.contains(&(3_000.0, 0.0)));
        assert!(thin.is_sorted_by(|one, next| one.0 <= next.0));
        assert!(highest(&points).contains(&(1_234.0, 9.0)));
        let bands: Vec<_> = points.iter().map(|&(x, y)| (x, y - 1.0, y + 1.0)).collect();
        let thin = band(&bands);
        assert!(thin.iter().any(|of| of.2 == 10.0) && thin.iter().any(|of| of.1 == -1.0));
    }

    proptest! {
        #[test]
        fn extremes_remain(values in prop::collection::vec(-1e9..1e9, 0..3_000)) {
            let points: Vec<(f64, f64)> =
                values.iter().enumerate().map(|(at, &value)| (at as f64, value)).collect();
            let thin = line(&points);
            prop_assert!(thin.len() <= 2 * COLUMNS + 2);
            for fold in [f64::min as fn(f64, f64) -> f64, f64::max] {
                let of = |points: &[(f64, f64)]| points.iter().map(|of| of.1).reduce(fold);
                prop_assert_eq!(of(&thin), of(&points));
            }
        }
    }
}
