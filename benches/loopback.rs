//! Goodput of whole runs over loopback, by chunk, offload and batch, through the library's own session and server.
//!
//! An iteration is [`DATAGRAMS`] datagrams, and a sample is one lossless session of as many iterations as
//! criterion asks for. The time given to criterion is the session's own, from the first send stamp to
//! the last receive stamp: sockets, threads and the control connection are set up outside of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group,
    criterion_main,
};
use wirebench::engine::choice::EngineChoice;
use wirebench::engine::offload;
use wirebench::report::record::Requested;
use wirebench::sys::affinity;
use wirebench::udp::placement::{self, Choice, Cpus};
use wirebench::udp::plan::{Amount, Mode, Offload, Plan};
use wirebench::udp::server::{Limits, Server, Stopper};
use wirebench::udp::session::{self, Cancel, ClockChoice, Observer, Setup};

/// Datagrams an iteration: few enough that the slowest case still fits several into a sample.
const DATAGRAMS: u64 = 1_000;

/// Small, the usual one, and one of which only a few fit a segmented send.
const CHUNKS: [usize; 3] = [200, 1_000, 8_192];

/// Datagrams a send call; `None` is what the library chooses.
const BATCHES: [Option<usize>; 3] = [Some(1), Some(16), None];

struct Silent;

impl Observer for Silent {}

/// A server on loopback, and what a session with it needs.
struct Bench {
    setup: Setup,
    cancel: Cancel,
    stopper: Stopper,
    server: thread::JoinHandle<()>,
}

impl Bench {
    fn start() -> std::io::Result<Self> {
        let allowed = affinity::allowed()?;
        let (senders, receivers): (Cpus, Cpus) = placement::both(&Choice::Auto, 1, &allowed, false);
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(any_port, Limits::default(), receivers)?;
        let setup = Setup {
            server: server.local(),
            bind: None,
            send_buffer: None,
            cpus: senders,
            spin: false,
            clock: ClockChoice::Auto,
            requested: Requested::default(),
        };
        Ok(Self {
            setup,
            cancel: Cancel::new()?,
            stopper: server.stopper(),
            server: thread::spawn(move || {
                // If its event loop fails, the session at the other end notices and says so.
                let _ = server.run(|_| ());
            }),
        })
    }

    fn stop(self) {
        self.stopper.stop();
        let _ = self.server.join();
    }

    /// How long it takes to bring `plan` over, by the run's own stamps.
    fn time(&self, plan: &Plan) -> Duration {
        let measured = match session::run(plan, &self.setup, &mut Silent, &self.cancel) {
            Ok(measured) => measured.run,
            Err(error) => panic!("no run, no time: {error}"),
        };
        let (true, Some(seconds)) = (measured.complete, measured.seconds) else {
            panic!("the run is incomplete: {:?}", measured.reason);
        };
        // Lossless brings all of it over. Should it not, what is missing must not count as goodput.
        let share = measured.sent.bytes as f64 / measured.received.bytes as f64;
        Duration::from_secs_f64(seconds * share)
    }
}

fn goodput(c: &mut Criterion) {
    let bench = match Bench::start() {
        Ok(bench) => bench,
        Err(error) => return println!("skipped: no server on loopback: {error}"),
    };
    let mut offloads = vec![Offload::Off];
    match offload::most_segments() {
        Ok(_) => offloads.push(Offload::On),
        Err(error) => println!("GSO skipped: this kernel has no UDP_SEGMENT: {error}"),
    }
    let mut group = c.benchmark_group("loopback goodput");
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(1_500));
    for chunk in CHUNKS {
        for &offload in &offloads {
            for batch in BATCHES {
                // A single datagram has no segments.
                if (offload, batch) != (Offload::On, Some(1)) {
                    case(&mut group, &bench, chunk, offload, batch);
                }
            }
        }
    }
    group.finish();
    bench.stop();
}

fn case(
    group: &mut BenchmarkGroup<'_, WallTime>,
    bench: &Bench,
    chunk: usize,
    offload: Offload,
    batch: Option<usize>,
) {
    let plan = Plan {
        amount: Amount::Packets(DATAGRAMS),
        mode: Mode::Lossless,
        chunk,
        engine: EngineChoice::default(),
        streams: 1,
        batch,
        offload,
        receive_buffer: None,
        interval: Duration::from_secs(1),
        packet_rows: false,
    };
    let gso = match offload {
        Offload::Off => "no GSO",
        Offload::On | Offload::Auto => "GSO",
    };
    let batch = batch.map_or("default".to_owned(), |batch| batch.to_string());
    let id = BenchmarkId::from_parameter(format!("chunk {chunk}, {gso}, batch {batch}"));
    group.throughput(Throughput::BytesDecimal(DATAGRAMS * chunk as u64));
    group.bench_function(id, |b| {
        b.iter_custom(|iterations| {
            bench.time(&Plan {
                amount: Amount::Packets(DATAGRAMS * iterations),
                ..plan.clone()
            })
        });
    });
}

criterion_group!(benches, goodput);
criterion_main!(benches);
