//! What a client says in a request's `_meta` that is for the server: all but what is between two neighbours, which the
//! gateway says for itself.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use super::super::error::Error;
use super::super::revision::meta;

/// The most that goes on, in bytes: it is kept with the call.
pub const MAX_META_BYTES: usize = 8 * 1024;

/// What each of the two says of itself, and of the trace it is part of.
const OWN: [&str; 10] = [
    "progressToken",
    "traceparent",
    "tracestate",
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/logLevel",
    "io.modelcontextprotocol/serverInfo",
    "io.modelcontextprotocol/related-task",
    "io.modelcontextprotocol/subscriptionId",
];
/// What the gateway itself tells its clients begins so.
const GATEWAYS: &str = "narthex/";

/// What goes on of a request's `_meta`; nothing when all of it is for the gateway.
///
/// # Errors
/// It is too large.
pub fn passed(params: Option<&RawValue>) -> Result<Option<Box<RawValue>>, Error> {
    let Some(all) = meta(params).and_then(|meta| serde_json::from_str::<BTreeMap<String, &RawValue>>(meta.get()).ok())
    else {
        return Ok(None);
    };
    let theirs = |name: &str| !OWN.contains(&name) && !name.starts_with(GATEWAYS);
    let passed: BTreeMap<String, &RawValue> = all.into_iter().filter(|(name, _)| theirs(name)).collect();
    if passed.is_empty() {
        return Ok(None);
    }
    let passed = to_raw_value(&passed).ok();
    if passed.as_ref().is_some_and(|passed| passed.get().len() > MAX_META_BYTES) {
        return Err(Error::Params(format!("_meta may have at most {MAX_META_BYTES} bytes for the server")));
    }
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn passed_of(params: &Value) -> Result<Option<Value>, Error> {
        let params = to_raw_value(params).unwrap();
        passed(Some(&params)).map(|meta| meta.map(|meta| serde_json::from_str(meta.get()).unwrap()))
    }

    #[test]
    fn what_is_between_neighbours_stays_there() {
        let mut meta = json!({"com.example/tenant": "acme", "plain": {"n": 1.0}, "baggage": "a=b", "narthex/context": "c",
            "io.modelcontextprotocol/new": true});
        for name in OWN {
            meta[name] = json!("mine");
        }
        let expected = json!({"com.example/tenant": "acme", "plain": {"n": 1.0}, "baggage": "a=b", "io.modelcontextprotocol/new": true});
        assert_eq!(passed_of(&json!({"name": "t", "_meta": meta})).unwrap(), Some(expected));
        for none in [json!({}), json!({"_meta": null}), json!({"_meta": []}), json!({"_meta": {"progressToken": 1}})] {
            assert_eq!(passed_of(&none).unwrap(), None, "{none}");
        }
        assert!(passed(None).unwrap().is_none());
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let large = "x".repeat(MAX_META_BYTES);
        assert!(matches!(passed_of(&json!({"_meta": {"a": large}})), Err(Error::Params(_))));
        assert!(passed_of(&json!({"_meta": {"progressToken": large}})).unwrap().is_none());
    }
}
