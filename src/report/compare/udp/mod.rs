//! Comparison of runs of `bench udp`.

mod settings;

use super::group::{Comparable, Figure, Group, Pairing, against, group_by};
use super::setting::{Compared, Judged};
use crate::report::model::Distributed;
use crate::report::model::udp::{ComparedSetting, Ratios};
use crate::stats::latency::{Latency, Summary};
use crate::stats::ratio::{Interval, Ratio};
use crate::udp::result::{Measured, Run};
use crate::udp::stages::NO_OFFLOAD;

pub use settings::Settings;

const KB_PER_S: Figure<Run> = |run| run.kb_per_s;
const PACKETS_PER_S: Figure<Run> = |run| run.packets_per_s;
const SENDER_CPU: Figure<Run> = |run| run.cpu.sender_s_per_million;
const RECEIVER_CPU: Figure<Run> = |run| run.cpu.receiver_s_per_million;
const CPU: Figure<Run> = |run| Some(SENDER_CPU(run)? + RECEIVER_CPU(run)?);
const P50: Figure<Run> = |run| compared_latency(run)?.p50.map(|ns| ns as f64);
const P99: Figure<Run> = |run| compared_latency(run)?.p99.map(|ns| ns as f64);

/// The latency that settings are compared by: on a schedule, from the intended send, which includes the sender's stalls.
pub fn compared_latency(run: &Run) -> Option<Summary> {
    match run.is_from_intended() {
        true => run.latency_from_intended_ns,
        false => run.latency_ns,
    }
}

/// The cost of `--explain` in these runs, which have stages.
pub fn explain_cost<'a>(runs: impl IntoIterator<Item = &'a Run>) -> String {
    let is_off = |run: &Run| run.effective.offload_note.as_deref() == Some(NO_OFFLOAD);
    let offload = match runs.into_iter().any(is_off) {
        true => ", and turn GSO and GRO off (--gso on keeps them)",
        false => "",
    };
    format!(
        "the kernel's stamps of --explain add to the CPU time and the latency of each stamped datagram{offload}"
    )
}

/// Merged latencies of the complete runs of each setting. Percentiles cannot be averaged.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<(Option<String>, Latency)>);

impl Latencies {
    /// Adds a run.
    pub fn add(&mut self, measured: &Measured) {
        let run = &measured.run;
        if !run.complete {
            return;
        }
        let latency = match run.is_from_intended() {
            true => &measured.latency_from_intended,
            false => &measured.latency,
        };
        match self.0.iter_mut().find(|(of, _)| *of == run.setting) {
            Some((_, merged)) => merged.merge(latency),
            None => self.0.push((run.setting.clone(), latency.clone())),
        }
    }

    fn percentile(&self, setting: Option<&str>, percent: f64) -> Option<u64> {
        let mut all = self.0.iter();
        let (_, latency) = all.find(|(of, _)| of.as_deref() == setting)?;
        latency.percentile(percent)
    }
}

/// Compares the settings among `runs` of one command with the first of them. `latencies` has the same runs.
pub fn within_command(runs: &[Run], latencies: &Latencies) -> Vec<ComparedSetting> {
    let groups = group_by(runs, Run::settings);
    let Some((_, base)) = groups.first() else {
        return Vec::new();
    };
    let base_name = setting(base).unwrap_or_default();
    let compared = groups.iter().enumerate().map(|(number, (_, group))| {
        let setting = setting(group);
        let name = setting.unwrap_or_default().to_owned();
        let compared = match number {
            0 => Run::figures(name, group),
            _ => against((name, group), (base_name, base), Pairing::Rounds),
        };
        ComparedSetting {
            latency_p50_ns: latencies.percentile(setting, 50.0),
            latency_p99_ns: latencies.percentile(setting, 99.0),
            ..compared
        }
    });
    compared.collect()
}

fn setting<'a>(group: &Group<'a, Run>) -> Option<&'a str> {
    group.runs.first()?.setting.as_deref()
}

impl Comparable for Run {
    type Settings = Settings;
    type Compared = ComparedSetting;

    fn settings(&self) -> Settings {
        Settings::of(self)
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn is_as_much_as(&self, other: &Self) -> bool {
        let amount = |run: &Self| {
            let asked = &run.requested;
            (asked.bytes, asked.packets, asked.duration_s)
        };
        amount(self) == amount(other)
    }

    fn caveats(base: &[Self], new: &[Self]) -> Vec<String> {
        let explained = |runs: &'_ [Self]| -> Vec<Self> {
            let explained = runs.iter().filter(|run| run.stages.is_some());
            explained.cloned().collect()
        };
        let (of_base, of_new) = (explained(base), explained(new));
        let which = match (of_base.len() == base.len(), of_new.len() == new.len()) {
            _ if of_base.is_empty() && of_new.is_empty() => return Vec::new(),
            (true, true) => "",
            _ => "; some of the compared runs have none",
        };
        let cost = explain_cost(of_base.iter().chain(&of_new));
        vec![format!("{cost}{which}")]
    }

    fn figures(name: String, group: &Group<'_, Self>) -> ComparedSetting {
        let first = group.runs.first().copied();
        let median = |figure| group.spread(figure).map(|spread| spread.median as u64);
        let runs = group.complete().count();
        ComparedSetting {
            setting: name,
            base: None,
            engine: first.map(|run| run.engine.clone()).unwrap_or_default(),
            mode: first.map(|run| run.mode.clone()).unwrap_or_default(),
            requested: first.map(|run| run.requested.clone()).unwrap_or_default(),
            runs,
            incomplete: group.runs.len() - runs,
            kb_per_s: group.spread(KB_PER_S),
            packets_per_s: group.spread(PACKETS_PER_S),
            cpu_s_per_million: group.spread(CPU),
            sender_s_per_million: group.spread(SENDER_CPU),
            receiver_s_per_million: group.spread(RECEIVER_CPU),
            latency_p50_ns: median(P50),
            latency_p99_ns: median(P99),
            sent_packets: group.total(|run| run.sent.packets),
            lost_packets: group.total(|run| run.lost.packets),
            ratios: None,
        }
    }

    fn add_ratios(
        compared: &mut ComparedSetting,
        base: &str,
        ratio: &dyn Fn(Figure<Self>) -> Option<Ratio>,
    ) {
        compared.base = Some(base.to_owned());
        compared.ratios = Some(Ratios {
            kb_per_s: ratio(KB_PER_S),
            packets_per_s: ratio(PACKETS_PER_S),
            cpu_s_per_million: ratio(CPU),
            latency_p99_ns: ratio(P99),
        });
    }
}

impl Compared for ComparedSetting {
    fn name(&self) -> &str {
        &self.setting
    }

    /// Goodput; when paced, the 99 % latency from the intended send, as the schedule determines the goodput; the 99 % round trip.
    fn judged(&self) -> Vec<Judged> {
        let ratios = self.ratios.unwrap_or_default();
        let interval = |ratio: Option<Ratio>| ratio?.interval;
        vec![match self.mode.as_str() {
            "paced" | "round-trip" => {
                let longer = interval(ratios.latency_p99_ns);
                Judged::speed("99 % latency", longer.map(Interval::inverse))
            }
            _ => Judged::speed("KB/s", interval(ratios.kb_per_s)),
        }]
    }
}

#[cfg(test)]
pub(in crate::report) mod tests;
