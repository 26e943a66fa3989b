//! What a run's figures owe to the measuring program or its host rather than to the path. Pure: a record in, sentences out.
//!
//! Each rule is one function that returns a sentence or nothing; [`warnings`] lists them.

use crate::report::record::Run;

/// The sentences that apply to `run`, most important first.
pub(super) fn warnings(run: &Run) -> Vec<String> {
    let rules: [fn(&Run) -> Option<String>; 0] = [];
    rules.iter().filter_map(|rule| rule(run)).collect()
}
