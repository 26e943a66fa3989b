//! The text formats of metrics: that of Prometheus, version 0.0.4, and OpenMetrics 1.0. Pure.
//!
//! Sources: <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>.

use std::fmt::{Display, Write};

/// The media type of a page in the format of Prometheus.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Units that a name may end in, before `_total`.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its name ends in `_total`.
    Counter,
    /// Any number.
    Gauge,
    /// Quantiles, sum and count.
    Summary,
    /// Labels of a value that is always 1; its name ends in `_info`.
    Info,
}

/// The metrics of one source. Their names begin with a common prefix.
#[derive(Debug)]
pub struct Page {
    format: Format,
    prefix: &'static str,
    text: String,
}

/// A metric with its help and type, to which samples are added.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    prefix: &'static str,
    name: &'a str,
}

// Writing to a String cannot fail.
impl Page {
    /// An empty page.
    pub fn new(format: Format, prefix: &'static str) -> Self {
        Self {
            format,
            prefix,
            text: String::new(),
        }
    }

    /// Begins the metric `name`, which ends as `kind` requires.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let (text, prefix) = (&mut self.text, self.prefix);
        let suffix = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => "_total",
            (Format::OpenMetrics, Kind::Info) => "_info",
            _ => "",
        };
        let family = name.strip_suffix(suffix).unwrap_or(name);
        let kind = match (self.format, kind) {
            (_, Kind::Counter) => "counter",
            (Format::Prometheus, Kind::Info) | (_, Kind::Gauge) => "gauge",
            (_, Kind::Summary) => "summary",
            (Format::OpenMetrics, Kind::Info) => "info",
        };
        let help = match self.format {
            Format::Prometheus => help.replace('\\', "\\\\").replace('\n', "\\n"),
            Format::OpenMetrics => escaped(help),
        };
        let _ = writeln!(text, "# HELP {prefix}{family} {help}");
        let _ = writeln!(text, "# TYPE {prefix}{family} {kind}");
        let unit = UNITS.iter().find(|unit| {
            let rest = family.strip_suffix(*unit);
            rest.is_some_and(|rest| rest.ends_with('_') && !rest.ends_with("_per_"))
        });
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            let _ = writeln!(text, "# UNIT {prefix}{family} {unit}");
        }
        Family { text, prefix, name }
    }

    /// The text.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

impl Family<'_> {
    /// Adds a sample without labels.
    pub fn value(&mut self, value: impl Display) {
        self.sample("", [], value);
    }

    /// Adds a sample with a label.
    pub fn labelled(&mut self, label: &str, text: &str, value: impl Display) -> &mut Self {
        self.sample("", [(label, text)], value)
    }

    /// Adds a sample of the metric's name with `suffix`.
    pub fn sample<'a>(
        &mut self,
        suffix: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        value: impl Display,
    ) -> &mut Self {
        let _ = write!(self.text, "{}{}{suffix}", self.prefix, self.name);
        let mut separator = '{';
        for (label, text) in labels {
            let _ = write!(self.text, "{separator}{label}=\"{}\"", escaped(text));
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
        self
    }
}

/// Escapes the three special characters of a label's value.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(format: Format) -> String {
        let mut page = Page::new(format, "a_");
        page.family("sent_bytes_total", Kind::Counter, "Bytes\\ \"sent\".")
            .labelled("to", "a\"b\\c\nd", 3);
        page.family("rate_bytes_per_second", Kind::Gauge, "Rate.")
            .value(1.5);
        page.family("delay_seconds", Kind::Summary, "Delay.")
            .sample("", [("x", "1"), ("quantile", "0.5")], 2)
            .sample("_count", [("x", "1")], 4);
        page.family("build_info", Kind::Info, "Build.")
            .labelled("version", "1", 1);
        page.finish()
    }

    #[test]
    fn both_formats_have_equal_samples_and_their_own_metadata() {
        let samples = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let (prometheus, open) = (page(Format::Prometheus), page(Format::OpenMetrics));
        assert_eq!(samples(&prometheus), samples(&open));
        assert_eq!(
            samples(&open),
            [
                "a_sent_bytes_total{to=\"a\\\"b\\\\c\\nd\"} 3",
                "a_rate_bytes_per_second 1.5",
                "a_delay_seconds{x=\"1\",quantile=\"0.5\"} 2",
                "a_delay_seconds_count{x=\"1\"} 4",
                "a_build_info{version=\"1\"} 1",
            ]
        );
        assert!(prometheus.starts_with(
            "# HELP a_sent_bytes_total Bytes\\\\ \"sent\".\n# TYPE a_sent_bytes_total counter\n"
        ));
        assert!(prometheus.contains("# TYPE a_build_info gauge\n"));
        assert!(open.starts_with(
            "# HELP a_sent_bytes Bytes\\\\ \\\"sent\\\".\n# TYPE a_sent_bytes counter\n# UNIT a_sent_bytes bytes\n"
        ));
        assert!(open.contains("# TYPE a_build info\n"));
        assert!(open.contains("# UNIT a_delay_seconds seconds\n"));
        assert_eq!(open.matches("# UNIT").count(), 2);
        assert!(open.ends_with("\n# EOF\n"));
    }
}
