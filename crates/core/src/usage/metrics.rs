//! Counts in the text formats of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::histogram::Histogram;
use super::{SpendSum, TokenCounts, UsageCounts, UsageKey};

/// The bounds of the buckets as powers of two, in milliseconds, at which a histogram is exact.
const POWERS: [u32; 14] = [3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18];

/// The text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's older text format 0.0.4, in which a counter has the name of its sample, and there are no units.
    Plain,
}

impl Format {
    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Selects the format by an `Accept` header: the older one only if it is named and the newer is not.
    pub fn accepted(accept: &str) -> Self {
        let names = |media: &str| {
            let named = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
            named.into_iter().any(|range| range.eq_ignore_ascii_case(media))
        };
        match names("text/plain") && !names("application/openmetrics-text") {
            true => Format::Plain,
            false => Format::OpenMetrics,
        }
    }
}

/// A tenant's counts since its creation.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// By service and capability.
    pub rows: Vec<(UsageKey, UsageCounts)>,
    /// Tokens and spend of these rows, also by model; empty from an earlier version.
    pub models: Vec<(UsageKey, UsageCounts)>,
    /// Rejected requests, by the response's code.
    pub refused: BTreeMap<String, u64>,
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

struct Writer {
    format: Format,
    text: String,
}

impl Writer {
    fn line(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.text.write_fmt(arguments);
        self.text.push('\n');
    }

    /// The head of a metric family; `samples` writes its samples.
    fn family(&mut self, name: &str, kind: &str, help: &str, samples: impl FnOnce(&mut Self)) {
        let total = if kind == "counter" && self.format == Format::Plain { "_total" } else { "" };
        self.line(format_args!("# HELP {name}{total} {help}"));
        self.line(format_args!("# TYPE {name}{total} {kind}"));
        if kind == "histogram" && self.format == Format::OpenMetrics {
            self.line(format_args!("# UNIT {name} seconds"));
        }
        samples(self);
    }

    /// A counter: `counted` returns the counts of a row, each with further labels.
    fn counter<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: &[(UsageKey, UsageCounts)],
        label: &str,
        counted: impl Fn(&UsageCounts) -> [(&'static str, u64); N],
    ) {
        self.family(name, "counter", help, |writer| {
            for (key, counts) in rows {
                for (value, count) in counted(counts) {
                    writer.sample(name, &labels(key), label, value, count);
                }
            }
        });
    }

    fn sample(&mut self, name: &str, labels: &str, label: &str, value: &str, count: u64) {
        match (labels, label) {
            (labels, "") => self.line(format_args!("{name}_total{{{labels}}} {count}")),
            ("", label) => self.line(format_args!("{name}_total{{{label}=\"{}\"}} {count}", escaped(value))),
            _ => self.line(format_args!("{name}_total{{{labels},{label}=\"{}\"}} {count}", escaped(value))),
        }
    }

    /// A counter by code, of the codes that occurred.
    fn codes<'c>(
        &mut self,
        name: &str,
        help: &str,
        rows: &'c [(UsageKey, UsageCounts)],
        codes: impl Fn(&'c UsageCounts) -> &'c BTreeMap<String, u64>,
    ) {
        self.family(name, "counter", help, |writer| {
            for (key, counts) in rows {
                for (code, count) in codes(counts) {
                    writer.sample(name, &labels(key), "code", code, *count);
                }
            }
        });
    }

    /// What was spent, by currency, in units of it.
    fn spend(&mut self, rows: &[(UsageKey, UsageCounts)]) {
        let name = "narthex_spend";
        let help = "What contexts owe, by currency; estimated is the part that was estimated.";
        self.family(name, "counter", help, |writer| {
            for (key, counts) in rows {
                let labels = labels(key);
                for (currency, SpendSum { amount, estimated }) in &counts.spend {
                    for (part, sum) in [("all", amount), ("estimated", estimated)] {
                        let labels = format!("{labels},currency=\"{}\",part=\"{part}\"", escaped(currency));
                        writer.line(format_args!("{name}_total{{{labels}}} {sum}"));
                    }
                }
            }
        });
    }

    /// What models used, and what was spent.
    fn models(&mut self, rows: &[(UsageKey, UsageCounts)]) {
        let help = "Tokens of models: cached and cache-writing ones are parts of the input, reasoning is a part of the \
                    output.";
        let with_tokens: Vec<(UsageKey, UsageCounts)> =
            rows.iter().filter(|(_, counts)| counts.tokens != TokenCounts::default()).cloned().collect();
        self.counter("narthex_model_tokens", help, &with_tokens, "kind", |counts| {
            let TokenCounts { input, cached_input, cache_write, output, reasoning } = counts.tokens;
            [
                ("input", input),
                ("cached_input", cached_input),
                ("cache_write", cache_write),
                ("output", output),
                ("reasoning", reasoning),
            ]
        });
        self.spend(rows);
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        rows: &[(UsageKey, UsageCounts)],
        of: impl Fn(&UsageCounts) -> &Histogram,
    ) {
        self.family(name, "histogram", help, |writer| {
            for (key, counts) in rows {
                let (labels, histogram) = (labels(key), of(counts));
                for power in POWERS {
                    let most = (1 << power) - 1;
                    let (bound, count) = (seconds(most), histogram.at_most(most));
                    writer.line(format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {count}"));
                }
                let total = histogram.total();
                writer.line(format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {total}"));
                writer.line(format_args!("{name}_sum{{{labels}}} {}", seconds(histogram.sum_ms())));
                writer.line(format_args!("{name}_count{{{labels}}} {total}"));
            }
        });
    }
}

fn labels(key: &UsageKey) -> String {
    let labels = format!("service=\"{}\",capability=\"{}\"", escaped(&key.service), escaped(&key.capability));
    if key.model.is_empty() { labels } else { format!("{labels},model=\"{}\"", escaped(&key.model)) }
}

/// All counts as text.
pub fn text(totals: &Totals, format: Format) -> String {
    let rows = &totals.rows;
    let mut writer = Writer { format, text: String::new() };
    let help = "Contexts that were created.";
    writer.counter("narthex_contexts_created", help, rows, "", |counts| [("", counts.created)]);
    let help = "Contexts that have ended, by their final status.";
    writer.counter("narthex_contexts_ended", help, rows, "status", |counts| {
        [
            ("completed", counts.completed),
            ("failed", counts.failed),
            ("cancelled", counts.cancelled),
            ("timed_out", counts.timed_out),
        ]
    });
    let help = "Contexts that have ended with an error, by its code.";
    writer.codes("narthex_context_errors", help, rows, |counts| &counts.errors);
    let help = "Calls of services, by outcome.";
    writer.counter("narthex_attempts", help, rows, "outcome", |counts| {
        let good = counts.attempts.saturating_sub(counts.failed_attempts);
        [("succeeded", good), ("failed", counts.failed_attempts)]
    });
    let help = "Calls of services that ended with an error, by its code.";
    writer.codes("narthex_attempt_errors", help, rows, |counts| &counts.attempt_errors);
    writer.models(if totals.models.is_empty() { rows } else { &totals.models });
    let help = "From the start of the first attempt to the end of the context.";
    writer.histogram("narthex_context_latency_seconds", help, rows, |counts| &counts.latency);
    let help = "From the creation of a context to the start of its first attempt.";
    writer.histogram("narthex_context_queue_seconds", help, rows, |counts| &counts.queue);
    let name = "narthex_requests_refused";
    writer.family(name, "counter", "Rejected requests, by the code of the response.", |writer| {
        for (code, count) in &totals.refused {
            writer.sample(name, "", "code", code, *count);
        }
    });
    if format == Format::OpenMetrics {
        writer.text.push_str("# EOF\n");
    }
    writer.text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::money::Money;

    fn totals() -> Totals {
        let mut counts = UsageCounts { created: 3, completed: 1, failed: 1, attempts: 4, ..UsageCounts::default() };
        counts.failed_attempts = 1;
        counts.errors.insert("upstream_error".into(), 1);
        counts.attempt_errors.insert("upstream_timeout".into(), 1);
        counts.latency.count(5);
        counts.latency.count(3_000);
        let key = UsageKey { service: "a\"b".into(), capability: "chat".into(), ..UsageKey::default() };
        let of_model = UsageKey { model: "m".into(), ..key.clone() };
        let mut spent = UsageCounts { tokens: TokenCounts { input: 9, ..Default::default() }, ..Default::default() };
        spent.spend.insert("USD".into(), SpendSum { amount: Money(5_000_000), estimated: Money(0) });
        Totals {
            rows: vec![(key, counts)],
            models: vec![(of_model, spent)],
            refused: [("rate_limited".to_string(), 7)].into(),
        }
    }

    fn has(written: &str, lines: &[String]) {
        for line in lines {
            assert!(written.lines().any(|one| one == line), "{line} in\n{written}");
        }
    }

    #[test]
    fn counts_are_written_as_openmetrics() {
        let written = text(&totals(), Format::OpenMetrics);
        let labels = r#"service="a\"b",capability="chat""#;
        has(
            &written,
            &[
                "# TYPE narthex_contexts_created counter".to_string(),
                format!("narthex_contexts_created_total{{{labels}}} 3"),
                format!(r#"narthex_contexts_ended_total{{{labels},status="completed"}} 1"#),
                format!(r#"narthex_context_errors_total{{{labels},code="upstream_error"}} 1"#),
                format!(r#"narthex_attempts_total{{{labels},outcome="succeeded"}} 3"#),
                format!(r#"narthex_attempt_errors_total{{{labels},code="upstream_timeout"}} 1"#),
                "# UNIT narthex_context_latency_seconds seconds".to_string(),
                format!(r#"narthex_context_latency_seconds_bucket{{{labels},le="0.007"}} 1"#),
                format!(r#"narthex_context_latency_seconds_bucket{{{labels},le="4.095"}} 2"#),
                format!("narthex_context_latency_seconds_sum{{{labels}}} 3.005"),
                format!(r#"narthex_model_tokens_total{{{labels},model="m",kind="input"}} 9"#),
                format!(r#"narthex_spend_total{{{labels},model="m",currency="USD",part="all"}} 0.005"#),
                r#"narthex_requests_refused_total{code="rate_limited"} 7"#.to_string(),
            ],
        );
        assert!(written.ends_with("# EOF\n"));
    }

    #[test]
    fn the_older_format_names_counters_by_their_samples() {
        let written = text(&totals(), Format::Plain);
        has(&written, &["# TYPE narthex_contexts_created_total counter".to_string()]);
        assert!(!written.contains("# UNIT") && !written.contains("# EOF"));
    }

    #[test]
    fn the_older_format_is_for_clients_without_the_newer_one() {
        for (accept, format) in [
            ("", Format::OpenMetrics),
            ("*/*", Format::OpenMetrics),
            ("text/plain", Format::Plain),
            ("TEXT/plain;version=0.0.4;q=0.5, */*;q=0.1", Format::Plain),
            ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", Format::OpenMetrics),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
