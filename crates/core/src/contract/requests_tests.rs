//! What the core's readers accept, and the bounds of the contract's schemas: each is tried at its bound and beyond.

use serde_json::{Map, Value, json};

use super::shape::Shape;
use super::{ASYNCAPI, Document, OPENAPI};
use crate::access::issuer::AddressRules;
use crate::access::oauth::client;
use crate::access::{issuer, role, tenant};
use crate::base::json::Fault;
use crate::base::principal_id::PrincipalId;
use crate::calling::callback;
use crate::calling::connection::frame;
use crate::context::create_request;
use crate::events::filter::Filter;
use crate::http::egress_address::Policy;
use crate::limits::policy;
use crate::models::route;
use crate::services::transport::Rules;
use crate::{schedules, services, webhooks};

const ADDRESSES: Policy<'static> = Policy::STRICT;

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
    /// Members whose own members something else reads.
    passed_on: &'a [&'a str],
    differences: Vec<String>,
}

/// Sets a value, and the objects around it where there are none. A number is a place in an array.
fn set(document: &mut Value, path: &[&str], value: Value) {
    let mut here = document;
    for name in path {
        let place = name.parse::<usize>().ok().filter(|_| here.is_array());
        if let Some(place) = place {
            here = &mut here[place];
            continue;
        }
        if !here.is_object() {
            *here = Value::Object(Map::new());
        }
        here = &mut here[*name];
    }
    *here = value;
}

/// The schemas of the objects that a schema allows.
fn alternatives(document: &Document, schema: &Value) -> Vec<Value> {
    let schema = document.follow(schema);
    let branches = ["anyOf", "oneOf"].into_iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
    let found: Vec<Value> = branches.flat_map(|branch| alternatives(document, branch)).collect();
    let is_object = !Shape::of(&document.root, schema).members.is_empty();
    if found.is_empty() && is_object { vec![schema.clone()] } else { found }
}

/// A number that a schema states itself, or the one form of its values that is not null.
fn stated(document: &Document, schema: &Value, keyword: &str) -> Option<u64> {
    let schema = document.follow(schema);
    let branches = ["anyOf", "oneOf"].into_iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
    let forms: Vec<&Value> = branches.filter(|branch| branch["type"] != "null").collect();
    match (schema.get(keyword).and_then(Value::as_u64), forms.as_slice()) {
        (None, [only]) => stated(document, only, keyword),
        (found, _) => found,
    }
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

    /// Whether the reader refuses `beyond` for a reason that it does not have for `within`.
    fn bounded(&mut self, path: &[&str], bound: &str, within: Value, beyond: Value) {
        let allowed = self.faults(path, within, true);
        let refused = self.faults(path, beyond, true);
        if refused.is_empty() {
            self.fault(path, &format!("says {bound}, and the reader accepts what is beyond"));
        } else if refused.iter().all(|detail| allowed.contains(detail)) {
            self.fault(path, &format!("allows {bound}, which the reader refuses ({})", refused.join("; ")));
        }
    }

    fn refuses(&mut self, path: &[&str], bound: &str, beyond: Value) {
        if self.faults(path, beyond, true).is_empty() {
            self.fault(path, &format!("says {bound}, and the reader accepts what is beyond"));
        }
    }

    fn members(&mut self, schema: &Value, path: &[&str]) {
        let shape = Shape::of(&self.document.root, schema);
        // Members of responses are accepted, whatever they are, so that a response can be sent back.
        let is_read = |schema: &Value| schema.get("readOnly").is_none();
        for (name, member) in shape.members.iter().filter(|(_, schema)| is_read(schema)) {
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
            // Null counts as absent.
            let faults = self.faults(path, Value::Null, false);
            if let Some(detail) = faults.iter().find(|detail| *detail != "is required") {
                self.fault(path, &format!("allows null, which the reader refuses ({detail})"));
            }
        }
        for word in shape.words.iter().flatten() {
            self.bounded(path, &format!("\"{word}\""), json!(word), json!("surprise"));
        }
        self.bounds(&shape, schema, path);
        if types.contains("object") && !self.passed_on.contains(&path.last().copied().unwrap_or_default()) {
            let alternatives = alternatives(self.document, schema);
            if let [only] = alternatives.as_slice() {
                self.members(only, path);
            }
        }
    }

    fn bounds(&mut self, shape: &Shape, schema: &Value, path: &[&str]) {
        let schema = self.document.follow(schema).clone();
        let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
        if let Some(most) = bound("maximum") {
            self.bounded(path, &format!("at most {most}"), json!(most), json!(most + 1));
        }
        if let Some(least) = bound("minimum") {
            let below = i64::try_from(least).unwrap_or(0) - 1;
            self.bounded(path, &format!("at least {least}"), json!(least), json!(below));
        }
        let text = |length: u64| json!("a".repeat(length as usize));
        match bound("maxLength") {
            // Of a text that breaks the pattern, the reader says the same whatever its length.
            Some(most) if schema.get("pattern").is_some() => {
                self.refuses(path, &format!("at most {most} characters"), text(most + 1));
            }
            Some(most) => self.bounded(path, &format!("at most {most} characters"), text(most), text(most + 1)),
            None => {}
        }
        if bound("minLength").is_some_and(|least| least > 0) {
            self.refuses(path, "that it is not empty", json!(""));
        }
        if let Some(most) = bound("maxItems") {
            let example = self.example.pointer(&format!("/{}", path.join("/"))).cloned();
            let items = |count| items(shape, example.as_ref(), count);
            self.bounded(path, &format!("at most {most} items"), items(most), items(most + 1));
        }
        if bound("minItems").is_some_and(|least| least > 0) {
            self.refuses(path, "that it is not empty", json!([]));
        }
        if let Some(most) = bound("x-max-bytes").filter(|_| shape.may_be("object")) {
            let sized = |bytes: u64| json!({"a": "b".repeat(bytes as usize - r#"{"a":""}"#.len())});
            self.bounded(path, &format!("at most {most} bytes"), sized(most), sized(most + 1));
        }
        // Of a map; the names of other objects are known.
        if let Some(most) = stated(self.document, &schema, "maxProperties").filter(|_| shape.members.is_empty()) {
            let values = shape.others.as_ref().map(|others| Shape::of(&self.document.root, others)).unwrap_or_default();
            let value = if values.may_be("string") { json!("v") } else { json!([]) };
            let map = |count: u64| (0..count).map(|n| (format!("k{n}"), value.clone())).collect::<Map<_, _>>();
            self.bounded(path, &format!("at most {most} members"), map(most).into(), map(most + 1).into());
        }
        let item = shape.items.as_ref().map(|items| self.document.follow(items).clone()).unwrap_or_default();
        if let Some(most) = item.get("maxLength").and_then(Value::as_u64) {
            self.refuses(path, &format!("items of at most {most} characters"), json!([text(most + 1)]));
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
    Request { document: &OPENAPI, name, read, example: example(name), at: &[], passed_on: &[], differences: Vec::new() }
}

fn service(text: &str) -> Vec<Fault> {
    let bindings = ["WORDS".to_string()];
    let rules = Rules { addresses: ADDRESSES, own_hosts: &[], demo: true, bindings: Some(&bindings), stored: None };
    faults_of(services::read(&"llm-primary".into(), text, rules))
}

#[test]
fn requests_are_read_within_the_bounds_of_the_contract() {
    let rules = AddressRules { addresses: ADDRESSES, own_hosts: &[] };
    let me = &PrincipalId::of_key("me");
    let hooks = webhooks::Rules { addresses: ADDRESSES, own_hosts: &[], me, sees_all: true };
    let schedule = |text: &str| faults_of(schedules::read(text, schedules::MIN_INTERVAL_SECONDS, |_| true));
    let differences = [
        request("NewContext", &|text| faults_of(create_request::read(text))).differences(),
        request("NewRole", &|text| faults_of(role::read(text))).differences(),
        request("NewTenant", &|text| faults_of(tenant::read(text))).differences(),
        request("NewRateLimit", &|text| faults_of(policy::read(text))).differences(),
        request("NewModelRoute", &|text| faults_of(route::read(text))).differences(),
        request("NewSchedule", &schedule).differences(),
        request("NewService", &service).differences(),
        request("NewWebhook", &|text| faults_of(webhooks::read(text, hooks))).differences(),
        request("NewIssuer", &|text| faults_of(issuer::read("corporate", text, rules))).differences(),
        request("NewClient", &|text| faults_of(client::read("desk", text, rules))).differences(),
        Request {
            // How an attempt ended is read as every answer of a service is.
            passed_on: &["error", "input_required"],
            ..request("Callback", &|text| faults_of(callback::read(text)))
        }
        .differences(),
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
        ("NewAnthropicTransport", json!({"kind": "anthropic", "url": url})),
        ("NewMcpTransport", json!({"kind": "mcp", "url": url})),
        ("NewBindingTransport", json!({"kind": "binding", "binding": "WORDS"})),
        ("NewSocketTransport", json!({"kind": "socket"})),
        ("NewDemoTransport", json!({"kind": "demo"})),
    ];
    let differences = each.map(|(name, transport)| {
        let mut document = example("NewService");
        let members = document.as_object_mut().unwrap();
        members.retain(|name, _| ["name", "type"].contains(&name.as_str()));
        let capabilities = match name {
            "NewMcpTransport" => Value::Null,
            "NewOpenAiTransport" => json!([{"name": "chat"}]),
            "NewAnthropicTransport" => json!([{"name": "messages"}]),
            _ => json!([{"name": "count"}]),
        };
        members.insert("capabilities".into(), capabilities);
        set(&mut document, &["transport"], transport);
        let at = &["transport"];
        Request {
            document: &OPENAPI,
            name,
            read: &service,
            example: document,
            at,
            passed_on: &[],
            differences: Vec::new(),
        }
        .differences()
    });
    let differences = differences.concat();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

/// A service that offers a model with everything that can be said about it.
fn service_with_models() -> Value {
    json!({
        "name": "Models",
        "type": "llm",
        "transport": {"kind": "openai", "url": "https://services.example.com/"},
        "models": [{
            "id": "m",
            "prices": {
                "currency": "USD",
                "input": "0.25",
                "tiers": [{"above_input": 200_000, "input": "0.50"}],
                "service_tiers": {"flex": {"input": "0.125"}},
            },
        }],
    })
}

#[test]
fn models_and_their_prices_are_read_within_the_bounds_of_the_contract() {
    let prices = ["models", "0", "prices"];
    let tiers = [prices.as_slice(), &["tiers", "0"]].concat();
    let rates = [prices.as_slice(), &["service_tiers", "flex"]].concat();
    let route = example("NewModelRoute");
    let read_route = |text: &str| faults_of(route::read(text));
    let at = |name, example, at, read| {
        Request { document: &OPENAPI, name, read, example, at, passed_on: &[], differences: Vec::new() }.differences()
    };
    let differences = [
        at("ModelOffer", service_with_models(), &["models", "0"], &service),
        at("ModelPrices", service_with_models(), &prices, &service),
        at("ModelPriceTier", service_with_models(), &tiers, &service),
        at("ModelRates", service_with_models(), &rates, &service),
        at("NewModelRouteTarget", route, &["targets", "0"], &read_route),
    ]
    .concat();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn credentials_are_read_by_their_places_within_the_bounds_of_the_contract() {
    let with = |credentials: Value| {
        let mut document = service_with_models();
        set(&mut document, &["credentials"], credentials);
        service(&document.to_string()).into_iter().map(|fault| fault.pointer).collect::<Vec<_>>()
    };
    let values = |count: u64| (0..count).map(|n| (format!("X-Key-{n}"), json!("secret"))).collect::<Map<_, _>>();
    let schema = OPENAPI.at("/components/schemas/CredentialsByPlace/properties");
    for member in ["headers", "query"] {
        let most = schema[member]["maxProperties"].as_u64().unwrap();
        assert_eq!(with(json!({member: values(most)})), Vec::<String>::new());
        // The sum counts.
        assert_eq!(with(json!({member: values(most + 1)})), ["#/credentials/headers"]);
        assert_eq!(with(json!({"headers": values(most), "query": {"key": "secret"}})), ["#/credentials/headers"]);
        let value = &schema[member]["additionalProperties"];
        let longest = value["maxLength"].as_u64().unwrap() as usize;
        let place = format!("#/credentials/{member}/X-Key");
        assert_eq!(with(json!({member: {"X-Key": "a".repeat(longest)}})), Vec::<String>::new());
        for wrong in [json!("a".repeat(longest + 1)), json!(""), json!("ä"), json!(1), json!(null)] {
            // Nothing is stored that null could stand for.
            assert_eq!(with(json!({member: {"X-Key": wrong}})), [place.as_str()], "{wrong}");
        }
        let name = "a".repeat(schema[member]["propertyNames"]["maxLength"].as_u64().unwrap() as usize);
        assert_eq!(with(json!({member: {&name: "secret"}})), Vec::<String>::new());
        assert_eq!(with(json!({member: {format!("{name}a"): "secret"}})), [format!("#/credentials/{member}/{name}a")]);
    }
    assert_eq!(with(json!({"headers": {}})), ["#/credentials/headers"]);
    assert_eq!(with(json!({"headers": {"X-Key": "secret"}, "surprise": 1})), ["#/credentials/surprise"]);
}

#[test]
fn messages_are_read_within_the_bounds_of_the_contract() {
    let me = PrincipalId::of_key("me");
    let subscribe = |text: &str| faults_of(Filter::from_message(text, &me, true));
    let message = |text: &str| faults_of(frame::read(text));
    let asked = |name, read, example| {
        Request { document: &ASYNCAPI, name, read, example, at: &[], passed_on: &[], differences: Vec::new() }
            .differences()
    };
    let differences = [
        asked("Subscribe", &subscribe, json!({"subscribe": {}})),
        asked("ServiceReady", &message, json!({"type": "ready", "credit": 1})),
    ]
    .concat();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
