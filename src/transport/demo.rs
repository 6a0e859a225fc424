//! `transport.kind: "demo"`: the built-in demonstration, for a gateway that has no service yet. Nothing is called; what
//! its capabilities do is decided here, so that all a context can go through is seen with nothing else running.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::objects::contexts::messages::{Ask, CallbackReport, Message, Reply};
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{clock, log_event, random, settings};
use narthex_core::calling::response::CallResult;

use super::Order;

/// The most that is counted to, a second each.
const MAX_SECONDS: u64 = 20;

/// What a capability of the demonstration does.
#[derive(Debug, PartialEq)]
enum Act {
    Answer(Value),
    /// Counts a second at a time, telling how far it is.
    Count(u64),
}

fn refusal(code: &str, message: &str, retryable: bool) -> Act {
    Act::Answer(json!({"error": {"code": code, "message": message, "retryable": retryable}}))
}

/// `chance` is from 0 to 1, and is held against how often it is to fail.
fn act(capability: &str, parameters: Value, input: Option<Value>, chance: f64) -> Act {
    match capability {
        "slow_count" => Act::Count(parameters.get("to").and_then(Value::as_u64).unwrap_or(5).min(MAX_SECONDS)),
        "fail_sometimes" => {
            let share = parameters.get("share").and_then(Value::as_f64).unwrap_or(0.5);
            if chance < share {
                return refusal("bad_luck", "It failed, as it does sometimes. It may be tried again.", true);
            }
            Act::Answer(json!({"result": {"lucky": true}}))
        }
        "greet" => match input {
            Some(name) => Act::Answer(json!({"result": {"greeting": format!("Hello, {}!", plain(&name))}})),
            None => Act::Answer(json!({"input_required": {
                "message": "Whom shall I greet?",
                "schema": {"type": "string", "title": "Name", "minLength": 1, "maxLength": 100}
            }})),
        },
        _ => refusal("unknown_capability", "The demonstration has no such capability.", false),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

/// The parameters byte for byte.
fn echoed(parameters: &RawValue) -> String {
    format!(r#"{{"result":{}}}"#, parameters.get())
}

fn answer(body: String) -> CallResult {
    let body = body.into_bytes();
    CallResult::Http { status: 200, is_json: true, retry_after_ms: None, location: None, body }
}

/// Does what a service would do.
pub async fn call(tenant: &str, order: &Order<'_>) -> CallResult {
    if !settings::demo() {
        return CallResult::Refused;
    }
    if order.work.admission.capability == "echo" {
        return answer(echoed(&order.work.parameters));
    }
    let parse = |text: &str| serde_json::from_str(text).ok();
    let parameters = parse(order.work.parameters.get()).unwrap_or(Value::Null);
    let input = order.work.input.as_deref().and_then(|input| parse(input.get()));
    let chance = (random::number() >> 11) as f64 / (1u64 << 53) as f64;
    match act(&order.work.admission.capability, parameters, input, chance) {
        Act::Answer(body) => answer(body.to_string()),
        Act::Count(to) => {
            for counted in 1..=to {
                clock::pause(1_000).await;
                if clock::now() >= order.work.admission.expires_at {
                    return CallResult::TimedOut { deadline: true };
                }
                tell(tenant, order, counted, to).await;
            }
            answer(json!({"result": {"counted": to}}).to_string())
        }
    }
}

/// Progress, as a service tells it by its callback.
async fn tell(tenant: &str, order: &Order<'_>, counted: u64, to: u64) {
    let id = &order.work.admission.id;
    let Ok(progress) = serde_json::value::to_raw_value(&json!({"counted": counted, "to": to})) else { return };
    let callback = CallbackReport::Beat { lease_ms: None, progress: Some(progress) };
    let ask = Ask::CallBack { id: id.clone(), lease: order.work.lease, callback };
    let Some(store) = id.store() else { return };
    let (name, message) = (store.object_name(tenant), Message { revision: 0, ask });
    let told: Result<Reply, _> = objects::send(Kind::Contexts, &name, "", &message, PATIENCE_MS).await;
    if let Err(failure) = told {
        log_event!(ProgressNotReported, tenant = tenant, context = id, detail = &failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(capability: &str, parameters: Value, input: Option<Value>) -> Value {
        match act(capability, parameters, input, 0.0) {
            Act::Answer(body) => body,
            Act::Count(to) => json!({"counts": to}),
        }
    }

    #[test]
    fn the_demonstration_echoes_counts_and_asks() {
        let parameters = RawValue::from_string(r#"{"z":1.10,"a":123456789012345678901}"#.into()).unwrap();
        assert_eq!(echoed(&parameters), r#"{"result":{"z":1.10,"a":123456789012345678901}}"#);
        assert_eq!(said("slow_count", json!({}), None), json!({"counts": 5}));
        assert_eq!(said("slow_count", json!({"to": 1000}), None), json!({"counts": MAX_SECONDS}));
        assert!(said("greet", json!({}), None).pointer("/input_required/schema").is_some());
        assert_eq!(said("greet", json!({}), Some(json!("Ada"))), json!({"result": {"greeting": "Hello, Ada!"}}));
        assert_eq!(said("other", json!({}), None).pointer("/error/retryable"), Some(&json!(false)));
    }

    #[test]
    fn it_fails_as_often_as_it_is_asked_to() {
        let fails = |share: f64, chance: f64| match act("fail_sometimes", json!({"share": share}), None, chance) {
            Act::Answer(body) => body.get("error").is_some(),
            Act::Count(_) => false,
        };
        assert!(fails(0.5, 0.49) && !fails(0.5, 0.5));
        assert!(!fails(0.0, 0.0) && fails(1.0, 0.999));
    }
}
