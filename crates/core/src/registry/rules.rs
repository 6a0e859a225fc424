//! What an isolate derives from the documents of a registry: whom it knows, what they may do, and what limits them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use serde::de::DeserializeOwned;

use super::later::Unreadable;
use super::messages::{DocumentKind, StoredDocument};
use super::records::KEY;
use crate::access::issuer::Issuer;
use crate::access::oauth::client::Client;
use crate::access::principal::Principal;
use crate::access::role::{self, Role};
use crate::access::tenant::Tenant;
use crate::base::service_id::ServiceId;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;
use crate::limits::policy::Limit;
use crate::models::route::ModelRoute;
use crate::schedules::Schedule;
use crate::webhooks::Webhook;

/// A limit and its name.
#[derive(Debug, Clone)]
pub struct NamedLimit {
    pub name: String,
    pub limit: Limit,
    pub configured_at: Timestamp,
}

#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The tenant's own roles.
    roles: HashMap<String, Role>,
    pub issuers: Vec<Issuer>,
    pub limits: Vec<NamedLimit>,
    /// Model routes, by name.
    pub model_routes: BTreeMap<String, Rc<ModelRoute>>,
    /// The tenants that exist beside the first one; only its registry knows them.
    tenants: HashSet<TenantId>,
    /// Revocations, by the grants or tokens they revoke.
    revoked: HashSet<String>,
    /// Documents of a later version.
    unreadable: Vec<Unreadable>,
}

impl Rules {
    /// `unreadable`: what this version cannot even read the envelope of.
    pub fn of(documents: &[StoredDocument], unreadable: &[Unreadable]) -> Self {
        let mut rules = Self { unreadable: unreadable.to_vec(), ..Self::default() };
        for stored in documents {
            match stored.kind {
                DocumentKind::Role => {
                    let role = rules.read(stored);
                    rules.roles.extend(role.map(|role| (stored.id.clone(), role)));
                }
                DocumentKind::Issuer => {
                    let issuer = rules.read(stored);
                    rules.issuers.extend(issuer.map(|issuer| Issuer { written: stored.written(), ..issuer }));
                }
                DocumentKind::Limit => {
                    let (name, configured_at, limit) = (stored.id.clone(), stored.updated_at, rules.read(stored));
                    rules.limits.extend(limit.map(|limit| NamedLimit { name, limit, configured_at }));
                }
                DocumentKind::Tenant if stored.deleted_at.is_none() => {
                    let _ = rules.read::<Tenant>(stored);
                    rules.tenants.insert(TenantId::from_stored(&*stored.id));
                }
                DocumentKind::Revocation => {
                    rules.revoked.insert(stored.id.clone());
                }
                DocumentKind::Webhook => drop(rules.read::<Webhook>(stored)),
                DocumentKind::ModelRoute => {
                    let route = rules.read(stored).map(Rc::new);
                    rules.model_routes.extend(route.map(|route| (stored.id.clone(), route)));
                }
                DocumentKind::Schedule => drop(rules.read::<Schedule>(stored)),
                DocumentKind::Client => drop(rules.read::<Client>(stored)),
                DocumentKind::Tenant => {}
            }
        }
        let revoked = unreadable.iter().filter(|one| one.kind == DocumentKind::Revocation.as_str());
        rules.revoked.extend(revoked.map(|one| one.id.clone()));
        rules
    }

    /// Documents were validated when they were written: one that cannot be read is of a later version.
    fn read<T: DeserializeOwned>(&mut self, stored: &StoredDocument) -> Option<T> {
        let read = serde_json::from_str(stored.document.get()).ok();
        if read.is_none() {
            self.unreadable.push(Unreadable::of(stored));
        }
        read
    }

    /// The permissions of a role; `None` if it does not exist.
    pub fn role<'s>(&'s self, name: &str) -> Option<impl Iterator<Item = &'s str> + use<'s>> {
        let shipped = role::built_in(name).map(|role| role.permissions);
        let own = self.roles.get(name).map(|role| role.permissions.as_slice());
        if shipped.is_none() && own.is_none() {
            return None;
        }
        let own = own.unwrap_or_default().iter().map(String::as_str);
        Some(shipped.unwrap_or_default().iter().copied().chain(own))
    }

    /// The tenant with this id, if it exists; only the deployment's own tenant knows.
    pub fn tenant(&self, id: &str) -> Option<&TenantId> {
        self.tenants.get(id)
    }

    /// Whether a grant, or a token without one, was revoked.
    pub fn is_revoked(&self, family: &str) -> bool {
        self.revoked.contains(family)
    }

    /// The documents of a later version, besides services and keys.
    pub fn all_unreadable(&self) -> impl Iterator<Item = &Unreadable> {
        self.unreadable.iter().filter(|one| one.kind != KEY)
    }

    /// The ids of the documents of a kind that are of a later version.
    pub fn unreadable(&self, kind: DocumentKind) -> impl Iterator<Item = &str> {
        self.unreadable.iter().filter(move |one| one.kind == kind.as_str()).map(|one| one.id.as_str())
    }

    /// Whether this document exists and is of a later version.
    pub fn is_unreadable(&self, kind: &str, id: &str) -> bool {
        self.unreadable.iter().any(|one| one.kind == kind && one.id == id)
    }

    /// A document of a later version that may refuse any request of this principal.
    pub fn unknown_limit(&self, principal: &Principal) -> Option<&Unreadable> {
        self.unreadable.iter().find(|one| one.refuses_requests(principal))
    }

    /// A document of a later version that may refuse this call. Schedules have no principal.
    pub fn unknown_restriction(
        &self,
        principal: Option<&Principal>,
        service: &ServiceId,
        capability: &str,
    ) -> Option<&Unreadable> {
        self.unreadable.iter().find(|one| one.refuses_calls(principal, service, capability))
    }
}
