//! dnsmasq(8) options that block a domain: `address=/name/`, `address=/name/0.0.0.0`, `address=/name/#`, `server=/name/` and
//! `local=/name/`. All include subdomains.

use super::{Item, LineError, is_sinkhole, names_of};
use crate::destination::error::quoted;

pub(super) fn read(line: &str, take: &mut impl FnMut(Item)) -> Result<(), LineError> {
    let option = LineError::Dnsmasq(quoted(line));
    let Some((key, value)) = line.split_once('=') else {
        return Err(option);
    };
    // A comment begins with # after space; # alone is a target.
    let mut words = value.split_ascii_whitespace();
    let value = words.next().unwrap_or_default();
    if words.next().is_some_and(|word| !word.starts_with('#')) {
        return Err(option);
    }
    let domains = value
        .strip_prefix('/')
        .and_then(|rest| rest.rsplit_once('/'));
    let Some((domains, target)) = domains else {
        return Err(option);
    };
    let blocks = match key.trim_ascii() {
        "address" => matches!(target, "" | "#") || is_sinkhole(target),
        "server" | "local" => target.is_empty(),
        _ => return Err(option),
    };
    if !blocks {
        return Err(LineError::Mapped(quoted(domains), target.to_owned()));
    }
    for (domain, name) in names_of(domains.split('/'))? {
        take(Item::Entry(domain, name.with_subdomains()));
    }
    Ok(())
}
