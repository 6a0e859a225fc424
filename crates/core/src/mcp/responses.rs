//! Results in the form of each revision.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::http::one_line::one_line;

/// `_meta` of modern results, up to the end of the object.
const SERVER: &str = concat!(
    r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"narthex","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);
/// The member of a result's `_meta` with the id of the context that a call created.
const CONTEXT: &str = "narthex/context";

/// How long a client may cache a list, in milliseconds.
pub const TTL_MS: u64 = 60_000;

/// The response with this result, an object's text.
pub fn response(id: &RawValue, result: &str) -> String {
    let id = id.get();
    let mut text = String::with_capacity(result.len() + id.len() + 40);
    for part in [r#"{"jsonrpc":"2.0","id":"#, id, r#","result":"#, result, "}"] {
        text.push_str(part);
    }
    text
}

/// A result with these members, each `"name":value` without commas.
pub fn result(legacy: bool, members: &[&str]) -> String {
    complete(legacy, members, None)
}

/// As [`result`], with the id of its context.
pub fn complete(legacy: bool, members: &[&str], context: Option<&str>) -> String {
    let mut text = String::with_capacity(members.iter().map(|member| member.len() + 1).sum::<usize>() + 160);
    text.push('{');
    if !legacy {
        text.push_str(r#""resultType":"complete","#);
        text.push_str(SERVER);
    } else if context.is_some() {
        text.push_str(r#""_meta":{"#);
    }
    if let Some(context) = context {
        if !legacy {
            text.push(',');
        }
        text.push_str(&format!(r#""{CONTEXT}":"{context}""#));
    }
    if !legacy || context.is_some() {
        text.push('}');
    }
    for member in members.iter().filter(|member| !member.is_empty()) {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(member);
    }
    text.push('}');
    text
}

/// The members of a list that only its requester may cache, for a limited time.
pub fn private_for_a_while(legacy: bool) -> String {
    if legacy { String::new() } else { format!(r#""ttlMs":{TTL_MS},"cacheScope":"private""#) }
}

/// A result that requests input (modern only): requests by name, and the state that the next call must return.
pub fn input_required(requests: &str, state: &str, context: &str) -> String {
    let (requests, state) = (format!(r#""inputRequests":{requests}"#), format!(r#""requestState":"{state}""#));
    let plain = complete(false, &[&requests, &state], Some(context));
    plain.replacen(r#""resultType":"complete""#, r#""resultType":"input_required""#, 1)
}

/// The result of a context as a tool result: text for all clients, and the value itself where the revision has a place
/// for it.
pub fn tool_result(legacy: bool, result: Option<&str>, context: &str) -> String {
    let value = result.unwrap_or("null");
    // A string is shown as it is, anything else as JSON.
    let text = if value.starts_with('"') { value.to_string() } else { quoted(value) };
    let content = format!(r#""content":[{{"type":"text","text":{text}}}]"#);
    let structured =
        if !legacy || value.starts_with('{') { format!(r#""structuredContent":{value}"#) } else { String::new() };
    complete(legacy, &[&content, &structured, r#""isError":false"#], Some(context))
}

/// A failure that a model can read and act on.
pub fn tool_error(legacy: bool, message: &str, context: Option<&str>) -> String {
    let content = format!(r#""content":[{{"type":"text","text":{}}}]"#, quoted(message));
    complete(legacy, &[&content, r#""isError":true"#], context)
}

/// A text as a JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// A Server-Sent Events message.
pub fn event(message: &str) -> String {
    format!("event: message\ndata: {}\n\n", one_line(message))
}

/// A request to the client (legacy only). `asked` is the method with its parameters, an object; `task` is the task it
/// belongs to, if any.
pub fn request(id: &str, asked: &RawValue, task: Option<&str>) -> String {
    #[derive(serde::Deserialize)]
    struct RequestParts<'a> {
        #[serde(borrow)]
        method: &'a RawValue,
        #[serde(borrow, default)]
        params: Option<&'a RawValue>,
    }
    let Ok(RequestParts { method, params }) = serde_json::from_str::<RequestParts<'_>>(asked.get()) else {
        return String::new();
    };
    let params = params.map_or("{}", RawValue::get);
    let params = task.map_or_else(|| params.into(), |task| related(params, task));
    format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":{method},"params":{params}}}"#)
}

/// The text of an object, with its task in `_meta` (revision 2025-11-25).
pub fn related(text: &str, task: &str) -> String {
    const RELATED: &str = "io.modelcontextprotocol/related-task";
    let Ok(mut members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else { return text.into() };
    let meta =
        members.get("_meta").and_then(|meta| serde_json::from_str::<BTreeMap<String, &RawValue>>(meta.get()).ok());
    let mut meta = meta.unwrap_or_default();
    let Ok(named) = serde_json::value::to_raw_value(&BTreeMap::from([("taskId", task)])) else { return text.into() };
    meta.insert(RELATED.into(), &named);
    let Ok(meta) = serde_json::value::to_raw_value(&meta) else { return text.into() };
    members.insert("_meta".into(), &meta);
    serde_json::to_string(&members).unwrap_or_else(|_| text.into())
}

/// A comment that keeps a stream alive, and shows whether it is still read.
pub const KEEP_ALIVE: &str = ": \n\n";

/// Progress of a service as a progress notification. `count` grows with each; a number from the service itself is used
/// as long as it grows too.
pub fn progress(token: &RawValue, last: f64, data: &RawValue) -> (f64, String) {
    #[derive(serde::Deserialize, Default)]
    struct ServiceProgress {
        #[serde(default)]
        progress: Option<f64>,
        #[serde(default)]
        percent: Option<f64>,
        #[serde(default)]
        total: Option<f64>,
        #[serde(default)]
        message: Option<String>,
    }
    let given = serde_json::from_str::<ServiceProgress>(data.get()).unwrap_or_default();
    let message = given.message.unwrap_or_else(|| data.get().to_string());
    let stated = given.progress.or(given.percent).filter(|number| number.is_finite() && *number > last);
    let number = stated.unwrap_or(last + 1.0);
    let total = given.total.or(given.percent.map(|_| 100.0)).filter(|total| stated.is_some() && total.is_finite());
    let total = total.map_or_else(String::new, |total| format!(r#","total":{total}"#));
    let text = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{number}{total},"message":{}}}}}"#,
        quoted(&message)
    );
    (number, text)
}

/// Progress of an upstream, under the caller's token.
pub fn forwarded_progress(token: &RawValue, params: &RawValue) -> Option<String> {
    let mut members: std::collections::BTreeMap<String, &RawValue> = serde_json::from_str(params.get()).ok()?;
    members.insert("progressToken".into(), token);
    let params = serde_json::to_string(&members).ok()?;
    Some(format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_modern_result_has_its_type_and_context() {
        let result = parsed(&result(false, &[r#""tools":[]"#, "", r#""ttlMs":1"#]));
        let server = json!({"name": "narthex", "version": env!("CARGO_PKG_VERSION")});
        let meta = json!({"io.modelcontextprotocol/serverInfo": server});
        assert_eq!(result, json!({"resultType": "complete", "tools": [], "ttlMs": 1, "_meta": meta}));
        assert_eq!(super::result(true, &[]), "{}");
        assert_eq!(super::result(true, &["\"a\":1", "", "\"b\":2"]), r#"{"a":1,"b":2}"#);
    }

    #[test]
    fn a_result_is_text_and_a_value_where_allowed() {
        for (legacy, given_as, text, structured) in [
            (false, r#"{"a":1.0}"#, r#"{"a":1.0}"#, Some(json!({"a": 1.0}))),
            (true, r#"{"a":1.0}"#, r#"{"a":1.0}"#, Some(json!({"a": 1.0}))),
            (false, "[1]", "[1]", Some(json!([1]))),
            (true, "[1]", "[1]", None),
            (false, r#""hi\n""#, "hi\n", Some(json!("hi\n"))),
            (true, r#""hi\n""#, "hi\n", None),
            (true, "7", "7", None),
        ] {
            let result = parsed(&tool_result(legacy, Some(given_as), "ctx_1"));
            assert_eq!(result["content"], json!([{"type": "text", "text": text}]));
            assert_eq!(result.get("structuredContent"), structured.as_ref());
            assert_eq!(result["isError"], json!(false));
            assert_eq!(result["_meta"]["narthex/context"], json!("ctx_1"));
        }
        assert_eq!(parsed(&tool_result(false, None, "ctx_1"))["content"][0]["text"], json!("null"));
        let tool_error = parsed(&tool_error(true, "it broke", None));
        assert_eq!(tool_error, json!({"content": [{"type": "text", "text": "it broke"}], "isError": true}));
    }

    #[test]
    fn progress_grows_whatever_a_service_reports() {
        let token = raw(r#""t""#);
        let mut last = 0.0;
        let mut seen = Vec::new();
        for data in [
            r#"{"percent":40}"#,
            r#"{"percent":40}"#,
            r#"{"progress":50,"total":60,"message":"half"}"#,
            r#""words""#,
            "[1]",
        ] {
            let (number, text) = progress(&token, last, &raw(data));
            let params = parsed(&text)["params"].clone();
            seen.push((number, params.get("total").cloned(), params["message"].as_str().unwrap().to_string()));
            assert!(number > last && params["progressToken"] == "t");
            last = number;
        }
        let expected = [
            (40.0, Some(json!(100.0)), r#"{"percent":40}"#),
            (41.0, None, r#"{"percent":40}"#),
            (50.0, Some(json!(60.0)), "half"),
            (51.0, None, r#""words""#),
            (52.0, None, "[1]"),
        ];
        let seen: Vec<_> = seen.iter().map(|(n, total, text)| (*n, total.clone(), text.as_str())).collect();
        assert_eq!(seen.len(), expected.len());
        for ((n, total, text), (number, all, message)) in seen.into_iter().zip(expected) {
            assert_eq!(
                (n, total.and_then(|t| t.as_f64()), text),
                (number, all.and_then(|t: Value| t.as_f64()), message)
            );
        }
    }

    proptest! {
        /// Whatever a service returns, what is written is JSON.
        #[test]
        fn written_messages_are_json(text in "\\PC{0,40}", number in proptest::num::f64::NORMAL, last in 0.0..1e300_f64) {
            let value = serde_json::to_string(&text).unwrap();
            for given_as in [value.as_str(), "null", "[{}]", "{}"] {
                for legacy in [true, false] {
                    parsed(&tool_result(legacy, Some(given_as), "ctx_1"));
                    parsed(&tool_error(legacy, &text, Some("ctx_1")));
                }
            }
            let data = raw(&json!({"progress": number, "total": number, "message": text}).to_string());
            let (_, given) = progress(&raw("7"), last, &data);
            parsed(&given);
        }
    }
}
