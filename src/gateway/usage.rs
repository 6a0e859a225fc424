//! `/v1/usage` and `/metrics`: contexts by outcome, their latency and their cost.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::auth;
use crate::objects::events::messages::{Events, ReadTotals, UsageGroups, UsageQuery, UsageTotals};
use crate::objects::protocol;
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::clock;
use narthex_core::base::json::Fault;
use narthex_core::base::time::{Timestamp, as_optional_text};
use narthex_core::http::problem::Problem;
use narthex_core::models::money::Money;
use narthex_core::usage::histogram::Histogram;
use narthex_core::usage::metrics::{Format, Totals};
use narthex_core::usage::{HOUR_MS, SpendSum, TokenCounts, UsageCounts, UsageKey, metrics};

use super::answer::{Answer, internal};
use super::call::{Call, Caller};
use super::lists::{page, time};
use super::refusals;

/// What counts can be grouped by.
const GROUPS: [&str; 5] = ["service", "capability", "principal", "role", "model"];
const DAY_MS: u64 = 24 * HOUR_MS;
/// The longest span, in milliseconds: that of the stored data.
const MAX_MS: u64 = 92 * DAY_MS;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct View<'a> {
    service: Option<&'a str>,
    capability: Option<&'a str>,
    principal: Option<&'a str>,
    /// Its current name.
    principal_name: Option<String>,
    role: Option<&'a str>,
    model: Option<&'a str>,
    #[serde(serialize_with = "as_optional_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    from: Option<Timestamp>,
    created: u64,
    completed: u64,
    failed: u64,
    cancelled: u64,
    timed_out: u64,
    attempts: u64,
    failed_attempts: u64,
    errors: &'a BTreeMap<String, u64>,
    latency_ms: Spread,
    queue_ms: Spread,
    cost: Cost,
    /// `None`: an earlier version counted this, without tokens.
    tokens: Option<TokenCounts>,
    /// What contexts owe, by currency; `None` as for `tokens`.
    spend: Option<Vec<Spend<'a>>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Spend<'a> {
    amount: Money,
    currency: &'a str,
    /// The part of the amount that is estimated.
    estimated: Money,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Spread {
    mean: Option<u64>,
    p50: Option<u64>,
    p90: Option<u64>,
    p95: Option<u64>,
    p99: Option<u64>,
}

impl From<&Histogram> for Spread {
    fn from(histogram: &Histogram) -> Self {
        Self {
            mean: histogram.sum_ms().checked_div(histogram.total()),
            p50: histogram.percentile(50),
            p90: histogram.percentile(90),
            p95: histogram.percentile(95),
            p99: histogram.percentile(99),
        }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Cost {
    rows_written: u64,
    object_requests: u64,
    usd: f64,
}

fn spend<'a>((currency, sum): (&'a String, &SpendSum)) -> Spend<'a> {
    Spend { amount: sum.amount, currency, estimated: sum.estimated }
}

fn view<'a>(query: &UsageQuery, snapshot: &Snapshot, key: &'a UsageKey, counts: &'a UsageCounts) -> View<'a> {
    let principal = query.by_principal.then_some(key.principal.as_str());
    let named = |name: &'a String| Some(name.as_str()).filter(|name| !name.is_empty());
    let has_spend = counts.counts_spend || counts.tokens != TokenCounts::default() || !counts.spend.is_empty();
    View {
        service: query.by_service.then_some(key.service.as_str()),
        capability: query.by_capability.then_some(key.capability.as_str()),
        principal,
        principal_name: principal.and_then(|principal| auth::name_of(principal, snapshot)),
        role: named(&key.role),
        model: named(&key.model),
        from: query.bucket_ms.map(|_| Timestamp(key.hour)),
        created: counts.created,
        completed: counts.completed,
        failed: counts.failed,
        cancelled: counts.cancelled,
        timed_out: counts.timed_out,
        attempts: counts.attempts,
        failed_attempts: counts.failed_attempts,
        errors: &counts.errors,
        latency_ms: (&counts.latency).into(),
        queue_ms: (&counts.queue).into(),
        cost: Cost {
            rows_written: counts.rows_written(),
            object_requests: counts.object_requests(),
            usd: counts.usd(),
        },
        tokens: has_spend.then_some(counts.tokens),
        spend: has_spend.then(|| counts.spend.iter().map(spend).collect()),
    }
}

fn query(call: &Call) -> Result<UsageQuery, Problem> {
    let mut faults = Vec::new();
    let now = clock::now();
    let until = time(call, "before", &mut faults).unwrap_or_else(|| now.plus_ms(HOUR_MS));
    let from = time(call, "after", &mut faults).unwrap_or(Timestamp(until.0.saturating_sub(DAY_MS)));
    if until.since(from) > MAX_MS + HOUR_MS {
        faults.push(Fault::new("?after", "must be at most 92 days before the end"));
    }
    let bucket_ms = match call.query("bucket").as_deref() {
        None => None,
        Some("hour") => Some(HOUR_MS),
        Some("day") => Some(DAY_MS),
        Some(_) => {
            faults.push(Fault::new("?bucket", "must be hour or day"));
            None
        }
    };
    let group_by = call.query("group_by").unwrap_or_default();
    let by: Vec<&str> = group_by.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if by.iter().any(|part| !GROUPS.contains(part)) {
        let detail = "must be a comma-separated list of service, capability, principal, role and model";
        faults.push(Fault::new("?group_by", detail));
    }
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    Ok(UsageQuery {
        // Counts are per hour: the hour in which the span begins is included.
        from: Timestamp(from.0 / HOUR_MS * HOUR_MS),
        until,
        bucket_ms,
        by_service: by.contains(&"service"),
        by_capability: by.contains(&"capability"),
        by_principal: by.contains(&"principal"),
        by_role: by.contains(&"role"),
        by_model: by.contains(&"model"),
    })
}

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    call.only_query(&["group_by", "bucket", "after", "before"])?;
    let query = query(call)?;
    let hub = Events::of(&caller.principal.tenant);
    match protocol::call(&hub, &query).await.map_err(internal)? {
        UsageGroups::Usage(Some(groups)) => {
            let data: Vec<View<'_>> =
                groups.iter().map(|(key, counts)| view(&query, &caller.snapshot, key, counts)).collect();
            page(call, &data, None)
        }
        UsageGroups::Usage(None) => {
            let detail = "returns more than 1,000 groups: shorten the period or group by fewer fields";
            Err(Problem::invalid(vec![Fault::new("?group_by", detail)]))
        }
    }
}

/// For Prometheus.
pub async fn metrics(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    refusals::flush(&caller.principal.tenant).await;
    let format = Format::accepted(call.request.header("accept").unwrap_or_default());
    let hub = Events::of(&caller.principal.tenant);
    let UsageTotals::Totals { rows, refused, models } = protocol::call(&hub, &ReadTotals).await.map_err(internal)?;
    let text = metrics::text(&Totals { rows, refused, models }, format);
    Ok(Answer::text(200, format.content_type(), text))
}
