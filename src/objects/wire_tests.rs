//! Pins the forms of messages: during a deployment other versions of the Worker send and read them.
//!
//! Each class has a file `wire.json` with examples of every request and of its replies. An example under `requests` and
//! `replies` must be read and written again unchanged. One under `older` was sent by an earlier version, and must be
//! read.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::protocol::{Request, bare};
use super::reply::ReadReply;
use narthex_core::base::json_writer::written;

/// An enum of requests whose forms are pinned.
pub trait Pinned: DeserializeOwned {
    const NAMES: &'static [&'static str];

    fn rewrite_request(&self) -> String;
    fn rewrite_reply(name: &str, reply: &str) -> Result<String, serde_json::Error>;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Examples {
    requests: Vec<Box<RawValue>>,
    #[serde(default)]
    older: Vec<Box<RawValue>>,
    replies: Vec<Box<RawValue>>,
    #[serde(default)]
    older_replies: Vec<Box<RawValue>>,
}

/// A request as it is sent.
pub fn request<R: Request>(request: &R) -> String {
    bare(request).unwrap()
}

/// A reply read and written again.
pub fn reply<T: Serialize + ReadReply>(text: &str) -> Result<String, serde_json::Error> {
    written(&T::read(text)?)
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Holds the requests and replies of a class to its examples.
pub fn assert_pinned<A: Pinned>(examples: &str) {
    let examples: BTreeMap<String, Examples> = serde_json::from_str(examples).unwrap();
    let mut names: Vec<&str> = A::NAMES.to_vec();
    names.sort_unstable();
    assert_eq!(names, examples.keys().map(String::as_str).collect::<Vec<_>>());
    for (name, Examples { requests, older, replies, older_replies }) in &examples {
        assert!(!requests.is_empty() && !replies.is_empty(), "{name} has no example");
        for text in requests.iter().map(|example| example.get()) {
            let ask: A = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
            assert_eq!(value(&ask.rewrite_request()), value(text), "{name}");
            assert!(is_named(name, &value(text)), "{text} is not a request {name}");
        }
        for text in older.iter().map(|example| example.get()) {
            let ask: Result<A, _> = serde_json::from_str(text);
            assert!(ask.is_ok_and(|_| is_named(name, &value(text))), "{name} is not read: {text}");
        }
        for text in replies.iter().map(|example| example.get()) {
            let again = A::rewrite_reply(name, text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
            assert_eq!(value(&again), value(text), "{name}");
        }
        for text in older_replies.iter().map(|example| example.get()) {
            assert!(A::rewrite_reply(name, text).is_ok(), "the reply to {name} is not read: {text}");
        }
    }
}

fn is_named(name: &str, request: &Value) -> bool {
    request == name || request.as_object().is_some_and(|request| request.len() == 1 && request.contains_key(name))
}
