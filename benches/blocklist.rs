//! Decisions of a policy, compared with a linear scan and a hash set of the same entries, and loading of a file. The sizes are
//! those of a hand-written list, a large public list, and many of them together.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

use std::collections::HashSet;
use std::fmt::Display;
use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::NamedTempFile;
use wirebench::blocklist::entry::{Entry, Subject};
use wirebench::blocklist::policy::{Policy, Sources, Verdict};
use wirebench::destination::Name;

const SIZES: [u32; 3] = [1_000, 100_000, 1_000_000];

/// Destinations that are looked up in turn, half of them listed. Enough that branch predictors do not learn them.
const ASKED: u32 = 4_096;

/// Distinct numbers in no order: multiplication by an odd factor permutes 32-bit numbers.
fn shuffled(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_761)
}

fn v4(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(shuffled(number))
}

/// A network of 48 bits in 2a00::/12, the range of a region's providers.
fn v6(number: u32) -> Ipv6Addr {
    let bits = 0x2a0 << 36 | u64::from(shuffled(number)) << 4;
    Ipv6Addr::from_bits(u128::from(bits) << 80)
}

/// An address with the well-known NAT64 prefix.
fn carrying(number: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x64_ff9b << 96 | u128::from(shuffled(number)))
}

fn domain(number: u32) -> String {
    format!("d{}.example", shuffled(number))
}

/// Numbers of the destinations: of entries, and of none.
fn asked(entries: u32) -> impl Iterator<Item = u32> {
    let listed = move |turn: u32| shuffled(turn) % entries;
    (0..ASKED).map(move |turn| match turn % 2 {
        0 => listed(turn),
        _ => u32::MAX - turn,
    })
}

/// A file with one entry a line.
fn file(lines: impl Iterator<Item = impl Display>) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(
        file.path(),
        lines.map(|line| format!("{line}\n")).collect::<String>(),
    )
    .unwrap();
    file
}

fn policy(file: &NamedTempFile, deny_private: bool) -> Policy {
    let sources = Sources {
        block: vec![file.path().to_owned()],
        deny_private,
        ..Sources::default()
    };
    Policy::load(&sources).unwrap()
}

/// Measures one kind of decision, on each destination in turn.
fn time<D>(
    c: &mut Criterion,
    (kind, way, entries): (&str, &str, u32),
    asked: &[D],
    mut decide: impl FnMut(&D) -> bool,
) {
    let (some, _) = asked.split_at(16);
    let blocked = some.iter().filter(|destination| decide(destination));
    assert_eq!(blocked.count(), some.len() / 2, "{kind}, {way}");
    let mut group = c.benchmark_group(format!("blocklist {kind}"));
    group.throughput(Throughput::Elements(1));
    let mut turn = asked.iter().cycle();
    group.bench_function(BenchmarkId::new(way, entries), |b| {
        b.iter(|| turn.next().map(|next| decide(black_box(next))));
    });
    group.finish();
}

fn socket(address: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(address.into(), 443)
}

fn blocks(policy: &Policy, address: SocketAddr) -> bool {
    policy.decide(address, None) != Verdict::Allowed
}

fn ipv4(c: &mut Criterion) {
    for entries in SIZES {
        let listed = || (0..entries).map(v4);
        let asked: Vec<_> = asked(entries).map(|number| socket(v4(number))).collect();
        let policy = policy(&file(listed()), false);
        time(c, ("IPv4", "policy", entries), &asked, |next| {
            blocks(&policy, *next)
        });
        let set: HashSet<IpAddr> = listed().map(IpAddr::V4).collect();
        time(c, ("IPv4", "hash set", entries), &asked, |next| {
            set.contains(&next.ip())
        });
        let list: Vec<_> = listed().map(|own| Subject::V4(own, own)).collect();
        time(c, ("IPv4", "linear scan", entries), &asked, |next| {
            list.iter().any(|own| own.has(next.ip()))
        });
    }
}

/// Networks of 48 bits; the hash set supports only this length.
fn ipv6(c: &mut Criterion) {
    for entries in SIZES {
        let host = |number| Ipv6Addr::from_bits(v6(number).to_bits() | 0xabcd << 64 | 1);
        let asked: Vec<_> = asked(entries).map(|number| socket(host(number))).collect();
        let lines = (0..entries).map(|number| format!("{}/48", v6(number)));
        let policy = policy(&file(lines), false);
        time(c, ("IPv6", "policy", entries), &asked, |next| {
            blocks(&policy, *next)
        });
        let bits = |address: IpAddr| match address {
            IpAddr::V4(_) => 0,
            IpAddr::V6(address) => address.to_bits() >> 80,
        };
        let set: HashSet<u128> = (0..entries).map(|number| bits(v6(number).into())).collect();
        time(c, ("IPv6", "hash set", entries), &asked, |next| {
            set.contains(&bits(next.ip()))
        });
        let last = |first: Ipv6Addr| Ipv6Addr::from_bits(first.to_bits() | u128::MAX >> 48);
        let list: Vec<_> = (0..entries)
            .map(|number| Subject::V6(v6(number), last(v6(number))))
            .collect();
        time(c, ("IPv6", "linear scan", entries), &asked, |next| {
            list.iter().any(|own| own.has(next.ip()))
        });
    }
}

/// Addresses with the NAT64 prefix, against a list of IPv4 addresses. A plain set or scan does not match them.
fn ipv4_in_ipv6(c: &mut Criterion) {
    for entries in SIZES {
        let numbers: Vec<_> = asked(entries).collect();
        let asked: Vec<_> = numbers.iter().map(|&n| socket(carrying(n))).collect();
        let policy = policy(&file((0..entries).map(v4)), false);
        let kind = "IPv4 in IPv6";
        time(c, (kind, "policy", entries), &asked, |next| {
            blocks(&policy, *next)
        });
    }
}

/// Half of the entries are names, half domains; each name that is looked up is in one or two domains.
fn names(c: &mut Criterion) {
    for entries in SIZES {
        let asked: Vec<Name> = asked(entries)
            .map(|number| match number % 2 {
                0 => format!("www.{}", domain(number)).parse().unwrap(),
                _ => domain(number).parse().unwrap(),
            })
            .collect();
        let lines = || {
            (0..entries).map(|number| match number % 2 {
                0 => format!("*.{}", domain(number)),
                _ => domain(number),
            })
        };
        let policy = policy(&file(lines()), false);
        time(c, ("name", "policy", entries), &asked, |next| {
            policy.decide_name(next, 443) != Verdict::Allowed
        });
        let address = socket(v4(0));
        time(
            c,
            ("name", "policy, and its address", entries),
            &asked,
            |next| policy.decide(address, Some(next)) != Verdict::Allowed,
        );
        let all = |rest: u32| {
            (0..entries)
                .filter(move |number| number % 2 == rest)
                .map(domain)
        };
        let (below, own): (HashSet<_>, HashSet<_>) = (all(0).collect(), all(1).collect());
        time(c, ("name", "hash set", entries), &asked, |next| {
            own.contains(next.as_str()) || next.domains().any(|above| below.contains(above))
        });
        let list: Vec<_> = lines()
            .map(|line| Entry::parse(&line).unwrap().subject)
            .collect();
        time(c, ("name", "linear scan", entries), &asked, |next| {
            list.iter().any(|own| own.names(next))
        });
    }
}

/// Addresses on no list, none of them private.
fn deny_private(c: &mut Criterion) {
    let entries = 100_000;
    let policy = policy(&file((0..entries).map(v4)), true);
    let mut group = c.benchmark_group("blocklist --deny-private");
    group.throughput(Throughput::Elements(1));
    for (kind, address) in [
        ("IPv4", "1.1.1.1:443"),
        ("IPv6", "[2606:4700::1111]:443"),
        ("IPv4 in IPv6", "[64:ff9b::101:101]:443"),
    ] {
        let address: SocketAddr = address.parse().unwrap();
        assert!(!blocks(&policy, address), "{address}");
        group.bench_function(kind, |b| b.iter(|| blocks(&policy, black_box(address))));
    }
    group.finish();
}

fn load(c: &mut Criterion) {
    let mut group = c.benchmark_group("blocklist load");
    group.sample_size(10);
    for entries in [1_000, 120_000, 1_000_000] {
        let file = file((0..entries).map(v4));
        group.throughput(Throughput::Elements(entries.into()));
        group.bench_function(BenchmarkId::new("addresses", entries), |b| {
            b.iter(|| policy(&file, false));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    // Drawing the distribution of 100,000 resamples takes longer than a quick measurement.
    config = Criterion::default()
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = ipv4, ipv6, ipv4_in_ipv6, names, deny_private, load
}
criterion_main!(benches);
