//! The comparison matrix: every combination of options with several values.

use super::round_trip::Load;
use super::traffic::{Chunk, draw_seed};
use crate::cli::args::Udp;
use crate::cli::error::CliError;
use crate::cli::list::List;
use crate::engine::{EngineChoice, EngineKind, UringReceive, UringSettings, ZeroCopy};
use crate::udp::plan::SpinChoice;
use crate::udp::plan::traffic::{Ecn, TrafficOptions};
use crate::udp::plan::{Df, Offload};

/// Most settings of a comparison. More do not fit a screen, and each has a server and histograms.
const MAX_SETTINGS: usize = 64;

/// One value of each option that takes a list.
#[derive(Debug, Clone)]
pub(super) struct Combination {
    pub(super) engine: EngineChoice,
    pub(super) chunk: Chunk,
    pub(super) batch: Option<usize>,
    pub(super) offload: Offload,
    pub(super) df: Df,
    pub(super) spin: SpinChoice,
    pub(super) streams: usize,
    pub(super) send_buffer: Option<usize>,
    pub(super) receive_buffer: Option<usize>,
    pub(super) rate: Option<f64>,
    pub(super) pps: Option<f64>,
    pub(super) traffic: TrafficOptions,
    /// The stream beside round trips; `None` on an idle path.
    pub(super) load: Option<Load>,
}

impl Combination {
    /// All combinations, in the order of the given values; the last option varies fastest.
    pub(super) fn all(args: &Udp) -> Result<Vec<Self>, CliError> {
        require_uring(args)?;
        // Fields without an `Option` have defaults in clap.
        let mut all = Matrix(vec![Self {
            engine: EngineChoice::default(),
            chunk: Chunk::Bytes(0),
            batch: None,
            offload: Offload::Auto,
            df: Df::Auto,
            spin: SpinChoice::Auto,
            streams: 0,
            send_buffer: None,
            receive_buffer: None,
            rate: None,
            pps: None,
            traffic: TrafficOptions::default(),
            load: None,
        }]);
        all.vary(Some(&args.engine), |to, engine| {
            to.engine.kind = engine.into()
        })?;
        all.vary(Some(&args.zerocopy), |to, zerocopy| {
            to.engine.zerocopy = ZeroCopy::from(zerocopy);
        })?;
        all.vary_uring(args.uring_recv.as_ref(), |uring, receive| {
            uring.receive = UringReceive::from(receive);
        })?;
        all.vary_uring(args.uring_ring_size.as_ref(), |uring, size| {
            uring.ring_size = Some(size);
        })?;
        all.vary(Some(&args.chunk), |to, chunk| to.chunk = chunk)?;
        all.vary(args.batch.as_ref(), |to, batch| to.batch = Some(batch))?;
        all.vary(Some(&args.gso), |to, gso| to.offload = gso.into())?;
        all.vary(Some(&args.df), |to, df| to.df = df.into())?;
        all.vary(Some(&args.spin), |to, spin| to.spin = spin.into())?;
        all.vary(Some(&args.streams), |to, streams| to.streams = streams)?;
        all.vary(args.sndbuf.as_ref(), |to, size| to.send_buffer = Some(size))?;
        all.vary(args.rcvbuf.as_ref(), |to, size| {
            to.receive_buffer = Some(size);
        })?;
        all.vary(args.rate.as_ref(), |to, rate| to.rate = Some(rate))?;
        all.vary(args.pps.as_ref(), |to, pps| to.pps = Some(pps))?;
        let traffic = &args.traffic;
        if traffic.is_seed_unused() {
            return Err(CliError::Usage(
                "--seed has no effect on equal gaps; add --gap poisson or leave it out".to_owned(),
            ));
        }
        let drawn = draw_seed();
        all.vary(traffic.burst.as_ref(), |to, burst| {
            to.traffic.schedule.burst = burst;
        })?;
        all.vary(traffic.gap.as_ref(), |to, gap| {
            to.traffic.schedule.gap = traffic.gap(gap, drawn);
        })?;
        all.vary(traffic.dscp.as_ref(), |to, dscp| {
            to.traffic.ip.dscp = Some(dscp);
        })?;
        all.vary(traffic.ecn.as_ref(), |to, ecn| {
            to.traffic.ip.ecn = Some(Ecn::from(ecn));
        })?;
        if let Some(load) = args.round_trip.under_load {
            let loads = [None, Some(load)];
            let both = |one: Self| {
                loads.map(|load| Self {
                    load,
                    ..one.clone()
                })
            };
            all.0 = all.0.into_iter().flat_map(both).collect();
            Matrix::check_count(all.0.len())?;
        }
        for one in &mut all.0 {
            one.engine.uring.sqpoll = args.uring_sqpoll && one.is_uring();
            one.traffic.ip.ttl = traffic.ttl;
            one.traffic.group = traffic.multicast;
        }
        Ok(all.0)
    }

    fn is_uring(&self) -> bool {
        self.engine.kind == EngineKind::Uring
    }
}

/// The combinations of the options applied so far.
struct Matrix(Vec<Combination>);

impl Matrix {
    /// Combines each with every value.
    fn vary<T: Clone>(
        &mut self,
        values: Option<&List<T>>,
        set: impl Fn(&mut Combination, T),
    ) -> Result<(), CliError> {
        self.vary_where(|_| true, values, set)
    }

    /// As [`Self::vary`], for combinations on io_uring only.
    fn vary_uring<T: Clone>(
        &mut self,
        values: Option<&List<T>>,
        set: impl Fn(&mut UringSettings, T),
    ) -> Result<(), CliError> {
        self.vary_where(Combination::is_uring, values, |to, value| {
            set(&mut to.engine.uring, value);
        })
    }

    fn vary_where<T: Clone>(
        &mut self,
        applies: impl Fn(&Combination) -> bool,
        values: Option<&List<T>>,
        set: impl Fn(&mut Combination, T),
    ) -> Result<(), CliError> {
        let Some(values) = values else {
            return Ok(());
        };
        let mut varied = Vec::new();
        for one in self.0.drain(..) {
            if !applies(&one) {
                varied.push(one);
                continue;
            }
            varied.extend(values.iter().map(|value| {
                let mut with = one.clone();
                set(&mut with, value.clone());
                with
            }));
            Self::check_count(varied.len())?;
        }
        self.0 = varied;
        Ok(())
    }

    fn check_count(count: usize) -> Result<(), CliError> {
        if count <= MAX_SETTINGS {
            return Ok(());
        }
        Err(CliError::Usage(format!(
            "these lists make more than {MAX_SETTINGS} combinations; leave out some values"
        )))
    }
}

/// Rejects io_uring options if no engine is io_uring.
fn require_uring(args: &Udp) -> Result<(), CliError> {
    let asked = [
        ("--uring-sqpoll", args.uring_sqpoll),
        ("--uring-ring-size", args.uring_ring_size.is_some()),
        ("--uring-recv", args.uring_recv.is_some()),
    ];
    let is_there = args
        .engine
        .iter()
        .any(|&engine| EngineKind::from(engine) == EngineKind::Uring);
    match asked.iter().find(|(_, asked)| *asked) {
        Some((option, _)) if !is_there => {
            Err(CliError::Usage(format!("{option} needs --engine uring")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Bench, Command};
    use clap::Parser;

    fn all(options: &str) -> Result<Vec<Combination>, CliError> {
        let words = ["bench", "udp"]
            .into_iter()
            .chain(options.split_whitespace());
        match Bench::try_parse_from(words).unwrap().command {
            Command::Udp(args) => Combination::all(&args),
            _ => unreachable!("it is bench udp"),
        }
    }

    #[test]
    fn combinations_are_complete_and_ordered() {
        let found = all("--batch 64,1 --gso off,auto --engine uring,mio").unwrap();
        let combinations: Vec<_> = found
            .iter()
            .map(|one| {
                (
                    one.engine.kind.name(),
                    one.batch.unwrap_or(0),
                    one.offload.name(),
                )
            })
            .collect();
        assert_eq!(
            combinations,
            [
                ("uring", 64, "off"),
                ("uring", 64, "auto"),
                ("uring", 1, "off"),
                ("uring", 1, "auto"),
                ("mio", 64, "off"),
                ("mio", 64, "auto"),
                ("mio", 1, "off"),
                ("mio", 1, "auto"),
            ]
        );
        assert_eq!(all("").unwrap().len(), 1);
    }

    #[test]
    fn uring_options_vary_only_on_uring() {
        let found = all(
            "--engine mio,uring --uring-recv single,multishot --uring-ring-size 64 --uring-sqpoll",
        )
        .unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].engine, EngineChoice::default());
        for (one, receive) in found[1..].iter().zip(["single", "multishot"]) {
            let uring = one.engine.uring;
            assert_eq!(
                (uring.receive.name(), uring.ring_size, uring.sqpoll),
                (receive, Some(64), true)
            );
        }
    }

    #[test]
    fn too_many_combinations_are_rejected_early() {
        let list: Vec<_> = (1..=1_000).map(|value: u32| value.to_string()).collect();
        let list = list.join(",");
        for options in [
            format!("--batch {list} --chunk {list} --streams {list}"),
            "--batch 1,2,3,4,5 --chunk 1,2,3,4,5 --streams 1,2,3".to_owned(),
        ] {
            assert!(matches!(all(&options), Err(CliError::Usage(_))));
        }
        assert_eq!(
            all("--batch 2,3,4,5 --chunk 1,2,3,4 --gso on,off --streams 1,2")
                .unwrap()
                .len(),
            64
        );
    }
}
