//! Texts of entries by number, in one buffer: lists have millions of entries, and an allocation for each would take more than
//! the text.

/// Texts between two known positions. A text is searched for from there, which is needed for messages only.
const BLOCK: usize = 16;

/// Follows each text. An entry is part of a line.
const END: char = '\n';

/// Marks before a name: those of an adblock exception and rule, and of a name with its subdomains.
const MARKS: [&str; 4] = ["@@||", "||", "*.", "."];

/// Texts, numbered from 0.
#[derive(Debug, Default)]
pub(super) struct Texts {
    all: String,
    /// Position of the first text of each block.
    blocks: Vec<usize>,
    count: usize,
}

impl Texts {
    /// Adds a text and returns its number. A text with several lines is shortened to the first.
    pub(super) fn push(&mut self, text: &str) -> usize {
        let number = self.count;
        if number.is_multiple_of(BLOCK) {
            self.blocks.push(self.all.len());
        }
        let text = text.split(END).next().unwrap_or_default();
        self.all.push_str(text);
        self.all.push(END);
        self.count += 1;
        number
    }

    /// Number of texts.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The text with this number; empty if there is none.
    pub(super) fn get(&self, number: usize) -> &str {
        let block = self.blocks.get(number / BLOCK);
        let from = block.and_then(|block| self.all.get(*block..));
        let text = from.and_then(|from| from.split(END).nth(number % BLOCK));
        text.unwrap_or_default()
    }

    /// Position of `name` in the last text, if that is one of `name`, `*.name`, `.name`, `||name^`, `@@||name^`, each
    /// optionally with a dot behind the name.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        let texts = self.all.strip_suffix(END)?;
        let start = texts.rfind(END).map_or(0, |end| end + END.len_utf8());
        let text = texts.get(start..)?;
        let mark = MARKS.iter().find(|mark| text.starts_with(**mark));
        let position = start + mark.map_or(0, |mark| mark.len());
        self.has_name(position, name).then_some(position)
    }

    /// Whether `name` is at a position that [`Self::position`] returned for any name.
    #[inline]
    pub(super) fn has_name(&self, position: usize, name: &str) -> bool {
        let rest = self.all.as_bytes().get(position..).unwrap_or_default();
        match rest.split_at_checked(name.len()) {
            Some((own, [b'\n' | b'^', ..] | [b'.', b'\n' | b'^', ..])) => own == name.as_bytes(),
            _ => false,
        }
    }

    /// The name at such a position.
    pub(super) fn name(&self, position: usize) -> &str {
        let rest = self.all.get(position..).unwrap_or_default();
        let text = rest.split([END, '^']).next().unwrap_or_default();
        text.strip_suffix('.').unwrap_or(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_several_blocks_are_found() {
        let mut texts = Texts::default();
        assert_eq!(texts.get(0), "");
        let text = |number: usize| "x".repeat(number % 7);
        for number in 0..3 * BLOCK + 5 {
            assert_eq!(texts.push(&text(number)), number);
        }
        for number in 0..texts.len() {
            assert_eq!(texts.get(number), text(number));
        }
        assert_eq!(texts.get(texts.len()), "");
        let number = texts.push("one\nother");
        assert_eq!(texts.get(number), "one");
        assert_eq!(texts.get(number + 1), "");
    }

    #[test]
    fn a_name_is_found_in_its_forms_and_no_part_of_it_is() {
        let mut texts = Texts::default();
        for text in [
            "a.example",
            "a.example.",
            "*.a.example",
            ".a.example.",
            "||a.example^",
            "||a.example.^",
            "@@||a.example^|",
        ] {
            texts.push(text);
            let position = texts.position("a.example").unwrap();
            assert_eq!(texts.name(position), "a.example");
            for part in [
                "a",
                "a.e",
                "a.exampl",
                "a.example.a",
                "example",
                "b.example",
                "",
            ] {
                assert!(!texts.has_name(position, part), "{part} in {text}");
            }
        }
        for text in ["A.example", "a.example:80", "a.example..", "b.a.example"] {
            texts.push(text);
            assert_eq!(texts.position("a.example"), None, "{text}");
        }
    }
}
