//! Short names of settings: only the parts that differ.

/// Settings that have a name in words.
pub trait Described {
    /// Number of leading parts that are part of every name.
    const ALWAYS: usize = 0;

    /// The settings in words, in a fixed number and order; `None` for a part that does not apply.
    fn parts(&self) -> Vec<Option<String>>;
}

/// A name for each of `all`, of the parts that differ between them, like `uring, batch 16`. A single setting gets its
/// [leading parts](Described::ALWAYS) only.
pub fn labels<S: Described>(all: &[S]) -> Vec<String> {
    let parts: Vec<_> = all.iter().map(Described::parts).collect();
    let count = parts.first().map_or(0, Vec::len);
    let differs = |at: usize| {
        let mut values = parts.iter().filter_map(|parts| parts.get(at)?.as_ref());
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let shown: Vec<usize> = (0..count)
        .filter(|&at| at < S::ALWAYS || differs(at))
        .collect();
    let label = |parts: &Vec<Option<String>>| {
        let words = shown.iter().filter_map(|&at| parts.get(at)?.clone());
        words.collect::<Vec<_>>().join(", ")
    };
    parts.iter().map(label).collect()
}
