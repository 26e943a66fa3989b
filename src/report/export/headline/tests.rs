use super::super::columns::{
    PROXY_OVERHEAD, PROXY_RATIOS, PROXY_SETTING, PROXY_TOTAL, SEARCH_GOAL, SEARCH_TRIAL,
};
use super::*;

#[test]
fn figures_name_existing_columns() {
    fn check<T>(columns: &[Column<T>], figures: &[Figure]) {
        for (name, detail) in figures.iter().flat_map(|(_, sources)| *sources) {
            let others = match *detail {
                Nothing | Words | Trips => [None, None],
                Error(other) | ShareOf(other) => [Some(other), None],
                Interval(low, high) | TripsBetween(low, high) => [Some(low), Some(high)],
            };
            for name in [Some(*name)].into_iter().chain(others).flatten() {
                assert!(columns.iter().any(|column| column.name == name), "{name}");
            }
        }
    }
    check(UDP_RUN, UDP_RUNS);
    check(UDP_RUN, UDP_EXPLAINED);
    check(UDP_RUN, UDP_REPEATS);
    check(UDP_SETTING, UDP_SETTINGS);
    check(UDP_RUN, TRIP_RUNS);
    check(UDP_RUN, TRIP_REPEATS);
    check(UDP_SETTING, TRIP_SETTINGS);
    check(SEARCH_GOAL, SEARCH_GOALS);
    check(SEARCH_TRIAL, SEARCH_CURVE);
    check(PROXY_TOTAL, PROXY_TOTALS);
    check(PROXY_OVERHEAD, PROXY_ADDED);
    check(PROXY_RATIOS, PROXY_COMPARED);
    check(PROXY_SETTING, PROXY_SETTINGS);
}
