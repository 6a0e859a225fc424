//! What a context asks of whoever called, as requests to a client, and what the client says to them as the context's
//! input.
//!
//! A service that speaks the protocol itself asks in its terms (`input_request.mcp`), which pass as they are. Any other
//! asks with a message and a schema, which become a form.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use super::responses::quoted;
use crate::base::json::Object;

/// The members of `input_request.mcp`: what is open, and what was said to the rest.
const OPEN: &str = "inputRequests";
const SAID: &str = "inputResponses";

type Members = BTreeMap<String, Box<RawValue>>;

/// What a client says to what it was asked.
#[derive(Debug, PartialEq)]
pub enum Answered {
    /// The input, as JSON.
    With(String),
    /// Its user does not want to.
    Declined,
    /// Some of what is asked now: the request as it is then, with what is open and what was said.
    Part(String),
    /// Nothing of what is asked now.
    Not,
    /// This is no answer.
    Wrong(String),
}

pub struct Question<'a> {
    /// Each question of a context has a number of its own.
    pub number: usize,
    request: Option<&'a RawValue>,
}

impl<'a> Question<'a> {
    /// `request` is the context's `input_request`.
    pub fn new(number: usize, request: Option<&'a RawValue>) -> Self {
        Self { number, request }
    }

    /// What it is called where the service has no name for it.
    fn name(&self) -> String {
        format!("input-{}", self.number)
    }

    /// The requests of a service that speaks the protocol.
    fn passed(&self) -> Option<&'a RawValue> {
        let mcp = Object::new(self.request?.get(), "#").ok()?.raw("mcp")?;
        Object::new(mcp.get(), "#").ok()?.raw(OPEN).filter(|requests| requests.get().starts_with('{'))
    }

    /// The requests, by their names: the text of an object.
    pub fn requests(&self) -> String {
        match self.passed() {
            Some(requests) => requests.get().to_string(),
            None => format!(r#"{{"{}":{}}}"#, self.name(), self.elicitation()),
        }
    }

    /// The message and the schema of what the service asks for.
    fn asked(&self) -> (String, Option<&'a RawValue>) {
        let mut request = self.request.and_then(|request| Object::new(request.get(), "#").ok());
        let message = request.as_mut().and_then(|request| request.string("message", 0..=10_000));
        let schema = request.as_mut().and_then(|request| request.raw("schema"));
        (message.unwrap_or_else(|| "The service asks for input.".into()), schema)
    }

    /// A form is an object; anything else is its one member.
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

    /// What `inputResponses` say to it. What else they say is passed over.
    pub fn answered(&self, responses: &str) -> Answered {
        let Ok(responses) = serde_json::from_str::<BTreeMap<String, &RawValue>>(responses) else {
            return Answered::Wrong("inputResponses must be an object".into());
        };
        let requests = self.requests();
        let Ok(requests) = serde_json::from_str::<BTreeMap<String, &RawValue>>(&requests) else {
            return Answered::Not;
        };
        let mut known = BTreeMap::new();
        for name in requests.keys() {
            match responses.get(name) {
                Some(response) if response.get().starts_with('{') => known.insert(name, response),
                Some(_) => return Answered::Wrong(format!("inputResponses has a {} that is no object", quoted(name))),
                None => None,
            };
        }
        if self.passed().is_some() {
            let known = known.into_iter().map(|(name, response)| (name.clone(), (*response).to_owned())).collect();
            return self.in_its_terms(&requests, known).unwrap_or(Answered::Not);
        }
        known.values().next().map_or(Answered::Not, |response| self.filled_in(response))
    }

    /// The protocol's own requests may be answered one after the other.
    fn in_its_terms(&self, requests: &BTreeMap<String, &RawValue>, mut known: Members) -> Option<Answered> {
        if known.is_empty() {
            return Some(Answered::Not);
        }
        let open: BTreeMap<&String, &&RawValue> =
            requests.iter().filter(|(name, _)| !known.contains_key(*name)).collect();
        let mut request: Members = serde_json::from_str(self.request?.get()).ok()?;
        let mut mcp: Members = serde_json::from_str(request.get("mcp")?.get()).ok()?;
        let before: Option<Members> = mcp.get(SAID).and_then(|said| serde_json::from_str(said.get()).ok());
        known.extend(before.unwrap_or_default());
        let said = to_raw_value(&known).ok()?;
        if open.is_empty() {
            return Some(Answered::With(format!(r#"{{"{SAID}":{said}}}"#)));
        }
        mcp.insert(OPEN.into(), to_raw_value(&open).ok()?);
        mcp.insert(SAID.into(), said);
        request.insert("mcp".into(), to_raw_value(&mcp).ok()?);
        serde_json::to_string(&request).ok().map(Answered::Part)
    }

    fn filled_in(&self, response: &RawValue) -> Answered {
        let Ok(mut response) = Object::new(response.get(), "#") else { return Answered::Not };
        if response.string("action", 1..=20).as_deref() != Some("accept") {
            return Answered::Declined;
        }
        let Some(content) = response.raw("content") else { return Answered::Not };
        if Self::is_form(self.asked().1) {
            return Answered::With(content.get().into());
        }
        match Object::new(content.get(), "#").ok().and_then(|mut content| content.raw_or_null("input")) {
            Some(input) => Answered::With(input.get().into()),
            None => Answered::Not,
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
            let question = Question::new(2, Some(&request));
            let requests: Value = serde_json::from_str(&question.requests()).unwrap();
            let request = requests["input-2"].clone();
            assert_eq!(request["method"], json!("elicitation/create"));
            assert_eq!(
                (&request["params"]["message"], &request["params"]["requestedSchema"]),
                (&json!("Go on?"), &shown)
            );
            let says = |key: &str, response: Value| question.answered(&json!({key: response}).to_string());
            let accepted = json!({"action": "accept", "content": content});
            assert_eq!(says("input-2", accepted.clone()), Answered::With(input.into()));
            assert_eq!(says("input-1", accepted), Answered::Not);
            assert_eq!(says("input-2", json!({"action": "decline"})), Answered::Declined);
            assert_eq!(says("input-2", json!({"action": "accept"})), Answered::Not);
            assert!(matches!(says("input-2", json!(12345)), Answered::Wrong(_)));
            assert!(matches!(question.answered("[]"), Answered::Wrong(_)));
        }
    }

    #[test]
    fn what_a_service_asks_in_the_protocols_own_terms_passes_as_it_is() {
        let requests = json!({
            "name": {"method": "elicitation/create", "params": {"message": "Who?", "x-own": 1.50}},
            "roots": {"method": "roots/list"},
        });
        let request =
            raw(&json!({"message": "Who?", "schema": {"type": "object"}, "mcp": {"inputRequests": requests}}));
        let question = Question::new(1, Some(&request));
        assert_eq!(serde_json::from_str::<Value>(&question.requests()).unwrap(), requests);
        let (name, roots) = (json!({"action": "decline"}), json!({"roots": []}));
        let all = json!({"name": name, "roots": roots, "other": 7}).to_string();
        let Answered::With(input) = question.answered(&all) else { panic!("{all}") };
        let expected = json!({"inputResponses": {"name": name, "roots": roots}});
        assert_eq!(serde_json::from_str::<Value>(&input).unwrap(), expected);
        assert_eq!(question.answered(&json!({"other": name}).to_string()), Answered::Not);
        let Answered::Part(rest) = question.answered(&json!({"name": name}).to_string()) else { panic!("the rest") };
        let rest: Box<RawValue> = RawValue::from_string(rest).unwrap();
        let question = Question::new(1, Some(&rest));
        let open: Value = serde_json::from_str(&question.requests()).unwrap();
        assert_eq!(open, json!({"roots": {"method": "roots/list"}}));
        let Answered::With(input) = question.answered(&json!({"roots": roots}).to_string()) else { panic!("all") };
        assert_eq!(serde_json::from_str::<Value>(&input).unwrap(), expected);
        let question = Question::new(1, Some(&request));
        assert!(matches!(question.answered(&json!({"name": name, "roots": []}).to_string()), Answered::Wrong(_)));
    }
}
