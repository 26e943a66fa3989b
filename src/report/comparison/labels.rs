//! What settings are called when they stand side by side.

/// Settings that can be told in words.
pub trait Described {
    /// How many words are told even where they tell nothing apart: the first ones.
    const ALWAYS: usize = 0;

    /// Each setting in words, always as many and in the same order; `None` where it means nothing.
    fn words(&self) -> Vec<Option<String>>;
}

/// What each of `all` is called: only what tells them apart, like `uring, batch 16`. One alone needs no
/// more than its [first words](Described::ALWAYS), if any.
pub fn labels<S: Described>(all: &[S]) -> Vec<String> {
    let words: Vec<_> = all.iter().map(Described::words).collect();
    let count = words.first().map_or(0, Vec::len);
    let varies = |at: usize| {
        let mut values = words.iter().filter_map(|words| words.get(at)?.as_ref());
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let varied: Vec<usize> = (0..count)
        .filter(|&at| at < S::ALWAYS || varies(at))
        .collect();
    let label = |words: &Vec<Option<String>>| {
        let told = varied.iter().filter_map(|&at| words.get(at)?.clone());
        told.collect::<Vec<_>>().join(", ")
    };
    words.iter().map(label).collect()
}
