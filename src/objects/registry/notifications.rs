//! Sends notifications to lanes, hubs and stores.

use std::rc::Rc;

use futures_util::future::join_all;

use crate::objects::contexts::client::call_store;
use crate::objects::contexts::messages::{Contexts, Retain};
use crate::objects::events::messages::{self as events, Events, SetRetention};
use crate::objects::lanes::client as lane_client;
use crate::objects::lanes::messages::{self as lanes, Configure, Connects, Forget, Lanes};
use crate::objects::protocol::{Done, Request, call};
use crate::platform::{Failure, clock, log_event};
use narthex_core::access::revocation::Revocation;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::registry::Delivery;
use narthex_core::registry::notifications::{LaneSettings, Notification, Recipient, Tenants};
use narthex_core::service_lane::probing::Target;

use super::Inner;
use super::client::ask;
use super::messages::{RelayRevocation, StoredService};

/// Tenants notified at a time.
const AT_ONCE: usize = 50;

/// A recipient did not confirm. The reason is logged where it is known.
pub(super) struct NotConfirmed;

impl From<Failure> for NotConfirmed {
    fn from(_: Failure) -> Self {
        Self
    }
}

impl Inner {
    pub(super) async fn send_notification(self: &Rc<Self>, number: u64, notification: Notification) {
        let sent = match notification {
            Notification::ConfigureLane { service } => self.configure_lane(&service).await,
            Notification::ForgetLane(settings) => self.notify_lane(&settings, &Forget).await,
            Notification::RevokePrincipal { principal, at: Recipient::Hub } => {
                self.notify_hub(&events::Revoke { principal }).await
            }
            Notification::RevokePrincipal { principal, at: Recipient::Lane(settings) } => {
                self.notify_lane(&settings, &lanes::Revoke { principal }).await
            }
            Notification::RevokeDependents { revocation, at: Recipient::Hub } => {
                self.notify_hub(&events::RevokeDependents(revocation)).await
            }
            Notification::RevokeDependents { revocation, at: Recipient::Lane(settings) } => {
                self.notify_lane(&settings, &lanes::RevokeDependents(revocation)).await
            }
            Notification::Relay { revocation, tenants: Tenants::One(tenant) } => relay(&tenant, &revocation).await,
            Notification::Relay { revocation, tenants: Tenants::After(last) } => {
                let delivery = self.relay_to_next(&last, &revocation).await.unwrap_or(Delivery::Failed);
                return self.record(number, delivery);
            }
            Notification::Retain => self.retain().await,
        };
        self.record(number, sent.map_or(Delivery::Failed, |()| Delivery::Confirmed));
    }

    fn record(self: &Rc<Self>, number: u64, delivery: Delivery) {
        if let Err(error) = self.decide(|registry| registry.notified(number, delivery, clock::now())) {
            log_event!(RemovalNotAnnounced, tenant = &self.registry.borrow().tenant(), detail = &error);
        }
    }

    /// Sends a service's configuration to its lane, if the service still exists.
    pub(super) async fn configure_lane(&self, service: &ServiceId) -> Result<(), NotConfirmed> {
        let registered = self.registry.borrow().service(service).map_err(Failure::from)?;
        let Some(registered) = registered else { return Ok(()) };
        let settings = registered.lane_settings();
        match target(&registered) {
            Some(target) => self.notify_lane(&settings, &Configure(target)).await,
            None if registered.service.transport.connects() => self.notify_lane(&settings, &Connects).await,
            None => Ok(()),
        }
    }

    async fn notify_lane(
        &self,
        settings: &LaneSettings,
        request: &impl Request<Object = Lanes, Reply = Done>,
    ) -> Result<(), NotConfirmed> {
        let tenant = self.registry.borrow().tenant();
        match lane_client::call(&lanes::Message::with_settings(&tenant, settings), request).await {
            Ok(_) => Ok(()),
            Err(error) => {
                log_event!(LaneNotConfigured, tenant = &tenant, service = &settings.service, detail = &error);
                Err(NotConfirmed)
            }
        }
    }

    async fn notify_hub(&self, request: &impl Request<Object = Events, Reply = Done>) -> Result<(), NotConfirmed> {
        let tenant = self.registry.borrow().tenant();
        match call(&Events::of(&tenant), request).await {
            Ok(Done::Done) => Ok(()),
            Err(error) => {
                log_event!(SocketsNotClosed, tenant = &tenant, detail = &error);
                Err(NotConfirmed)
            }
        }
    }

    /// Relays a revocation to the registries of the next tenants.
    async fn relay_to_next(&self, last: &str, revocation: &Revocation) -> Result<Delivery, Failure> {
        let (tenants, follow) = self.registry.borrow().next_tenants(last)?;
        let mut failed = Vec::new();
        for some in tenants.chunks(AT_ONCE) {
            let sent = join_all(some.iter().map(|tenant| relay(tenant, revocation))).await;
            let each = some.iter().zip(sent);
            failed.extend(each.filter(|(_, sent)| sent.is_err()).map(|(tenant, _)| tenant.clone()));
        }
        Ok(match tenants.last().cloned() {
            Some(last) => Delivery::UpTo { last, failed, follow },
            None => Delivery::Confirmed,
        })
    }

    /// Informs the hub and the stores how long data is kept.
    async fn retain(&self) -> Result<(), NotConfirmed> {
        let (tenant, revision, retention, stores) = {
            let registry = self.registry.borrow();
            let stores = registry.stores().map_err(Failure::from)?;
            (registry.tenant(), registry.revision(), registry.retention(), stores)
        };
        let retain = Retain { days: retention.context_retention_days, revision };
        let pushes = stores.iter().map(|store| {
            let (address, retain, tenant) = (Contexts::of(&tenant, *store), &retain, &tenant);
            async move {
                call_store(&address, retain).await.map(|_| ()).map_err(|error| {
                    log_event!(RetentionNotPushed, tenant = tenant, store = *store, detail = &error);
                    NotConfirmed
                })
            }
        });
        let stores = join_all(pushes).await;
        let set = SetRetention { hours: retention.event_retention_hours, revision };
        let hub = call(&Events::of(&tenant), &set).await.map(|_| ()).map_err(|error| {
            log_event!(RetentionNotPushed, tenant = &tenant, detail = &error);
            NotConfirmed
        });
        stores.into_iter().chain([hub]).collect()
    }
}

async fn relay(tenant: &TenantId, revocation: &Revocation) -> Result<(), NotConfirmed> {
    match ask(tenant, &RelayRevocation(revocation.clone())).await {
        Ok(Done::Done) => Ok(()),
        Err(error) => {
            log_event!(SocketsNotClosed, tenant = tenant, detail = &error);
            Err(NotConfirmed)
        }
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
        lists_models: service.health.is_none() && service.transport.model_endpoint().is_some(),
        credentials: registered.credentials.clone(),
        signing_secret: registered.signing_secret.clone(),
        retiring: registered.retiring.clone(),
    })
}
