//! Adblock filter lists, host rules only: `||name^` blocks a name and its subdomains, `@@||name^` excepts it from the other
//! rules of its file. `!` begins a comment.
//!
//! Rules about page elements and URLs are rejected, because a proxy sees neither.
//! See <https://adguard-dns.io/kb/general/dns-filtering-syntax/>.

use super::{Item, LineError};
use crate::blocklist::entry::Entry;
use crate::destination::error::quoted;

/// Whether a line is the header of such a list: `[Adblock Plus 2.0]`.
pub(super) fn is_title(line: &str) -> bool {
    line.starts_with("[Adblock") || line.starts_with("[AdGuard") || line.starts_with("[uBlock")
}

pub(super) fn read(line: &str, take: &mut impl FnMut(Item)) -> Result<(), LineError> {
    if is_title(line) {
        return Ok(());
    }
    let (rule, is_exception) = match line.strip_prefix("@@") {
        Some(rule) => (rule, true),
        None => (line, false),
    };
    let unsupported = || LineError::Rule(quoted(line));
    let pattern = rule.strip_prefix("||").ok_or_else(unsupported)?;
    let pattern = pattern.strip_suffix('|').unwrap_or(pattern);
    let host = pattern.strip_suffix('^').ok_or_else(unsupported)?;
    // A slash begins a URL path here, not a prefix length.
    if host.contains(['/', '$', '^', '|']) {
        return Err(unsupported());
    }
    let entry = Entry::parse(host)?.with_subdomains();
    take(match is_exception {
        false => Item::Entry(line, entry),
        true => Item::Exception(line, entry),
    });
    Ok(())
}
