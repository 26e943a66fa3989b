//! An entry a line: FireHOL's netsets, the text of Spamhaus DROP, and ipsum, which counts the lists an address is on.

use super::{LineError, without_comment};
use crate::blocklist::entry::Entry;
use crate::host::error::shown;

pub(super) fn read(line: &str, take: &mut impl FnMut(&str, Entry)) -> Result<(), LineError> {
    let line = without_comment(line);
    let text = match line.split_once('\t') {
        None => line,
        Some((text, count)) => {
            let count = count.trim_ascii();
            if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(LineError::Count(shown(count)));
            }
            text.trim_ascii()
        }
    };
    take(text, Entry::parse(text)?);
    Ok(())
}
