//! Lists of file-sharing programs: titled ranges of IPv4 addresses.

use std::net::Ipv4Addr;

use super::{Item, LineError};
use crate::blocklist::entry::{EntryError, Subject};
use crate::destination::error::quoted;

/// Levels from this one on allow a range.
const ALLOW_LEVEL: u8 = 128;

/// `title:192.0.2.1-192.0.2.9`. The title may contain colons.
pub(super) fn read_p2p(line: &str, take: &mut impl FnMut(Item)) -> Result<(), LineError> {
    let Some((_, range)) = line.rsplit_once(':') else {
        return Err(LineError::Range(quoted(line)));
    };
    let range = range.trim_ascii();
    take(Item::Entry(range, parse(range, strict)?.into()));
    Ok(())
}

/// `192.000.002.001 - 192.000.002.009 , 100 , title`. Level and title are optional.
pub(super) fn read_dat(line: &str, take: &mut impl FnMut(Item)) -> Result<(), LineError> {
    let mut columns = line.splitn(3, ',').map(str::trim_ascii);
    let range = columns.next().unwrap_or_default();
    let subject = parse(range, padded)?;
    let blocks = match columns.next() {
        None => true,
        Some(level) => {
            let wrong = || LineError::Level(quoted(level));
            let digits = level.bytes().all(|byte| byte.is_ascii_digit());
            level
                .parse::<u8>()
                .ok()
                .filter(|_| digits)
                .ok_or_else(wrong)?
                < ALLOW_LEVEL
        }
    };
    if blocks {
        take(Item::Entry(range, subject.into()));
    }
    Ok(())
}

fn parse(text: &str, address: fn(&str) -> Option<Ipv4Addr>) -> Result<Subject, LineError> {
    let ends = text
        .split_once('-')
        .and_then(|(first, last)| address(first.trim_ascii()).zip(address(last.trim_ascii())));
    let Some((first, last)) = ends else {
        return Err(LineError::Range(quoted(text)));
    };
    Subject::range(first.into(), last.into())
        .ok_or_else(|| EntryError::Backwards(quoted(text)).into())
}

fn strict(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok()
}

/// Four decimal numbers of up to three digits; leading zeros are padding in this format.
fn padded(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let plain = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
        *octet = part.parse().ok().filter(|_| plain)?;
    }
    parts.next().is_none().then(|| octets.into())
}
