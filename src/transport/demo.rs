//! `transport.kind: "demo"`: the built-in demonstration, for a gateway without services. Nothing is called: its
//! capabilities run here, so that everything a context can go through is visible without a service.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::objects::contexts::client as contexts;
use crate::objects::contexts::messages::{CallBack, CallbackReport};
use crate::platform::{clock, log_event, random, settings};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::calling::response::CallResult;
use narthex_core::models::demo;
use narthex_core::models::endpoint::Endpoint;

use super::Order;

/// The highest number that `slow_count` counts to, one per second.
const MAX_SECONDS: u64 = 20;

/// What a capability of the demonstration does.
#[derive(Debug, PartialEq)]
enum Action {
    Answer(Value),
    /// Counts once per second and reports progress.
    Count(u64),
}

fn refusal(code: &str, message: &str, retryable: bool) -> Action {
    Action::Answer(json!({"error": {"code": code, "message": message, "retryable": retryable}}))
}

/// `chance` is a random number from 0 to 1, compared with the share of failures.
fn action(capability: &str, parameters: Value, input: Option<Value>, chance: f64) -> Action {
    match capability {
        "slow_count" => Action::Count(parameters.get("to").and_then(Value::as_u64).unwrap_or(5).min(MAX_SECONDS)),
        "fail_sometimes" => {
            let share = parameters.get("share").and_then(Value::as_f64).unwrap_or(0.5);
            if chance < share {
                return refusal("bad_luck", "The demonstration failed on purpose. You can retry.", true);
            }
            Action::Answer(json!({"result": {"lucky": true}}))
        }
        "greet" => match input {
            Some(name) => Action::Answer(json!({"result": {"greeting": format!("Hello, {}!", plain(&name))}})),
            None => Action::Answer(json!({"input_required": {
                "message": "Who should I greet?",
                "schema": {"type": "string", "title": "Name", "minLength": 1, "maxLength": 100}
            }})),
        },
        "chat" | "messages" => {
            let endpoint = if capability == "chat" { Endpoint::Chat } else { Endpoint::Messages };
            let reply = demo::answer(endpoint, &parameters, &random_id(), clock::now().seconds());
            Action::Answer(json!({"result": reply.map(|reply| reply.document)}))
        }
        _ => refusal("unknown_capability", "The demonstration has no such capability.", false),
    }
}

fn random_id() -> String {
    format!("{:016x}", random::number())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

/// Returns the parameters byte for byte.
fn echo(parameters: &RawValue) -> String {
    format!(r#"{{"result":{}}}"#, parameters.get())
}

fn answer(body: String) -> CallResult {
    let body = body.into_bytes();
    CallResult::Http { status: 200, is_json: true, retry_after_ms: None, location: None, body }
}

/// Runs a capability as a service would.
pub async fn call(tenant: &TenantId, order: &Order<'_>) -> CallResult {
    if !settings::demo() {
        return CallResult::Refused;
    }
    if order.work.admission.capability == "echo" {
        return answer(echo(&order.work.parameters));
    }
    let parse = |text: &str| serde_json::from_str(text).ok();
    let parameters = parse(order.work.parameters.get()).unwrap_or(Value::Null);
    let input = order.work.input.as_deref().and_then(|input| parse(input.get()));
    let chance = (random::number() >> 11) as f64 / (1u64 << 53) as f64;
    match action(&order.work.admission.capability, parameters, input, chance) {
        Action::Answer(body) => answer(body.to_string()),
        Action::Count(to) => {
            for counted in 1..=to {
                clock::pause(1_000).await;
                if clock::now() >= order.work.admission.expires_at {
                    return CallResult::TimedOut { deadline: true };
                }
                report(tenant, order, counted, to).await;
            }
            answer(json!({"result": {"counted": to}}).to_string())
        }
    }
}

/// Reports progress as a service does by its callback.
async fn report(tenant: &TenantId, order: &Order<'_>, counted: u64, to: u64) {
    let id = &order.work.admission.id;
    let Ok(progress) = serde_json::value::to_raw_value(&json!({"counted": counted, "to": to})) else { return };
    let callback = CallbackReport::Beat { lease_ms: None, progress: Some(progress) };
    let report = CallBack { id: id.clone(), lease: order.lease, callback };
    if let Err(failure) = contexts::call(tenant, id, &report).await {
        log_event!(ProgressNotReported, tenant = tenant, context = id, detail = &failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(capability: &str, parameters: Value, input: Option<Value>) -> Value {
        match action(capability, parameters, input, 0.0) {
            Action::Answer(body) => body,
            Action::Count(to) => json!({"counts": to}),
        }
    }

    #[test]
    fn the_demonstration_echoes_counts_and_asks() {
        let parameters = RawValue::from_string(r#"{"z":1.10,"a":123456789012345678901}"#.into()).unwrap();
        assert_eq!(echo(&parameters), r#"{"result":{"z":1.10,"a":123456789012345678901}}"#);
        assert_eq!(run("slow_count", json!({}), None), json!({"counts": 5}));
        assert_eq!(run("slow_count", json!({"to": 1000}), None), json!({"counts": MAX_SECONDS}));
        assert!(run("greet", json!({}), None).pointer("/input_required/schema").is_some());
        assert_eq!(run("greet", json!({}), Some(json!("Ada"))), json!({"result": {"greeting": "Hello, Ada!"}}));
        assert_eq!(run("other", json!({}), None).pointer("/error/retryable"), Some(&json!(false)));
    }

    #[test]
    fn it_fails_as_often_as_it_is_asked_to() {
        let fails = |share: f64, chance: f64| match action("fail_sometimes", json!({"share": share}), None, chance) {
            Action::Answer(body) => body.get("error").is_some(),
            Action::Count(_) => false,
        };
        assert!(fails(0.5, 0.49) && !fails(0.5, 0.5));
        assert!(!fails(0.0, 0.0) && fails(1.0, 0.999));
    }
}
