//! The types of events, and the close codes of WebSockets.

use std::collections::BTreeSet;

use serde_json::json;

use super::ASYNCAPI;
use crate::calling::connection::close_code::ConnectionCloseCode;
use crate::events::close_code::StreamCloseCode;
use crate::events::event_type::EventType;

#[test]
fn every_event_is_a_message_of_the_contract() {
    let messages = ASYNCAPI.at("/components/messages").as_object().unwrap();
    let described: BTreeSet<&str> = messages.keys().map(String::as_str).filter(|name| name.contains('.')).collect();
    // A test of a webhook is sent to that webhook only.
    let streamed = EventType::all().filter(|kind| *kind != EventType::WebhookTest);
    let types: BTreeSet<&str> = streamed.map(EventType::as_str).collect();
    assert_eq!(described, types, "describe each in api/events/messages.yaml, then `npm run api`");
    for (name, message) in messages.iter().filter(|(name, _)| name.contains('.')) {
        let kind = &ASYNCAPI.follow(&message["payload"])["properties"]["type"];
        assert_eq!(kind["const"], name.as_str(), "the payload of {name} in api/schemas/ names another type");
    }
}

#[test]
fn every_close_code_is_in_the_contract() {
    let stream: Vec<_> = StreamCloseCode::ALL.iter().map(|it| json!({"code": it.code(), "name": it.name()})).collect();
    let connection: Vec<_> =
        ConnectionCloseCode::ALL.iter().map(|it| json!({"code": it.code(), "name": it.name()})).collect();
    for (name, channel) in ASYNCAPI.at("/channels").as_object().unwrap() {
        let described = channel["x-close-codes"].as_array().unwrap().iter();
        let described: Vec<_> = described.map(|it| json!({"code": it["code"], "name": it["name"]})).collect();
        let wanted = if name == "serviceConnection" { &connection } else { &stream };
        assert_eq!(described, *wanted, "`x-close-codes` of {name} in api/events/channels.yaml, then `npm run api`");
    }
}
