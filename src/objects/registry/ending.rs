//! What was opened ends with what let it in: the hubs are told when an issuer, a client, a grant or a role is no longer
//! what it was.

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::auth::FIRST_TENANT;
use crate::core::audit::By;
use crate::core::issuer::Issuer;
use crate::core::oauth::client::{SELF_REGISTERED, client_id};
use crate::core::permission::allows;
use crate::core::role::{self, Role};
use crate::objects::events::messages::{Ask, Gone, Reply as Told};
use crate::objects::lanes::messages::Ask as Lane;
use crate::objects::registry::snapshot;
use crate::platform::objects::{self, Kind as Object};
use crate::platform::{Failure, log};

use super::messages::{Condition, Kept, Kind, Registered, Reply};
use super::{Inner, PUSH_PATIENCE_MS};

/// Hubs told at a time.
const AT_ONCE: usize = 50;

fn read<T: DeserializeOwned>(document: Option<&RawValue>) -> Option<T> {
    serde_json::from_str(document?.get()).ok()
}

/// What a socket of the hub may need.
const NEEDED: [&str; 3] = ["events:read", "contexts:read", "contexts:read:*"];

/// What a role grants of what is needed.
fn granted(id: &str, document: Option<&RawValue>, needed: &[String]) -> Vec<bool> {
    let shipped = role::shipped(id).map(|role| role.permissions).unwrap_or_default();
    let own = read::<Role>(document).map(|role| role.permissions).unwrap_or_default();
    let all: Vec<String> = shipped.iter().map(ToString::to_string).chain(own).collect();
    needed.iter().map(|permission| allows(&all, permission)).collect()
}

/// What a role granted of it before, and does not any more.
fn lost(id: &str, before: Option<&RawValue>, after: Option<&RawValue>, needed: &[String]) -> Vec<String> {
    let each = needed.iter().zip(granted(id, before, needed)).zip(granted(id, after, needed));
    each.filter(|((_, was), is)| *was && !is).map(|((permission, _), _)| permission.clone()).collect()
}

impl Inner {
    pub(super) async fn put_and_end(
        &self,
        by: &By,
        kind: Kind,
        id: &str,
        document: Box<RawValue>,
        condition: &Condition,
    ) -> Result<Reply, Failure> {
        let before = self.tables.get::<Kept>(kind.as_str(), id)?.map(|kept| kept.document);
        let reply = self.put(by, kind, id, document, condition)?;
        if let Reply::Kept { kept, .. } = &reply {
            self.end(kind, id, before.as_deref(), Some(&kept.document)).await?;
        }
        Ok(reply)
    }

    pub(super) async fn delete_and_end(
        &self,
        by: &By,
        kind: Kind,
        id: &str,
        condition: &Condition,
    ) -> Result<Reply, Failure> {
        let before = self.tables.get::<Kept>(kind.as_str(), id)?.map(|kept| kept.document);
        let reply = self.delete(by, kind, id, condition)?;
        if matches!(reply, Reply::Done) {
            self.end(kind, id, before.as_deref(), None).await?;
        }
        Ok(reply)
    }

    async fn end(
        &self,
        kind: Kind,
        id: &str,
        before: Option<&RawValue>,
        after: Option<&RawValue>,
    ) -> Result<(), Failure> {
        if before.map(RawValue::get) == after.map(RawValue::get) {
            return Ok(());
        }
        match kind {
            Kind::Role => {
                let connecting = self.connecting(&self.tenant()).await;
                let connect = connecting.iter().map(|one| format!("services:connect:{}", one.service.id));
                let needed: Vec<String> = NEEDED.iter().map(ToString::to_string).chain(connect).collect();
                let lost = lost(id, before, after, &needed);
                if !lost.is_empty() {
                    self.tell_end(&[self.tenant()], Gone::Permissions { role: id.into(), lost }).await;
                }
            }
            // What came of a grant that is revoked; a revocation that goes changes nothing.
            Kind::Revocation if before.is_none() => {
                self.tell_end(&[self.tenant()], Gone::From(format!("revocations/{id}"))).await;
            }
            // Nothing came of what was not there.
            _ if before.is_none() => {}
            Kind::Issuer => {
                let issuer = read::<Issuer>(before).filter(|issuer| issuer.claims.tenant.is_none());
                let hubs = match issuer {
                    Some(issuer) => vec![issuer.tenant.unwrap_or_else(|| FIRST_TENANT.into())],
                    None => self.all_tenants()?,
                };
                self.tell_end(&hubs, Gone::From(format!("issuers/{id}"))).await;
            }
            Kind::Client => {
                let tenant = self.tenant();
                let for_all = tenant == FIRST_TENANT && id.starts_with(SELF_REGISTERED);
                let gone = Gone::From(format!("clients/{}", client_id(&tenant, id)));
                let hubs = if for_all { self.all_tenants()? } else { vec![tenant] };
                self.tell_end(&hubs, gone).await;
            }
            Kind::Limit | Kind::Revocation | Kind::Tenant | Kind::Webhook | Kind::Schedule => {}
        }
        Ok(())
    }

    /// The deployment's own, and those it knows.
    fn all_tenants(&self) -> Result<Vec<String>, Failure> {
        let living = |kept: &Kept| kept.kind == Kind::Tenant && kept.deleted_at.is_none();
        let others = self.tables.kept()?.into_iter().filter(living).map(|kept| kept.id);
        Ok(std::iter::once(self.tenant()).chain(others).collect())
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

    /// Tells the lanes of services that connect whose connections end.
    pub(super) async fn tell_lanes(&self, tenant: &str, ask: impl Fn() -> Lane) {
        let connecting = self.connecting(tenant).await;
        join_all(connecting.iter().map(|one| self.tell_lane(tenant, one, ask()))).await;
    }

    /// A hub or a lane that does not hear of it keeps such sockets until their credentials end by themselves.
    pub(super) async fn tell_end(&self, tenants: &[String], gone: Gone) {
        join_all(tenants.iter().map(|tenant| self.tell_lanes(tenant, || Lane::End(gone.clone())))).await;
        let ask = &Ask::End(gone);
        for some in tenants.chunks(AT_ONCE) {
            join_all(some.iter().map(|tenant| async move {
                let told: Result<Told, _> = objects::send(Object::Events, tenant, "", ask, PUSH_PATIENCE_MS).await;
                if let Err(failure) = told {
                    let detail = failure.0;
                    log(&format!(
                        r#"{{"level":"warn","message":"sockets not closed","tenant":{tenant:?},"detail":{detail:?}}}"#
                    ));
                }
            }))
            .await;
        }
    }
}
