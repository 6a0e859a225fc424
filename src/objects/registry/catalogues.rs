//! The tool catalogues of MCP servers: updates that a Worker has read, and changes that an administrator accepts.

use serde_json::json;

use crate::platform::{clock, log_event};
use narthex_core::access::audit::Actor;
use narthex_core::base::order;
use narthex_core::base::service_id::ServiceId;
use narthex_core::events::bundle::RegistryEvent;
use narthex_core::registry::size::{Reach, TooLarge};
use narthex_core::services::tool_catalogue::{Catalogue, CatalogueUpdate, ToolsRead};
use narthex_core::services::transport::ChangedTools;

use super::audit::Change;
use super::messages::{StoredService, ToolsReply, WriteRefusal, WrittenService};
use super::tables::SERVICE;
use super::writes::WriteError;
use super::{Inner, as_value};

impl Inner {
    /// Records the tools read at `url`, or why reading failed.
    pub(super) fn renew_tools(
        &self,
        by: &Actor,
        id: &ServiceId,
        url: &str,
        read: Result<ToolsRead, String>,
    ) -> Result<ToolsReply, WriteError> {
        let Some(registered) = self.tables.get::<StoredService>(SERVICE, id.as_str())? else {
            return Err(WriteRefusal::Absent.into());
        };
        let Some(upstream) = registered.service.transport.upstream().filter(|upstream| upstream.url == url) else {
            // The service has another address in the meantime.
            return Ok(ToolsReply::Unchanged);
        };
        let holds = upstream.changed_tools == ChangedTools::Hold;
        let known = registered.service.catalogue.as_deref().cloned().unwrap_or_default();
        let now = clock::now();
        let offered = &registered.service.capabilities;
        let renewed = match read {
            Ok(tools) => known.update(offered, tools, holds, now),
            Err(reason) => known.record_failure(&reason, now).map(|catalogue| CatalogueUpdate {
                catalogue,
                offered: offered.clone(),
                changes: Vec::new(),
            }),
        };
        let Some(renewed) = renewed else { return Ok(ToolsReply::Unchanged) };
        match self.store_catalogue(by, registered.clone(), renewed, "service.tools_read", Reach::Limit) {
            Err(WriteError::Refused(WriteRefusal::TooLarge(too_large))) => {
                self.record_oversized(by, registered, &too_large)
            }
            result => result,
        }
    }

    /// Tools that do not fit change nothing, and the service shows the reason.
    fn record_oversized(
        &self,
        by: &Actor,
        registered: StoredService,
        too_large: &TooLarge,
    ) -> Result<ToolsReply, WriteError> {
        let (tenant, id) = (self.tenant(), &registered.service.id);
        log_event!(ToolsDoNotFit, tenant = &tenant, service = id, detail = too_large.to_string());
        let reason = match too_large {
            TooLarge::Document { .. } => "its tools exceed the size limit of one service",
            TooLarge::Share { .. } => "its tools exceed the space left in the registry: see GET /v1/registry",
        };
        let known = registered.service.catalogue.as_deref().cloned().unwrap_or_default();
        let Some(catalogue) = known.record_failure(reason, clock::now()) else { return Ok(ToolsReply::Unchanged) };
        let offered = registered.service.capabilities.clone();
        let renewed = CatalogueUpdate { catalogue, offered, changes: Vec::new() };
        self.store_catalogue(by, registered, renewed, "service.tools_read", Reach::Reserve)
    }

    /// Accepts tools that are held back: the named ones, or all.
    pub(super) fn accept_tools(
        &self,
        by: &Actor,
        id: &ServiceId,
        names: Option<&[String]>,
    ) -> Result<ToolsReply, WriteError> {
        let Some(registered) = self.tables.get::<StoredService>(SERVICE, id.as_str())? else {
            return Err(WriteRefusal::Absent.into());
        };
        let catalogue = registered.service.catalogue.as_deref();
        let offered = &registered.service.capabilities;
        match catalogue.and_then(|catalogue| catalogue.accept(offered, names, clock::now())) {
            Some(renewed) => self.store_catalogue(by, registered, renewed, "service.tools_accepted", Reach::Limit),
            None => Ok(ToolsReply::Unchanged),
        }
    }

    fn store_catalogue(
        &self,
        by: &Actor,
        mut registered: StoredService,
        renewed: CatalogueUpdate,
        action: &'static str,
        reach: Reach,
    ) -> Result<ToolsReply, WriteError> {
        let CatalogueUpdate { catalogue, offered, changes } = renewed;
        let service = &mut registered.service;
        let before = service.catalogue.take().map(|known| *known).unwrap_or_default();
        let fields = [
            ("tools", audit_view(&before), audit_view(&catalogue)),
            ("error", as_value(&before.error), as_value(&catalogue.error)),
        ];
        let fields = fields.into_iter().filter(|(_, from, to)| from != to);
        service.capabilities = offered;
        service.catalogue = Some(Box::new(catalogue));
        let id = service.id.clone();
        let change = Change {
            by,
            action,
            object: &format!("services/{id}"),
            changes: order::insert_all(
                fields.map(|(name, from, to)| (name.to_string(), json!({"from": from, "to": to}))),
            ),
        };
        self.write_within(reach, &change, || {
            self.tables.put(SERVICE, id.as_str(), &registered)?;
            for changed in &changes {
                let mut data = as_value(changed);
                if let Some(members) = data.as_object_mut() {
                    members.insert("id".into(), id.as_str().into());
                }
                self.queue_event(id.as_str(), RegistryEvent::ServiceToolChanged, &data)?;
            }
            Ok(())
        })?;
        let measured = self.measured_of(&id);
        let service = Box::new(registered);
        let written = WrittenService { created: false, service, measured, has_lane: false, signing_secret: None };
        Ok(ToolsReply::Service(written))
    }
}

/// A catalogue as the audit log shows it: its tools by their digests.
fn audit_view(catalogue: &Catalogue) -> serde_json::Value {
    as_value(&catalogue.pins)
}
