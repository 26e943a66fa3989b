//! The decision on one destination.
//!
//! What wins over what, the first that applies:
//!
//! 1. an exception (`--except`) for the name: the destination is allowed, at whichever address;
//! 2. a blocklist that has the name: blocked;
//! 3. an exception for the address: allowed;
//! 4. a blocklist that has the address, or a network that `--deny-private` is about: blocked;
//! 5. allow lists (`--allow`) that have neither the name nor the address: blocked;
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

/// Where a policy comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Lists of what is refused.
    pub block: Vec<PathBuf>,
    /// The same, where a plain name means the names below it too.
    pub block_subdomains: Vec<PathBuf>,
    /// Lists of the only things that are not. None: everything. They can be empty, and then nothing is allowed.
    pub allow: Vec<PathBuf>,
    /// Lists of what is allowed although any of the others, or `deny_private`, is against it.
    pub except: Vec<PathBuf>,
    /// Refuse everything that is not the public Internet, see [`private`], and the addresses of this host.
    pub deny_private: bool,
    /// Skip lines that are not valid, up to 1 % of a file.
    pub skip_bad_lines: bool,
    /// A list may be empty, and lose most of its entries when it is read again. [`Policy::load`] does not ask for this.
    pub allow_empty: bool,
}

impl Sources {
    /// All files, in the order they are read in.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let blocked = self.block.iter().chain(&self.block_subdomains);
        blocked.chain(&self.allow).chain(&self.except)
    }
}

/// What may be connected to. It does not change; [`reload`](super::reload) swaps it for another.
#[derive(Debug, Default)]
pub struct Policy {
    lists: Arc<Lists>,
    /// With `--deny-private`.
    local: Option<LocalAddresses>,
}

/// All that is listed.
#[derive(Debug, Default)]
struct Lists {
    block: Blocklists,
    allow: Option<List>,
    except: Option<List>,
    files: Vec<LoadedFile>,
}

/// What is decided on a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Connect to it.
    Allowed,
    /// Connect to it, whatever else is listed: by this entry of `--except`.
    Excepted(EntryRef<'a>),
    /// Do not.
    Blocked(Reason<'a>),
}

/// Why a destination is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason<'a> {
    /// By this entry of a blocklist.
    Listed(EntryRef<'a>),
    /// It is in a network that is not public.
    Private(&'static Private),
    /// It is an address of this host.
    Local(IpAddr),
    /// Only what is on the allow lists may be connected to, and this is not.
    NotAllowed,
}

/// What stands after "blocked by".
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
    /// Every file that cannot be read and the first bad lines. Then there is no policy at all: half a list
    /// would let through what the other half blocks.
    pub fn load(sources: &Sources) -> Result<Self, LoadError> {
        let mut errors = LoadError::default();
        let mut lists = Lists::default();
        let plain = ReadOptions {
            subdomains: false,
            skip_bad_lines: sources.skip_bad_lines,
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

    /// The same lists, where these are the addresses of this host.
    pub fn with_local_addresses(&self, local: LocalAddresses) -> Self {
        Self {
            lists: Arc::clone(&self.lists),
            local: Some(local),
        }
    }

    /// The files it was made from, in their order.
    pub fn files(&self) -> &[LoadedFile] {
        &self.lists.files
    }

    /// The decision that counts: on the very address that is about to be given to connect(2), and the name
    /// it was resolved from. To be asked for each address that is tried. It allocates nothing.
    pub fn decide(&self, address: SocketAddr, name: Option<&Name>) -> Verdict<'_> {
        self.judge(Some(address.ip()), name, Ports::one(address.port()))
    }

    /// What is certain of a name before it is resolved: whether a blocklist has it. Saves a query, and proves nothing
    /// more; an allow list may have its addresses.
    pub fn decide_name(&self, name: &Name, port: u16) -> Verdict<'_> {
        let ports = Ports::one(port);
        self.judge_name(name, ports).unwrap_or(Verdict::Allowed)
    }

    /// What is decided on a destination as it is written, for a dry run: nothing is resolved. Without a port,
    /// it is blocked where any of its ports is.
    pub fn check(&self, target: &Target) -> Verdict<'_> {
        let judge = |ports| match &target.host {
            Host::Ip(address) => self.judge(Some(*address), None, ports),
            Host::Name(name) => self.judge(None, Some(name), ports),
        };
        let Some(port) = target.port else {
            let all = judge(Ports::ALL);
            // Each port that is blocked may be excepted by another entry.
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

    /// What is decided by the name alone.
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

    /// What is decided by the address alone. Everything that it may reach counts.
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
        // Nearly every address has one address: no need to go through all forms to find that out.
        let reason = if embeds_nothing(address) {
            listed(address).or_else(|| private(address))
        } else {
            let found = reachable(address).find_map(listed);
            found.or_else(|| reachable(address).find_map(private))
        };
        reason.map(Verdict::Blocked)
    }
}

/// The entry that permits an address. Here only the address itself counts, and all ports must be permitted: to carry a
/// permitted address is no permission.
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
