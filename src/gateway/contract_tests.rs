//! What the Worker writes for clients and services, and the contract's schemas.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde_json::{Value, json};

use narthex_core::context::view::View;
use narthex_core::contract::OPENAPI;
use narthex_core::contract::views::differences_with;

use super::documents::{clients, issuers, limits, model_routes, roles, schedules, tenants};
use super::{capabilities, documents, events, keys, measured, oauth, registry, service_view, usage, webhooks};
use crate::transport;

/// The schemas of responses that the core holds its own types to, that are written from several parts, or that are no
/// view: pages, documents of OAuth and MCP, which have tests of their own, and what providers of models respond.
const OTHERS: [&str; 24] = [
    "AuditEntry",
    "CalledBack",
    "CancelledContext",
    "ChatResponse",
    "Context",
    "ContextEvent",
    "Costs",
    "EmbeddingsResponse",
    "EndedContext",
    "Event",
    "Introspection",
    "LiveContext",
    "Liveness",
    "McpResponse",
    "MessagesResponse",
    "Model",
    "ModelList",
    "PublicKeySet",
    "RegisteredClient",
    "ResourceMetadata",
    "ResponsesResponse",
    "ServerMetadata",
    "TokenCount",
    "WhoAmI",
];

/// What `T` writes, held to the schemas of the forms it has, with and without what is shown once.
fn view<T: JsonSchema>(schemas: &[&'static str], held: &mut BTreeSet<&'static str>) -> Vec<String> {
    held.extend(schemas);
    let forms: Vec<Value> = schemas.iter().map(|name| OPENAPI.schema(name)).collect();
    differences_with::<T>(&OPENAPI, &schemas.join("` or `"), &json!({"anyOf": forms}))
}

/// The names of the schemas of all successful answers, or of the items of their pages.
fn answered() -> BTreeSet<String> {
    let paths = OPENAPI.root["paths"].as_object().unwrap();
    let operations = paths.values().flat_map(|item| item.as_object().unwrap().values());
    let responses = operations.flat_map(|operation| operation["responses"].as_object().into_iter().flatten());
    let good = responses.filter(|(status, _)| status.starts_with('2'));
    let contents = good.flat_map(|(_, response)| OPENAPI.follow(response)["content"].as_object().into_iter().flatten());
    let json = contents.filter(|(kind, _)| *kind == "application/json").map(|(_, content)| &content["schema"]);
    let names = json.filter_map(|schema| {
        let item = &OPENAPI.follow(schema)["properties"]["data"]["items"];
        let reference = item.get("$ref").or(schema.get("$ref"))?.as_str()?;
        reference.rsplit('/').next().map(Into::into)
    });
    names.collect()
}

/// Differences that are as they should be.
const ACCEPTED: [&str; 7] = [
    // The schema of a credential is that of requests too.
    "CreatedService.credentials[].scope` is never written as null",
    // Prices are read only with that of the input.
    "CreatedService.models[].prices.input` may be absent",
    // An inner null is written, an outer one is not.
    "CheckView.tools_error` is never written as null",
    // All of it is kept where the member is absent.
    "View.content` can be \"full\"",
    // Nulls of calls of models, which alone have these members.
    "View.cost` is never written as null",
    "View.finish_reason` is never written as null",
    // Only over a connection, where there are no headers: see `ConnectionWork` of console/asyncapi.json.
    "Envelope.traceparent` is not in",
];

#[test]
fn views_are_as_the_contract_describes_them() {
    let mut held = BTreeSet::new();
    let differences = [
        view::<keys::KeyView>(&["Key", "CreatedKey"], &mut held),
        view::<roles::View>(&["Role"], &mut held),
        view::<tenants::View>(&["Tenant", "MadeTenant"], &mut held),
        view::<limits::View>(&["RateLimit"], &mut held),
        view::<model_routes::View>(&["ModelRoute"], &mut held),
        view::<schedules::View>(&["Schedule", "ListedSchedule"], &mut held),
        view::<issuers::View>(&["Issuer"], &mut held),
        view::<clients::View>(&["Client"], &mut held),
        view::<registry::View>(&["Registry"], &mut held),
        view::<documents::webhooks::View>(&["Webhook", "MadeWebhook"], &mut held),
        view::<webhooks::DeliveryView>(&["WebhookDelivery"], &mut held),
        view::<webhooks::TestReport>(&["WebhookTest"], &mut held),
        view::<usage::View>(&["UsageGroup"], &mut held),
        view::<measured::BeatView>(&["HeartbeatTaken"], &mut held),
        view::<measured::CheckView>(&["Check"], &mut held),
        view::<capabilities::CapabilityView>(&["OfferedCapability"], &mut held),
        view::<service_view::CreatedService>(&["Service", "RegisteredService", "RotatedService"], &mut held),
        view::<events::TicketView>(&["Ticket"], &mut held),
        view::<oauth::grants::GrantView>(&["Grant"], &mut held),
        view::<oauth::token::Tokens>(&["Tokens"], &mut held),
        view::<View>(&["ContextSummary"], &mut held),
        view::<transport::Envelope>(&["ServiceCall"], &mut held),
    ]
    .concat();
    for text in ACCEPTED {
        assert!(differences.iter().any(|fault| fault.contains(text)), "\"{text}\" is a difference no longer");
    }
    let is_accepted = |fault: &String| ACCEPTED.iter().any(|text| fault.contains(text));
    let differences: Vec<String> = differences.into_iter().filter(|fault| !is_accepted(fault)).collect();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    let missing: Vec<String> = answered()
        .into_iter()
        .filter(|name| !held.contains(name.as_str()) && !OTHERS.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "no view is held to {missing:?}: add it here, or to OTHERS");
    let past: Vec<&&str> = OTHERS.iter().filter(|name| !answered().contains(**name)).collect();
    assert!(past.is_empty(), "nothing answers with {past:?}: remove it from OTHERS");
}
