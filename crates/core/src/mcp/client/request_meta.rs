//! The part of a request's `_meta` that is for the server: everything but what concerns two neighbors, which the
//! gateway sets itself.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use super::super::error::Error;
use super::super::revision::meta;

/// The maximum size that is forwarded, in bytes: it is stored with the call.
pub const MAX_META_BYTES: usize = 8 * 1024;

/// The metadata of each sender, and of its trace.
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
/// The prefix of the gateway's own metadata for its clients.
const GATEWAYS: &str = "narthex/";

/// The part of a request's `_meta` to forward; `None` if there is none.
///
/// # Errors
/// It is too large.
pub fn passed(params: Option<&RawValue>) -> Result<Option<Box<RawValue>>, Error> {
    let Some(mut passed) =
        meta(params).and_then(|meta| serde_json::from_str::<BTreeMap<String, &RawValue>>(meta.get()).ok())
    else {
        return Ok(None);
    };
    let theirs = |name: &str| !OWN.contains(&name) && !name.starts_with(GATEWAYS);
    passed.retain(|name, _| theirs(name));
    if passed.is_empty() {
        return Ok(None);
    }
    let passed = to_raw_value(&passed).ok();
    if passed.as_ref().is_some_and(|passed| passed.get().len() > MAX_META_BYTES) {
        return Err(Error::Params(format!("_meta for the server must not exceed {MAX_META_BYTES} bytes")));
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
    fn metadata_between_neighbors_is_not_forwarded() {
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
    fn large_metadata_is_rejected() {
        let large = "x".repeat(MAX_META_BYTES);
        assert!(matches!(passed_of(&json!({"_meta": {"a": large}})), Err(Error::Params(_))));
        assert!(passed_of(&json!({"_meta": {"progressToken": large}})).unwrap().is_none());
    }
}
