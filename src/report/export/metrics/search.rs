//! The metrics of a search: the bounds of each goal.

use super::{Rows, known};
use crate::exposition::{Kind, Page};
use crate::report::model::SearchRecord;

pub(super) fn goals(page: &mut Page, record: &SearchRecord) {
    use Kind::Gauge;
    let all = Rows::new(&record.goals, |_, goal| {
        known([
            ("loss_ratio", Some(goal.goal.loss_ratio.to_string())),
            ("limit", Some(goal.limit.clone())),
        ])
    });
    let lower = (
        "lower_bound_datagrams_per_second",
        Gauge,
        "The largest load within the goal's loss ratio.",
    );
    all.each(page, lower, |goal| goal.lower_pps);
    let upper = (
        "upper_bound_datagrams_per_second",
        Gauge,
        "The smallest load beyond the goal's loss ratio.",
    );
    all.each(page, upper, |goal| goal.upper_pps);
    let throughput = (
        "conditional_throughput_datagrams_per_second",
        Gauge,
        "The lower bound without its losses.",
    );
    all.each(page, throughput, |goal| goal.throughput_pps);
    let trials = ("trials", Gauge, "Trials of the search.");
    page.family(trials.0, trials.1, trials.2)
        .value(record.trials.len() as f64);
    let complete = ("complete", Gauge, "Whether the search reached its end.");
    page.family(complete.0, complete.1, complete.2)
        .value(u8::from(record.complete));
}
