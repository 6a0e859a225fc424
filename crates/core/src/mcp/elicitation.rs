//! Questions of a context, as requests to an MCP client, and the client's responses as the context's input.
//!
//! A service that speaks the protocol asks in its terms (`input_request.mcp`), which are forwarded unchanged. Other
//! services ask with a message and a schema, which become a form.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use super::responses::quoted;
use crate::base::json::Object;
use crate::base::order;

/// The members of `input_request.mcp`: the open requests, and the responses to the others.
const OPEN: &str = "inputRequests";
const RESPONSES: &str = "inputResponses";

type Members = BTreeMap<String, Box<RawValue>>;

/// The meaning of a client's responses.
#[derive(Debug, PartialEq)]
pub enum ElicitationResponse {
    /// The input, as JSON.
    Input(String),
    /// The user declined.
    Declined,
    /// Some of the current requests are answered: the new request, with the open ones and the responses so far.
    Partial(String),
    /// None of the current requests are answered.
    Unanswered,
    /// The response is invalid.
    Invalid(String),
}

/// A question of a context.
pub struct Elicitation<'a> {
    /// Each question of a context has its own number.
    pub number: usize,
    request: Option<&'a RawValue>,
}

impl<'a> Elicitation<'a> {
    /// `request` is the context's `input_request`.
    pub fn new(number: usize, request: Option<&'a RawValue>) -> Self {
        Self { number, request }
    }

    /// Its name, if the service has none for it.
    fn name(&self) -> String {
        format!("input-{}", self.number)
    }

    /// The requests of a service that speaks the protocol.
    fn passed(&self) -> Option<&'a RawValue> {
        let mcp = Object::new(self.request?.get(), "#").ok()?.raw("mcp")?;
        Object::new(mcp.get(), "#").ok()?.raw(OPEN).filter(|requests| requests.get().starts_with('{'))
    }

    /// The requests by name: the text of an object.
    pub fn requests(&self) -> String {
        match self.passed() {
            Some(requests) => requests.get().to_string(),
            None => format!(r#"{{"{}":{}}}"#, self.name(), self.elicitation()),
        }
    }

    /// The message and the schema of the question.
    fn asked(&self) -> (String, Option<&'a RawValue>) {
        let mut request = self.request.and_then(|request| Object::new(request.get(), "#").ok());
        let message = request.as_mut().and_then(|request| request.string("message", 0..=10_000));
        let schema = request.as_mut().and_then(|request| request.raw("schema"));
        (message.unwrap_or_else(|| "The service asks for input.".into()), schema)
    }

    /// A form is an object; any other value becomes its only member.
    fn is_form(schema: Option<&RawValue>) -> bool {
        let of_type = schema.and_then(|schema| Object::new(schema.get(), "#").ok()?.raw("type"));
        of_type.is_some_and(|of_type| of_type.get() == r#""object""#)
    }

    fn elicitation(&self) -> String {
        let (message, schema) = self.asked();
        let form = match schema {
            Some(schema) if Self::is_form(Some(schema)) => schema.get().to_string(),
            schema => {
                let schema = schema.map_or(r#"{"type":"string"}"#, RawValue::get);
                format!(r#"{{"type":"object","properties":{{"input":{schema}}},"required":["input"]}}"#)
            }
        };
        let message = quoted(&message);
        format!(
            r#"{{"method":"elicitation/create","params":{{"mode":"form","message":{message},"requestedSchema":{form}}}}}"#
        )
    }

    /// Evaluates `inputResponses`. Other members are ignored.
    pub fn evaluate(&self, responses: &str) -> ElicitationResponse {
        let Ok(responses) = serde_json::from_str::<BTreeMap<String, &RawValue>>(responses) else {
            return ElicitationResponse::Invalid("inputResponses must be an object".into());
        };
        let requests = self.requests();
        let Ok(requests) = serde_json::from_str::<BTreeMap<String, &RawValue>>(&requests) else {
            return ElicitationResponse::Unanswered;
        };
        let mut known = BTreeMap::new();
        for name in requests.keys() {
            match responses.get(name) {
                Some(response) if response.get().starts_with('{') => known.insert(name, response),
                Some(_) => {
                    return ElicitationResponse::Invalid(format!(
                        "inputResponses has a {} that is not an object",
                        quoted(name)
                    ));
                }
                None => None,
            };
        }
        if self.passed().is_some() {
            let known = known.into_iter().map(|(name, response)| (name.clone(), (*response).to_owned()));
            return self.in_its_terms(&requests, order::insert_all(known)).unwrap_or(ElicitationResponse::Unanswered);
        }
        known.values().next().map_or(ElicitationResponse::Unanswered, |response| self.filled_in(response))
    }

    /// The protocol's own requests may be answered one after the other.
    fn in_its_terms(&self, requests: &BTreeMap<String, &RawValue>, mut known: Members) -> Option<ElicitationResponse> {
        if known.is_empty() {
            return Some(ElicitationResponse::Unanswered);
        }
        let open = requests.iter().filter(|(name, _)| !known.contains_key(*name));
        let open: BTreeMap<&str, &RawValue> = order::insert_all(open.map(|(name, request)| (name.as_str(), *request)));
        let mut request: Members = serde_json::from_str(self.request?.get()).ok()?;
        let mut mcp: Members = serde_json::from_str(request.get("mcp")?.get()).ok()?;
        let before: Option<Members> = mcp.get(RESPONSES).and_then(|said| serde_json::from_str(said.get()).ok());
        known.extend(before.unwrap_or_default());
        let said = to_raw_value(&known).ok()?;
        if open.is_empty() {
            return Some(ElicitationResponse::Input(format!(r#"{{"{RESPONSES}":{said}}}"#)));
        }
        mcp.insert(OPEN.into(), to_raw_value(&open).ok()?);
        mcp.insert(RESPONSES.into(), said);
        request.insert("mcp".into(), to_raw_value(&mcp).ok()?);
        serde_json::to_string(&request).ok().map(ElicitationResponse::Partial)
    }

    fn filled_in(&self, response: &RawValue) -> ElicitationResponse {
        let Ok(mut response) = Object::new(response.get(), "#") else { return ElicitationResponse::Unanswered };
        if response.string("action", 1..=20).as_deref() != Some("accept") {
            return ElicitationResponse::Declined;
        }
        let Some(content) = response.raw("content") else { return ElicitationResponse::Unanswered };
        if Self::is_form(self.asked().1) {
            return ElicitationResponse::Input(content.get().into());
        }
        match Object::new(content.get(), "#").ok().and_then(|mut content| content.raw_or_null("input")) {
            Some(input) => ElicitationResponse::Input(input.get().into()),
            None => ElicitationResponse::Unanswered,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn raw(value: &Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(value).unwrap()
    }

    #[test]
    fn a_question_is_a_form_and_its_answer_the_input() {
        let form = json!({"type": "object", "properties": {"name": {"type": "string"}}});
        for (schema, shown, content, input) in [
            (form.clone(), form, json!({"name": "Ada"}), r#"{"name":"Ada"}"#),
            (
                json!({"type": "boolean"}),
                json!({"type": "object", "properties": {"input": {"type": "boolean"}}, "required": ["input"]}),
                json!({"input": false}),
                "false",
            ),
            (
                json!(null),
                json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}),
                json!({"input": "yes"}),
                r#""yes""#,
            ),
        ] {
            let request = raw(&json!({"message": "Go on?", "schema": schema}));
            let question = Elicitation::new(2, Some(&request));
            let requests: Value = serde_json::from_str(&question.requests()).unwrap();
            let request = requests["input-2"].clone();
            assert_eq!(request["method"], json!("elicitation/create"));
            assert_eq!(
                (&request["params"]["message"], &request["params"]["requestedSchema"]),
                (&json!("Go on?"), &shown)
            );
            let says = |key: &str, response: Value| question.evaluate(&json!({key: response}).to_string());
            let accepted = json!({"action": "accept", "content": content});
            assert_eq!(says("input-2", accepted.clone()), ElicitationResponse::Input(input.into()));
            assert_eq!(says("input-1", accepted), ElicitationResponse::Unanswered);
            assert_eq!(says("input-2", json!({"action": "decline"})), ElicitationResponse::Declined);
            assert_eq!(says("input-2", json!({"action": "accept"})), ElicitationResponse::Unanswered);
            assert!(matches!(says("input-2", json!(12345)), ElicitationResponse::Invalid(_)));
            assert!(matches!(question.evaluate("[]"), ElicitationResponse::Invalid(_)));
        }
    }

    #[test]
    fn requests_in_the_protocols_terms_are_forwarded_unchanged() {
        let requests = json!({
            "name": {"method": "elicitation/create", "params": {"message": "Who?", "x-own": 1.50}},
            "roots": {"method": "roots/list"},
        });
        let request =
            raw(&json!({"message": "Who?", "schema": {"type": "object"}, "mcp": {"inputRequests": requests}}));
        let question = Elicitation::new(1, Some(&request));
        assert_eq!(serde_json::from_str::<Value>(&question.requests()).unwrap(), requests);
        let (name, roots) = (json!({"action": "decline"}), json!({"roots": []}));
        let all = json!({"name": name, "roots": roots, "other": 7}).to_string();
        let ElicitationResponse::Input(input) = question.evaluate(&all) else { panic!("{all}") };
        let expected = json!({"inputResponses": {"name": name, "roots": roots}});
        assert_eq!(serde_json::from_str::<Value>(&input).unwrap(), expected);
        assert_eq!(question.evaluate(&json!({"other": name}).to_string()), ElicitationResponse::Unanswered);
        let ElicitationResponse::Partial(rest) = question.evaluate(&json!({"name": name}).to_string()) else {
            panic!("the rest")
        };
        let rest: Box<RawValue> = RawValue::from_string(rest).unwrap();
        let question = Elicitation::new(1, Some(&rest));
        let open: Value = serde_json::from_str(&question.requests()).unwrap();
        assert_eq!(open, json!({"roots": {"method": "roots/list"}}));
        let ElicitationResponse::Input(input) = question.evaluate(&json!({"roots": roots}).to_string()) else {
            panic!("all")
        };
        assert_eq!(serde_json::from_str::<Value>(&input).unwrap(), expected);
        let question = Elicitation::new(1, Some(&request));
        assert!(matches!(
            question.evaluate(&json!({"name": name, "roots": []}).to_string()),
            ElicitationResponse::Invalid(_)
        ));
    }
}
