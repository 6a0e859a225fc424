//! Questions of an upstream to its caller (elicitation, sampling, roots) as input requests of a context, and the
//! answers.
//!
//! `input_request.mcp.inputRequests` contains the requests verbatim. The answer is `{"inputResponses": {…}}` by their
//! names. The answer to a single form may be its content alone.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::super::definitions::tidy;
use crate::base::json::{self, Fault, Object};
use crate::base::order;
use crate::services::schema::Schema;

/// The largest question, in bytes: sampling requests include the conversation so far.
pub const MAX_REQUEST_BYTES: usize = 128 * 1024;
/// The largest state that is stored for an upstream, in bytes.
const MAX_STATE_BYTES: usize = 32 * 1024;
/// The longest message that is shown, in characters.
const MAX_MESSAGE: usize = 2_000;
/// The maximum number of requests in one question.
const MAX_REQUESTS: usize = 16;
const MAX_NAME_BYTES: usize = 200;

/// A question of a modern upstream.
#[derive(Debug)]
pub struct UpstreamQuestion {
    /// The input request; `None` if only the state must be returned.
    pub request: Option<Box<RawValue>>,
    pub state: Option<String>,
}

type Requests<'a> = BTreeMap<String, &'a RawValue>;

/// The parameters of a request for a form.
fn form(request: &RawValue) -> Option<Object<'_>> {
    let mut request = Object::new(request.get(), "#").ok()?;
    if request.string("method", 1..=64)? != "elicitation/create" {
        return None;
    }
    let mut params = Object::new(request.raw("params")?.get(), "#").ok()?;
    let mode = params.string("mode", 1..=16);
    mode.is_none_or(|mode| mode == "form").then_some(params)
}

fn message(requests: &Requests<'_>) -> String {
    let said = |request: &&RawValue| {
        let mut request = Object::new(request.get(), "#").ok()?;
        let message = Object::new(request.raw("params")?.get(), "#").ok()?.raw("message")?;
        serde_json::from_str::<String>(message.get()).ok().filter(|text| !text.is_empty())
    };
    match requests.values().find_map(said) {
        Some(text) => match text.char_indices().nth(MAX_MESSAGE) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text,
        },
        None => {
            let mut methods: Vec<String> = requests
                .values()
                .filter_map(|request| Object::new(request.get(), "#").ok()?.string("method", 1..=64))
                .collect();
            methods.dedup();
            format!("The server asks for {}.", methods.join(", "))
        }
    }
}

/// A request without `null` members, because of which clients would reject it.
fn tidied(request: &RawValue) -> Option<Box<RawValue>> {
    let members = json::members(request.get())?;
    let method = members.iter().find(|(name, _)| name == "method")?.1;
    let method: String = serde_json::from_str(method.get()).ok()?;
    let said = members.into_iter().filter(|(_, value)| value.get() != "null").map(|(name, value)| {
        let value = if name == "params" { tidy(&method, value) } else { Cow::Borrowed(value.get()) };
        (name, value)
    });
    RawValue::from_string(json::object(&said.collect::<Vec<_>>())).ok()
}

/// The input request of a context for these requests of an upstream.
fn question(requests: &Requests<'_>) -> Result<Box<RawValue>, &'static str> {
    let with_null = requests.iter().filter(|(_, request)| request.get().contains("null"));
    let tidied: BTreeMap<&str, Box<RawValue>> =
        order::insert_all(with_null.filter_map(|(name, request)| Some((name.as_str(), tidied(request)?))));
    let as_sent = requests.iter().map(|(name, request)| {
        let request: &RawValue = tidied.get(name.as_str()).map_or(*request, |tidied| &**tidied);
        (name.clone(), request)
    });
    let requests: &Requests<'_> = &order::insert_all(as_sent);
    if requests.is_empty() || requests.len() > MAX_REQUESTS {
        return Err("The server's request for input is empty, or asks for too much at once.");
    }
    let is_request = |request: &&RawValue| {
        Object::new(request.get(), "#").is_ok_and(|mut request| request.string("method", 1..=64).is_some())
    };
    if requests.keys().any(|name| name.len() > MAX_NAME_BYTES) {
        return Err("The server's request for input has a name that is too long.");
    }
    if !requests.values().all(is_request) {
        return Err("The server's request for input has a member that is not a request.");
    }
    let schema = match requests.len() {
        1 => requests.values().next().and_then(|only| form(only)).and_then(|mut params| params.raw("requestedSchema")),
        _ => None,
    };
    if schema.is_some_and(|schema| Schema::compile(schema.get()).is_err()) {
        return Err("The schema in the server's request for input cannot be compiled.");
    }
    let mut members: BTreeMap<&str, Box<RawValue>> = BTreeMap::new();
    let raw = |text: String| RawValue::from_string(text).map_err(|_| "The server's request for input cannot be read.");
    let by_name = serde_json::to_string(requests).map_err(|_| "The server's request for input cannot be read.")?;
    members.insert("message", raw(json!(message(requests)).to_string())?);
    members.insert("mcp", raw(format!(r#"{{"inputRequests":{by_name}}}"#))?);
    if let Some(schema) = schema {
        members.insert("schema", schema.to_owned());
    }
    let request = to_raw_value(&members).map_err(|_| "The server's request for input cannot be read.")?;
    match request.get().len() > MAX_REQUEST_BYTES {
        true => Err("The server's request for input is too large."),
        false => Ok(request),
    }
}

/// Reads a result that is a question.
pub fn of_result(result: &RawValue) -> Result<UpstreamQuestion, &'static str> {
    let unreadable = "The server's request for input cannot be read.";
    let mut members = Object::new(result.get(), "#").map_err(|_| unreadable)?;
    let state = members.raw("requestState").map(|state| serde_json::from_str::<String>(state.get()));
    let state = state.transpose().map_err(|_| unreadable)?;
    if state.as_ref().is_some_and(|state| state.len() > MAX_STATE_BYTES) {
        return Err("The server's state is too large to be stored.");
    }
    let request = match members.raw("inputRequests") {
        Some(requests) => {
            let requests: Requests<'_> = serde_json::from_str(requests.get()).map_err(|_| unreadable)?;
            Some(question(&requests)?)
        }
        None if state.is_some() => None,
        None => return Err("The server's request for input is empty."),
    };
    Ok(UpstreamQuestion { request, state })
}

/// A request of a legacy server, under a name.
pub fn of_request(name: &str, method: &str, params: Option<&RawValue>) -> Result<Box<RawValue>, &'static str> {
    let params = params.map_or_else(String::new, |params| format!(r#","params":{}"#, params.get()));
    let request = RawValue::from_string(format!(r#"{{"method":{}{params}}}"#, json!(method)));
    let request = request.map_err(|_| "The server's request for input cannot be read.")?;
    question(&BTreeMap::from([(name.to_string(), &*request)]))
}

/// The answer under a name, as the result of that request.
pub fn response<'a>(input: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    let responses = Object::new(input.get(), "#").ok()?.raw("inputResponses")?;
    Object::new(responses.get(), "#").ok()?.raw(name)
}

/// All answers, the text of an object.
pub fn responses(input: &RawValue) -> Option<&RawValue> {
    Object::new(input.get(), "#").ok()?.raw("inputResponses")
}

/// The requests by name, if a context asks in these terms.
pub fn requests(request: &RawValue) -> Option<Requests<'_>> {
    let mcp = Object::new(request.get(), "#").ok()?.raw("mcp")?;
    serde_json::from_str(Object::new(mcp.get(), "#").ok()?.raw("inputRequests")?.get()).ok()
}

/// The input as the transport takes it, if the context asks in these terms.
///
/// # Errors
/// It is invalid: with pointers into `#/input`.
pub fn input(request: &RawValue, given: &RawValue) -> Option<Result<Box<RawValue>, Vec<Fault>>> {
    let requests = requests(request)?;
    let fault = |pointer: String, detail: &str| Some(Err(vec![Fault::new(pointer, detail)]));
    let Some(responses) = responses(given) else {
        let only = if requests.len() == 1 { requests.iter().next() } else { None };
        let Some((name, params)) = only.and_then(|(name, only)| Some((name, form(only)?))) else {
            return fault(
                "#/input".into(),
                "must have inputResponses, one for each of input_request.mcp.inputRequests",
            );
        };
        let accepted = format!(r#"{{"action":"accept","content":{}}}"#, given.get());
        let text = format!(r#"{{"inputResponses":{{{}:{accepted}}}}}"#, json!(name));
        let faults = mismatches(params, given, "#/input");
        if !faults.is_empty() {
            return Some(Err(faults));
        }
        return RawValue::from_string(text).ok().map(Ok);
    };
    let at = "#/input/inputResponses";
    let Ok(by_name) = serde_json::from_str::<Requests<'_>>(responses.get()) else {
        return fault(at.into(), "must be an object");
    };
    let mut faults = Vec::new();
    for (name, request) in &requests {
        let pointer = crate::base::json::child(at, name);
        match by_name.get(name) {
            None => faults.push(Fault::new(pointer, "is required")),
            Some(response) if !response.get().starts_with('{') => {
                faults.push(Fault::new(pointer, "must be an object"));
            }
            Some(response) => {
                let content = Object::new(response.get(), "#").ok().and_then(|mut response| response.raw("content"));
                if let (Some(params), Some(content)) = (form(request), content) {
                    faults.extend(mismatches(params, content, &format!("{pointer}/content")));
                }
            }
        }
    }
    Some(if faults.is_empty() { Ok(given.to_owned()) } else { Err(faults) })
}

/// The faults of a form's content by its schema.
fn mismatches(mut form: Object<'_>, content: &RawValue, at: &str) -> Vec<Fault> {
    let schema = form.raw("requestedSchema").and_then(|schema| Schema::compile(schema.get()).ok());
    let faults = schema.and_then(|schema| schema.check(content.get()).err()).unwrap_or_default();
    faults.into_iter().map(|fault| Fault { pointer: format!("{at}{}", fault.pointer), ..fault }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn raw(value: &Value) -> Box<RawValue> {
        RawValue::from_string(value.to_string()).unwrap()
    }

    fn elicitation() -> Value {
        let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
        json!({"method": "elicitation/create", "params": {"mode": "form", "message": "Who?", "requestedSchema": schema}})
    }

    fn sampling() -> Value {
        json!({"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 5}})
    }

    fn asked(requests: Value) -> Box<RawValue> {
        of_result(&raw(&json!({"inputRequests": requests}))).unwrap().request.unwrap()
    }

    #[test]
    fn a_form_is_asked_for_in_words_everybody_knows() {
        let request = asked(json!({"who": elicitation()}));
        let request: Value = serde_json::from_str(request.get()).unwrap();
        assert_eq!(request["message"], json!("Who?"));
        assert_eq!(request["schema"]["required"], json!(["name"]));
        assert_eq!(request["mcp"]["inputRequests"], json!({"who": elicitation()}));
        let request = asked(json!({"model": sampling()}));
        let request: Value = serde_json::from_str(request.get()).unwrap();
        assert_eq!(request["message"], json!("The server asks for sampling/createMessage."));
        assert!(request.get("schema").is_none());
    }

    #[test]
    fn a_state_is_kept_and_bounded() {
        let asked = of_result(&raw(&json!({"requestState": "s"}))).unwrap();
        assert!(asked.request.is_none());
        assert_eq!(asked.state.as_deref(), Some("s"));
        for result in [
            json!({}),
            json!({"inputRequests": {}}),
            json!({"inputRequests": {"a": 7}}),
            json!({"inputRequests": 7}),
            json!({"requestState": 7}),
            json!({"requestState": "x".repeat(MAX_STATE_BYTES + 1)}),
            json!({"inputRequests": {"a": {"method": "x", "params": {"text": "x".repeat(MAX_REQUEST_BYTES)}}}}),
        ] {
            assert!(of_result(&raw(&result)).is_err());
        }
    }

    #[test]
    fn an_answer_is_one_for_each_request() {
        let request = asked(json!({"who": elicitation(), "model": sampling()}));
        let accept = json!({"action": "accept", "content": {"name": "Ada"}});
        let good = raw(&json!({"inputResponses": {"who": accept, "model": {"role": "assistant"}}}));
        assert_eq!(input(&request, &good).unwrap().unwrap().get(), good.get());
        assert_eq!(response(&good, "who").unwrap().get(), accept.to_string());
        for (given, pointer) in [
            (json!({"name": "Ada"}), "#/input"),
            (json!({"inputResponses": 7}), "#/input/inputResponses"),
            (json!({"inputResponses": {"who": accept}}), "#/input/inputResponses/model"),
            (json!({"inputResponses": {"who": 7, "model": {}}}), "#/input/inputResponses/who"),
            (
                json!({"inputResponses": {"who": {"action": "accept", "content": {}}, "model": {}}}),
                "#/input/inputResponses/who/content",
            ),
        ] {
            let faults = input(&request, &raw(&given)).unwrap().unwrap_err();
            assert_eq!(faults[0].pointer, pointer, "{given}");
        }
        assert!(input(&raw(&json!({"message": "Who?"})), &good).is_none());
    }

    #[test]
    fn the_answer_to_a_single_form_may_be_its_content() {
        let request = of_request("1", "elicitation/create", Some(&raw(&elicitation()["params"]))).unwrap();
        let given = input(&request, &raw(&json!({"name": "Ada"}))).unwrap().unwrap();
        let expected = json!({"inputResponses": {"1": {"action": "accept", "content": {"name": "Ada"}}}});
        assert_eq!(serde_json::from_str::<Value>(given.get()).unwrap(), expected);
        let faults = input(&request, &raw(&json!({"name": 7}))).unwrap().unwrap_err();
        assert_eq!(faults[0].pointer, "#/input/name");
        let declined = raw(&json!({"inputResponses": {"1": {"action": "decline"}}}));
        assert!(input(&request, &declined).unwrap().is_ok());
    }
}
