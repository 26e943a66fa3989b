//! The decision on one destination.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::load::{By, List, LoadError, Loaded};
use super::ports::Ports;
use super::private::{self, Private};
use super::readings::{canonical, is_plain, readings};
use super::target::Target;
use crate::host::{Host, Name};

/// Where a policy comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Lists of what is refused.
    pub block: Vec<PathBuf>,
    /// Lists of the only things that are not. None: everything. They can be empty, and then nothing is allowed.
    pub allow: Vec<PathBuf>,
    /// Refuse everything that is not the public Internet, see [`private`].
    pub deny_private: bool,
}

impl Sources {
    /// All files, as they are read.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.block.iter().chain(&self.allow)
    }
}

/// What may be connected to. It does not change; [`reload`](super::reload) swaps it for another.
#[derive(Debug, Default)]
pub struct Policy {
    block: List,
    allow: Option<List>,
    deny_private: bool,
    files: Vec<Loaded>,
}

/// What is decided on a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Connect to it.
    Allowed,
    /// Do not.
    Blocked(Reason<'a>),
}

/// Why a destination is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason<'a> {
    /// By this entry of a blocklist.
    Listed(By<'a>),
    /// It is in a network that is not public.
    Private(&'static Private),
    /// Only what is on the allow lists may be connected to, and this is not.
    NotAllowed,
}

/// What stands after "blocked by".
impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Listed(by) => by.fmt(f),
            Self::Private(network) => write!(f, "--deny-private ({network})"),
            Self::NotAllowed => write!(f, "--allow (not on the list)"),
        }
    }
}

impl Policy {
    /// Reads all lists anew.
    ///
    /// # Errors
    /// Every file that cannot be read and the first bad lines. Then there is no policy at all: half a list
    /// would let through what the other half blocks.
    pub fn load(sources: &Sources) -> Result<Self, LoadError> {
        let mut wrong = LoadError::default();
        let mut files = Vec::new();
        let mut load = |paths: &[PathBuf]| {
            let mut list = List::default();
            files.extend(paths.iter().map(|file| list.read(file, &mut wrong)));
            list
        };
        let block = load(&sources.block);
        let allow = (!sources.allow.is_empty()).then(|| load(&sources.allow));
        wrong.or(Self {
            block,
            allow,
            deny_private: sources.deny_private,
            files,
        })
    }

    /// The files it was made from, in their order.
    pub fn files(&self) -> &[Loaded] {
        &self.files
    }

    /// The decision that counts: on the very address that is about to be given to connect(2), and the name
    /// it was resolved from. To be asked for each address that is tried. It allocates nothing.
    pub fn decide(&self, address: SocketAddr, name: Option<&Name>) -> Verdict<'_> {
        self.judge(Some(address.ip()), name, Ports::one(address.port()))
    }

    /// What is certain of a name before it is resolved: whether a blocklist has it. Saves a query, and proves nothing
    /// more; an allow list may have its addresses.
    pub fn decide_name(&self, name: &Name, port: u16) -> Verdict<'_> {
        self.blocked_name(name, Ports::one(port))
            .map_or(Verdict::Allowed, Verdict::Blocked)
    }

    /// What is decided on a destination as it is written, for a dry run: nothing is resolved. Without a port,
    /// it is blocked where any of its ports is.
    pub fn check(&self, target: &Target) -> Verdict<'_> {
        let ports = target.port.map_or(Ports::ALL, Ports::one);
        match &target.host {
            Host::Ip(address) => self.judge(Some(*address), None, ports),
            Host::Name(name) => self.judge(None, Some(name), ports),
        }
    }

    fn judge(&self, address: Option<IpAddr>, name: Option<&Name>, ports: Ports) -> Verdict<'_> {
        let by_name = || name.and_then(|name| self.blocked_name(name, ports));
        let by_address = || address.and_then(|address| self.blocked_address(address, ports));
        let not_allowed = || {
            let list = self.allow.as_ref()?;
            (!Self::allows(list, address, name, ports)).then_some(Reason::NotAllowed)
        };
        by_name()
            .or_else(by_address)
            .or_else(not_allowed)
            .map_or(Verdict::Allowed, Verdict::Blocked)
    }

    fn blocked_name(&self, name: &Name, ports: Ports) -> Option<Reason<'_>> {
        let entry = self.block.index.name(name, |own| own.overlaps(ports))?;
        self.block.place(entry).map(Reason::Listed)
    }

    /// Everything that the address may reach counts.
    fn blocked_address(&self, address: IpAddr, ports: Ports) -> Option<Reason<'_>> {
        let listed = |address| {
            let index = &self.block.index;
            let entry = index.address(address, |own| own.overlaps(ports))?;
            self.block.place(entry).map(Reason::Listed)
        };
        let private = |address| {
            let network = self.deny_private.then(|| private::network(address))?;
            network.map(Reason::Private)
        };
        // Nearly every address has one reading: no need to go through all forms to find that out.
        if is_plain(address) {
            return listed(address).or_else(|| private(address));
        }
        let listed = readings(address).find_map(listed);
        if listed.is_some() || !self.deny_private {
            return listed;
        }
        readings(address).find_map(private)
    }

    /// Here only the address itself counts, and all ports must be allowed: to carry an allowed address is no permission.
    fn allows(list: &List, address: Option<IpAddr>, name: Option<&Name>, ports: Ports) -> bool {
        let suit = |own: Ports| own.covers(ports);
        name.is_some_and(|name| list.index.name(name, suit).is_some())
            || address.is_some_and(|address| list.index.address(canonical(address), suit).is_some())
    }
}

#[cfg(test)]
mod tests;
