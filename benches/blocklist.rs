//! The blocklist: a decision against a linear scan and a hash set of the same entries, and loading a file.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

use std::collections::HashSet;
use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::NamedTempFile;
use wirebench::blocklist::entry::Subject;
use wirebench::blocklist::policy::{Policy, Sources};
use wirebench::host::Name;

const SIZES: [u32; 3] = [1_000, 100_000, 1_000_000];

/// Destinations that are asked for in turn, every other one listed.
const ASKED: u32 = 1_024;

/// Distinct addresses in no order: an odd factor shuffles the numbers of 32 bits.
fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(number.wrapping_mul(2_654_435_761)).into()
}

fn asked(entries: u32) -> Vec<IpAddr> {
    let listed = |turn: u32| turn * (entries / ASKED).max(1) % entries;
    (0..ASKED)
        .map(|turn| match turn % 2 {
            0 => address(listed(turn)),
            _ => address(u32::MAX - turn),
        })
        .collect()
}

/// A file with an entry a line.
fn file(lines: impl Iterator<Item = String>) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), lines.collect::<String>()).unwrap();
    file
}

fn policy(file: &NamedTempFile, deny_private: bool) -> Policy {
    let sources = Sources {
        block: vec![file.path().to_owned()],
        allow: Vec::new(),
        deny_private,
    };
    Policy::load(&sources).unwrap()
}

fn addresses(entries: u32) -> NamedTempFile {
    file((0..entries).map(|number| format!("{}\n", address(number))))
}

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("blocklist decision");
    group.throughput(Throughput::Elements(1));
    for entries in SIZES {
        let asked = asked(entries);
        let mut turn = asked.iter().cycle().copied();
        let mut next = || turn.next().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let policy = policy(&addresses(entries), false);
        group.bench_function(BenchmarkId::new("policy", entries), |b| {
            b.iter(|| policy.decide(black_box(SocketAddr::new(next(), 443)), None));
        });
        let set: HashSet<IpAddr> = (0..entries).map(address).collect();
        group.bench_function(BenchmarkId::new("hash set of addresses", entries), |b| {
            b.iter(|| set.contains(&black_box(next())));
        });
        let list: Vec<Subject> = (0..entries)
            .filter_map(|number| Subject::range(address(number), address(number)))
            .collect();
        group.bench_function(BenchmarkId::new("linear scan", entries), |b| {
            b.iter(|| {
                let next = black_box(next());
                list.iter().position(|subject| subject.has(next))
            });
        });
    }
    group.finish();
}

fn other_decisions(c: &mut Criterion) {
    let mut group = c.benchmark_group("blocklist decision, 100000 entries");
    group.throughput(Throughput::Elements(1));
    let entries = 100_000;
    let allowed: SocketAddr = SocketAddr::new(address(u32::MAX), 443);
    let private = policy(&addresses(entries), true);
    group.bench_function("with --deny-private", |b| {
        b.iter(|| private.decide(black_box(allowed), None));
    });
    let carrying = SocketAddr::new("64:ff9b::1.1.1.1".parse().unwrap(), 443);
    group.bench_function("IPv6 that carries IPv4", |b| {
        b.iter(|| private.decide(black_box(carrying), None));
    });
    let v6 = policy(
        &file((0..entries).map(|number| {
            let high = number.wrapping_mul(2_654_435_761);
            format!("2a{:02x}:{:x}::/48\n", high >> 24, high & 0xffff)
        })),
        false,
    );
    let native = SocketAddr::new("2a00:1450::1".parse().unwrap(), 443);
    group.bench_function("IPv6", |b| b.iter(|| v6.decide(black_box(native), None)));
    let names = policy(
        &file((0..entries).map(|number| {
            let wild = if number % 2 == 0 { "*." } else { "" };
            format!("{wild}n{number}.example\n")
        })),
        false,
    );
    let name: Name = "a.b.n77777.example".parse().unwrap();
    group.bench_function("a name in four domains", |b| {
        b.iter(|| names.decide_name(black_box(&name), 443));
    });
    group.finish();
}

fn load(c: &mut Criterion) {
    let mut group = c.benchmark_group("blocklist load");
    group.sample_size(10);
    for entries in [1_000, 120_000, 1_000_000] {
        let file = addresses(entries);
        group.throughput(Throughput::Elements(entries.into()));
        group.bench_function(BenchmarkId::new("addresses", entries), |b| {
            b.iter(|| policy(&file, false));
        });
    }
    group.finish();
}

criterion_group!(benches, decide, other_decisions, load);
criterion_main!(benches);
