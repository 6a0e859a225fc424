//! Revocation: when an issuer, a client, a grant or a role changes or is deleted, hubs and lanes close the sockets that
//! depended on it.

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::objects::events::messages::{Ask, Gone, Reply as Told};
use crate::objects::lanes::messages::Ask as Lane;
use crate::objects::registry::snapshot;
use crate::platform::objects::{self, Kind};
use crate::platform::{Failure, clock, log_event};
use narthex_core::access::audit::Actor;
use narthex_core::access::issuer::Issuer;
use narthex_core::access::oauth::client::{SELF_REGISTERED, client_id};
use narthex_core::access::permission::allows;
use narthex_core::access::role::{self, Role};
use narthex_core::access::tenant::FIRST_TENANT;

use super::capacity::Halted;
use super::messages::{Condition, DocumentKind, Registered, Reply, StoredDocument};
use super::{Inner, PUSH_PATIENCE_MS};

/// Hubs notified at a time.
const AT_ONCE: usize = 50;
/// Tenants notified within one request or alarm: an invocation can only call so many objects.
const MAX_TENANTS_NOTIFIED: usize = 100;
/// Delay until the next tenants are notified, in milliseconds.
const GO_ON_MS: u64 = 500;
const ENDINGS: &str = "endings";

/// A revocation to be sent to all tenants, and the last tenant that was notified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ending {
    gone: Gone,
    told: String,
}

/// The next tenants to notify, and whether there are more.
fn piece(mut tenants: Vec<String>, told: &str, most: usize) -> (Vec<String>, bool) {
    tenants.retain(|tenant| tenant.as_str() > told);
    tenants.sort_unstable();
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
    pub(super) async fn put_and_end(
        &self,
        by: &Actor,
        kind: DocumentKind,
        id: &str,
        document: Box<RawValue>,
        condition: &Condition,
    ) -> Result<Reply, Halted> {
        let before = self.tables.get::<StoredDocument>(kind.as_str(), id)?.map(|stored| stored.document);
        let reply = self.put(by, kind, id, document, condition)?;
        if let Reply::Document { stored, .. } = &reply {
            self.end(kind, id, before.as_deref(), Some(&stored.document)).await?;
        }
        Ok(reply)
    }

    pub(super) async fn delete_and_end(
        &self,
        by: &Actor,
        kind: DocumentKind,
        id: &str,
        condition: &Condition,
    ) -> Result<Reply, Halted> {
        let before = self.tables.get::<StoredDocument>(kind.as_str(), id)?.map(|stored| stored.document);
        let reply = self.delete(by, kind, id, condition)?;
        if matches!(reply, Reply::Done) {
            self.end(kind, id, before.as_deref(), None).await?;
        }
        Ok(reply)
    }

    async fn end(
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
                let connect = connecting.iter().map(|one| format!("services:connect:{}", one.service.id));
                let needed: Vec<String> = NEEDED.iter().map(ToString::to_string).chain(connect).collect();
                let lost = lost(id, before, after, &needed);
                if !lost.is_empty() {
                    self.tell_end(&[self.tenant()], Gone::Permissions { role: id.into(), lost }).await;
                }
            }
            // Credentials depend on a grant; the deletion of its revocation changes nothing.
            DocumentKind::Revocation if before.is_none() => {
                self.tell_end(&[self.tenant()], Gone::From(format!("revocations/{id}"))).await;
            }
            // A new document has no dependents.
            _ if before.is_none() => {}
            DocumentKind::Issuer => {
                let issuer = read::<Issuer>(before).filter(|issuer| issuer.claims.tenant.is_none());
                let gone = Gone::From(format!("issuers/{id}"));
                match issuer {
                    Some(issuer) => {
                        self.tell_end(&[issuer.tenant.unwrap_or_else(|| FIRST_TENANT.into())], gone).await;
                    }
                    None => self.tell_all(gone).await?,
                }
            }
            DocumentKind::Client => {
                let tenant = self.tenant();
                let for_all = tenant == FIRST_TENANT && id.starts_with(SELF_REGISTERED);
                let gone = Gone::From(format!("clients/{}", client_id(&tenant, id)));
                match for_all {
                    true => self.tell_all(gone).await?,
                    false => self.tell_end(&[tenant], gone).await,
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
    fn all_tenants(&self) -> Result<Vec<String>, Failure> {
        let living = |stored: &StoredDocument| stored.deleted_at.is_none();
        let others = self.tables.documents_of(DocumentKind::Tenant)?.into_iter().filter(living).map(|stored| stored.id);
        Ok(std::iter::once(self.tenant()).chain(others).collect())
    }

    fn endings(&self) -> Result<Vec<Ending>, Failure> {
        Ok(self.tables.meta(ENDINGS)?.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default())
    }

    /// Notifies all tenants: the first now, and if there are many, the rest by alarm.
    async fn tell_all(&self, gone: Gone) -> Result<(), Failure> {
        let ending = Ending { gone, told: String::new() };
        if self.all_tenants()?.len() > MAX_TENANTS_NOTIFIED {
            let endings: Vec<Ending> = self.endings()?.into_iter().chain([ending.clone()]).collect();
            self.tables.set_meta(ENDINGS, &serde_json::to_string(&endings)?)?;
        }
        self.tell_piece(ending).await
    }

    async fn tell_piece(&self, ending: Ending) -> Result<(), Failure> {
        let (tenants, follow) = piece(self.all_tenants()?, &ending.told, MAX_TENANTS_NOTIFIED);
        self.tell_end(&tenants, ending.gone.clone()).await;
        // Another task may have notified some tenants in the meantime.
        let mut endings = self.endings()?;
        if let Some(at) = endings.iter().position(|one| *one == ending) {
            let one = endings.remove(at);
            endings.extend(tenants.last().filter(|_| follow).map(|last| Ending { told: last.clone(), ..one }));
            self.tables.set_meta(ENDINGS, &serde_json::to_string(&endings)?)?;
        }
        if !endings.is_empty() {
            self.tables.set_alarm(clock::now().plus_ms(GO_ON_MS));
        }
        Ok(())
    }

    /// Continues a revocation that has not reached all tenants yet.
    pub(super) async fn go_on_ending(&self) {
        let told = async {
            match self.endings()?.into_iter().next() {
                Some(ending) => self.tell_piece(ending).await,
                None => Ok(()),
            }
        };
        if let Err(failure) = told.await {
            log_event!(RemovalNotAnnounced, detail = &failure);
        }
    }

    /// The services of a tenant that connect.
    pub(super) async fn connecting(&self, tenant: &str) -> Vec<Registered> {
        let connects = |one: &Registered| one.service.transport.connects();
        if tenant == self.tenant() {
            return self.tables.services().unwrap_or_default().into_iter().filter(connects).collect();
        }
        let Ok(snapshot) = snapshot::any(tenant).await else { return Vec::new() };
        snapshot.services.iter().map(|entry| entry.registered.clone()).filter(connects).collect()
    }

    /// Notifies the lanes of services that connect.
    pub(super) async fn tell_lanes(&self, tenant: &str, ask: impl Fn() -> Lane) {
        let connecting = self.connecting(tenant).await;
        join_all(connecting.iter().map(|one| self.tell_lane(tenant, one, ask()))).await;
    }

    /// A hub or a lane that cannot be reached keeps its sockets until their credentials expire.
    pub(super) async fn tell_end(&self, tenants: &[String], gone: Gone) {
        for some in tenants.chunks(AT_ONCE) {
            join_all(some.iter().map(|tenant| self.tell_lanes(tenant, || Lane::End(gone.clone())))).await;
        }
        let ask = &Ask::End(gone);
        for some in tenants.chunks(AT_ONCE) {
            join_all(some.iter().map(|tenant| async move {
                let told: Result<Told, _> = objects::send(Kind::Events, tenant, "", ask, PUSH_PATIENCE_MS).await;
                if let Err(failure) = told {
                    log_event!(SocketsNotClosed, tenant = tenant, detail = &failure);
                }
            }))
            .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::piece;

    #[test]
    fn all_are_told_once_in_pieces_that_are_small_enough() {
        let all: Vec<String> = (0..250).rev().map(|number| format!("t{number:03}")).collect();
        let (mut told, mut pieces): (Vec<String>, usize) = (Vec::new(), 0);
        loop {
            let last = told.last().cloned().unwrap_or_default();
            let (some, follow) = piece(all.clone(), &last, 100);
            assert!(some.len() <= 100);
            told.extend(some);
            pieces += 1;
            if !follow {
                break;
            }
        }
        let mut sorted = all;
        sorted.sort_unstable();
        assert_eq!((told, pieces), (sorted, 3));
        assert_eq!(piece(Vec::new(), "", 100), (Vec::new(), false));
    }
}
