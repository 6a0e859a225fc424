//! What lanes measure, and what lanes need to know to measure it.
//!
//! What is measured raises no revision: no store confirms it, and a service that flaps must not flood them. It has a
//! counter of its own, which isolates compare when they refresh.

use futures_util::future::join_all;
use serde_json::json;

use crate::objects::lanes::messages::{self, Target};
use crate::platform::objects::{self, Kind};
use crate::platform::{Failure, clock, log_event};
use narthex_core::base::time::Timestamp;
use narthex_core::events::bundle::RegistryEvent;
use narthex_core::lane::health::StatusReason;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::services::Service;
use narthex_core::services::transport::Transport;

use super::messages::{Registered, Reply};
use super::tables::SERVICE;
use super::{Inner, PUSH_PATIENCE_MS};

/// Whether a service's lane has something to do or to keep without being asked.
pub(super) fn needs_lane(service: &Service) -> bool {
    service.health.is_some() || service.limits.max_concurrency.is_some() || service.transport.connects()
}

/// What a service's lane is told by its registry.
fn message(tenant: &str, registered: &Registered, ask: messages::Ask) -> messages::Message {
    let limits = &registered.service.limits;
    messages::Message {
        tenant: tenant.into(),
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
    pub(super) fn measured_of(&self, id: &str) -> ObservedStatus {
        self.tables.measured(id).ok().flatten().unwrap_or_default()
    }

    /// Keeps what a lane measured, and the event that tells of it, in one write.
    pub(super) fn measure(
        &self,
        id: &str,
        measured: ObservedStatus,
        reason: Option<StatusReason>,
    ) -> Result<Reply, Failure> {
        let Some(registered) = self.tables.get::<Registered>(SERVICE, id)? else {
            return Ok(Reply::Absent);
        };
        let known = self.measured_of(id);
        if measured.version <= known.version {
            // Told twice, or overtaken.
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
            if changed { self.queue_event(id, RegistryEvent::ServiceStatus, &data) } else { Ok(()) }
        })?;
        self.soft.set(self.soft.get() + 1);
        Ok(Reply::Done)
    }

    /// Tells a service's lane how it is configured now; waits for it. What fails is done again by the sweep.
    pub(super) async fn configure_lane(&self, registered: &Registered) {
        let ask = match target(registered) {
            Some(target) => messages::Ask::Configure(target),
            None if registered.service.transport.connects() => messages::Ask::Connects,
            None => return,
        };
        self.tell_lane(&self.tenant(), registered, ask).await;
    }

    pub(super) async fn tell_lane(&self, tenant: &str, registered: &Registered, ask: messages::Ask) {
        let message = message(tenant, registered, ask);
        let name = format!("{tenant}/{}", registered.service.id);
        let told: Result<messages::Reply, _> = objects::send(Kind::Lanes, &name, "", &message, PUSH_PATIENCE_MS).await;
        if let Err(failure) = told {
            log_event!(LaneNotConfigured, tenant = tenant, service = &registered.service.id, detail = &failure);
        }
    }

    /// Lets the lane of a service that is no more end.
    pub(super) async fn forget_lane(&self, registered: &Registered) {
        self.tell_lane(&self.tenant(), registered, messages::Ask::Forget).await;
    }

    /// Tells every lane that probes by itself or has connections, in case it was not told or its alarm is dead.
    pub(super) async fn sweep_lanes(&self) {
        let Ok(services) = self.tables.services() else { return };
        let by_itself = |service: &Service| service.health.is_some() || service.transport.connects();
        let pushes = services.iter().filter(|one| by_itself(&one.service)).map(|one| self.configure_lane(one));
        join_all(pushes).await;
    }
}

/// Where and how a service is probed.
pub fn target(registered: &Registered) -> Option<Target> {
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
