//! Goodput of whole runs over loopback by engine, zero-copy method, offload, batch and chunk, with the library's client and server.
//!
//! An iteration is [`DATAGRAMS`] datagrams; a sample is one lossless session of as many iterations as criterion requests. The
//! measured time is that of the session, from the first send timestamp to the last receive timestamp, without its setup.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group,
    criterion_main,
};
use wirebench::engine::{EngineChoice, EngineKind, ZeroCopy};
use wirebench::sys::affinity;
use wirebench::udp::client::{self, Cancel, Observer, Setup};
use wirebench::udp::engine::offload;
use wirebench::udp::plan::SpinChoice;
use wirebench::udp::plan::{Amount, Df, Direction, Mode, Offload, Plan};
use wirebench::udp::server::{Limits, Options, Server, Stopper};

/// Datagrams of an iteration: few enough that the slowest case fits several into a sample.
const DATAGRAMS: u64 = 1_000;

/// The default, in message bytes.
const CHUNK: usize = 1_000;

/// Small, the default, and a size of which only a few fit a segmented send.
const CHUNKS: [usize; 3] = [200, CHUNK, 8_192];

/// Datagrams of a send call. The last two are the defaults without and with GSO.
const BATCHES: [usize; 4] = [1, 16, 64, 126];

struct Silent;

impl Observer for Silent {}

/// A server on loopback and the setup of its sessions.
struct Bench {
    setup: Setup,
    cancel: Cancel,
    stopper: Stopper,
    server: thread::JoinHandle<()>,
}

impl Bench {
    fn start() -> std::io::Result<Self> {
        // Both ends of the stream on one CPU: the rate varies least.
        let cpu = affinity::allowed()?.first().map(|cpu| vec![*cpu]);
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = Options {
            cpus: cpu.clone(),
            ..Options::default()
        };
        let server = Server::bind(any_port, Limits::none(), options).map_err(|(error, _)| error)?;
        let setup = Setup {
            cpus: cpu,
            ..Setup::to(server.local())
        };
        Ok(Self {
            setup,
            cancel: Cancel::new()?,
            stopper: server.stopper(),
            server: thread::spawn(move || {
                // The client reports a failed event loop.
                let _ = server.run(|_| ());
            }),
        })
    }

    fn stop(self) {
        self.stopper.stop();
        let _ = self.server.join();
    }

    /// The duration of `plan` by the run's timestamps.
    fn time(&self, plan: &Plan) -> Duration {
        let measured = match client::run(plan, &self.setup, &mut Silent, &self.cancel) {
            Ok(mut directions) => directions.remove(0).run,
            Err(error) => panic!("no run, no time: {error}"),
        };
        let (true, Some(seconds)) = (measured.complete, measured.seconds) else {
            panic!("the run is incomplete: {:?}", measured.reason);
        };
        // Lossless delivers everything. If not, missing data must not count.
        let share = measured.sent.bytes as f64 / measured.received.bytes as f64;
        Duration::from_secs_f64(seconds * share)
    }
}

/// Engine, zero-copy method and name: a line of the matrix, each with and without GSO.
const WAYS: [(EngineKind, ZeroCopy, &str); 5] = [
    (EngineKind::Mio, ZeroCopy::Off, "mio"),
    (EngineKind::Mio, ZeroCopy::Splice, "mio splice"),
    (EngineKind::Mio, ZeroCopy::Msg, "mio MSG_ZEROCOPY"),
    (EngineKind::Uring, ZeroCopy::Off, "uring"),
    (EngineKind::Uring, ZeroCopy::Msg, "uring SENDMSG_ZC"),
];

/// With and without GSO, as far as the kernel supports it.
fn offloads() -> Vec<(Offload, &'static str)> {
    let mut offloads = vec![(Offload::Off, "")];
    match offload::max_segments() {
        Ok(_) => offloads.push((Offload::On, " GSO")),
        Err(error) => println!("GSO skipped: this kernel has no UDP_SEGMENT: {error}"),
    }
    offloads
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group
        .sample_size(10)
        .nresamples(10_000)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(1_500));
    group
}

/// The default datagram by engine, zero-copy method, GSO and batch: one report, with a line over the batch size.
fn matrix(c: &mut Criterion) {
    let bench = match Bench::start() {
        Ok(bench) => bench,
        Err(error) => return println!("skipped: no server on loopback: {error}"),
    };
    let mut group = group(c, "loopback goodput");
    for (kind, zerocopy, name) in WAYS {
        for (offload, gso) in offloads() {
            for batch in BATCHES {
                // A single datagram has no segments.
                if (offload, batch) == (Offload::On, 1) {
                    continue;
                }
                let plan = Plan {
                    engine: EngineChoice {
                        kind,
                        zerocopy,
                        ..EngineChoice::default()
                    },
                    batch: Some(batch),
                    ..plan(CHUNK, offload)
                };
                case(&mut group, &bench, &format!("{name}{gso}"), batch, &plan);
            }
        }
    }
    group.finish();
    bench.stop();
}

/// Other datagram sizes, with all other defaults.
fn sizes(c: &mut Criterion) {
    let bench = match Bench::start() {
        Ok(bench) => bench,
        Err(error) => return println!("skipped: no server on loopback: {error}"),
    };
    let mut group = group(c, "loopback goodput by chunk");
    for (offload, gso) in offloads() {
        for chunk in CHUNKS {
            let plan = plan(chunk, offload);
            case(&mut group, &bench, &format!("mio{gso}"), chunk, &plan);
        }
    }
    group.finish();
    bench.stop();
}

fn plan(chunk: usize, offload: Offload) -> Plan {
    Plan {
        amount: Amount::Packets(DATAGRAMS),
        mode: Mode::Lossless,
        direction: Direction::Forward,
        chunk,
        engine: EngineChoice::default(),
        streams: 1,
        batch: None,
        offload,
        df: Df::Auto,
        spin: SpinChoice::Auto,
        receive_buffer: None,
        send_buffer: None,
        interval: Duration::from_secs(1),
        packet_rows: false,
        interval_histograms: false,
        traffic: Default::default(),
        kernel_latency: false,
        stages: false,
    }
}

fn case(
    group: &mut BenchmarkGroup<'_, WallTime>,
    bench: &Bench,
    name: &str,
    over: usize,
    plan: &Plan,
) {
    if let Err(error) = client::run(plan, &bench.setup, &mut Silent, &bench.cancel) {
        return println!("{name} skipped: {error}");
    }
    group.throughput(Throughput::BytesDecimal(DATAGRAMS * plan.chunk as u64));
    group.bench_function(BenchmarkId::new(name, over), |b| {
        b.iter_custom(|iterations| {
            bench.time(&Plan {
                amount: Amount::Packets(DATAGRAMS * iterations),
                ..plan.clone()
            })
        });
    });
}

criterion_group!(benches, matrix, sizes);
criterion_main!(benches);
