//! The entries about one thing, which differ in their scope: their ports, and for a name whether the names below it are meant.
//!
//! The first one listed stands where the thing is found, and it leads to the last of the others, which lead back to the
//! second. So nearly always there is one step to take, and adding one more is one step too.

/// The end of a chain.
const NONE: u32 = u32::MAX;

/// Of so many others about the same thing, it is looked whether one makes a new entry superfluous: all of them would
/// make loading a list of nothing but ports quadratic.
const MAX_COVER_CHECKS: usize = 16;

/// An entry about some thing. `S` is its scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link<S> {
    entry: u32,
    scope: S,
    /// Where among the [`Others`] the one listed before is; from the first one, the last.
    next: u32,
}

impl<S> Link<S> {
    /// An entry, the first about its thing. Entries are numbered below 2^32: that many would fill 100 GB before.
    pub(super) fn new(entry: usize, scope: S) -> Self {
        Self {
            entry: u32::try_from(entry).unwrap_or(NONE),
            scope,
            next: NONE,
        }
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
    /// Adds an entry behind a first one, unless the scope of an earlier one covers its scope: then it can answer nothing.
    pub(super) fn add(&mut self, first: &mut Link<S>, new: Link<S>, covers: impl Fn(S, S) -> bool) {
        let covers = |link: &Link<S>| covers(link.scope, new.scope);
        if covers(first) || self.back(first).take(MAX_COVER_CHECKS).any(covers) {
            return;
        }
        let next = first.next;
        first.next = u32::try_from(self.0.len()).unwrap_or(NONE);
        self.0.push(Link { next, ..new });
    }

    /// The earliest entry whose scope suits.
    pub(super) fn earliest(&self, first: &Link<S>, suit: impl Fn(S) -> bool) -> Option<usize> {
        let suits = |link: &&Link<S>| suit(link.scope);
        let found = Some(first).filter(suits);
        let found = found.or_else(|| self.back(first).filter(suits).last());
        found.map(|link| link.entry as usize)
    }

    /// The others behind a first one, from the last.
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
    fn the_earliest_that_suits_answers() {
        let (first, others) = chain(&["80", "443", "400-500", "25"]);
        let at = |port| others.earliest(&first, |own| own.covers(Ports::one(port)));
        let all = [80, 443, 444, 25, 26].map(at);
        assert_eq!(all, [Some(0), Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn what_is_said_already_is_not_kept() {
        let again = ["80", "25", "400-500", "25", "80", "450-460"].repeat(1_000);
        assert_eq!(chain(&again).1.0.len(), 2);
        let mut all = vec!["1-65535", "25"];
        all.resize(1_000, "80-90");
        assert_eq!(chain(&all).1.0.len(), 0);
    }
}
