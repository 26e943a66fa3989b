//! Text in HTML.

use std::fmt::{self, Display, Formatter, Write};

/// Text as the content of an element or of a quoted attribute, without control characters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                '\'' => out.write_str("&#39;")?,
                char if char.is_control() => out.write_char('?')?,
                char => out.write_char(char)?,
            }
        }
        Ok(())
    }
}
