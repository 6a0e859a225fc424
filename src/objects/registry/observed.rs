//! Observed statuses, which lanes report, and the configuration that lanes need to observe them.
//!
//! An observed status does not increment the revision: no store checks it, and a flapping service must not flood the
//! stores. It has a counter of its own, which isolates compare when they refresh.

use futures_util::future::join_all;
use serde_json::json;

use crate::objects::lanes::messages::{self, Target};
use crate::platform::objects::{self, Kind};
use crate::platform::{Failure, clock, log_event};
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::events::bundle::RegistryEvent;
use narthex_core::lane::health::StatusReason;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::services::Service;
use narthex_core::services::transport::Transport;

use super::messages::{Reply, StoredService};
use super::tables::SERVICE;
use super::{Inner, PUSH_TIMEOUT_MS};

/// Whether a service's lane has work or state independent of requests.
pub(super) fn needs_lane(service: &Service) -> bool {
    service.health.is_some() || service.limits.max_concurrency.is_some() || service.transport.connects()
}

/// A message from the registry to a service's lane.
fn message(tenant: &TenantId, registered: &StoredService, ask: messages::Ask) -> messages::Message {
    let limits = &registered.service.limits;
    messages::Message {
        tenant: tenant.clone(),
        service: registered.service.id.clone(),
        configured_at: registered.updated_at,
        moved_at: registered.moved_at,
        max_concurrency: limits.max_concurrency,
        max_queue: limits.max_queue,
        grace_ms: registered.service.transport.grace_ms(),
        ask,
    }
}

impl Inner {
    pub(super) fn measured_of(&self, id: &ServiceId) -> ObservedStatus {
        self.tables.measured(id).ok().flatten().unwrap_or_default()
    }

    /// Stores a lane's report, and the event about it, in one transaction.
    pub(super) fn measure(
        &self,
        id: &ServiceId,
        measured: ObservedStatus,
        reason: Option<StatusReason>,
    ) -> Result<Reply, Failure> {
        let Some(registered) = self.tables.get::<StoredService>(SERVICE, id.as_str())? else {
            return Ok(Reply::Absent);
        };
        let known = self.measured_of(id);
        if measured.version <= known.version {
            // Repeated, or overtaken by a newer report.
            return Ok(Reply::Done);
        }
        let changed = (measured.status, measured.breaker, measured.breaker_until)
            != (known.status, known.breaker, known.breaker_until);
        let service = &registered.service;
        let data = json!({
            "id": id,
            "status": service.status(&measured),
            "previous": service.status(&known),
            "breaker": measured.breaker,
            "breaker_until": measured.breaker_until.map(Timestamp::text),
            "reason": reason,
            "at": clock::now().text(),
        });
        self.tables.transaction(|| {
            self.tables.put_measured(id, &measured)?;
            if changed { self.queue_event(id.as_str(), RegistryEvent::ServiceStatus, &data) } else { Ok(()) }
        })?;
        self.soft.set(self.soft.get() + 1);
        Ok(Reply::Done)
    }

    /// Sends a service's configuration to its lane and waits for the reply. The sweep repeats what fails.
    pub(super) async fn configure_lane(&self, registered: &StoredService) {
        let ask = match target(registered) {
            Some(target) => messages::Ask::Configure(target),
            None if registered.service.transport.connects() => messages::Ask::Connects,
            None => return,
        };
        self.notify_lane(&self.tenant(), registered, ask).await;
    }

    pub(super) async fn notify_lane(&self, tenant: &TenantId, registered: &StoredService, ask: messages::Ask) {
        let message = message(tenant, registered, ask);
        let name = tenant.object_for(&registered.service.id);
        let reply: Result<messages::Reply, _> = objects::send(Kind::Lanes, &name, "", &message, PUSH_TIMEOUT_MS).await;
        if let Err(failure) = reply {
            log_event!(LaneNotConfigured, tenant = tenant, service = &registered.service.id, detail = &failure);
        }
    }

    /// Tells a deleted service's lane to delete its state.
    pub(super) async fn delete_lane(&self, registered: &StoredService) {
        self.notify_lane(&self.tenant(), registered, messages::Ask::Forget).await;
    }

    /// Configures every lane that probes or has connections, in case it missed a message or its alarm was lost.
    pub(super) async fn sweep_lanes(&self) {
        let Ok(services) = self.tables.services() else { return };
        let works_by_itself = |service: &Service| service.health.is_some() || service.transport.connects();
        let pushes = services
            .iter()
            .filter(|registered| works_by_itself(&registered.service))
            .map(|registered| self.configure_lane(registered));
        join_all(pushes).await;
    }
}

/// Where and how a service is probed.
pub fn target(registered: &StoredService) -> Option<Target> {
    let service = &registered.service;
    Some(Target {
        url: service.probe_url()?,
        binding: service.transport.binding().map(Into::into),
        interval_ms: service.health.as_ref().map(|health| health.interval_seconds * 1000),
        strict: service.health.is_some(),
        lists_models: service.health.is_none() && matches!(service.transport, Transport::Openai { .. }),
        credentials: registered.credentials.clone(),
        signing_secret: registered.signing_secret.clone(),
        retiring: registered.retiring.clone(),
    })
}
