//! Revocations: when an issuer, a client, a grant or a role changes or is deleted, hubs and lanes close the sockets
//! that depended on it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Registry;
use super::messages::{DocumentKind, StoredOutline};
use super::notifications::{Notification, Recipient, Tenants};
use super::storage::{self, Storage, stored};
use crate::access::issuer::Issuer;
use crate::access::oauth::client::{SELF_REGISTERED, client_id};
use crate::access::permission::allows;
use crate::access::revocation::Revocation;
use crate::access::role::{self, Role};
use crate::base::order;
use crate::base::storage_error::StorageError;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;

/// Tenants notified within one request or alarm: an invocation can only call so many objects.
const MAX_TENANTS_NOTIFIED: usize = 100;
/// Where earlier versions stored revocations to be sent to all tenants.
const EARLIER_QUEUE: &str = "endings";

/// A revocation in that queue, and the last tenant that was notified.
#[derive(Debug, Serialize, Deserialize)]
struct EarlierRevocation {
    #[serde(rename = "gone")]
    revocation: Revocation,
    /// Empty if none was.
    #[serde(rename = "told")]
    last_notified: String,
}

/// The parts of a tenant that all versions have.
#[derive(Deserialize)]
struct StoredTenant {
    id: String,
    #[serde(default)]
    deleted_at: Option<Timestamp>,
}

/// What came of sending a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Every recipient has confirmed.
    Confirmed,
    /// A recipient has not.
    Failed,
    /// Of all tenants, those up to `last` have confirmed, except the failed ones.
    UpTo { last: TenantId, failed: Vec<TenantId>, follow: bool },
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
    // One that only a later version can read may grant anything.
    let own = match document {
        Some(_) => read::<Role>(document).map_or_else(|| vec!["*".into()], |role| role.permissions),
        None => Vec::new(),
    };
    let all: Vec<String> = shipped.iter().map(ToString::to_string).chain(own).collect();
    needed.iter().map(|permission| allows(&all, permission)).collect()
}

/// Needed permissions that a role granted before and no longer does.
fn lost(id: &str, before: Option<&RawValue>, after: Option<&RawValue>, needed: &[String]) -> Vec<String> {
    let each = needed.iter().zip(granted(id, before, needed)).zip(granted(id, after, needed));
    each.filter(|((_, was), is)| *was && !is).map(|((permission, _), _)| permission.clone()).collect()
}

impl<S: Storage> Registry<S> {
    /// Within the transaction of a write: revokes what depended on a document that is changed or deleted.
    pub(super) fn revoke_dependents(
        &mut self,
        kind: DocumentKind,
        id: &str,
        before: Option<&RawValue>,
        after: Option<&RawValue>,
    ) -> Result<(), StorageError> {
        if before.map(RawValue::get) == after.map(RawValue::get) {
            return Ok(());
        }
        let own = self.tenant();
        let all = || Some(Tenants::After(String::new()));
        let (revocation, here, others) = match kind {
            DocumentKind::Role => {
                let lost = self.lost_permissions(id, before, after)?;
                if lost.is_empty() {
                    return Ok(());
                }
                (Revocation::Permissions { role: id.into(), lost }, true, None)
            }
            // Credentials depend on a grant; the deletion of its revocation changes nothing.
            DocumentKind::Revocation if before.is_none() => {
                (Revocation::Document(format!("revocations/{id}")), true, None)
            }
            // A new document has no dependents.
            _ if before.is_none() => return Ok(()),
            DocumentKind::Issuer => {
                let issuer = read::<Issuer>(before).filter(|issuer| issuer.claims.tenant.is_none());
                let tenant = issuer.map(|issuer| issuer.tenant.unwrap_or_else(TenantId::first));
                let here = tenant.as_ref().is_none_or(|tenant| *tenant == own);
                let others = tenant.map_or_else(all, |tenant| Some(Tenants::One(tenant)).filter(|_| !here));
                (Revocation::Document(format!("issuers/{id}")), here, others)
            }
            DocumentKind::Client => {
                let is_for_all = own.is_first() && id.starts_with(SELF_REGISTERED);
                let revocation = Revocation::Document(format!("clients/{}", client_id(&own, id)));
                (revocation, true, is_for_all.then(all).flatten())
            }
            DocumentKind::Limit
            | DocumentKind::Revocation
            | DocumentKind::Tenant
            | DocumentKind::Webhook
            | DocumentKind::Schedule
            | DocumentKind::ModelRoute => return Ok(()),
        };
        if here {
            self.notify_holders_of(&revocation)?;
        }
        match others {
            Some(tenants) => self.notify(Notification::Relay { revocation, tenants }),
            None => Ok(()),
        }
    }

    /// Within a transaction: notifies the tenant's objects that hold sockets, each by itself, so that one that cannot
    /// be reached does not concern the others.
    pub(super) fn notify_holders(&mut self, of: impl Fn(Recipient) -> Notification) -> Result<(), StorageError> {
        self.notify(of(Recipient::Hub))?;
        for registered in self.connecting()? {
            self.notify(of(Recipient::Lane(registered.lane_settings())))?;
        }
        Ok(())
    }

    fn notify_holders_of(&mut self, revocation: &Revocation) -> Result<(), StorageError> {
        self.notify_holders(|at| Notification::RevokeDependents { revocation: revocation.clone(), at })
    }

    /// Takes over what was revoked in the registry of the deployment's own tenant.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn relayed(&mut self, revocation: &Revocation, now: Timestamp) -> Result<(), StorageError> {
        self.transaction(now, |registry| registry.notify_holders_of(revocation))
    }

    /// Permissions that sockets need, and that a role no longer grants.
    fn lost_permissions(
        &self,
        role: &str,
        before: Option<&RawValue>,
        after: Option<&RawValue>,
    ) -> Result<Vec<String>, StorageError> {
        let connecting = self.connecting()?;
        let connect = connecting.iter().map(|connected| format!("services:connect:{}", connected.service.id));
        let needed: Vec<String> = NEEDED.iter().map(ToString::to_string).chain(connect).collect();
        Ok(lost(role, before, after, &needed))
    }

    /// The services that connect, or may: those of a later version.
    fn connecting(&self) -> Result<Vec<StoredOutline>, StorageError> {
        let mut services = self.outlines()?;
        services.retain(|outline| outline.service.transport.connects() || outline.service.is_unreadable());
        Ok(services)
    }

    /// The next other tenants after this one, and whether there are more.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn next_tenants(&self, after: &str) -> Result<(Vec<TenantId>, bool), StorageError> {
        let living = |stored: &StoredTenant| stored.deleted_at.is_none();
        let others = storage::all::<StoredTenant>(&self.storage, DocumentKind::Tenant.as_str())?;
        let others = others.into_iter().filter(living).map(|stored| TenantId::from_stored(stored.id));
        Ok(next_tenants(others.collect(), after, MAX_TENANTS_NOTIFIED))
    }

    /// Records what came of sending a notification.
    ///
    /// # Errors
    /// The storage fails; the notification is sent again.
    pub fn notified(&mut self, number: u64, delivery: Delivery, now: Timestamp) -> Result<(), StorageError> {
        self.notifications.ended(number);
        let recorded = match delivery {
            Delivery::Failed => Ok(false),
            Delivery::Confirmed => self.storage.delete_notification(number).map(|()| true),
            Delivery::UpTo { last, failed, follow } => {
                return self.notified_up_to(number, &last, failed, follow, now);
            }
        };
        match recorded {
            Ok(true) => self.notifications.remove(number),
            Ok(false) | Err(_) => self.notifications.failed(number, now),
        }
        self.guard_notifications(now);
        recorded.map(|_| ())
    }

    /// A tenant that cannot be reached does not delay the others.
    fn notified_up_to(
        &mut self,
        number: u64,
        last: &TenantId,
        failed: Vec<TenantId>,
        follow: bool,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let Some(Notification::Relay { revocation, .. }) = self.notifications.get(number).cloned() else {
            return Ok(());
        };
        self.added.clear();
        let to = |tenants| Notification::Relay { revocation: revocation.clone(), tenants };
        let rest = follow.then(|| to(Tenants::After(last.to_string())));
        let recorded = self.transaction(now, |registry| {
            for tenant in failed {
                registry.notify(to(Tenants::One(tenant)))?;
            }
            match &rest {
                Some(rest) => registry.storage.update_notification(number, &stored(rest)?),
                None => registry.storage.delete_notification(number),
            }
        });
        // Those that failed have had their first attempt.
        for number in std::mem::take(&mut self.added) {
            self.notifications.failed(number, now);
        }
        match (&recorded, rest) {
            (Ok(()), Some(rest)) => self.notifications.advance(number, rest, now),
            (Ok(()), None) => self.notifications.remove(number),
            (Err(_), _) => self.notifications.failed(number, now),
        }
        self.guard_notifications(now);
        recorded
    }

    /// Takes over the revocations that an earlier version has queued. What cannot be read disturbs nothing.
    pub(super) fn take_over_revocations(&mut self, now: Timestamp) -> Result<(), StorageError> {
        let queued = self.storage.meta(EARLIER_QUEUE)?;
        let queued: Vec<EarlierRevocation> =
            queued.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        if queued.is_empty() {
            return Ok(());
        }
        self.transaction(now, |registry| {
            for EarlierRevocation { revocation, last_notified } in queued {
                // In its order, the deployment's own tenant was one of all.
                if last_notified.as_str() < registry.tenant().as_str() {
                    registry.notify_holders_of(&revocation)?;
                }
                registry.notify(Notification::Relay { revocation, tenants: Tenants::After(last_notified) })?;
            }
            registry.storage.set_meta(EARLIER_QUEUE, "[]")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::next_tenants;
    use crate::base::tenant_id::TenantId;

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
