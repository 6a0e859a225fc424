//! Counts as OpenMetrics 1.0 text, for Prometheus.

use std::fmt::Write as _;

use super::histogram::Histogram;
use super::{Counts, Key};

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Bounds of the buckets as powers of two, in milliseconds: there a histogram is exact.
const POWERS: [u32; 14] = [3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18];

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// A family of metrics: its head, then what `samples` writes for each key under its labels.
fn family(
    text: &mut String,
    [name, kind, unit, help]: [&str; 4],
    rows: &[(Key, Counts)],
    samples: impl Fn(&mut String, &str, &Counts),
) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "# TYPE {name} {kind}");
    if !unit.is_empty() {
        let _ = writeln!(text, "# UNIT {name} {unit}");
    }
    let _ = writeln!(text, "# HELP {name} {help}");
    for (key, counts) in rows {
        let labels = format!("service=\"{}\",capability=\"{}\"", escaped(&key.service), escaped(&key.capability));
        samples(text, &labels, counts);
    }
}

fn histogram(text: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    for power in POWERS {
        let most = (1 << power) - 1;
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{}\"}} {}", seconds(most), histogram.at_most(most));
    }
    let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", histogram.total());
    let _ = writeln!(text, "{name}_count{{{labels}}} {}", histogram.total());
    let _ = writeln!(text, "{name}_sum{{{labels}}} {}", seconds(histogram.sum_ms()));
}

/// All that was counted since the tenant began, by service and capability.
pub fn text(rows: &[(Key, Counts)]) -> String {
    let mut text = String::new();
    let head = ["narthex_contexts_created", "counter", "", "Contexts that were created."];
    family(&mut text, head, rows, |text, labels, counts| {
        let _ = writeln!(text, "narthex_contexts_created_total{{{labels}}} {}", counts.created);
    });
    let head = ["narthex_contexts_ended", "counter", "", "Contexts that have ended, by their final status."];
    family(&mut text, head, rows, |text, labels, counts| {
        for (status, count) in [
            ("completed", counts.completed),
            ("failed", counts.failed),
            ("cancelled", counts.cancelled),
            ("timed_out", counts.timed_out),
        ] {
            let _ = writeln!(text, "narthex_contexts_ended_total{{{labels},status=\"{status}\"}} {count}");
        }
    });
    let head = ["narthex_attempts", "counter", "", "Calls of services, by how they went."];
    family(&mut text, head, rows, |text, labels, counts| {
        let good = counts.attempts.saturating_sub(counts.failed_attempts);
        for (outcome, count) in [("succeeded", good), ("failed", counts.failed_attempts)] {
            let _ = writeln!(text, "narthex_attempts_total{{{labels},outcome=\"{outcome}\"}} {count}");
        }
    });
    let name = "narthex_context_latency_seconds";
    let head = [name, "histogram", "seconds", "From the first attempt's begin to the context's end."];
    family(&mut text, head, rows, |text, labels, counts| histogram(text, name, labels, &counts.latency));
    let name = "narthex_context_queue_seconds";
    let head = [name, "histogram", "seconds", "From a context's creation to its first attempt's begin."];
    family(&mut text, head, rows, |text, labels, counts| histogram(text, name, labels, &counts.queue));
    text.push_str("# EOF\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_as_openmetrics() {
        let mut counts = Counts { created: 3, completed: 2, attempts: 4, failed_attempts: 1, ..Counts::default() };
        counts.latency.count(5);
        counts.latency.count(3_000);
        let key = Key { service: "a\"b".into(), capability: "chat".into(), ..Key::default() };
        let written = text(&[(key, counts)]);
        let labels = r#"service="a\"b",capability="chat""#;
        for line in [
            "# TYPE narthex_contexts_created counter".to_string(),
            format!("narthex_contexts_created_total{{{labels}}} 3"),
            format!(r#"narthex_contexts_ended_total{{{labels},status="completed"}} 2"#),
            format!(r#"narthex_attempts_total{{{labels},outcome="succeeded"}} 3"#),
            format!(r#"narthex_context_latency_seconds_bucket{{{labels},le="0.007"}} 1"#),
            format!(r#"narthex_context_latency_seconds_bucket{{{labels},le="4.095"}} 2"#),
            format!("narthex_context_latency_seconds_sum{{{labels}}} 3.005"),
        ] {
            assert!(written.lines().any(|one| one == line), "{line} in\n{written}");
        }
        assert!(written.ends_with("# EOF\n"));
    }
}
