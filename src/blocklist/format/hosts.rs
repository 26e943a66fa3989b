//! Hosts files (hosts(5)) that block names by sending them nowhere: `0.0.0.0 ads.example`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{LineError, without_comment};
use crate::blocklist::entry::{Entry, EntryError, Subject};
use crate::blocklist::target::without_zone;
use crate::host::error::shown;
use crate::host::{Host, Name};

/// Addresses that lead nowhere.
const NOWHERE: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// What such files keep from the hosts file they replace. It tells where these names are, and blocks nothing.
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

pub(super) fn read(line: &str, take: &mut impl FnMut(&str, Entry)) -> Result<(), LineError> {
    let mut words = without_comment(line).split_ascii_whitespace();
    let address = words.next().unwrap_or_default();
    let nowhere = match without_zone(address).parse() {
        Ok(Host::Ip(parsed)) => NOWHERE.contains(&parsed),
        Ok(Host::Name(_)) | Err(_) => return Err(LineError::HostsAddress(shown(address))),
    };
    let mut words = words.peekable();
    if words.peek().is_none() {
        return Err(LineError::HostsName(shown(address)));
    }
    for word in words {
        // Some files map 0.0.0.0 to itself.
        if OWN.contains(&word) || (nowhere && word == address) {
            continue;
        }
        if !nowhere {
            return Err(LineError::Mapped(shown(word), address.to_owned()));
        }
        let name: Name = word.parse().map_err(EntryError::from)?;
        take(word, Subject::Name(name).into());
    }
    Ok(())
}
