//! One entry a line: FireHOL netsets, Spamhaus DROP text, lists of domains with or without `*.` or `.` (dnscrypt-proxy, Squid's
//! dstdomain), and ipsum with its counts.

use super::{Item, LineError, without_comment};
use crate::blocklist::entry::Entry;
use crate::destination::error::quoted;

pub(super) fn read(line: &str, take: &mut impl FnMut(Item)) -> Result<(), LineError> {
    if is_cosmetic(line) {
        return Err(LineError::Rule(quoted(line)));
    }
    let line = without_comment(line);
    let text = match line.split_once('\t') {
        None => line,
        Some((text, count)) => {
            let count = count.trim_ascii();
            if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(LineError::Count(quoted(count)));
            }
            text.trim_ascii()
        }
    };
    take(Item::Entry(text, Entry::parse(text)?));
    Ok(())
}

/// An adblock rule about page elements, like `name##.banner`, which is not a name with a comment.
fn is_cosmetic(line: &str) -> bool {
    let Some((host, rest)) = line.split_once('#') else {
        return false;
    };
    let marks = ["#", "@#", "?#", "$#", "%#", "@?#", "@$#", "@%#"];
    !host.ends_with(|c: char| c.is_ascii_whitespace())
        && marks.iter().any(|mark| rest.starts_with(mark))
}
