//! Sentences of the other side, which are printed here: each is one line and controls no terminal.

use serde::{Deserialize, Deserializer};

/// Reads a sentence, with every control character replaced.
pub(super) fn plain<'de, D: Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    let text = String::deserialize(source)?;
    Ok(text.replace(char::is_control, "?"))
}

/// Reads a sentence or none.
pub(super) fn plain_or_none<'de, D: Deserializer<'de>>(
    source: D,
) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(source)?;
    Ok(text.map(|text| text.replace(char::is_control, "?")))
}

#[cfg(test)]
mod tests {
    use crate::udp::wire::results::Done;

    #[test]
    fn sentences_of_the_other_side_are_one_line_without_escapes() {
        let done = Done {
            reason: Some("nonsense\nbench: \u{1b}[2J".to_owned()),
            ..Done::default()
        };
        let sent = serde_json::to_string(&done).unwrap();
        let read: Done = serde_json::from_str(&sent).unwrap();
        assert_eq!(read.reason.as_deref(), Some("nonsense?bench: ?[2J"));
    }
}
