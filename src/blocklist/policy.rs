//! The decision on a destination.
//!
//! The first matching rule decides:
//!
//! 1. `--except` has the name: allowed, at any address;
//! 2. a blocklist has the name: blocked;
//! 3. `--except` has the address: allowed;
//! 4. a blocklist has the address, or `--deny-private` covers it: blocked;
//! 5. `--allow` lists exist and have neither name nor address: blocked;
//! 6. allowed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::embedded::{canonical, embeds_nothing, reachable};
use super::list::{EntryRef, List};
use super::load::{Blocklists, LoadedFile, ReadOptions};
use super::local_addresses::LocalAddresses;
use super::ports::Ports;
use super::private::{self, Private};
use super::problem::{LoadError, Problem};
use super::target::Target;
use crate::destination::{Host, Name};

/// The files and options of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Blocklists.
    pub block: Vec<PathBuf>,
    /// Blocklists whose plain names include their subdomains.
    pub block_subdomains: Vec<PathBuf>,
    /// Allow lists. If there are any, everything else is blocked, even if they are empty.
    pub allow: Vec<PathBuf>,
    /// Exceptions from the other lists and `deny_private`.
    pub except: Vec<PathBuf>,
    /// Block addresses outside the public Internet, see [`private`], and the addresses of this host.
    pub deny_private: bool,
    /// Skip invalid lines, up to 1 % of a file.
    pub skip_bad_lines: bool,
    /// Accept empty lists and lists that lost most of their entries. [`Policy::load`] ignores this.
    pub allow_empty: bool,
}

impl Sources {
    /// All files, in the order of reading.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let blocked = self.block.iter().chain(&self.block_subdomains);
        blocked.chain(&self.allow).chain(&self.except)
    }
}

/// An immutable policy; [`reload`](super::reload) replaces it as a whole.
#[derive(Debug, Default)]
pub struct Policy {
    lists: Arc<Lists>,
    /// With `deny_private`.
    local: Option<LocalAddresses>,
}

/// All lists.
#[derive(Debug, Default)]
struct Lists {
    block: Blocklists,
    allow: Option<List>,
    except: Option<List>,
    files: Vec<LoadedFile>,
}

/// The decision on a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Allowed.
    Allowed,
    /// Allowed by this entry of `--except`.
    Excepted(EntryRef<'a>),
    /// Blocked.
    Blocked(Reason<'a>),
}

/// Why a destination is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason<'a> {
    /// A blocklist entry.
    Listed(EntryRef<'a>),
    /// A network outside the public Internet.
    Private(&'static Private),
    /// An address of this host.
    Local(IpAddr),
    /// Not on the allow lists.
    NotAllowed,
}

/// Follows "blocked by" in messages.
impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Listed(by) => by.fmt(f),
            Self::Private(network) => write!(f, "--deny-private ({network})"),
            Self::Local(address) => {
                write!(f, "--deny-private ({address}, an address of this host)")
            }
            Self::NotAllowed => write!(f, "--allow (not on the list)"),
        }
    }
}

impl Policy {
    /// Reads all lists.
    ///
    /// # Errors
    /// Every unreadable file and the first invalid lines. There is no partial policy: half a list would allow what the other
    /// half blocks.
    pub fn load(sources: &Sources) -> Result<Self, LoadError> {
        Self::read(sources, false)
    }

    /// Reads all lists again. Waits for no pipe that has taken the place of a file.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(super) fn reload(sources: &Sources) -> Result<Self, LoadError> {
        Self::read(sources, true)
    }

    fn read(sources: &Sources, again: bool) -> Result<Self, LoadError> {
        let mut errors = LoadError::default();
        let mut lists = Lists::default();
        let plain = ReadOptions {
            subdomains: false,
            skip_bad_lines: sources.skip_bad_lines,
            again,
        };
        let subdomains = ReadOptions {
            subdomains: true,
            ..plain
        };
        for (files, options) in [
            (&sources.block, plain),
            (&sources.block_subdomains, subdomains),
        ] {
            for file in files {
                let loaded = lists.block.read(file, options, &mut errors);
                lists.files.push(loaded);
            }
        }
        let mut read = |files: &[PathBuf]| {
            let mut list = List::default();
            for file in files {
                lists.files.push(list.read(file, plain, &mut errors));
            }
            (!files.is_empty()).then_some(list)
        };
        lists.allow = read(&sources.allow);
        lists.except = read(&sources.except);
        let local = sources.deny_private.then(LocalAddresses::read);
        let local = local.transpose().unwrap_or_else(|error| {
            errors.add(Problem::LocalAddresses(error));
            None
        });
        errors.into_result(Self {
            lists: Arc::new(lists),
            local,
        })
    }

    /// The policy with other local addresses.
    pub fn with_local_addresses(&self, local: LocalAddresses) -> Self {
        Self {
            lists: Arc::clone(&self.lists),
            local: Some(local),
        }
    }

    /// Summaries of the files, in order.
    pub fn files(&self) -> &[LoadedFile] {
        &self.lists.files
    }

    /// Decides on the socket address that is passed to connect(2) and the name that it was resolved from. To be called for each
    /// address that is tried. Allocates nothing.
    pub fn decide(&self, address: SocketAddr, name: Option<&Name>) -> Verdict<'_> {
        self.judge(Some(address.ip()), name, Ports::one(address.port()))
    }

    /// Decides on a name before its lookup, as far as the name alone decides. This saves queries and does not replace
    /// [`Self::decide`]: allow lists may have the addresses.
    pub fn decide_name(&self, name: &Name, port: u16) -> Verdict<'_> {
        let ports = Ports::one(port);
        self.judge_name(name, ports).unwrap_or(Verdict::Allowed)
    }

    /// Decides on a destination as written, without a lookup. Without a port, it is blocked if any of its ports is.
    pub fn check(&self, target: &Target) -> Verdict<'_> {
        let judge = |ports| match &target.host {
            Host::Ip(address) => self.judge(Some(*address), None, ports),
            Host::Name(name) => self.judge(None, Some(name), ports),
        };
        let Some(port) = target.port else {
            let all = judge(Ports::ALL);
            // Exceptions may differ by port.
            let mut each = (1..=u16::MAX).map(|port| judge(Ports::one(port)));
            return match all {
                Verdict::Blocked(_) => each
                    .find(|verdict| matches!(verdict, Verdict::Blocked(_)))
                    .unwrap_or_else(|| judge(Ports::one(1))),
                _ => all,
            };
        };
        judge(Ports::one(port))
    }

    fn judge(&self, address: Option<IpAddr>, name: Option<&Name>, ports: Ports) -> Verdict<'_> {
        if let Some(verdict) = name.and_then(|name| self.judge_name(name, ports)) {
            return verdict;
        }
        if let Some(verdict) = address.and_then(|address| self.judge_address(address, ports)) {
            return verdict;
        }
        let is_allowed = |list: &List| {
            name.is_some_and(|name| permits_name(list, name, ports).is_some())
                || address.is_some_and(|address| permits(list, address, ports).is_some())
        };
        match &self.lists.allow {
            Some(list) if !is_allowed(list) => Verdict::Blocked(Reason::NotAllowed),
            _ => Verdict::Allowed,
        }
    }

    /// The decision by the name alone.
    fn judge_name(&self, name: &Name, ports: Ports) -> Option<Verdict<'_>> {
        let except = self.lists.except.as_ref();
        if let Some(by) = except.and_then(|list| permits_name(list, name, ports)) {
            return Some(Verdict::Excepted(by));
        }
        let listed = self.lists.block.iter().find_map(|blocklist| {
            let list = &blocklist.list;
            let entry = list.index.name(name, |own| own.overlaps(ports))?;
            let exceptions = blocklist.exceptions.as_ref();
            let excepted = exceptions.and_then(|list| permits_name(list, name, ports));
            excepted.is_none().then(|| list.entry(entry))
        });
        listed.map(Reason::Listed).map(Verdict::Blocked)
    }

    /// The decision by the address alone, including every embedded address.
    fn judge_address(&self, address: IpAddr, ports: Ports) -> Option<Verdict<'_>> {
        let except = self.lists.except.as_ref();
        if let Some(by) = except.and_then(|list| permits(list, address, ports)) {
            return Some(Verdict::Excepted(by));
        }
        let listed = |address| {
            self.lists.block.iter().find_map(|blocklist| {
                let list = &blocklist.list;
                let entry = list.index.address(address, |own| own.overlaps(ports))?;
                let exceptions = blocklist.exceptions.as_ref();
                let excepted = exceptions.and_then(|list| permits(list, address, ports));
                excepted.is_none().then(|| list.entry(entry))
            })
        };
        let listed = |address| listed(address).map(Reason::Listed);
        let private = |address| {
            let local = self.local.as_ref()?;
            let network = private::network(address).map(Reason::Private);
            network.or_else(|| local.has(address).then_some(Reason::Local(address)))
        };
        // Most addresses embed no other: a quick check avoids the search.
        let reason = if embeds_nothing(address) {
            listed(address).or_else(|| private(address))
        } else {
            let found = reachable(address).find_map(listed);
            found.or_else(|| reachable(address).find_map(private))
        };
        reason.map(Verdict::Blocked)
    }
}

/// The entry that permits an address. Unlike blocks, it must match the address itself and all ports: an embedded permitted
/// address is not sufficient.
fn permits(list: &List, address: IpAddr, ports: Ports) -> Option<EntryRef<'_>> {
    let suit = |own: Ports| own.covers(ports);
    let entry = list.index.address(canonical(address), suit)?;
    Some(list.entry(entry))
}

/// The entry that permits a name.
fn permits_name<'a>(list: &'a List, name: &Name, ports: Ports) -> Option<EntryRef<'a>> {
    let entry = list.index.name(name, |own| own.covers(ports))?;
    Some(list.entry(entry))
}

#[cfg(test)]
mod tests;
