//! The chart of latencies by percentile.

use super::chart::{Axis, Line, Lines, Series, keep_distinct};
use crate::report::model::Curve;

/// A chart of the known curves among `named`; `None` if none is known.
pub(super) fn percentiles<N: Into<String>>(
    title: &str,
    how: &str,
    figure: &'static str,
    named: impl IntoIterator<Item = (Series, N, Option<Curve>)>,
) -> Option<Lines> {
    let all = named.into_iter();
    let mut known: Vec<_> = all
        .filter_map(|(series, name, curve)| Some((series, name.into(), curve?)))
        .collect();
    let how = how.to_owned() + &keep_distinct(&mut known, |of| of.0);
    let most = known.iter().map(|(_, _, curve)| curve.count).max()?;
    let values = || known.iter().flat_map(|(_, _, curve)| &curve.points);
    let lines = known.iter().map(|(series, name, curve)| Line {
        series: *series,
        name: name.clone(),
        points: curve_points(curve),
        is_envelope: false,
    });
    Some(Lines {
        title: title.to_owned(),
        how,
        x: Axis::percentile(most),
        y: Axis::latency(figure, values().map(|of| of.1)),
        bands: Vec::new(),
        lines: lines.collect(),
    })
}

/// A curve by 1/(1-p), which for the maximum is the number of values.
fn curve_points(curve: &Curve) -> Vec<(f64, Option<f64>)> {
    let end = curve.count as f64;
    let points = curve.points.iter();
    points
        .map(|&(quantile, ns)| ((1.0 / (1.0 - quantile)).min(end), Some(ns)))
        .collect()
}
