//! What the core writes for clients, and the contract's schemas.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::views::{differences, differences_with};
use super::{ASYNCAPI, Document, OPENAPI};
use crate::access::audit::AuditEntry;
use crate::access::issuer::Claims;
use crate::access::jose::algorithm::Algorithm;
use crate::access::oauth::client::{AuthMethod, GrantType};
use crate::access::role;
use crate::base::json::Fault;
use crate::calling::connection::frame::GatewayMessage;
use crate::context::ContextError;
use crate::context::status::{ErrorCode, Priority, Source, Status};
use crate::context::{AttemptOutcome, retry};
use crate::events::cloud_event::{AttemptData, CloudEvent, ContextData};
use crate::http::problem::Body;
use crate::lane::breaker::BreakerState;
use crate::limits::policy::LimitKind;
use crate::models::offer::ModelOffer;
use crate::models::price::Cost;
use crate::models::route::{Affinity, FallbackOn, OnDisconnect};
use crate::models::token_usage::TokenUsage;
use crate::schedules::next_run::MissedRuns;
use crate::services::capability::{Capability, TaskSupport};
use crate::services::credentials;
use crate::services::schema::Formats;
use crate::services::tool_catalogue::{CatalogueView, ToolChange};
use crate::services::transport::{ChangedTools, Transport};
use crate::services::{BreakerView, HealthCheck, ServiceKind, ServiceLimits, ServiceStatus, ServiceView};
use crate::webhooks::delivery::{DeliveryError, DisableReason};

fn api<T: JsonSchema>(name: &str) -> Vec<String> {
    differences::<T>(&OPENAPI, name)
}

/// The differences without those that are as they should be; each has one of these texts.
fn but(differences: Vec<String>, accepted: &[&str]) -> Vec<String> {
    let is_accepted = |fault: &String, text: &&str| fault.contains(*text);
    for text in accepted {
        assert!(differences.iter().any(|fault| is_accepted(fault, text)), "\"{text}\" is a difference no longer");
    }
    differences.into_iter().filter(|fault| !accepted.iter().any(|text| is_accepted(fault, text))).collect()
}

fn assert_none(faults: &[Vec<String>]) {
    let faults = faults.concat();
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn words_are_those_of_the_contract() {
    assert_none(&[
        api::<Status>("ContextStatus"),
        api::<ErrorCode>("ErrorCode"),
        api::<Priority>("Priority"),
        api::<Source>("ContextSource"),
        api::<AttemptOutcome>("AttemptOutcome"),
        api::<ServiceKind>("ServiceType"),
        api::<ServiceStatus>("ServiceStatus"),
        api::<BreakerState>("BreakerState"),
        api::<TaskSupport>("TaskSupport"),
        api::<Formats>("FormatUse"),
        api::<ChangedTools>("ChangedTools"),
        api::<LimitKind>("LimitKind"),
        api::<MissedRuns>("MissedRuns"),
        api::<GrantType>("GrantType"),
        api::<AuthMethod>("ClientAuthMethod"),
        api::<Algorithm>("JwtAlgorithm"),
        api::<DisableReason>("WebhookReason"),
        api::<DeliveryError>("DeliveryError"),
        api::<Affinity>("ModelAffinity"),
        api::<FallbackOn>("ModelFallback"),
        api::<OnDisconnect>("ModelDisconnect"),
    ]);
}

#[test]
fn views_are_as_the_contract_describes_them() {
    assert_none(&[
        api::<Body>("Problem"),
        api::<Fault>("Fault"),
        api::<ContextError>("ContextError"),
        api::<Capability>("Capability"),
        api::<Transport>("Transport"),
        // The schema is that of requests too.
        but(api::<credentials::Name>("Credential"), &["Name.scope` is never written as null"]),
        api::<HealthCheck>("Health"),
        api::<ServiceLimits>("Limits"),
        api::<retry::Retry>("Retry"),
        api::<BreakerView>("Breaker"),
        api::<CatalogueView>("Catalogue"),
        // Prices are read only with that of the input.
        but(api::<ModelOffer>("ModelOffer"), &["ModelOffer.prices.input` may be absent"]),
        api::<TokenUsage>("ModelUsage"),
        api::<Cost>("ModelCost"),
        but(
            api::<ServiceView>("Service"),
            &[
                "ServiceView.credentials[].scope` is never written as null",
                "ServiceView.models[].prices.input` may be absent",
            ],
        ),
        api::<AuditEntry>("AuditEntry"),
        api::<Claims>("Issuer/properties/claims"),
    ]);
}

/// A schema that allows the payloads of all messages whose names a test accepts.
fn payloads(document: &Document, is_one: impl Fn(&str) -> bool) -> serde_json::Value {
    let messages = document.at("/components/messages").as_object().unwrap();
    let payloads = messages.iter().filter(|(name, _)| is_one(name)).map(|(_, message)| message["payload"].clone());
    let payloads: Vec<serde_json::Value> = payloads.collect();
    assert!(!payloads.is_empty());
    json!({"anyOf": payloads})
}

/// The same for the member `data` of events.
fn data(is_one: impl Fn(&str) -> bool) -> serde_json::Value {
    let messages = ASYNCAPI.at("/components/messages").as_object().unwrap();
    let events = messages.iter().filter(|(name, _)| name.contains('.') && is_one(name));
    let data = events.map(|(_, message)| ASYNCAPI.follow(&message["payload"])["properties"]["data"].clone());
    json!({"anyOf": data.collect::<Vec<_>>()})
}

#[test]
fn messages_are_as_the_contract_describes_them() {
    let is_of_context = |name: &str| name.starts_with("context.") && name != "context.attempt";
    let events = payloads(&ASYNCAPI, |name| name.contains('.'));
    let connection = payloads(&ASYNCAPI, |name| name.starts_with("connection-"));
    // Bundles that an earlier version stored may lack these.
    let stored = ["owner` may be absent", "capability` may be absent"];
    let attempt = data(|name| name == "context.attempt");
    // The registry adds the service's id.
    let tool_changed = data(|name| name == "service.tool_changed");
    assert_none(&[
        differences_with::<CloudEvent>(&ASYNCAPI, "of an event", &events),
        but(
            differences_with::<ContextData>(&ASYNCAPI, "of an event's data", &data(is_of_context)),
            &[
                stored[0],
                stored[1],
                "service` may be absent",
                "cost` is never written as null",
                "finish_reason` is never written as null",
            ],
        ),
        but(differences_with::<AttemptData>(&ASYNCAPI, "of the data of context.attempt", &attempt), &stored),
        but(
            differences_with::<ToolChange>(&ASYNCAPI, "of the data of service.tool_changed", &tool_changed),
            &["ToolChange` has no `id`"],
        ),
        differences_with::<GatewayMessage>(&ASYNCAPI, "of a message to a service", &connection),
    ]);
}

#[test]
fn built_in_roles_are_named_by_the_contract() {
    let description = OPENAPI.at("/components/schemas/RoleName/description").as_str().unwrap();
    let named: Vec<&str> = description.split('`').skip(1).step_by(2).collect();
    let names: Vec<&str> = role::BUILT_IN.iter().map(|role| role.name).collect();
    assert_eq!(named, names, "name the built-in roles in RoleName of api/schemas/basics.yaml, then `npm run api`");
}

#[test]
fn the_versions_are_one() {
    let package: serde_json::Value = serde_json::from_str(include_str!("../../../../package.json")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(package["version"], version, "package.json and Cargo.toml");
    assert_eq!(*OPENAPI.at("/info/version"), version, "run `npm run api`");
}

/// Views that differ from the schemas `Ticket`, `Step` and `BreakerState`, each in one way.
#[expect(dead_code, reason = "only their schemas are compared")]
mod planted {
    use super::*;

    #[derive(Serialize, JsonSchema)]
    pub struct Renamed {
        ticket: String,
        expires: String,
    }

    #[derive(Serialize, JsonSchema)]
    pub struct Optional {
        ticket: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<String>,
    }

    #[derive(Serialize, JsonSchema)]
    pub struct Null {
        ticket: String,
        expires_at: Option<String>,
    }

    #[derive(Serialize, JsonSchema)]
    pub struct Number {
        ticket: u64,
        expires_at: String,
    }

    #[derive(Serialize, JsonSchema)]
    pub struct AnyStatus {
        status: String,
        at: String,
    }

    #[derive(Serialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum FewStates {
        Closed,
        Open,
        Ajar,
    }
}

#[test]
fn differences_are_found() {
    let found = |faults: Vec<String>, wanted: &[&str]| {
        assert_eq!(faults.len(), wanted.len(), "{faults:#?}");
        for (fault, wanted) in faults.iter().zip(wanted) {
            assert!(fault.contains(wanted), "{fault}");
        }
    };
    found(api::<planted::Renamed>("Ticket"), &["Renamed.expires` is not in schema `Ticket`", "has no `expires_at`"]);
    found(api::<planted::Optional>("Ticket"), &["Optional.expires_at` may be absent and is required by"]);
    found(api::<planted::Null>("Ticket"), &["Null.expires_at` can be written as null"]);
    found(api::<planted::Number>("Ticket"), &["written as integer", "never written as string"]);
    found(api::<planted::AnyStatus>("Step"), &["AnyStatus.status` is any string"]);
    found(api::<planted::FewStates>("BreakerState"), &["can be \"ajar\"", "never \"half_open\""]);
}
