//! Revocation: when an issuer, a client, a grant or a role changes or is deleted, hubs and lanes close the sockets that
//! depended on it.

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::objects::events::messages::{self as events, Events, Revocation};
use crate::objects::lanes::messages::{self as lanes, Lanes};
use crate::objects::protocol::{Done, Request, call};
use crate::objects::registry::snapshot;
use crate::platform::{Failure, clock, log_event};
use narthex_core::access::audit::Actor;
use narthex_core::access::issuer::Issuer;
use narthex_core::access::oauth::client::{SELF_REGISTERED, client_id};
use narthex_core::access::permission::allows;
use narthex_core::access::role::{self, Role};
use narthex_core::base::order;
use narthex_core::base::tenant_id::TenantId;

use super::Inner;
use super::messages::{Condition, DocumentKind, StoredDocument, StoredService, WrittenDocument};
use super::observed::notify_lane;
use super::writes::WriteError;

/// Hubs notified at a time.
const AT_ONCE: usize = 50;
/// Tenants notified within one request or alarm: an invocation can only call so many objects.
const MAX_TENANTS_NOTIFIED: usize = 100;
/// Delay until the next tenants are notified, in milliseconds.
const NEXT_TENANTS_MS: u64 = 500;
const PENDING: &str = "endings";

/// A revocation to be sent to all tenants, and the last tenant that was notified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PendingRevocation {
    #[serde(rename = "gone")]
    revocation: Revocation,
    /// Empty if none was.
    #[serde(rename = "told")]
    last_notified: String,
}

/// The next tenants to notify, and whether there are more.
fn next_tenants(mut tenants: Vec<TenantId>, last_notified: &str, most: usize) -> (Vec<TenantId>, bool) {
    tenants.retain(|tenant| tenant.as_str() > last_notified);
    order::sort_by(&mut tenants, Ord::cmp);
    let follow = tenants.len() > most;
    tenants.truncate(most);
    (tenants, follow)
}

fn read<T: DeserializeOwned>(document: Option<&RawValue>) -> Option<T> {
    serde_json::from_str(document?.get()).ok()
}

/// Permissions that a socket of the hub may need.
const NEEDED: [&str; 3] = ["events:read", "contexts:read", "contexts:read:*"];

/// Which of the needed permissions a role grants.
fn granted(id: &str, document: Option<&RawValue>, needed: &[String]) -> Vec<bool> {
    let shipped = role::built_in(id).map(|role| role.permissions).unwrap_or_default();
    let own = read::<Role>(document).map(|role| role.permissions).unwrap_or_default();
    let all: Vec<String> = shipped.iter().map(ToString::to_string).chain(own).collect();
    needed.iter().map(|permission| allows(&all, permission)).collect()
}

/// Needed permissions that a role granted before and no longer does.
fn lost(id: &str, before: Option<&RawValue>, after: Option<&RawValue>, needed: &[String]) -> Vec<String> {
    let each = needed.iter().zip(granted(id, before, needed)).zip(granted(id, after, needed));
    each.filter(|((_, was), is)| *was && !is).map(|((permission, _), _)| permission.clone()).collect()
}

impl Inner {
    pub(super) async fn put_and_revoke(
        &self,
        by: &Actor,
        kind: DocumentKind,
        id: &str,
        document: Box<RawValue>,
        condition: &Condition,
    ) -> Result<WrittenDocument, WriteError> {
        let before = self.tables.get::<StoredDocument>(kind.as_str(), id)?.map(|stored| stored.document);
        let written = self.put(by, kind, id, document, condition)?;
        self.revoke(kind, id, before.as_deref(), Some(&written.stored.document)).await?;
        Ok(written)
    }

    pub(super) async fn delete_and_revoke(
        &self,
        by: &Actor,
        kind: DocumentKind,
        id: &str,
        condition: &Condition,
    ) -> Result<(), WriteError> {
        let before = self.tables.get::<StoredDocument>(kind.as_str(), id)?.map(|stored| stored.document);
        self.delete(by, kind, id, condition)?;
        self.revoke(kind, id, before.as_deref(), None).await?;
        Ok(())
    }

    async fn revoke(
        &self,
        kind: DocumentKind,
        id: &str,
        before: Option<&RawValue>,
        after: Option<&RawValue>,
    ) -> Result<(), Failure> {
        if before.map(RawValue::get) == after.map(RawValue::get) {
            return Ok(());
        }
        match kind {
            DocumentKind::Role => {
                let connecting = self.connecting(&self.tenant()).await;
                let connect = connecting.iter().map(|connected| format!("services:connect:{}", connected.service.id));
                let needed: Vec<String> = NEEDED.iter().map(ToString::to_string).chain(connect).collect();
                let lost = lost(id, before, after, &needed);
                if !lost.is_empty() {
                    self.notify_revocation(&[self.tenant()], Revocation::Permissions { role: id.into(), lost }).await;
                }
            }
            // Credentials depend on a grant; the deletion of its revocation changes nothing.
            DocumentKind::Revocation if before.is_none() => {
                self.notify_revocation(&[self.tenant()], Revocation::Document(format!("revocations/{id}"))).await;
            }
            // A new document has no dependents.
            _ if before.is_none() => {}
            DocumentKind::Issuer => {
                let issuer = read::<Issuer>(before).filter(|issuer| issuer.claims.tenant.is_none());
                let revocation = Revocation::Document(format!("issuers/{id}"));
                match issuer {
                    Some(issuer) => {
                        self.notify_revocation(&[issuer.tenant.unwrap_or_else(TenantId::first)], revocation).await;
                    }
                    None => self.notify_all_tenants(revocation).await?,
                }
            }
            DocumentKind::Client => {
                let tenant = self.tenant();
                let for_all = tenant.is_first() && id.starts_with(SELF_REGISTERED);
                let revocation = Revocation::Document(format!("clients/{}", client_id(&tenant, id)));
                match for_all {
                    true => self.notify_all_tenants(revocation).await?,
                    false => self.notify_revocation(&[tenant], revocation).await,
                }
            }
            DocumentKind::Limit
            | DocumentKind::Revocation
            | DocumentKind::Tenant
            | DocumentKind::Webhook
            | DocumentKind::Schedule => {}
        }
        Ok(())
    }

    /// The deployment's own tenant and all others.
    fn all_tenants(&self) -> Result<Vec<TenantId>, Failure> {
        let living = |stored: &StoredDocument| stored.deleted_at.is_none();
        let others = self.tables.documents_of(DocumentKind::Tenant)?.into_iter().filter(living);
        let others = others.map(|stored| TenantId::from_stored(stored.id));
        Ok(std::iter::once(self.tenant()).chain(others).collect())
    }

    fn pending_revocations(&self) -> Result<Vec<PendingRevocation>, Failure> {
        Ok(self.tables.meta(PENDING)?.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default())
    }

    /// Notifies all tenants: the first now, and if there are many, the rest by alarm.
    async fn notify_all_tenants(&self, revocation: Revocation) -> Result<(), Failure> {
        let pending = PendingRevocation { revocation, last_notified: String::new() };
        if self.all_tenants()?.len() > MAX_TENANTS_NOTIFIED {
            let pending_revocations: Vec<PendingRevocation> =
                self.pending_revocations()?.into_iter().chain([pending.clone()]).collect();
            self.tables.set_meta(PENDING, &serde_json::to_string(&pending_revocations)?)?;
        }
        self.notify_next_tenants(pending).await
    }

    async fn notify_next_tenants(&self, pending: PendingRevocation) -> Result<(), Failure> {
        let (tenants, follow) = next_tenants(self.all_tenants()?, &pending.last_notified, MAX_TENANTS_NOTIFIED);
        self.notify_revocation(&tenants, pending.revocation.clone()).await;
        // Another task may have notified some tenants in the meantime.
        let mut pending_revocations = self.pending_revocations()?;
        if let Some(at) = pending_revocations.iter().position(|known| *known == pending) {
            let known = pending_revocations.remove(at);
            pending_revocations.extend(
                tenants
                    .last()
                    .filter(|_| follow)
                    .map(|last| PendingRevocation { last_notified: last.to_string(), ..known }),
            );
            self.tables.set_meta(PENDING, &serde_json::to_string(&pending_revocations)?)?;
        }
        if !pending_revocations.is_empty() {
            self.tables.set_alarm(clock::now().plus_ms(NEXT_TENANTS_MS));
        }
        Ok(())
    }

    /// Continues a revocation that has not reached all tenants yet.
    pub(super) async fn continue_revocations(&self) {
        let notified = async {
            match self.pending_revocations()?.into_iter().next() {
                Some(pending) => self.notify_next_tenants(pending).await,
                None => Ok(()),
            }
        };
        if let Err(failure) = notified.await {
            log_event!(RemovalNotAnnounced, tenant = &self.tenant(), detail = &failure);
        }
    }

    /// The services of a tenant that connect.
    pub(super) async fn connecting(&self, tenant: &TenantId) -> Vec<StoredService> {
        let connects = |registered: &StoredService| registered.service.transport.connects();
        if *tenant == self.tenant() {
            return self.tables.services().unwrap_or_default().into_iter().filter(connects).collect();
        }
        let Ok(snapshot) = snapshot::any(tenant).await else { return Vec::new() };
        snapshot.services.iter().map(|entry| entry.registered.clone()).filter(connects).collect()
    }

    /// Notifies the lanes of services that connect.
    pub(super) async fn notify_lanes(&self, tenant: &TenantId, request: &impl Request<Object = Lanes, Reply = Done>) {
        let connecting = self.connecting(tenant).await;
        join_all(connecting.iter().map(|registered| notify_lane(tenant, registered, request))).await;
    }

    /// A hub or a lane that cannot be reached keeps its sockets until their credentials expire.
    pub(super) async fn notify_revocation(&self, tenants: &[TenantId], revocation: Revocation) {
        let revoke = lanes::RevokeDependents(revocation.clone());
        for some in tenants.chunks(AT_ONCE) {
            join_all(some.iter().map(|tenant| self.notify_lanes(tenant, &revoke))).await;
        }
        let revoke = &events::RevokeDependents(revocation);
        for some in tenants.chunks(AT_ONCE) {
            join_all(some.iter().map(|tenant| async move {
                if let Err(error) = call(&Events::of(tenant), revoke).await {
                    log_event!(SocketsNotClosed, tenant = tenant, detail = &error);
                }
            }))
            .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{TenantId, next_tenants};

    #[test]
    fn all_tenants_are_notified_once_in_small_enough_parts() {
        let all = (0..250).rev().map(|number| TenantId::parse(&format!("t{number:03}")).unwrap());
        let all: Vec<TenantId> = all.collect();
        let (mut notified, mut parts): (Vec<TenantId>, usize) = (Vec::new(), 0);
        loop {
            let last = notified.last().map_or("", TenantId::as_str).to_string();
            let (some, follow) = next_tenants(all.clone(), &last, 100);
            assert!(some.len() <= 100);
            notified.extend(some);
            parts += 1;
            if !follow {
                break;
            }
        }
        let mut sorted = all;
        sorted.sort_unstable();
        assert_eq!((notified, parts), (sorted, 3));
        assert_eq!(next_tenants(Vec::new(), "", 100), (Vec::new(), false));
    }
}
