//! The tool catalogues of MCP servers: updates that a Worker has read, and changes that an administrator accepts.

use serde_json::json;

use super::audit::Change;
use super::messages::{AcceptTools, RenewTools, StoredService, ToolsReply, WriteRefusal, WrittenService};
use super::size::{Reach, TooLarge};
use super::storage::Storage;
use super::{LogEntry, Registry, Turn, WriteError, as_value};
use crate::base::order;
use crate::events::bundle::RegistryEvent;
use crate::services::tool_catalogue::{Catalogue, CatalogueUpdate};
use crate::services::transport::ChangedTools;

impl<S: Storage> Registry<S> {
    /// Records the tools read from an MCP server, or why reading failed.
    ///
    /// # Errors
    /// The storage fails, or the write is refused.
    pub fn renew_tools(&mut self, request: RenewTools, turn: &Turn<'_>) -> Result<ToolsReply, WriteError> {
        let RenewTools { id, url, read } = request;
        let registered = self.service_to_write(&id)?.ok_or(WriteRefusal::Absent)?;
        let Some(upstream) = registered.service.transport.upstream().filter(|upstream| upstream.url == url) else {
            // The service has another address in the meantime.
            return Ok(ToolsReply::Unchanged);
        };
        let holds = upstream.changed_tools == ChangedTools::Hold;
        let known = registered.service.catalogue.as_deref().cloned().unwrap_or_default();
        let now = turn.now;
        let offered = &registered.service.capabilities;
        let renewed = match read {
            Ok(tools) => known.update(offered, *tools, holds, now),
            Err(reason) => known.record_failure(&reason, now).map(|catalogue| CatalogueUpdate {
                catalogue,
                offered: offered.clone(),
                changes: Vec::new(),
            }),
        };
        let Some(renewed) = renewed else { return Ok(ToolsReply::Unchanged) };
        match self.store_catalogue(registered.clone(), renewed, "service.tools_read", Reach::Limit, turn) {
            Err(WriteError::Refused(WriteRefusal::TooLarge(too_large))) => {
                self.record_oversized(registered, &too_large, turn)
            }
            result => result,
        }
    }

    /// Tools that do not fit change nothing, and the service shows the reason.
    fn record_oversized(
        &mut self,
        registered: StoredService,
        too_large: &TooLarge,
        turn: &Turn<'_>,
    ) -> Result<ToolsReply, WriteError> {
        let service = registered.service.id.to_string();
        self.effects.logs.push(LogEntry::ToolsDoNotFit { service, reason: too_large.to_string() });
        let reason = match too_large {
            TooLarge::Document { .. } => "its tools exceed the size limit of one service",
            TooLarge::Share { .. } => "its tools exceed the space left in the registry: see GET /v1/registry",
        };
        let known = registered.service.catalogue.as_deref().cloned().unwrap_or_default();
        let Some(catalogue) = known.record_failure(reason, turn.now) else { return Ok(ToolsReply::Unchanged) };
        let offered = registered.service.capabilities.clone();
        let renewed = CatalogueUpdate { catalogue, offered, changes: Vec::new() };
        self.store_catalogue(registered, renewed, "service.tools_read", Reach::Reserve, turn)
    }

    /// Accepts tools that are held back: the named ones, or all.
    ///
    /// # Errors
    /// The storage fails, or the write is refused.
    pub fn accept_tools(&mut self, request: &AcceptTools, turn: &Turn<'_>) -> Result<ToolsReply, WriteError> {
        let AcceptTools { id, names } = request;
        let registered = self.service_to_write(id)?.ok_or(WriteRefusal::Absent)?;
        let catalogue = registered.service.catalogue.as_deref();
        let offered = &registered.service.capabilities;
        match catalogue.and_then(|catalogue| catalogue.accept(offered, names.as_deref(), turn.now)) {
            Some(renewed) => self.store_catalogue(registered, renewed, "service.tools_accepted", Reach::Limit, turn),
            None => Ok(ToolsReply::Unchanged),
        }
    }

    fn store_catalogue(
        &mut self,
        mut registered: StoredService,
        renewed: CatalogueUpdate,
        action: &'static str,
        reach: Reach,
        turn: &Turn<'_>,
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
            by: turn.by,
            action,
            object: &format!("services/{id}"),
            changes: order::insert_all(
                fields.map(|(name, from, to)| (name.to_string(), json!({"from": from, "to": to}))),
            ),
        };
        self.write_within(reach, &change, turn, |registry| {
            registry.put_service_document(&registered)?;
            for changed in &changes {
                let mut data = as_value(changed);
                if let Some(members) = data.as_object_mut() {
                    members.insert("id".into(), id.as_str().into());
                }
                registry.queue_event(id.as_str(), RegistryEvent::ServiceToolChanged, &data, turn.now)?;
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
