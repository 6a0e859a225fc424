//! Observed statuses, which lanes report, and the configuration that lanes need to observe them.
//!
//! An observed status does not increment the revision: no store checks it, and a flapping service must not flood the
//! stores. It has a counter of its own, which isolates compare when they refresh.

use futures_util::future::join_all;
use serde_json::json;

use crate::objects::lanes::client as lanes;
use crate::objects::lanes::messages::{Configure, Connects, Forget, Lanes, Message, Target};
use crate::objects::protocol::{Done, Request};
use crate::platform::{Failure, clock, log_event};
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::events::bundle::RegistryEvent;
use narthex_core::lane::health::StatusReason;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::services::Service;
use narthex_core::services::transport::Transport;

use super::Inner;
use super::messages::{StatusReply, StoredService};
use super::tables::SERVICE;

/// Whether a service's lane has work or state independent of requests.
pub(super) fn needs_lane(service: &Service) -> bool {
    service.health.is_some() || service.limits.max_concurrency.is_some() || service.transport.connects()
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
    ) -> Result<StatusReply, Failure> {
        let Some(registered) = self.tables.get::<StoredService>(SERVICE, id.as_str())? else {
            return Ok(StatusReply::Absent);
        };
        let known = self.measured_of(id);
        if measured.version <= known.version {
            // Repeated, or overtaken by a newer report.
            return Ok(StatusReply::Recorded);
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
        Ok(StatusReply::Recorded)
    }

    /// Sends a service's configuration to its lane and waits for the reply. The sweep repeats what fails.
    pub(super) async fn configure_lane(&self, registered: &StoredService) {
        match target(registered) {
            Some(target) => notify_lane(&self.tenant(), registered, &Configure(target)).await,
            None if registered.service.transport.connects() => {
                notify_lane(&self.tenant(), registered, &Connects).await;
            }
            None => {}
        }
    }

    /// Tells a deleted service's lane to delete its state.
    pub(super) async fn delete_lane(&self, registered: &StoredService) {
        notify_lane(&self.tenant(), registered, &Forget).await;
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

/// Sends a request to a service's lane. A failure is only logged.
pub(super) async fn notify_lane(
    tenant: &TenantId,
    registered: &StoredService,
    request: &impl Request<Object = Lanes, Reply = Done>,
) {
    if let Err(error) = lanes::call(&Message::about(tenant, registered), request).await {
        log_event!(LaneNotConfigured, tenant = tenant, service = &registered.service.id, detail = &error);
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
