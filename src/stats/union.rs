//! The union of spans of time. Pure.

/// Disjoint spans in ns, ascending.
#[derive(Debug, Clone, Default)]
pub struct Union(Vec<(u64, u64)>);

impl Union {
    /// Adds the span from `start` to `end`. Spans that overlap or touch become one, so that runs at one time need one entry.
    pub fn add(&mut self, start: u64, end: u64) {
        if end <= start {
            return;
        }
        let first = self.0.partition_point(|span| span.1 < start);
        let rest = self.0.get(first..).unwrap_or_default();
        let count = rest.partition_point(|span| span.0 <= end);
        let joined = rest.iter().take(count).fold((start, end), |all, span| {
            (all.0.min(span.0), all.1.max(span.1))
        });
        self.0.splice(first..first + count, [joined]);
    }

    /// The length of all spans, in seconds.
    pub fn seconds(&self) -> f64 {
        let ns = self.0.iter().map(|(start, end)| u128::from(end - start));
        ns.sum::<u128>() as f64 / 1e9
    }

    /// Whether there is no span.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn union_has_the_length_of_the_covered_points(spans in prop::collection::vec((0u64..60, 0u64..60), 0..30)) {
            let mut union = Union::default();
            let mut covered = [false; 64];
            for (start, end) in spans {
                union.add(start, end);
                (start..end).for_each(|at| covered[at as usize] = true);
            }
            let expected = covered.iter().filter(|is| **is).count();
            prop_assert_eq!(union.seconds(), expected as f64 / 1e9);
            prop_assert!(union.0.is_sorted() && union.0.windows(2).all(|two| two[0].1 < two[1].0));
        }
    }
}
