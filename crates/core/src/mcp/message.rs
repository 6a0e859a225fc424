//! JSON-RPC 2.0, parsed once. Ids stay as they were written; parameters are read by the handler of the method.

use serde_json::value::RawValue;

use super::error::Error;
use crate::base::json::{self, MAX_DEPTH, Object};

/// The longest id, in bytes.
const MAX_ID_BYTES: usize = 256;
/// The longest method name, in bytes.
const MAX_METHOD_BYTES: usize = 128;
/// The maximum number of messages in a batch.
const MAX_MESSAGES: usize = 32;

/// One message.
#[derive(Debug)]
pub enum Message<'a> {
    Request(Request<'a>),
    Notification {
        method: String,
        params: Option<&'a RawValue>,
    },
    /// A response to a request of the server; an error has no result.
    Response {
        id: &'a RawValue,
        result: Option<&'a RawValue>,
    },
}

/// A request.
#[derive(Debug)]
pub struct Request<'a> {
    pub id: &'a RawValue,
    pub method: String,
    pub params: Option<&'a RawValue>,
}

/// The content of a body.
#[derive(Debug)]
pub enum Body<'a> {
    One(Message<'a>),
    /// Only in revisions up to 2025-03-26.
    Batch(Vec<Result<Message<'a>, Rejection<'a>>>),
}

/// An error, with the id of its request if it could be read.
#[derive(Debug)]
pub struct Rejection<'a> {
    pub id: Option<&'a RawValue>,
    pub error: Error,
}

impl<'a> Rejection<'a> {
    /// An error for the request with this id.
    pub fn new(id: Option<&'a RawValue>, error: Error) -> Self {
        Self { id, error }
    }
}

/// Reads a body: exactly one JSON value, without duplicate members, not nested too deeply.
pub fn read(bytes: &[u8]) -> Result<Body<'_>, Rejection<'_>> {
    let text =
        json::check(bytes, MAX_DEPTH).map_err(|invalid| Rejection::new(None, Error::Parse(invalid.to_string())))?;
    if !text.trim_ascii_start().starts_with('[') {
        return message(text).map(Body::One);
    }
    let invalid = |detail: String| Rejection::new(None, Error::Invalid(detail));
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| invalid("a batch is an array".into()))?;
    if !(1..=MAX_MESSAGES).contains(&items.len()) {
        return Err(invalid(format!("a batch has 1 to {MAX_MESSAGES} messages")));
    }
    Ok(Body::Batch(items.into_iter().map(|item| message(item.get())).collect()))
}

/// An id is a string or a number.
fn is_id(raw: &RawValue) -> bool {
    raw.get().len() <= MAX_ID_BYTES
        && raw.get().bytes().next().is_some_and(|first| matches!(first, b'"' | b'-' | b'0'..=b'9'))
}

fn message(text: &str) -> Result<Message<'_>, Rejection<'_>> {
    let invalid = |id, detail: &str| Rejection::new(id, Error::Invalid(detail.into()));
    let mut members = Object::new(text, "#").map_err(|_| invalid(None, "a message is an object"))?;
    let id = members.raw_or_null("id");
    let known = id.filter(|id| is_id(id));
    if members.string("jsonrpc", 1..=8).as_deref() != Some("2.0") {
        return Err(invalid(known, "jsonrpc must be \"2.0\""));
    }
    let Some(method) = members.raw_or_null("method") else {
        let result = members.raw_or_null("result");
        let answers = result.is_some() != members.raw_or_null("error").is_some();
        return match known.filter(|_| answers) {
            Some(id) => Ok(Message::Response { id, result }),
            None => Err(invalid(known, "a message has a method, or is a response with an id")),
        };
    };
    let method = serde_json::from_str::<String>(method.get()).ok();
    let Some(method) = method.filter(|name| (1..=MAX_METHOD_BYTES).contains(&name.len())) else {
        return Err(invalid(known, "method must be a string"));
    };
    let params = members.raw_or_null("params");
    if params.is_some_and(|params| !params.get().starts_with('{')) {
        return Err(invalid(known, "params must be an object"));
    }
    match (id, known) {
        (None, _) => Ok(Message::Notification { method, params }),
        (Some(_), Some(id)) => Ok(Message::Request(Request { id, method, params })),
        (Some(_), None) => Err(invalid(None, "id must be a string or a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(text: &str) -> i64 {
        read(text.as_bytes()).unwrap_err().error.code()
    }

    #[test]
    fn a_request_keeps_its_id_as_it_was_written() {
        for id in ["1", "-7", "1.50", "1e3", r#""a""#, r#""\u0041""#] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping","params":{{"a":1}}}}"#);
            let Ok(Body::One(Message::Request(request))) = read(text.as_bytes()) else { panic!("{text}") };
            assert_eq!((request.id.get(), request.method.as_str()), (id, "ping"));
            assert_eq!(request.params.unwrap().get(), r#"{"a":1}"#);
        }
    }

    #[test]
    fn invalid_messages_are_distinguished_from_invalid_json() {
        for (text, expected) in [
            ("", -32700),
            ("{", -32700),
            (r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"ping"}"#, -32700),
            ("1", -32600),
            ("null", -32600),
            ("{}", -32600),
            ("[]", -32600),
            (r#"{"id":1,"method":"ping"}"#, -32600),
            (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600),
            (r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1,"method":""}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":null}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1}"#, -32600),
            (r#"{"jsonrpc":"2.0","result":{}}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, -32600),
        ] {
            assert_eq!(code(text), expected, "{text}");
        }
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{}{}}}}}"#,
            "[".repeat(99),
            "]".repeat(99)
        );
        assert_eq!(code(&deep), -32700);
        let long = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(300));
        assert_eq!(code(&long), -32600);
    }

    #[test]
    fn a_refusal_names_the_request_where_it_can() {
        let refusal = read(br#"{"jsonrpc":"2.0","id":"a","method":7}"#).unwrap_err();
        assert_eq!(refusal.id.map(RawValue::get), Some(r#""a""#));
        assert!(read(br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#).unwrap_err().id.is_none());
    }

    #[test]
    fn without_an_id_it_is_a_notification_and_without_a_method_a_response() {
        let one = |text: &'static str| match read(text.as_bytes()) {
            Ok(Body::One(message)) => message,
            other => panic!("{other:?}"),
        };
        assert!(matches!(one(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#), Message::Notification { .. }));
        assert!(matches!(one(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Message::Response { result: Some(_), .. }));
        assert!(matches!(one(r#"{"jsonrpc":"2.0","id":1,"error":{}}"#), Message::Response { result: None, .. }));
    }

    #[test]
    fn a_batch_is_bounded_and_each_of_its_messages_stands_alone() {
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let text = format!("[{ping},1]");
        let Ok(Body::Batch(items)) = read(text.as_bytes()) else { panic!("no batch") };
        assert!(items[0].is_ok() && items[1].is_err());
        assert_eq!(code(&format!("[{}]", vec![ping; MAX_MESSAGES + 1].join(","))), -32600);
    }

    proptest! {
        /// Whatever is sent, reading ends in a message or a rejection that is itself JSON.
        #[test]
        fn nothing_that_is_sent_breaks_the_reading(text in "\\PC{0,60}", id in "[-0-9a-z\"\\[{]{0,6}", method in "\\PC{0,12}") {
            let near = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#);
            for body in [&text, &near] {
                if let Err(refusal) = read(body.as_bytes()) {
                    let response = refusal.error.response(refusal.id, "req_1");
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&response).is_ok(), "{}", response);
                }
            }
        }
    }
}
