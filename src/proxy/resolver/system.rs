//! The lookup order of this host: hosts(5), then the name servers of resolv.conf(5), then getaddrinfo(3) for names outside
//! of the Domain Name System.
//!
//! getaddrinfo(3) alone would do all that nsswitch.conf(5) configures, but it blocks, cannot be cancelled, and returns only
//! the last alias. So it serves only names that the Domain Name System does not cover: those without a dot, and those under
//! `local.` (mDNS, RFC 6762).

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name as DnsName, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Resolver, TokioResolver};
use tokio::time::timeout;

use super::{Answer, Resolved};
use crate::destination::Name;
use crate::sys::clock::monotonic_ns;
use crate::sys::route::is_routed;

/// Most concurrent calls of getaddrinfo(3).
pub(super) const BLOCKING: usize = 8;

/// How long the addresses of one family wait for those of the other (RFC 8305, section 3).
const FAMILY_DELAY: Duration = Duration::from_millis(50);

/// The interval between two checks of the files, in ns.
const LOOK: u64 = 1_000_000_000;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The host's configuration, reloaded when one of its files has changed.
pub(super) struct System {
    servers: Arc<Servers>,
    stamps: [Stamp; 2],
    looked: u64,
}

/// The state of a file; `None` if the file does not exist.
type Stamp = Option<(u64, u64, i64, i64)>;

impl System {
    pub(super) fn new() -> Self {
        Self {
            stamps: stamps(),
            servers: Arc::new(Servers::of_this_host()),
            looked: monotonic_ns(),
        }
    }

    /// This configuration, whatever the files contain.
    #[cfg(test)]
    pub(super) fn fixed(servers: Servers) -> Self {
        Self {
            servers: Arc::new(servers),
            stamps: stamps(),
            looked: u64::MAX,
        }
    }

    /// The current configuration.
    pub(super) fn servers(&mut self) -> Arc<Servers> {
        let now = monotonic_ns();
        if now.saturating_sub(self.looked) >= LOOK {
            self.looked = now;
            let stamps = stamps();
            if stamps != self.stamps {
                self.stamps = stamps;
                self.servers = Arc::new(Servers::of_this_host());
            }
        }
        Arc::clone(&self.servers)
    }
}

fn stamps() -> [Stamp; 2] {
    [HOSTS, RESOLV_CONF].map(|file| {
        let record = fs::metadata(file).ok()?;
        Some((
            record.ino(),
            record.size(),
            record.ctime(),
            record.ctime_nsec(),
        ))
    })
}

/// One state of the configuration.
pub(super) struct Servers {
    hosts: HashMap<Name, Vec<IpAddr>>,
    /// Or the reason why there is none.
    dns: Result<TokioResolver, String>,
}

impl Servers {
    fn of_this_host() -> Self {
        let (config, options) = read_system_conf().unwrap_or_else(|_| {
            // Without a name server, the one on this host is used (resolv.conf(5)).
            let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
            let config = ResolverConfig::from_name_servers(vec![local]);
            (config, ResolverOpts::default())
        });
        let hosts = fs::read_to_string(HOSTS).unwrap_or_default();
        Self::new(config, options, &hosts)
    }

    pub(super) fn new(config: ResolverConfig, options: ResolverOpts, hosts: &str) -> Self {
        let provider = TokioRuntimeProvider::default();
        let mut builder = Resolver::builder_with_config(config, provider);
        let in_force = builder.options_mut();
        *in_force = options;
        // An entry of one family in hosts(5) would lead to a question for the other family.
        in_force.use_hosts_file = ResolveHosts::Never;
        in_force.preserve_intermediates = true;
        // In the library's cache the last name of a chain of aliases keeps the aliases of the first question, and those of
        // others are lost. So `Lookups` caches whole answers by the requested name.
        in_force.cache_size = 0;
        Self {
            hosts: read_hosts(hosts),
            dns: builder.build().map_err(|error| error.to_string()),
        }
    }

    /// The addresses and aliases of `name`, and how long they are valid, in ns: 0 if no name server returned them.
    pub(super) async fn look_up(&self, name: &Name) -> (Answer, u64) {
        if let Some(addresses) = self.known(name) {
            return (found(addresses), 0);
        }
        match self.ask(name).await {
            Ok(records) => {
                let ttl = u64::from(records.ttl).saturating_mul(1_000_000_000);
                let answer = Ok(Resolved {
                    addresses: ordered(records.addresses),
                    aliases: records.aliases,
                });
                (answer, ttl)
            }
            Err(failure) if failure.is_final && is_local(name) => {
                let text = name.to_string();
                let blocking = tokio::task::spawn_blocking(move || getaddrinfo(&text));
                (blocking.await.unwrap_or(Err(failure.reason)), 0)
            }
            Err(failure) => (Err(failure.reason), 0),
        }
    }

    /// Addresses without a name server: hosts(5), and `localhost` (RFC 6761, section 6.3).
    fn known(&self, name: &Name) -> Option<Vec<IpAddr>> {
        if let Some(addresses) = self.hosts.get(name) {
            return Some(addresses.clone());
        }
        let text = name.as_str();
        (text == "localhost" || text.ends_with(".localhost"))
            .then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
    }

    /// Asks the name servers for both families in parallel.
    async fn ask(&self, name: &Name) -> Result<Records, Failure> {
        let of = |kind| Box::pin(self.family(name, kind));
        let (mut ipv4, mut ipv6) = (of(RecordType::A), of(RecordType::AAAA));
        let (first, other): (_, Pin<_>) = tokio::select! {
            first = &mut ipv4 => (first, ipv6),
            first = &mut ipv6 => (first, ipv4),
        };
        let second = match &first {
            Ok(found) if !found.addresses.is_empty() => timeout(FAMILY_DELAY, other).await.ok(),
            _ => Some(other.await),
        };
        match (first, second) {
            (Ok(one), Some(Ok(other))) => one.and(other).found(),
            (Ok(one), _) | (Err(_), Some(Ok(one))) => one.found(),
            (Err(failure), _) => Err(failure),
        }
    }

    async fn family(&self, name: &Name, kind: RecordType) -> Result<Records, Failure> {
        let dns = self.dns.as_ref().map_err(|reason| Failure {
            is_final: true,
            reason: reason.clone(),
        })?;
        let question = DnsName::from_str(name.as_str()).map_err(|error| Failure {
            is_final: true,
            reason: error.to_string(),
        })?;
        let answer = match dns.lookup(question, kind).await {
            Ok(answer) => answer,
            // The name may have addresses of the other family.
            Err(error) if error.is_no_records_found() && !error.is_nx_domain() => {
                return Ok(Records::default());
            }
            Err(error) => return Err(Failure::of(&error)),
        };
        let mut records = Records::default();
        for record in answer.answers() {
            match &record.data {
                RData::A(address) => records.addresses.push(address.0.into()),
                RData::AAAA(address) => records.addresses.push(address.0.into()),
                // An alias that is no valid name is on no list either.
                RData::CNAME(alias) => records.aliases.extend(alias.0.to_ascii().parse::<Name>()),
                _ => continue,
            }
            records.ttl = records.ttl.min(record.ttl);
        }
        Ok(records)
    }
}

/// The answers of the name servers, of one family or both.
struct Records {
    addresses: Vec<IpAddr>,
    aliases: Vec<Name>,
    /// Seconds for which all of it is valid.
    ttl: u32,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            aliases: Vec::new(),
            ttl: u32::MAX,
        }
    }
}

impl Records {
    /// Both together, every alias once.
    fn and(mut self, other: Self) -> Self {
        self.addresses.extend(other.addresses);
        for alias in other.aliases {
            if !self.aliases.contains(&alias) {
                self.aliases.push(alias);
            }
        }
        self.ttl = self.ttl.min(other.ttl);
        self
    }

    fn found(self) -> Result<Self, Failure> {
        match self.addresses.is_empty() {
            false => Ok(self),
            true => Err(Failure {
                is_final: true,
                reason: "the name has no address".to_owned(),
            }),
        }
    }
}

struct Failure {
    /// A name server returned it; otherwise a name server was silent or failed.
    is_final: bool,
    reason: String,
}

impl Failure {
    fn of(error: &NetError) -> Self {
        let is_final = error.is_no_records_found();
        let reason = match error {
            _ if error.is_nx_domain() => "the name does not exist".to_owned(),
            _ if is_final => "the name has no address".to_owned(),
            NetError::Timeout => "no name server answered in time".to_owned(),
            _ => format!("the name servers failed: {error}"),
        };
        Self { is_final, reason }
    }
}

/// Whether services other than the Domain Name System may know the name.
fn is_local(name: &Name) -> bool {
    name.labels() == 1 || name.as_str().ends_with(".local")
}

/// # Errors
/// As getaddrinfo(3), in words.
fn getaddrinfo(name: &str) -> Answer {
    let addresses = (name, 0)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    found(addresses.map(|address| address.ip()).collect())
}

/// An answer without aliases.
fn found(addresses: Vec<IpAddr>) -> Answer {
    Ok(Resolved {
        addresses: ordered(addresses),
        aliases: Vec::new(),
    })
}

/// Each address once: IPv6 first, and addresses without a route last (RFC 6724, rules 1 and 6).
fn ordered(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut all = Vec::with_capacity(addresses.len());
    for address in addresses.drain(..) {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    if all.len() > 1 {
        all.sort_by_cached_key(|address| (!is_routed(*address), address.is_ipv4()));
    }
    all
}

/// The names of hosts(5). Invalid lines are skipped, as the C library does.
fn read_hosts(text: &str) -> HashMap<Name, Vec<IpAddr>> {
    let mut hosts: HashMap<Name, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
            continue;
        };
        for name in words.filter_map(|word| word.parse::<Name>().ok()) {
            hosts.entry(name).or_default().push(address);
        }
    }
    hosts
}
