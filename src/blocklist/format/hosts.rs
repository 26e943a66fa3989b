//! Hosts files (hosts(5)) that block names by mapping them to a sinkhole address: `0.0.0.0 ads.example`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Item, LineError, is_sinkhole, without_comment};
use crate::blocklist::entry::{Entry, EntryError, Subject};
use crate::blocklist::target::without_zone;
use crate::destination::Host;
use crate::destination::error::quoted;

/// Names of the hosts file that such lists replace; they block nothing.
const OWN: [&str; 13] = [
    "localhost",
    "localhost.localdomain",
    "localhost4",
    "localhost6",
    "local",
    "broadcasthost",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
    "ip6-allhosts",
];

/// The common addresses of loopback. Systems map their own name, with and without its domain, to another one like 127.0.1.1
/// (Debian Reference, section 5.1.1).
const COMMON: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

pub(super) fn read(line: &str, take: &mut impl FnMut(Item)) -> Result<(), LineError> {
    let mut words = without_comment(line).split_ascii_whitespace();
    let address = words.next().unwrap_or_default();
    let parsed = match without_zone(address).parse() {
        Ok(Host::Ip(parsed)) => parsed,
        Ok(Host::Name(_)) | Err(_) => return Err(LineError::HostsAddress(quoted(address))),
    };
    let mut words = words.peekable();
    if words.peek().is_none() {
        return Err(LineError::HostsName(quoted(address)));
    }
    let is_common = COMMON.contains(&parsed);
    if parsed.is_loopback() && !is_common && words.clone().any(|word| !word.contains('.')) {
        return Ok(());
    }
    let is_own = |word: &&str| OWN.iter().any(|own| word.eq_ignore_ascii_case(own));
    let mut words = words.filter(|word| !is_own(word));
    if !is_sinkhole(address) {
        return match words.next() {
            Some(word) => Err(LineError::Mapped(quoted(word), address.to_owned())),
            None => Ok(()),
        };
    }
    // One invalid word rejects the line.
    let entries = words.map(|word| Ok((word, entry(word)?)));
    let entries = entries.collect::<Result<Vec<_>, LineError>>()?;
    for (word, entry) in entries {
        take(Item::Entry(word, entry));
    }
    Ok(())
}

/// Widely used lists have addresses in place of names too.
fn entry(word: &str) -> Result<Entry, LineError> {
    let subject = match word.parse().map_err(EntryError::from)? {
        Host::Name(name) => Some(Subject::Name(name)),
        Host::Ip(address) => Subject::range(address, address),
    };
    let subject = subject.ok_or_else(|| LineError::HostsAddress(quoted(word)))?;
    Ok(subject.into())
}
