//! The DShield block list: first address, last address, prefix length and further columns, separated by tabs.
//!
//! ```text
//! Start        End            Netblock  Attacks  Name      Country  email
//! 192.0.2.0    192.0.2.255    24        6286     EXAMPLE   CN       abuse@example.net
//! ```

use super::{Item, LineError};
use crate::blocklist::entry;
use crate::destination::error::quoted;

pub(super) fn read(line: &str, take: &mut impl FnMut(Item)) -> Result<(), LineError> {
    let mut columns = line.split_ascii_whitespace();
    let columns = (columns.next(), columns.next(), columns.next());
    let (Some(first), Some(last), Some(length)) = columns else {
        return Err(LineError::Netblock(quoted(line)));
    };
    // The header is not a comment.
    if (first, last, length) == ("Start", "End", "Netblock") {
        return Ok(());
    }
    let network = format!("{first}/{length}");
    let subject = entry::network(&network).map_err(|_| LineError::Netblock(quoted(line)))?;
    // The columns are redundant: if they differ, one is wrong.
    if entry::range(first, last) != Some(subject.clone()) {
        return Err(LineError::Netblock(quoted(line)));
    }
    take(Item::Entry(&network, subject.into()));
    Ok(())
}
