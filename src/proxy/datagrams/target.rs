//! The server of all flows, by address or name, and the decision of the rules on it: pure, times are arguments.

use std::net::SocketAddr;

use super::record::DropCause;
use crate::destination::{Destination, Host, Name};
use crate::proxy::record::Decision;
use crate::proxy::resolver::{Answer, Resolved};
use crate::proxy::rules::Rules;

/// The least time between two lookups, in ns. The resolver keeps an answer for as long as it is valid.
const REFRESH: u64 = 1_000_000_000;

/// How long the decision on a server is kept while the policy is unchanged, in ns. Addresses of this host may change.
const KEEP: u64 = 1_000_000_000;

/// The server that datagrams are forwarded to.
#[derive(Debug)]
pub struct Target {
    to: Destination,
    /// The last answer to the lookup of its name.
    answer: Option<Answer>,
    asked_at: Option<u64>,
    is_waiting: bool,
    choice: Option<Choice>,
}

/// The decision on a server, while it is kept.
#[derive(Debug)]
struct Choice {
    made_at: u64,
    generation: u64,
    servers: Result<Vec<(SocketAddr, Decision)>, DropCause>,
}

impl Target {
    /// The target of these options.
    pub fn new(to: Destination) -> Self {
        let answer = match &to.host {
            Host::Ip(address) => Some(Ok(Resolved {
                addresses: vec![*address],
                aliases: Vec::new(),
            })),
            Host::Name(_) => None,
        };
        Self {
            to,
            answer,
            asked_at: None,
            is_waiting: false,
            choice: None,
        }
    }

    /// The name to look up, when a flow is opened: it was not looked up for a while. The previous answer is used until the
    /// next one arrives ([`Self::on_answer`]).
    pub fn next_lookup(&mut self, now: u64) -> Option<Name> {
        let is_due = self
            .asked_at
            .is_none_or(|asked| now >= asked.saturating_add(REFRESH));
        if self.is_waiting || !is_due {
            return None;
        }
        let name = self.name()?.clone();
        self.asked_at = Some(now);
        self.is_waiting = true;
        Some(name)
    }

    /// The answer to the last lookup.
    pub fn on_answer(&mut self, answer: Answer) {
        self.is_waiting = false;
        self.answer = Some(answer);
        self.choice = None;
    }

    /// Whether the first lookup has ended. Until then, datagrams of clients wait in the receive buffer.
    pub fn is_known(&self) -> bool {
        self.answer.is_some()
    }

    /// The addresses for new flows, in the order of attempts.
    ///
    /// # Errors
    /// Why there are none.
    pub fn servers(
        &mut self,
        rules: &Rules,
        now: u64,
    ) -> Result<&[(SocketAddr, Decision)], DropCause> {
        let generation = rules.policies.generation();
        let is_kept = |choice: &Choice| {
            choice.generation == generation && now < choice.made_at.saturating_add(KEEP)
        };
        let choice = match self.choice.take().filter(is_kept) {
            Some(choice) => choice,
            None => Choice {
                made_at: now,
                generation,
                servers: self.choose(rules),
            },
        };
        match &self.choice.insert(choice).servers {
            Ok(servers) => Ok(servers),
            Err(cause) => Err(*cause),
        }
    }

    fn choose(&self, rules: &Rules) -> Result<Vec<(SocketAddr, Decision)>, DropCause> {
        let addresses = match &self.answer {
            Some(Ok(resolved)) => &*resolved.addresses,
            _ => &[],
        };
        let all = addresses.iter().map(|ip| {
            let server = SocketAddr::new(*ip, self.to.port);
            (server, self.decide(server, rules))
        });
        let allowed: Vec<_> = all
            .filter(|(_, decision)| !matches!(decision, Decision::Blocked(_)))
            .collect();
        match (allowed.is_empty(), addresses.is_empty()) {
            (false, _) => Ok(allowed),
            (true, false) => Err(DropCause::Blocked),
            (true, true) => Err(DropCause::Unreachable),
        }
    }

    /// The decision on an address of the target.
    pub fn decide(&self, server: SocketAddr, rules: &Rules) -> Decision {
        let (name, port) = (self.name(), self.to.port);
        if let Some(blocked @ Decision::Blocked(_)) = name.map(|name| rules.decide_name(name, port))
        {
            return blocked;
        }
        let aliases = match &self.answer {
            Some(Ok(resolved)) => &*resolved.aliases,
            _ => &[],
        };
        let by_alias = rules.decide_aliases(name, aliases, port);
        let by_address = rules.decide_datagrams(server, name);
        match (by_alias, by_address) {
            (Some((_, blocked @ Decision::Blocked(_))), _) => blocked,
            (Some((_, decision)), Decision::Allowed) => decision,
            (_, decision) => decision,
        }
    }

    fn name(&self) -> Option<&Name> {
        match &self.to.host {
            Host::Name(name) => Some(name),
            Host::Ip(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocklist::policy::Sources;
    use crate::blocklist::reload::Policies;
    use crate::protocol::Settings;
    use std::fs;
    use std::path::PathBuf;

    fn rules(list: Option<PathBuf>) -> Rules {
        let block = list.into_iter().collect();
        let policies = Policies::load(Sources {
            block,
            ..Sources::default()
        });
        Rules::new(Settings::default(), policies.unwrap())
    }

    fn answer(addresses: &[&str], aliases: &[&str]) -> Answer {
        Ok(Resolved {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            aliases: aliases.iter().map(|text| text.parse().unwrap()).collect(),
        })
    }

    fn addresses(target: &mut Target, rules: &Rules, now: u64) -> Result<Vec<String>, DropCause> {
        let servers = target.servers(rules, now)?;
        Ok(servers.iter().map(|(to, _)| to.to_string()).collect())
    }

    #[test]
    fn name_is_looked_up_at_most_once_a_second() {
        let mut target = Target::new("www.example:53".parse().unwrap());
        assert!(!target.is_known());
        assert!(target.next_lookup(5).is_some());
        assert_eq!(target.next_lookup(5 + REFRESH), None);
        let rules = rules(None);
        assert_eq!(
            addresses(&mut target, &rules, 5),
            Err(DropCause::Unreachable)
        );
        target.on_answer(answer(&["192.0.2.1", "192.0.2.2"], &[]));
        assert!(target.is_known());
        assert_eq!(
            addresses(&mut target, &rules, 5).unwrap(),
            ["192.0.2.1:53", "192.0.2.2:53"]
        );
        assert_eq!(target.next_lookup(4 + REFRESH), None);
        assert!(target.next_lookup(5 + REFRESH).is_some());
        target.on_answer(Err("no such name".to_owned()));
        assert_eq!(
            addresses(&mut target, &rules, 5),
            Err(DropCause::Unreachable)
        );
    }

    #[test]
    fn reloaded_policy_applies_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        fs::write(&list, "192.0.2.1\n").unwrap();
        let rules = rules(Some(list.clone()));
        let mut target = Target::new("192.0.2.2:53".parse().unwrap());
        assert_eq!(addresses(&mut target, &rules, 1).unwrap(), ["192.0.2.2:53"]);
        fs::write(&list, "192.0.2.2\n").unwrap();
        rules.policies.reload().unwrap();
        assert_eq!(addresses(&mut target, &rules, 1), Err(DropCause::Blocked));
    }

    #[test]
    fn own_address_and_blocked_aliases_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        fs::write(&list, "bad.example\n192.0.2.7\n").unwrap();
        let mut rules = rules(Some(list));
        rules.own_datagrams = vec!["127.0.0.1:53".parse().unwrap()];
        let mut itself = Target::new("127.0.0.1:53".parse().unwrap());
        assert_eq!(addresses(&mut itself, &rules, 0), Err(DropCause::Blocked));
        let mut target = Target::new("www.example:53".parse().unwrap());
        target.on_answer(answer(&["192.0.2.7", "192.0.2.8"], &[]));
        assert_eq!(addresses(&mut target, &rules, 0).unwrap(), ["192.0.2.8:53"]);
        target.on_answer(answer(&["192.0.2.8"], &["bad.example"]));
        assert_eq!(addresses(&mut target, &rules, 0), Err(DropCause::Blocked));
        rules.dry_run = true;
        target.on_answer(answer(&["192.0.2.8"], &["bad.example"]));
        let servers = target.servers(&rules, 0).unwrap();
        assert!(matches!(servers, [(_, Decision::WouldBlock(_))]));
    }
}
