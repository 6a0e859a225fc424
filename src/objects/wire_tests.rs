//! Pins the forms of messages: during a deployment other versions of the Worker send and read them.
//!
//! Each class has a file `wire.json` with examples of every request and of each variant of its reply. An example under
//! `requests` and `replies` must be read and written again unchanged. One under `older` was sent by an earlier version,
//! and must be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::protocol::{Request, bare};
use super::reply::{ReadReply, Variants};
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
        let shown: BTreeSet<String> = replies.iter().map(|example| variant(&value(example.get()))).collect();
        for known in variants(A::rewrite_reply(name, NO_VARIANT)) {
            assert!(shown.contains(&known), "the reply {known} to {name} has no example");
        }
        for text in older_replies.iter().map(|example| example.get()) {
            assert!(A::rewrite_reply(name, text).is_ok(), "the reply to {name} is not read: {text}");
        }
    }
}

/// Holds the names of the refusals of a class to its enum and its examples.
pub fn assert_refusals_pinned<E: DeserializeOwned + Variants + Debug>(examples: &str) {
    let examples: BTreeMap<String, Examples> = serde_json::from_str(examples).unwrap();
    let replies = examples.values().flat_map(|examples| &examples.replies);
    let shown: BTreeSet<String> = replies.map(|example| variant(&value(example.get()))).collect();
    let known: BTreeSet<String> = variants(serde_json::from_str::<E>(NO_VARIANT)).into_iter().collect();
    assert_eq!(known, E::NAMES.iter().map(|name| String::from(*name)).collect());
    assert!(known.is_subset(&shown), "{known:?} are not all in {shown:?}");
}

/// A reply that is none: the error of reading it lists the variants.
const NO_VARIANT: &str = r#""?""#;

fn variants<T: Debug>(read: Result<T, serde_json::Error>) -> Vec<String> {
    let error = read.unwrap_err().to_string();
    let (_, list) = error.split_once("expected ").unwrap();
    list.split('`').skip(1).step_by(2).map(Into::into).collect()
}

fn variant(reply: &Value) -> String {
    let name = reply.as_str().or_else(|| reply.as_object()?.keys().next().map(String::as_str));
    name.unwrap_or_else(|| panic!("{reply} is no reply")).into()
}

fn is_named(name: &str, request: &Value) -> bool {
    request == name || request.as_object().is_some_and(|request| request.len() == 1 && request.contains_key(name))
}
