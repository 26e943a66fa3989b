//! Three hosts in network namespaces: client, router and server. Both hops have IPv4 and IPv6.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Finished, PATIENCE, Running};

/// Addresses of the server.
pub(crate) const V4: &str = "10.77.2.2";
pub(crate) const V6: &str = "[fd77:2::2]";

/// Addresses of the router on the network of the client.
pub(crate) const NEAR_V4: &str = "10.77.1.1";
pub(crate) const NEAR_V6: &str = "[fd77:1::1]";

pub(crate) struct Routed {
    prefix: String,
    server: Option<Running>,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Routed {
    /// Starts the hosts with a `bench serve` on both families. Prints a reason and returns `None` if namespaces are
    /// unavailable.
    pub(crate) fn start() -> Option<Self> {
        Self::serving("")
    }

    /// Like [`Self::start`], with options for the server.
    pub(crate) fn serving(options: &str) -> Option<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut lab = Self {
            prefix: format!("wb{}n{number}", std::process::id()),
            server: None,
        };
        if let Err(reason) = lab.build() {
            println!("skipped: no network namespaces here: {reason}");
            return None;
        }
        let mut serve = lab.within('s', env!("CARGO_BIN_EXE_bench"));
        serve.args(["serve", "--no-save"]);
        serve.args(options.split_whitespace());
        let mut server = Running::new(serve);
        server.listening();
        lab.server = Some(server);
        Some(lab)
    }

    fn build(&self) -> Result<(), String> {
        for host in ['c', 'r', 's'] {
            // A test process of this id that was killed may have left it.
            let _ = run(&format!("ip netns del {}", self.name(host)));
            run(&format!("ip netns add {}", self.name(host)))?;
            run(&format!("ip -n {} link set lo up", self.name(host)))?;
        }
        for (host, device, other, net) in [('c', "c0", "r0", 1), ('s', "s0", "r1", 2)] {
            let (host, router) = (self.name(host), self.name('r'));
            for words in [
                format!(
                    "link add {device} netns {host} type veth peer name {other} netns {router}"
                ),
                format!("-n {host} addr add 10.77.{net}.2/24 dev {device}"),
                format!("-n {router} addr add 10.77.{net}.1/24 dev {other}"),
                format!("-n {host} addr add fd77:{net}::2/64 dev {device} nodad"),
                format!("-n {router} addr add fd77:{net}::1/64 dev {other} nodad"),
                format!("-n {host} link set {device} up"),
                format!("-n {router} link set {other} up"),
                format!("-n {host} route add default via 10.77.{net}.1"),
                format!("-n {host} -6 route add default via fd77:{net}::1"),
            ] {
                run(&format!("ip {words}"))?;
            }
        }
        self.router("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
        self.router("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0")
    }

    fn name(&self, host: char) -> String {
        format!("{}{host}", self.prefix)
    }

    fn within(&self, host: char, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host), program]);
        command
    }

    /// Runs a command on the router.
    pub(crate) fn router(&self, words: &str) -> Result<(), String> {
        run(&format!("ip netns exec {} {words}", self.name('r')))
    }

    /// Runs a command on the server's host.
    pub(crate) fn server(&self, words: &str) -> Result<(), String> {
        run(&format!("ip netns exec {} {words}", self.name('s')))
    }

    /// Runs a command on the client's host.
    pub(crate) fn client(&self, words: &str) -> Result<(), String> {
        run(&format!("ip netns exec {} {words}", self.name('c')))
    }

    /// Sets the MTU of the second hop at both ends.
    #[track_caller]
    pub(crate) fn narrow(&self, mtu: u32) {
        for (host, device) in [('r', "r1"), ('s', "s0")] {
            run(&format!(
                "ip -n {} link set {device} mtu {mtu}",
                self.name(host)
            ))
            .unwrap();
        }
    }

    /// Sets the MTU of the first hop at both ends.
    #[track_caller]
    pub(crate) fn narrow_near_client(&self, mtu: u32) {
        for (host, device) in [('r', "r0"), ('c', "c0")] {
            let words = format!("ip -n {} link set {device} mtu {mtu}", self.name(host));
            run(&words).unwrap();
        }
    }

    /// Flushes the client's route cache, including learnt path MTUs.
    #[track_caller]
    pub(crate) fn forget(&self) {
        for family in ["-4", "-6"] {
            let words = format!("ip {family} -n {} route flush cache", self.name('c'));
            run(&words).unwrap();
        }
    }

    /// Starts a `bench udp` at the client.
    pub(crate) fn udp(&self, to: &str, options: &str) -> Running {
        let mut command = self.within('c', env!("CARGO_BIN_EXE_bench"));
        command
            .args(["udp", "--to", &format!("{to}:5210")])
            .args(options.split_whitespace());
        Running::new(command)
    }

    /// Starts a `bench serve` on the router, on the network of the client. Its addresses are [`NEAR_V4`] and [`NEAR_V6`].
    #[track_caller]
    pub(crate) fn serving_near(&self) -> Running {
        let mut serve = self.within('r', env!("CARGO_BIN_EXE_bench"));
        serve.args(["serve", "--no-save"]);
        let mut server = Running::new(serve);
        server.listening();
        server
    }

    /// Starts a `bench udp search` at the client.
    pub(crate) fn search(&self, to: &str, options: &str) -> Running {
        let mut command = self.within('c', env!("CARGO_BIN_EXE_bench"));
        command
            .args(["udp", "search", "--to", &format!("{to}:5210")])
            .args(options.split_whitespace());
        Running::new(command)
    }

    /// Runs a `bench udp` that writes its record to stdout, and returns its only run.
    #[track_caller]
    pub(crate) fn run(&self, to: &str, options: &str) -> serde_json::Value {
        let done = self.finish(to, options).done();
        let mut record: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
        record["runs"][0].take()
    }

    /// Like [`Self::run`], but the command may fail.
    #[track_caller]
    pub(crate) fn finish(&self, to: &str, options: &str) -> Finished {
        self.udp(to, &format!("{options} --no-save --json -"))
            .wait(PATIENCE)
    }

    /// Makes the router reject one data packet in a hundred with an ICMP error. Returns the reason if it cannot.
    pub(crate) fn reject(&self, family: &str, error: &str) -> Result<(), String> {
        let to = match family {
            "ip" => "ip daddr 10.77.2.2",
            _ => "ip6 daddr fd77:2::2",
        };
        self.router("nft add table inet t")?;
        self.router("nft add chain inet t f { type filter hook forward priority 0 ; }")?;
        self.router("nft flush chain inet t f")?;
        // Data have kind 1 in byte 24 of the header, after 8 bytes of UDP. Datagrams of the opening do not count.
        self.router(&format!(
            "nft add rule inet t f {to} meta l4proto udp @th,256,8 1 numgen random mod 100 < 1 counter reject with {error}"
        ))
    }

    /// Rejected packets.
    #[track_caller]
    pub(crate) fn rejected(&self) -> u64 {
        self.counted('r')[0]
    }

    /// Adds a rule for data packets to the server to the table of a host, in a chain at a hook of IP. Returns the reason if it
    /// cannot.
    pub(crate) fn rule(&self, host: char, hook: &str, rule: &str) -> Result<(), String> {
        let nft = |words: String| run(&format!("ip netns exec {} nft {words}", self.name(host)));
        let priority = if hook == "prerouting" { "-150" } else { "0" };
        nft("add table inet t".to_owned())?;
        nft(format!(
            "add chain inet t {hook} {{ type filter hook {hook} priority {priority} ; }}"
        ))?;
        // Data have kind 1 in byte 24 of the header, after 8 bytes of UDP.
        nft(format!(
            "add rule inet t {hook} meta l4proto udp @th,256,8 1 {rule}"
        ))
    }

    /// Packets of each rule with a counter on a host, in the order of the chains.
    #[track_caller]
    pub(crate) fn counted(&self, host: char) -> Vec<u64> {
        let text = self.output(host, "nft list table inet t");
        let counters = text.split("counter packets ").skip(1);
        counters
            .map(|behind| behind.split(' ').next().unwrap().parse().unwrap())
            .collect()
    }

    /// The output of a command on a host.
    #[track_caller]
    pub(crate) fn output(&self, host: char, words: &str) -> String {
        let mut parts = words.split_whitespace();
        let mut command = self.within(host, parts.next().unwrap());
        String::from_utf8(command.args(parts).output().unwrap().stdout).unwrap()
    }

    /// The process of the server.
    pub(crate) fn serving_process(&self) -> &Running {
        self.server.as_ref().unwrap()
    }
}

impl Drop for Routed {
    fn drop(&mut self) {
        self.server = None;
        for host in ['c', 'r', 's'] {
            let _ = run(&format!("ip netns del {}", self.name(host)));
        }
    }
}

/// Runs a command whose words contain no spaces.
fn run(words: &str) -> Result<(), String> {
    let mut parts = words.split_whitespace();
    let output = Command::new(parts.next().unwrap_or_default())
        .args(parts)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{words}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{words}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
