//! The end of a context as a data point of Workers Analytics Engine.

use serde::Serialize;

use crate::base::id::ContextId;
use crate::base::tenant_id::TenantId;
use crate::events::bundle::{Bundle, EventKind, Item};
use crate::models::spent::Spent;

/// The longest index, in bytes.
const MAX_INDEX_BYTES: usize = 96;

/// A data point as the platform takes it. The lists are positional, so new members go to the end.
#[derive(Debug, PartialEq, Serialize)]
pub struct DataPoint {
    /// The tenant.
    indexes: [String; 1],
    /// Service, capability, status, error code (empty if none), principal, role, model, and the currency of the cost.
    blobs: [String; 8],
    /// Execution time and waiting time in milliseconds, the number of attempts, the tokens of the input, those of it
    /// that were read from a cache and written to it, those of the output, those of it that are reasoning, the cost in
    /// units of its currency, and whether that or the tokens are estimated: 0 or 1.
    doubles: [f64; 10],
}

/// The data point of an event; `None` if it is not the end of a context.
pub fn data_point(tenant: &TenantId, bundle: &Bundle, item: &Item) -> Option<DataPoint> {
    let EventKind::Ended { status, error, execution_time_ms, attempts, spent, .. } = &item.kind else { return None };
    let id = ContextId::parse(&bundle.subject)?;
    let (latency_ms, whole_ms) = (execution_time_ms.unwrap_or(0), item.at.since(id.created_at()));
    let mut index = tenant.to_string();
    index.truncate(index.floor_char_boundary(MAX_INDEX_BYTES));
    let none = Spent::default();
    let Spent { usage, cost, .. } = spent.as_deref().unwrap_or(&none);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Some(DataPoint {
        indexes: [index],
        blobs: [
            bundle.service.as_ref().map(ToString::to_string).unwrap_or_default(),
            text(&bundle.capability),
            status.as_str().into(),
            error.as_ref().map_or("", |error| error.code.as_str()).into(),
            bundle.owner.as_ref().map(ToString::to_string).unwrap_or_default(),
            text(&bundle.role),
            text(&bundle.model),
            cost.as_ref().map(|cost| cost.currency.clone()).unwrap_or_default(),
        ],
        doubles: [
            latency_ms as f64,
            whole_ms.saturating_sub(latency_ms) as f64,
            *attempts as f64,
            usage.input_tokens as f64,
            usage.cached_input_tokens as f64,
            usage.cache_write_tokens as f64,
            usage.output_tokens as f64,
            usage.reasoning_tokens as f64,
            cost.as_ref().map_or(0.0, |cost| cost.amount.units()),
            f64::from(u8::from(usage.estimated || cost.as_ref().is_some_and(|cost| cost.estimated))),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{Region, StoreId};
    use crate::base::principal_id::PrincipalId;
    use crate::base::time::Timestamp;
    use crate::context::ContextError;
    use crate::context::status::{ErrorCode, Status};
    use crate::models::money::Money;
    use crate::models::price::Cost;
    use crate::models::token_usage::TokenUsage;

    #[test]
    fn a_contexts_end_is_a_point_and_nothing_else_is() {
        let store = StoreId { region: Region::Eu, shard: 0 };
        let item = |at, kind| Item { number: 1, at: Timestamp(at), kind };
        let error =
            ContextError { code: ErrorCode::UpstreamError, message: String::new(), service: None, details: None };
        let tokens = TokenUsage { input_tokens: 9, output_tokens: 3, reasoning_tokens: 1, ..TokenUsage::default() };
        let cost = Some(Cost { amount: Money(2_500_000), currency: "EUR".into(), estimated: true });
        let spent = Spent { model: "gpt".into(), usage: tokens, cost, ..Spent::default() };
        let ended = EventKind::Ended {
            spent: Some(Box::new(spent)),
            status: Status::Failed,
            result: None,
            linked: false,
            error: Some(error),
            execution_time_ms: Some(600),
            attempts: 3,
        };
        let bundle = Bundle {
            subject: ContextId::new(store, Timestamp(1_000), [0; 10]).to_string(),
            owner: Some(PrincipalId::of_key("me")),
            owner_name: None,
            replay_of: None,
            capability: Some("chat".into()),
            service: Some("llm".into()),
            trace: None,
            role: Some("caller".into()),
            model: Some("*".into()),
            previous_number: None,
            items: Vec::new(),
        };
        let tenant = TenantId::parse("acme").unwrap();
        let made = data_point(&tenant, &bundle, &item(2_000, ended.clone())).unwrap();
        assert_eq!(
            serde_json::to_string(&made).unwrap(),
            r#"{"indexes":["acme"],"blobs":["llm","chat","failed","upstream_error","key:me","caller","*","EUR"],"doubles":[600.0,400.0,3.0,9.0,0.0,0.0,3.0,1.0,0.0025,1.0]}"#
        );
        assert_eq!(data_point(&tenant, &bundle, &item(1_000, EventKind::Status(Status::Queued))), None);
        let service = Bundle { subject: "llm".into(), ..bundle };
        assert_eq!(data_point(&tenant, &service, &item(2_000, ended)), None);
    }
}
