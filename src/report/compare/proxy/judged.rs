//! The judged figures of a proxy setting, and the sentences that qualify them.

use super::limited_by_load;
use crate::load::result::BUSY;
use crate::report::compare::setting::{Compared, Judged};
use crate::report::figures::times;
use crate::report::model::proxy::ComparedSetting;
use crate::stats::ratio::{Interval, Ratio, Verdict};
use crate::units::grouped;

impl Compared for ComparedSetting {
    fn name(&self) -> &str {
        &self.setting
    }

    /// The direct path is a control: it has no proxy in it.
    fn judged(&self) -> Vec<Judged> {
        if self.path == "direct" {
            return Vec::new();
        }
        let ratios = self.ratios.unwrap_or_default();
        let interval = |ratio: Option<Ratio>| ratio?.interval;
        let mut judged = vec![Judged::speed(self.rate_name(), interval(ratios.rate))];
        if !self.is_bulk() {
            let longer = interval(ratios.latency_p99_ns);
            judged.push(Judged::speed("99 % latency", longer.map(Interval::inverse)));
        }
        judged.push(Judged {
            worse: "less reliable",
            figure: "correctly answered requests",
            interval: interval(ratios.answered),
        });
        judged
    }

    fn new_fault(&self, base: &Self) -> Option<String> {
        let kinds = self.more_errors(base);
        (base.errors.total == 0 && self.errors.total > 0).then(|| {
            let kinds: Vec<_> = kinds
                .map(|(kind, count, _)| format!("{kind} {}", grouped(count)))
                .collect();
            format!(
                "{} has errors, {} has none: {}",
                self.setting,
                base.setting,
                kinds.join(", ")
            )
        })
    }

    fn is_slower_control(&self) -> bool {
        let ratios = self.ratios.filter(|_| self.path == "direct");
        ratios.is_some_and(|of| {
            let is = |ratio: Option<Ratio>, verdict| ratio.is_some_and(|of| of.verdict == verdict);
            is(of.rate, Verdict::Lower) || is(of.latency_p99_ns, Verdict::Higher)
        })
    }

    fn notes(&self, base: &Self) -> Vec<String> {
        [
            self.changed_without_a_proxy(),
            self.failed_more(base),
            self.limited_by_the_load(base),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl ComparedSetting {
    /// Name of the rate.
    fn rate_name(&self) -> &'static str {
        match self.is_bulk() {
            true => "bytes/s",
            false => "requests/s",
        }
    }

    /// Started requests.
    fn started(&self) -> u64 {
        self.requests.saturating_add(self.errors.total)
    }

    /// Error kinds with a larger share of the requests than in `base`: name, count here and count in `base`.
    fn more_errors(&self, base: &Self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        let (started, before) = (u128::from(self.started()), u128::from(base.started()));
        let kinds = self.errors.kinds().zip(base.errors.kinds());
        let both = kinds.map(|((kind, count), (_, was))| (kind, count, was));
        // Without started requests in `base`, the share there is 0.
        both.filter(move |&(_, count, was)| {
            count > 0 && (was == 0 || u128::from(count) * before > u128::from(was) * started)
        })
    }

    fn failed_more(&self, base: &Self) -> Option<String> {
        let kinds: Vec<String> = self
            .more_errors(base)
            .map(|(kind, count, was)| format!("{kind} {} (was {})", grouped(count), grouped(was)))
            .collect();
        (!kinds.is_empty()).then(|| {
            format!(
                "{} has more errors: {}; of {} {} (was {})",
                self.shared_name(),
                kinds.join(", "),
                grouped(self.started()),
                if self.is_bulk() {
                    "streams"
                } else {
                    "requests"
                },
                grouped(base.started())
            )
        })
    }

    fn changed_without_a_proxy(&self) -> Option<String> {
        let ratios = self.ratios.filter(|_| self.path == "direct")?;
        let figures = [
            (self.rate_name(), ratios.rate),
            ("99 % latency", ratios.latency_p99_ns),
        ];
        let changed: Vec<String> = figures
            .into_iter()
            .filter_map(|(name, ratio)| {
                let ratio = ratio?;
                let Interval { low, high } = ratio.interval?;
                let is_shown = ratio.verdict != Verdict::NoDifferenceShown;
                is_shown.then(|| {
                    format!(
                        "{name} {} times the base's (95 % interval {} to {})",
                        times(ratio.ratio),
                        times(low),
                        times(high)
                    )
                })
            })
            .collect();
        (!changed.is_empty()).then(|| {
            format!(
                "{} has no proxy in it and differs, {}: the machine, the server or the load generator changed, which affects the ratios of \
                 the other paths too",
                self.shared_name(),
                changed.join(", ")
            )
        })
    }

    fn limited_by_the_load(&self, base: &Self) -> Option<String> {
        let busiest = [base, self]
            .into_iter()
            .filter_map(|setting| Some((setting.load_busy?.median, setting)))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let (busy, setting) = busiest.filter(|(busy, _)| *busy >= BUSY)?;
        Some(limited_by_load(&setting.setting, busy))
    }

    /// The setting's name without the record that it is of.
    pub(in crate::report) fn shared_name(&self) -> &str {
        let mut records = [", base", ", new"].into_iter();
        let stripped = records.find_map(|record| self.setting.strip_suffix(record));
        stripped.unwrap_or(&self.setting)
    }
}
