//! What a server tells of how far a call is: whose it is, and as much of it as its context keeps.

use std::collections::BTreeMap;

use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::base::json::Object;
use crate::calling::callback::MAX_PROGRESS_BYTES;
use crate::calling::response::clean;

/// Whether progress is that of the call that was sent with this token.
pub fn is_of(params: &RawValue, token: &str) -> bool {
    let said = Object::new(params.get(), "#").ok().and_then(|mut params| params.raw("progressToken"));
    said.and_then(|said| serde_json::from_str::<String>(said.get()).ok()).as_deref() == Some(token)
}

/// Progress as a context keeps it: without what it is reported under, its message cut where it is too long.
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
        // In the worst case a character is written as six.
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
    fn progress_is_of_the_call_whose_token_it_has() {
        assert!(is_of(&raw(&json!({"progressToken": "ctx_1", "progress": 1})), "ctx_1"));
        for other in [json!({"progressToken": "ctx_2"}), json!({"progressToken": 1}), json!({"progress": 1}), json!(7)]
        {
            assert!(!is_of(&raw(&other), "ctx_1"), "{other}");
        }
    }

    #[test]
    fn what_is_kept_of_progress_is_cut_and_not_lost() {
        let of = |value: Value| serde_json::from_str::<Value>(kept(&raw(&value)).get()).unwrap();
        let told = json!({"progressToken": "a", "_meta": {}, "progress": 1.5, "message": "half", "x": 7});
        assert_eq!(of(told), json!({"progress": 1.5, "message": "half", "x": 7}));
        for message in ["x".repeat(9_000), "\u{1F600}".repeat(9_000)] {
            let kept = of(json!({"progressToken": "a", "progress": 1, "total": 2, "message": message, "x": message}));
            assert_eq!((&kept["progress"], &kept["total"], kept.get("x")), (&json!(1), &json!(2), None));
            assert!(kept["message"].as_str().unwrap().ends_with('…'));
            assert!(kept.to_string().len() <= MAX_PROGRESS_BYTES);
        }
    }
}
