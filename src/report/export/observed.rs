//! Tables beside the figures of compared or repeated runs: the losses by cause, the marks of the datagrams and the stages of the
//! latency, of all runs of a setting together.

use super::headline::Table;
use super::losses;
use crate::report::compare::udp::explain_cost;
use crate::report::figures::percent;
use crate::stats::latency::Summary;
use crate::stats::spread::Spread;
use crate::udp::result::Run;
use crate::units::{grouped, short_ns};

/// The observations of a setting as texts, each list empty without the option.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    /// The name; empty if the runs are no comparison.
    pub(super) setting: String,
    /// Losses by cause, summed.
    pub(super) causes: Vec<String>,
    /// Datagrams by mark, summed.
    pub(super) marks: Vec<String>,
    /// The median of the runs' median and 99 % time in each stage.
    pub(super) stages: Vec<String>,
}

/// The observations of each setting, over its complete runs. Empty if there are none.
pub(super) fn observed(runs: &[Run]) -> Vec<Observed> {
    let mut settings: Vec<&Option<String>> = Vec::new();
    for run in runs {
        if !settings.contains(&&run.setting) {
            settings.push(&run.setting);
        }
    }
    let all = settings.into_iter().map(|setting| {
        let runs = runs.iter().filter(|run| run.setting == *setting);
        let runs: Vec<&Run> = runs.filter(|run| run.complete).collect();
        Observed {
            setting: setting.clone().unwrap_or_default(),
            causes: causes(&runs),
            marks: marks(&runs),
            stages: stages(&runs),
        }
    });
    all.filter(|of| !(of.causes.is_empty() && of.marks.is_empty() && of.stages.is_empty()))
        .collect()
}

fn causes(runs: &[&Run]) -> Vec<String> {
    let all: Vec<_> = runs
        .iter()
        .filter_map(|run| run.explained.as_ref())
        .collect();
    let mut sums: Vec<(&str, u64, bool)> = Vec::new();
    let mut add = |name, datagrams: u64, estimated| match sums.iter_mut().find(|of| of.0 == name) {
        Some((_, sum, about)) => {
            *sum = sum.saturating_add(datagrams);
            *about |= estimated;
        }
        None => sums.push((name, datagrams, estimated)),
    };
    for explained in &all {
        for cause in &explained.causes {
            add(losses::name(cause), cause.datagrams, cause.estimated);
        }
    }
    for explained in &all {
        add("on the way between", explained.between.unwrap_or(0), false);
        add("unexplained", explained.unexplained.unwrap_or(0), false);
    }
    let lost = sums.into_iter().filter(|(_, sum, _)| *sum > 0);
    let mut texts: Vec<String> = lost
        .map(|(name, sum, estimated)| {
            let about = if estimated { "about " } else { "" };
            format!("{name} {about}{}", grouped(sum))
        })
        .collect();
    if texts.is_empty() && !all.is_empty() {
        texts.push("nothing was lost".to_owned());
    }
    texts
}

fn marks(runs: &[&Run]) -> Vec<String> {
    let marked: Vec<_> = runs
        .iter()
        .filter_map(|run| Some((run.marks.as_ref()?, run.received.packets)))
        .collect();
    if marked.is_empty() {
        return Vec::new();
    }
    let mut sums = [0u64; 5];
    let mut received = 0u64;
    for (marks, packets) in marked {
        let fields = [
            marks.ce,
            marks.ect0,
            marks.ect1,
            marks.not_ect,
            marks.dscp_changed,
        ];
        for (sum, field) in sums.iter_mut().zip(fields) {
            *sum = sum.saturating_add(field);
        }
        received = received.saturating_add(packets);
    }
    let names = ["CE", "ECT(0)", "ECT(1)", "Not-ECT", "DSCP changed"];
    let named = names.into_iter().zip(sums);
    named
        // CE is the mark that users look for, even if there is none.
        .filter(|(name, sum)| *sum > 0 || *name == "CE")
        .map(|(name, sum)| match sum {
            0 => format!("{name} 0"),
            _ => format!("{name} {} ({})", grouped(sum), percent(sum, received)),
        })
        .collect()
}

fn stages(runs: &[&Run]) -> Vec<String> {
    let all: Vec<_> = runs.iter().filter_map(|run| run.stages.as_ref()).collect();
    let Some(first) = all.first() else {
        return Vec::new();
    };
    let names = first.all().map(|(name, _)| name);
    let known = names.into_iter().enumerate().filter_map(|(at, name)| {
        let summaries = || {
            all.iter()
                .filter_map(|stages| stages.all()[at].1.latency_ns)
        };
        let median = |of: fn(&Summary) -> Option<u64>| {
            let values = summaries().filter_map(|summary| of(&summary));
            let spread = Spread::of(values.map(|ns| ns as f64))?;
            Some(short_ns(spread.median))
        };
        let (p50, p99) = (median(|of| of.p50)?, median(|of| of.p99)?);
        Some(format!("{name} {p50} (99 % {p99})"))
    });
    known.collect()
}

/// The observations as a table with a row for each setting.
pub(super) fn table(runs: &[Run]) -> Table {
    let rows = observed(runs).into_iter().map(|of| {
        let lists = [of.causes, of.marks, of.stages].map(|list| list.join(", "));
        [of.setting].into_iter().chain(lists).collect()
    });
    Table {
        titles: vec!["setting", "lost", "marks", "stages, median"],
        is_number: vec![false; 4],
        rows: rows.collect(),
    }
}

/// The cost of the options of the runs, a sentence each.
pub(super) fn notes(runs: &[Run]) -> Vec<String> {
    let explained: Vec<&Run> = runs.iter().filter(|run| run.stages.is_some()).collect();
    let cost = (!explained.is_empty()).then(|| explain_cost(explained));
    cost.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::udp as sample;

    #[test]
    fn runs_of_a_setting_are_added_up_and_others_are_apart() {
        let named = |setting: &str| Run {
            setting: Some(setting.to_owned()),
            ..sample::measured().run
        };
        let plain = Run {
            explained: None,
            marks: None,
            stages: None,
            ..named("plain")
        };
        let failed = Run {
            complete: false,
            ..named("forward")
        };
        let runs = [named("forward"), plain, named("forward"), failed];
        let found = observed(&runs);
        let [forward] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(
            forward.causes,
            [
                "sender's firewall 4",
                "receiver's socket full 10",
                "on the way between 6"
            ]
        );
        assert_eq!(forward.stages[0], "sender 500 us (99 % 990 us)");
        assert_eq!(forward.stages.len(), 4);
        assert!(forward.marks[0].starts_with("CE "), "{forward:?}");
        assert_eq!(table(&runs).rows.len(), 1);
        assert_eq!(notes(&runs).len(), 1);
        assert_eq!(notes(&runs[1..2]).len(), 0);
    }

    #[test]
    fn an_explained_setting_without_losses_has_a_text() {
        let mut run = sample::measured().run;
        if let Some(explained) = &mut run.explained {
            explained.causes.clear();
            explained.between = Some(0);
        }
        assert_eq!(observed(&[run])[0].causes, ["nothing was lost"]);
    }
}
