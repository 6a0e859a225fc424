//! Progress reports of a server: which call they belong to, and what its context keeps of them.

use std::collections::BTreeMap;

use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::base::json::Object;
use crate::calling::callback::MAX_PROGRESS_BYTES;
use crate::calling::response::clean;

/// Whether a progress notification belongs to the call with this token.
pub fn is_of(params: &RawValue, token: &str) -> bool {
    let said = Object::new(params.get(), "#").ok().and_then(|mut params| params.raw("progressToken"));
    said.and_then(|said| serde_json::from_str::<String>(said.get()).ok()).as_deref() == Some(token)
}

/// The progress as a context keeps it: without its token, its message cut off if too long.
pub fn kept(params: &RawValue) -> Box<RawValue> {
    let shortened = || {
        let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(params.get()).ok()?;
        members.remove("progressToken");
        members.remove("_meta");
        let plain = to_raw_value(&members).ok()?;
        if plain.get().len() <= MAX_PROGRESS_BYTES {
            return Some(plain);
        }
        members.retain(|name, value| matches!(name.as_str(), "progress" | "total") && value.get().len() < 32);
        let message = Object::new(plain.get(), "#").ok()?.raw("message").map(RawValue::get);
        let message = message.and_then(|message| serde_json::from_str::<String>(message).ok()).unwrap_or_default();
        // In the worst case a character is escaped as six.
        let message = to_raw_value(&json!(clean(&message, MAX_PROGRESS_BYTES / 8))).ok()?;
        members.insert("message".into(), &message);
        to_raw_value(&members).ok()
    };
    shortened().unwrap_or_else(|| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn raw(value: &Value) -> Box<RawValue> {
        to_raw_value(value).unwrap()
    }

    #[test]
    fn progress_belongs_to_the_call_with_its_token() {
        assert!(is_of(&raw(&json!({"progressToken": "ctx_1", "progress": 1})), "ctx_1"));
        for other in [json!({"progressToken": "ctx_2"}), json!({"progressToken": 1}), json!({"progress": 1}), json!(7)]
        {
            assert!(!is_of(&raw(&other), "ctx_1"), "{other}");
        }
    }

    #[test]
    fn long_progress_is_cut_off() {
        let of = |value: Value| serde_json::from_str::<Value>(kept(&raw(&value)).get()).unwrap();
        let progress = json!({"progressToken": "a", "_meta": {}, "progress": 1.5, "message": "half", "x": 7});
        assert_eq!(of(progress), json!({"progress": 1.5, "message": "half", "x": 7}));
        for message in ["x".repeat(9_000), "\u{1F600}".repeat(9_000)] {
            let kept = of(json!({"progressToken": "a", "progress": 1, "total": 2, "message": message, "x": message}));
            assert_eq!((&kept["progress"], &kept["total"], kept.get("x")), (&json!(1), &json!(2), None));
            assert!(kept["message"].as_str().unwrap().ends_with('…'));
            assert!(kept.to_string().len() <= MAX_PROGRESS_BYTES);
        }
    }
}
