//! Output of `ipset save` (ipset(8)): `create SET TYPE ...`, and `add SET ADDRESS ...` for each member.

use super::{Item, LineError};
use crate::blocklist::entry;
use crate::destination::error::quoted;

pub(super) fn read(line: &str, take: &mut impl FnMut(Item)) -> Result<(), LineError> {
    let mut words = line.split_ascii_whitespace();
    match words.next() {
        Some("create" | "flush") => return Ok(()),
        Some("add") => {}
        _ => return Err(LineError::Ipset(quoted(line))),
    }
    let (Some(_set), Some(member)) = (words.next(), words.next()) else {
        return Err(LineError::Ipset(quoted(line)));
    };
    // `nomatch` excepts a member from a wider one. In quoted comments the word is allowed.
    let mut outside = line.split('"').step_by(2);
    if outside.any(|part| part.split_ascii_whitespace().any(|word| word == "nomatch")) {
        return Err(LineError::Nomatch(quoted(member)));
    }
    let range = member
        .split_once('-')
        .and_then(|(first, last)| entry::range(first, last));
    let subject = match range {
        Some(range) => range,
        None => entry::network(member).map_err(|_| LineError::Member(quoted(member)))?,
    };
    take(Item::Entry(member, subject.into()));
    Ok(())
}
