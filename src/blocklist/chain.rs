//! Entries with one subject and different scopes: their ports, and for names whether subdomains are included.
//!
//! The index stores the first link. It points to the last of the other links, and each of those to the one before, back to the
//! second. So a lookup nearly always takes one step, and an insertion takes one step.

/// End of a chain.
const NONE: u32 = u32::MAX;

/// Links that are checked for a scope that covers a new entry. Checking all would make loading a list of ports quadratic.
const MAX_COVER_CHECKS: usize = 16;

/// An entry in a chain. `S` is its scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link<S> {
    entry: u32,
    scope: S,
    /// Index in [`Others`] of the previous link; for the first link, of the last one.
    next: u32,
}

impl<S> Link<S> {
    /// The first link of a subject. Entry numbers fit 32 bits: that many entries would take 100 GB.
    pub(super) fn new(entry: usize, scope: S) -> Self {
        Self {
            entry: u32::try_from(entry).unwrap_or(NONE),
            scope,
            next: NONE,
        }
    }

    /// The number of the entry.
    pub(super) fn entry(&self) -> usize {
        self.entry as usize
    }
}

impl<S: Copy> Link<S> {
    pub(super) fn scope(&self) -> S {
        self.scope
    }
}

/// All links but the first ones.
#[derive(Debug)]
pub(super) struct Others<S>(Vec<Link<S>>);

impl<S> Default for Others<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S: Copy> Others<S> {
    /// Adds a link to a chain, unless an earlier scope covers its scope: then it could never match.
    pub(super) fn add(&mut self, first: &mut Link<S>, new: Link<S>, covers: impl Fn(S, S) -> bool) {
        let covers = |link: &Link<S>| covers(link.scope, new.scope);
        if covers(first) || self.back(first).take(MAX_COVER_CHECKS).any(covers) {
            return;
        }
        let next = first.next;
        first.next = u32::try_from(self.0.len()).unwrap_or(NONE);
        self.0.push(Link { next, ..new });
    }

    /// The earliest entry whose scope matches.
    pub(super) fn earliest(&self, first: &Link<S>, suit: impl Fn(S) -> bool) -> Option<usize> {
        let suits = |link: &&Link<S>| suit(link.scope);
        let found = Some(first).filter(suits);
        let found = found.or_else(|| self.back(first).filter(suits).last());
        found.map(Link::entry)
    }

    /// The other links of a chain, the last first.
    fn back(&self, first: &Link<S>) -> impl Iterator<Item = &Link<S>> {
        let at = |link: &Link<S>| self.0.get(link.next as usize);
        std::iter::successors(at(first), move |link| at(link))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ports::Ports;
    use super::*;

    fn chain(ports: &[&str]) -> (Link<Ports>, Others<Ports>) {
        let mut others = Others::default();
        let mut links = ports
            .iter()
            .enumerate()
            .map(|(number, text)| Link::new(number, Ports::parse(text).unwrap()));
        let mut first = links.next().unwrap();
        links.for_each(|link| others.add(&mut first, link, Ports::covers));
        (first, others)
    }

    #[test]
    fn the_earliest_match_wins() {
        let (first, others) = chain(&["80", "443", "400-500", "25"]);
        let at = |port| others.earliest(&first, |own| own.covers(Ports::one(port)));
        let all = [80, 443, 444, 25, 26].map(at);
        assert_eq!(all, [Some(0), Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn covered_entries_are_not_stored() {
        let again = ["80", "25", "400-500", "25", "80", "450-460"].repeat(1_000);
        assert_eq!(chain(&again).1.0.len(), 2);
        let mut all = vec!["1-65535", "25"];
        all.resize(1_000, "80-90");
        assert_eq!(chain(&all).1.0.len(), 0);
    }
}
