//! Results, as the two eras write them.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::http::one_line::one_line;

/// `_meta` of modern results; what follows is the end of the object.
const SERVER: &str = concat!(
    r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"narthex","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);
/// The member of a result's `_meta` that names the context a call has made.
const CONTEXT: &str = "narthex/context";

/// How long a client may take a list for fresh, in milliseconds.
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

/// A result with these members, each `"name":value`, without the commas around them.
pub fn result(legacy: bool, members: &[&str]) -> String {
    complete(legacy, members, None)
}

/// As [`result`], naming the context it is of.
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

/// The members of a list that may be kept for a while by who asked, and by nobody else.
pub fn private_for_a_while(legacy: bool) -> String {
    if legacy { String::new() } else { format!(r#""ttlMs":{TTL_MS},"cacheScope":"private""#) }
}

/// A result that asks for more (modern alone): requests by their names, and what the answer has to bring back.
pub fn input_required(requests: &str, state: &str, context: &str) -> String {
    let (requests, state) = (format!(r#""inputRequests":{requests}"#), format!(r#""requestState":"{state}""#));
    let plain = complete(false, &[&requests, &state], Some(context));
    plain.replacen(r#""resultType":"complete""#, r#""resultType":"input_required""#, 1)
}

/// What a context has given, as a tool's result: text for all, and the value itself where the era has a place for it.
pub fn given(legacy: bool, result: Option<&str>, context: &str) -> String {
    let value = result.unwrap_or("null");
    // A text is shown as it is; anything else as JSON.
    let text = if value.starts_with('"') { value.to_string() } else { quoted(value) };
    let content = format!(r#""content":[{{"type":"text","text":{text}}}]"#);
    let structured =
        if !legacy || value.starts_with('{') { format!(r#""structuredContent":{value}"#) } else { String::new() };
    complete(legacy, &[&content, &structured, r#""isError":false"#], Some(context))
}

/// A failure a model can read and act on.
pub fn failed(legacy: bool, message: &str, context: Option<&str>) -> String {
    let content = format!(r#""content":[{{"type":"text","text":{}}}]"#, quoted(message));
    complete(legacy, &[&content, r#""isError":true"#], context)
}

pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// A server-sent event.
pub fn event(message: &str) -> String {
    format!("event: message\ndata: {}\n\n", one_line(message))
}

/// A request to the client (legacy alone). `asked` is its method with its parameters, an object; `task` is the task
/// it is for, if it is for one.
pub fn request(id: &str, asked: &RawValue, task: Option<&str>) -> String {
    #[derive(serde::Deserialize)]
    struct Asked<'a> {
        #[serde(borrow)]
        method: &'a RawValue,
        #[serde(borrow, default)]
        params: Option<&'a RawValue>,
    }
    let Ok(Asked { method, params }) = serde_json::from_str::<Asked<'_>>(asked.get()) else { return String::new() };
    let params = params.map_or("{}", RawValue::get);
    let params = task.map_or_else(|| params.into(), |task| related(params, task));
    format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":{method},"params":{params}}}"#)
}

/// The text of an object, with the task it is of in its `_meta` (revision 2025-11-25).
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

/// A comment: keeps a stream alive, and notices that nobody reads it any more.
pub const SILENCE: &str = ": \n\n";

/// What a service tells of its work, as a progress notification. `count` grows with each; a number the service gives
/// itself is shown, as long as it grows too.
pub fn progress(token: &RawValue, last: f64, data: &RawValue) -> (f64, String) {
    #[derive(serde::Deserialize, Default)]
    struct Told {
        #[serde(default)]
        progress: Option<f64>,
        #[serde(default)]
        percent: Option<f64>,
        #[serde(default)]
        total: Option<f64>,
        #[serde(default)]
        message: Option<String>,
    }
    let told = serde_json::from_str::<Told>(data.get()).unwrap_or_default();
    let message = told.message.unwrap_or_else(|| data.get().to_string());
    let said = told.progress.or(told.percent).filter(|number| number.is_finite() && *number > last);
    let number = said.unwrap_or(last + 1.0);
    let total = told.total.or(told.percent.map(|_| 100.0)).filter(|total| said.is_some() && total.is_finite());
    let total = total.map_or_else(String::new, |total| format!(r#","total":{total}"#));
    let text = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{number}{total},"message":{}}}}}"#,
        quoted(&message)
    );
    (number, text)
}

/// What an upstream tells of a call, under the token of whoever made it.
pub fn passed_progress(token: &RawValue, params: &RawValue) -> Option<String> {
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
    fn a_modern_result_says_what_kind_it_is_and_whose() {
        let result = parsed(&result(false, &[r#""tools":[]"#, "", r#""ttlMs":1"#]));
        let server = json!({"name": "narthex", "version": env!("CARGO_PKG_VERSION")});
        let meta = json!({"io.modelcontextprotocol/serverInfo": server});
        assert_eq!(result, json!({"resultType": "complete", "tools": [], "ttlMs": 1, "_meta": meta}));
        assert_eq!(super::result(true, &[]), "{}");
        assert_eq!(super::result(true, &["\"a\":1", "", "\"b\":2"]), r#"{"a":1,"b":2}"#);
    }

    #[test]
    fn what_a_context_gave_is_text_for_all_and_a_value_where_there_is_a_place_for_it() {
        for (legacy, given_as, text, structured) in [
            (false, r#"{"a":1.0}"#, r#"{"a":1.0}"#, Some(json!({"a": 1.0}))),
            (true, r#"{"a":1.0}"#, r#"{"a":1.0}"#, Some(json!({"a": 1.0}))),
            (false, "[1]", "[1]", Some(json!([1]))),
            (true, "[1]", "[1]", None),
            (false, r#""hi\n""#, "hi\n", Some(json!("hi\n"))),
            (true, r#""hi\n""#, "hi\n", None),
            (true, "7", "7", None),
        ] {
            let result = parsed(&given(legacy, Some(given_as), "ctx_1"));
            assert_eq!(result["content"], json!([{"type": "text", "text": text}]));
            assert_eq!(result.get("structuredContent"), structured.as_ref());
            assert_eq!(result["isError"], json!(false));
            assert_eq!(result["_meta"]["narthex/context"], json!("ctx_1"));
        }
        assert_eq!(parsed(&given(false, None, "ctx_1"))["content"][0]["text"], json!("null"));
        let failed = parsed(&failed(true, "it broke", None));
        assert_eq!(failed, json!({"content": [{"type": "text", "text": "it broke"}], "isError": true}));
    }

    #[test]
    fn progress_grows_whatever_a_service_says() {
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
        /// Whatever a service gives or says of itself, what is written is JSON.
        #[test]
        fn what_is_written_is_json(text in "\\PC{0,40}", number in proptest::num::f64::NORMAL, last in 0.0..1e300_f64) {
            let value = serde_json::to_string(&text).unwrap();
            for given_as in [value.as_str(), "null", "[{}]", "{}"] {
                for legacy in [true, false] {
                    parsed(&given(legacy, Some(given_as), "ctx_1"));
                    parsed(&failed(legacy, &text, Some("ctx_1")));
                }
            }
            let data = raw(&json!({"progress": number, "total": number, "message": text}).to_string());
            let (_, told) = progress(&raw("7"), last, &data);
            parsed(&told);
        }
    }
}
