//! unbound.conf(5) options that block a domain: `local-zone: "name" TYPE`, which includes subdomains, and
//! `local-data: "name A 0.0.0.0"`, which does not.

use super::{Item, LineError, is_sinkhole, names_of};
use crate::blocklist::entry::Entry;
use crate::destination::error::quoted;

/// Zone types that are not resolved elsewhere.
const BLOCKING: [&str; 11] = [
    "always_deny",
    "always_nodata",
    "always_null",
    "always_nxdomain",
    "always_refuse",
    "deny",
    "inform_deny",
    "inform_redirect",
    "redirect",
    "refuse",
    "static",
];

pub(super) fn read(line: &str, take: &mut impl FnMut(Item)) -> Result<(), LineError> {
    let line = line.split('#').next().unwrap_or_default().trim_ascii();
    let option = || LineError::Unbound(quoted(line));
    let (key, value) = line.split_once(':').ok_or_else(option)?;
    let value = value.trim_ascii();
    let (text, entry) = match key {
        // Begins the section of the zones.
        "server" if value.is_empty() => return Ok(()),
        "local-zone" => zone(value).ok_or_else(option)??,
        "local-data" => data(value).ok_or_else(option)??,
        _ => return Err(option()),
    };
    take(Item::Entry(text, entry));
    Ok(())
}

/// Parses `"name" TYPE`.
fn zone(value: &str) -> Option<Result<(&str, Entry), LineError>> {
    let (name, kind) = value.split_once(|c: char| c.is_ascii_whitespace())?;
    let (name, kind) = (unquoted(name), kind.trim_ascii());
    if !BLOCKING.contains(&kind) {
        return Some(Err(LineError::Zone(quoted(kind))));
    }
    let entry = one(name);
    Some(entry.map(|entry| (name, entry.with_subdomains())))
}

/// Parses `"name [TTL] [IN] A ADDRESS"`.
fn data(value: &str) -> Option<Result<(&str, Entry), LineError>> {
    let mut words = unquoted(value).split_ascii_whitespace();
    let name = words.next()?;
    let kind = words.find(|word| !word.bytes().all(|b| b.is_ascii_digit()) && *word != "IN")?;
    let target = words.next()?;
    if !matches!(kind, "A" | "AAAA") || words.next().is_some() {
        return None;
    }
    if !is_sinkhole(target) {
        return Some(Err(LineError::Mapped(quoted(name), target.to_owned())));
    }
    Some(one(name).map(|entry| (name, entry)))
}

fn one(name: &str) -> Result<Entry, LineError> {
    let mut names = names_of(std::iter::once(name))?;
    // One name in, one entry out.
    names
        .pop()
        .map(|(_, entry)| entry)
        .ok_or_else(|| LineError::Unbound(quoted(name)))
}

/// Removes optional quotes.
fn unquoted(text: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text)
}
