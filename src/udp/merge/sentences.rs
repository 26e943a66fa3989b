//! Sentences of many ranks that differ in their figures only. Pure.

use std::collections::BTreeMap;

use super::MOST_SENTENCES;

/// One sentence of each kind, and the number of ranks that have it.
#[derive(Debug, Default)]
pub(super) struct Sentences(BTreeMap<String, (String, usize)>);

impl Sentences {
    /// Adds a sentence of a rank.
    pub(super) fn add(&mut self, kind: String, sentence: &str) {
        let of_kind = self.0.entry(kind);
        let (text, ranks) = of_kind.or_insert_with(|| (sentence.to_owned(), 0));
        *ranks += 1;
        if sentence < text.as_str() {
            sentence.clone_into(text);
        }
        if self.0.len() > MOST_SENTENCES {
            self.0.pop_last();
        }
    }

    /// Adds a sentence whose kind is its text without numbers.
    pub(super) fn add_with_figures(&mut self, sentence: &str) {
        let kind = sentence.chars().filter(|char| !char.is_ascii_digit());
        self.add(kind.collect(), sentence);
    }

    /// The sentences, with the number of their ranks.
    pub(super) fn into_texts(self) -> impl Iterator<Item = String> {
        self.0.into_values().map(|(text, ranks)| match ranks {
            1 => text,
            _ => format!("{ranks} ranks, one of them: {text}"),
        })
    }
}
