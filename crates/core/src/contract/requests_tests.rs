//! What the core's readers accept, and the bounds of the contract's schemas: each is tried at its bound and beyond.

use serde_json::{Map, Value, json};

use super::shape::Shape;
use super::{ASYNCAPI, Document, OPENAPI};
use crate::access::issuer::AddressRules;
use crate::access::oauth::client;
use crate::access::{issuer, role, tenant};
use crate::base::json::Fault;
use crate::calling::callback;
use crate::calling::connection::frame;
use crate::context::create_request;
use crate::events::filter::Filter;
use crate::http::egress_address::Policy;
use crate::limits::policy;
use crate::services::transport::Rules;
use crate::{schedules, services, webhooks};

const ADDRESSES: Policy = Policy { allow_loopback: false };

/// The words with which a reader rejects a member that it does not read.
const UNKNOWN: &str = "is not a known member";

/// A schema, what reads it, and a document that it accepts.
struct Request<'a> {
    document: &'a Document,
    /// The schema's name.
    name: &'a str,
    read: &'a dyn Fn(&str) -> Vec<Fault>,
    example: Value,
    /// Where in `example` the schema's value is.
    at: &'a [&'a str],
    differences: Vec<String>,
}

/// Sets a value, and the objects around it where there are none.
fn set(document: &mut Value, path: &[&str], value: Value) {
    let mut here = document;
    for name in path {
        if !here.is_object() {
            *here = Value::Object(Map::new());
        }
        here = &mut here[*name];
    }
    *here = value;
}

/// `count` different items for an array.
fn items(schema: &Shape, example: Option<&Value>, count: u64) -> Value {
    let item = schema.items.as_ref().map(|items| Shape::of(&OPENAPI.root, items)).unwrap_or_default();
    let first = example.and_then(|list| list.get(0)).cloned().unwrap_or(json!({}));
    (0..count).map(|n| if item.may_be("object") { first.clone() } else { json!(format!("i{n}")) }).collect()
}

impl Request<'_> {
    /// The details of the faults at a place, or in it.
    fn faults(&self, path: &[&str], value: Value, within: bool) -> Vec<String> {
        let mut changed = self.example.clone();
        set(&mut changed, path, value);
        let place = format!("#/{}", path.join("/"));
        let is_there = |pointer: &str| pointer == place || within && pointer.starts_with(&format!("{place}/"));
        let faults = (self.read)(&changed.to_string()).into_iter();
        faults.filter(|fault| is_there(&fault.pointer)).map(|fault| fault.detail).collect()
    }

    fn fault(&mut self, path: &[&str], text: &str) {
        let place = path.join(".");
        let Self { document, name, .. } = self;
        let remedy = "correct the schema in api/schemas/, then `npm run api`, or the reader";
        self.differences.push(format!("schema `{name}` of {}: `{place}` {text}: {remedy}", document.path));
    }

    fn accepts(&mut self, path: &[&str], keyword: &str, value: Value) {
        let faults = self.faults(path, value, false);
        if let Some(detail) = faults.first() {
            self.fault(path, &format!("allows {keyword}, which the reader refuses ({detail})"));
        }
    }

    fn refuses(&mut self, path: &[&str], keyword: &str, value: Value) {
        if self.faults(path, value, true).is_empty() {
            self.fault(path, &format!("says {keyword}, and the reader accepts what is beyond"));
        }
    }

    fn members(&mut self, schema: &Value, path: &[&str]) {
        let shape = Shape::of(&self.document.root, schema);
        for (name, member) in &shape.members {
            let path = [path, &[name.as_str()]].concat();
            self.member(member, &path);
        }
        let surprise = [path, &["surprise"]].concat();
        if shape.others.is_none() && !shape.members.is_empty() {
            self.refuses(&surprise, "that there are no other members", json!(1));
        }
    }

    fn member(&mut self, schema: &Value, path: &[&str]) {
        let shape = Shape::of(&self.document.root, schema);
        let Some(types) = shape.types.clone() else {
            if self.faults(path, json!(5), true).iter().any(|detail| detail == UNKNOWN) {
                self.fault(path, "is not read");
            }
            return self.bounds(&shape, schema, path);
        };
        let wrong = if types.contains("object") { json!(5) } else { json!({"a": 1}) };
        match self.faults(path, wrong, true).first() {
            None => self.fault(path, "has another type than the reader's"),
            Some(detail) if detail == UNKNOWN => self.fault(path, "is not read"),
            Some(_) => {}
        }
        if types.contains("null") {
            self.accepts(path, "null", Value::Null);
        }
        for word in shape.words.iter().flatten() {
            self.accepts(path, word, json!(word));
        }
        if shape.words.is_some() {
            self.refuses(path, "which words there are", json!("surprise"));
        }
        self.bounds(&shape, schema, path);
        // Of alternatives, only one is tried: see `transports`.
        if shape.required.contains("kind") || schema.get("oneOf").is_some() {
            return;
        }
        if types.contains("object") && !shape.members.is_empty() {
            self.members(schema, path);
        }
    }

    fn bounds(&mut self, shape: &Shape, schema: &Value, path: &[&str]) {
        let document = self.document;
        let schema = document.follow(schema).clone();
        let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
        if let Some(most) = bound("maximum") {
            self.accepts(path, &format!("{most}"), json!(most));
            self.refuses(path, &format!("at most {most}"), json!(most + 1));
        }
        if let Some(least) = bound("minimum") {
            self.accepts(path, &format!("{least}"), json!(least));
            self.refuses(path, &format!("at least {least}"), json!(i64::try_from(least).unwrap_or(0) - 1));
        }
        if let Some(most) = bound("maxLength") {
            let text = |length: u64| json!("a".repeat(length as usize));
            if schema.get("pattern").is_none() && schema.get("format").is_none() && path.last() != Some(&"url") {
                self.accepts(path, &format!("{most} characters"), text(most));
            }
            self.refuses(path, &format!("at most {most} characters"), text(most + 1));
        }
        if bound("minLength").is_some_and(|least| least > 0) {
            self.refuses(path, "that it is not empty", json!(""));
        }
        if let Some(most) = bound("maxItems") {
            let example = self.example.pointer(&format!("/{}", path.join("/"))).cloned();
            self.accepts(path, &format!("{most} items"), items(shape, example.as_ref(), most));
            self.refuses(path, &format!("at most {most} items"), items(shape, example.as_ref(), most + 1));
        }
        if bound("minItems").is_some_and(|least| least > 0) {
            self.refuses(path, "that it is not empty", json!([]));
        }
        if let Some(most) = bound("x-max-bytes").filter(|_| shape.may_be("object")) {
            let sized = |bytes: u64| json!({"a": "b".repeat(bytes as usize - r#"{"a":""}"#.len())});
            self.accepts(path, &format!("{most} bytes"), sized(most));
            self.refuses(path, &format!("at most {most} bytes"), sized(most + 1));
        }
        let item = shape.items.as_ref().map(|items| document.follow(items).clone()).unwrap_or_default();
        if let Some(most) = item.get("maxLength").and_then(Value::as_u64) {
            self.refuses(path, &format!("items of at most {most} characters"), json!(["a".repeat(most as usize + 1)]));
        }
    }

    fn differences(mut self) -> Vec<String> {
        let text = self.example.to_string();
        let faults = (self.read)(&text);
        assert!(faults.is_empty(), "the example of {} is refused: {faults:?}", self.name);
        let schema = self.document.schema(self.name);
        let at = self.at;
        self.members(&schema, at);
        self.differences
    }
}

fn faults_of<T>(read: Result<T, Vec<Fault>>) -> Vec<Fault> {
    read.err().unwrap_or_default()
}

/// The example of a request body whose schema has this name.
fn example(name: &str) -> Value {
    let paths = OPENAPI.at("/paths").as_object().unwrap();
    let operations = paths.values().flat_map(|item| item.as_object().unwrap().values());
    let bodies = operations.flat_map(|operation| operation["requestBody"]["content"].as_object().into_iter().flatten());
    let reference = format!("#/components/schemas/{name}");
    let mut found = bodies.filter(|(_, body)| body["schema"]["$ref"] == reference.as_str());
    let (_, body) = found.next().unwrap_or_else(|| panic!("no operation has the body {name}"));
    body["example"].clone()
}

fn request<'a>(name: &'a str, read: &'a dyn Fn(&str) -> Vec<Fault>) -> Request<'a> {
    Request { document: &OPENAPI, name, read, example: example(name), at: &[], differences: Vec::new() }
}

fn service(text: &str) -> Vec<Fault> {
    let bindings = ["WORDS".to_string()];
    let rules = Rules { addresses: ADDRESSES, own_hosts: &[], demo: true, bindings: Some(&bindings), stored: None };
    faults_of(services::read("llm-primary", text, rules))
}

#[test]
fn requests_are_read_within_the_bounds_of_the_contract() {
    let rules = AddressRules { addresses: ADDRESSES, own_hosts: &[] };
    let hooks = webhooks::Rules { addresses: ADDRESSES, own_hosts: &[], me: "key:me", sees_all: true };
    let is_zone = |name: &str| name == "Europe/Berlin";
    let schedule = |text: &str| faults_of(schedules::read(text, schedules::MIN_INTERVAL_SECONDS, is_zone));
    let differences = [
        request("NewContext", &|text| faults_of(create_request::read(text))).differences(),
        request("NewRole", &|text| faults_of(role::read(text))).differences(),
        request("NewTenant", &|text| faults_of(tenant::read(text))).differences(),
        request("NewRateLimit", &|text| faults_of(policy::read(text))).differences(),
        request("NewSchedule", &schedule).differences(),
        request("NewService", &service).differences(),
        request("NewWebhook", &|text| faults_of(webhooks::read(text, hooks))).differences(),
        request("NewIssuer", &|text| faults_of(issuer::read("corporate", text, rules))).differences(),
        request("NewClient", &|text| faults_of(client::read("desk", text, rules))).differences(),
        request("Callback", &|text| faults_of(callback::read(text))).differences(),
    ]
    .concat();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn transports_are_read_within_the_bounds_of_the_contract() {
    let url = "https://services.example.com/";
    let each = [
        ("NewHttpTransport", json!({"kind": "http", "url": url})),
        ("NewOpenAiTransport", json!({"kind": "openai", "url": url})),
        ("NewMcpTransport", json!({"kind": "mcp", "url": url})),
        ("NewBindingTransport", json!({"kind": "binding", "binding": "WORDS"})),
        ("NewSocketTransport", json!({"kind": "socket"})),
        ("NewDemoTransport", json!({"kind": "demo"})),
    ];
    let differences = each.map(|(name, transport)| {
        let mut document = example("NewService");
        let members = document.as_object_mut().unwrap();
        members.retain(|name, _| ["name", "type", "capabilities"].contains(&name.as_str()));
        if name == "NewMcpTransport" {
            members.remove("capabilities");
        }
        set(&mut document, &["transport"], transport);
        let at = &["transport"];
        Request { document: &OPENAPI, name, read: &service, example: document, at, differences: Vec::new() }
            .differences()
    });
    let differences = differences.concat();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn messages_are_read_within_the_bounds_of_the_contract() {
    let subscribe = |text: &str| faults_of(Filter::from_message(text, "key:me", true));
    let message = |text: &str| faults_of(frame::read(text));
    let asked = |name, read, example| {
        Request { document: &ASYNCAPI, name, read, example, at: &[], differences: Vec::new() }.differences()
    };
    let differences = [
        asked("Subscribe", &subscribe, json!({"subscribe": {}})),
        asked("ServiceReady", &message, json!({"type": "ready", "credit": 1})),
    ]
    .concat();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
