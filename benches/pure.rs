//! The pure parts that run once a datagram, without the kernel.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wirebench::stats::jitter::Jitter;
use wirebench::stats::latency::Latency;
use wirebench::sys::clock::monotonic_ns;
use wirebench::sys::tsc_clock::TscClock;
use wirebench::udp::plan::Quota;
use wirebench::udp::receive::accounting::StreamAccounting;
use wirebench::udp::receive::sequence::SequenceWindow;
use wirebench::udp::send::pacing::Pacer;
use wirebench::udp::send::stream::Stream;
use wirebench::udp::wire::header::{HEADER, Header, Kind};

/// Datagrams of a segmented message of the default chunk.
const DATAGRAMS: usize = 63;

const CHUNK: usize = 1_000;

const TOKEN: u64 = 0x1234_5678_9abc_def0;

fn header(c: &mut Criterion) {
    let mut group = c.benchmark_group("header");
    group.throughput(Throughput::Elements(1));
    let header = Header {
        sent: 1 << 50,
        lateness: 77,
        ..Header::bare(Kind::Data, TOKEN, 1 << 40)
    };
    group.bench_function("encode", |b| b.iter(|| black_box(header).encode()));
    let bytes = header.encode();
    group.bench_function("decode", |b| b.iter(|| Header::decode(black_box(&bytes))));
    group.finish();
}

fn sequence(c: &mut Criterion) {
    let mut group = c.benchmark_group("sequence window");
    group.throughput(Throughput::Elements(1));
    let mut window = SequenceWindow::default();
    let mut next = 0;
    group.bench_function("in order", |b| {
        b.iter(|| {
            next += 1;
            window.record(black_box(next))
        });
    });
    let mut window = SequenceWindow::default();
    let mut next = 1_000u64;
    group.bench_function("swapped in pairs", |b| {
        b.iter(|| {
            next += 1;
            window.record(black_box(next ^ 1))
        });
    });
    group.finish();
}

fn pacer(c: &mut Criterion) {
    let mut group = c.benchmark_group("pacer");
    group.throughput(Throughput::Elements(1));
    let mut pacer = Pacer::new(3e6, 0);
    group.bench_function("take", |b| b.iter(|| pacer.take(black_box(u64::MAX))));
    group.finish();
}

fn statistics(c: &mut Criterion) {
    let mut group = c.benchmark_group("statistics");
    group.throughput(Throughput::Elements(1));
    let mut latency = Latency::new();
    let mut ns = 10_000u64;
    group.bench_function("histogram record", |b| {
        b.iter(|| {
            ns = ns * 25 % 100_003;
            latency.record(black_box(ns));
        });
    });
    let mut jitter = Jitter::default();
    group.bench_function("jitter record", |b| {
        b.iter(|| {
            ns = ns * 25 % 100_003;
            jitter.record(black_box(ns), black_box(1_000_000));
        });
    });
    group.finish();
}

fn clocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("clock");
    group.throughput(Throughput::Elements(1));
    group.bench_function("kernel", |b| b.iter(monotonic_ns));
    let mut clock = TscClock::calibrated();
    group.bench_function("burst", |b| {
        clock.begin();
        b.iter(|| clock.now());
    });
    group.finish();
}

/// A whole message through the pure part of each side.
fn messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("message of 63 datagrams");
    group.throughput(Throughput::Elements(DATAGRAMS as u64));
    let quota = Quota {
        packets: None,
        last_chunk: CHUNK,
        time: None,
    };
    let mut stream = Stream::new(TOKEN, CHUNK, quota, None, false, 0);
    let mut slot = vec![0; DATAGRAMS * (CHUNK + HEADER)];
    group.bench_function("write, without the clock", |b| {
        b.iter(|| stream.fill(black_box(&mut slot), DATAGRAMS as u64, || 1 << 40));
    });
    group.bench_function("write, kernel clock", |b| {
        b.iter(|| stream.fill(black_box(&mut slot), DATAGRAMS as u64, monotonic_ns));
    });
    let mut account = StreamAccounting::new(TOKEN, CHUNK, false, Box::default());
    let mut next = 0u64;
    group.bench_function("account", |b| {
        b.iter_batched_ref(
            || {
                let mut message = vec![0u8; DATAGRAMS * (CHUNK + HEADER)];
                for datagram in message.chunks_mut(CHUNK + HEADER) {
                    let header = Header {
                        sent: next * 20,
                        ..Header::bare(Kind::Data, TOKEN, next)
                    };
                    datagram[..HEADER].copy_from_slice(&header.encode());
                    next += 1;
                }
                (message, next * 20 + 30_000)
            },
            |(message, received)| {
                for datagram in message.chunks(CHUNK + HEADER) {
                    black_box(account.datagram(datagram, *received));
                }
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    // Drawing the distribution of 100,000 resamples takes longer than a quick measurement.
    config = Criterion::default()
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = header, sequence, pacer, statistics, clocks, messages
}
criterion_main!(benches);
