//! `/v1/capabilities`: the capabilities that the caller may call.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use narthex_core::base::service_id::ServiceId;
use narthex_core::execution::known_service::KnownService;
use narthex_core::http::problem::Problem;
use narthex_core::lane::observed::HealthStatus;
use narthex_core::services::capability::Capability;
use narthex_core::services::routing::Routable;
use narthex_core::services::schema::Formats;

use super::answer::Answer;
use super::call::{Call, Caller};
use super::lists::page;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Offer<'a> {
    service: &'a ServiceId,
    #[cfg_attr(test, schemars(with = "narthex_core::services::ServiceStatus"))]
    status: &'a str,
    tier: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct CapabilityView<'a> {
    name: &'a str,
    version: String,
    description: &'a str,
    input_schema: Option<&'a RawValue>,
    output_schema: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Formats::is_annotate")]
    #[cfg_attr(test, schemars(extend("enum" = ["assert"])))]
    format: Formats,
    idempotent: bool,
    durable: bool,
    timeout_seconds: u64,
    /// Whether a service would run a context now.
    available: bool,
    services: Vec<Offer<'a>>,
}

fn shown(capability: &Capability) -> CapabilityView<'_> {
    CapabilityView {
        name: &capability.name,
        version: capability.version.to_string(),
        description: &capability.description,
        input_schema: capability.input_schema.as_deref(),
        output_schema: capability.output_schema.as_deref(),
        format: capability.format,
        idempotent: capability.idempotent,
        durable: capability.durable,
        timeout_seconds: capability.timeout_seconds,
        available: false,
        services: Vec::new(),
    }
}

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    call.only_query(&["name", "service"])?;
    let (name, of) = (call.query("name"), call.query("service"));
    // One entry for each name and version, with all services that offer it.
    let mut found: BTreeMap<(&str, &semver::Version), CapabilityView<'_>> = BTreeMap::new();
    for entry in &caller.snapshot.services {
        let service = entry.service();
        if of.as_ref().is_some_and(|id| id != service.id.as_str()) {
            continue;
        }
        for capability in &service.capabilities {
            let wanted = name.as_ref().is_none_or(|name| *name == capability.name);
            if !wanted || !caller.principal.may_call(&service.id, &capability.name, &capability.permissions) {
                continue;
            }
            let view = found.entry((&capability.name, &capability.version)).or_insert_with(|| shown(capability));
            let (measured, condition) = (entry.measured(), entry.condition());
            let is_offline = condition.health == HealthStatus::Offline;
            view.available |= !service.draining && !is_offline && !condition.is_open();
            view.services.push(Offer { service: &service.id, status: service.status(&measured), tier: service.tier });
        }
    }
    let data: Vec<CapabilityView<'_>> = found.into_values().collect();
    page(call, &data, None)
}
