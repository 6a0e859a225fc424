//! The registry as cached in an isolate: decisions use it in memory, and it is refreshed when it may be outdated.
//!
//! A decision that a store confirms (it checks the revision) may use a snapshot of any age. A decision without such a
//! check uses a snapshot at most `snapshot_max_age_ms` old. A rejection is decided again with a fresh one.

mod complete;
mod entry;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::objects::secrets::StoredSecrets;
use crate::platform::{Failure, clock, secret_box, settings};
use narthex_core::access::encrypted_secret::EncryptedSecret;
use narthex_core::access::issuer::Issuer;
use narthex_core::access::oauth::client::Client;
use narthex_core::access::oauth::grant::GrantKey;
use narthex_core::access::oauth::signed_state::StateKey;
use narthex_core::access::principal::Principal;
use narthex_core::access::role::{self, Role};
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::callback::CallbackKey;
use narthex_core::http::page_cursor::CursorKey;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::limits::policy::Limit;
use narthex_core::registry::revision::Revision;
use narthex_core::registry::secrets::tenant_secret_data;

use super::client::ask;
use super::compiled_schemas::{Schemas, have_same_schemas};
use super::messages::{
    DocumentKind, DocumentSize, Key, ReadSnapshot, SnapshotData, SnapshotReply, StoredDocument, StoredService,
};

pub use complete::complete;
pub use entry::Entry;

/// Tenants cached per isolate.
const MAX_TENANTS: usize = 200;

/// A rate limit and its name.
pub struct Policy {
    pub name: String,
    pub limit: Limit,
    pub configured_at: Timestamp,
}

pub struct Snapshot {
    pub revision: Revision,
    /// Grows with every change of an observed status.
    soft: Cell<u64>,
    pub services: Vec<Entry>,
    pub stores: Vec<narthex_core::base::id::StoreId>,
    pub keys: Vec<Key>,
    pub documents: Vec<StoredDocument>,
    /// The tenant's own roles.
    roles: HashMap<String, Role>,
    pub issuers: Vec<Issuer>,
    pub limits: Vec<Policy>,
    /// The tenants that exist beside the first one; only its registry knows them.
    tenants: HashSet<TenantId>,
    /// Revocations, by the grants or tokens they revoke.
    revoked: HashSet<String>,
    /// Stored documents that did not fit into the snapshot.
    pub left_out: Vec<DocumentSize>,
    own_secret: EncryptedSecret,
    pub cursor_key: CursorKey,
    pub callback_key: CallbackKey,
    pub grant_key: GrantKey,
    pub state_key: StateKey,
    by_key: HashMap<String, usize>,
    fetched_at: Cell<Timestamp>,
    refreshing: Cell<bool>,
}

thread_local! {
    static SNAPSHOTS: RefCell<HashMap<TenantId, Rc<Snapshot>>> = RefCell::new(HashMap::new());
}

/// Keys derived from the tenant's own secret, one per purpose.
type OwnKeys = (CursorKey, CallbackKey, GrantKey, StateKey);

impl Snapshot {
    /// Decrypts the tenant's own secret, unless it is the known one.
    async fn own_keys(
        tenant: &TenantId,
        secret: &EncryptedSecret,
        known: Option<&Snapshot>,
    ) -> Result<OwnKeys, Failure> {
        if let Some(known) = known.filter(|known| known.own_secret == *secret) {
            let (grant_key, state_key) = (known.grant_key.clone(), known.state_key.clone());
            return Ok((known.cursor_key.clone(), known.callback_key.clone(), grant_key, state_key));
        }
        let secret = secret_box::decrypt(tenant_secret_data(tenant), secret).await?;
        let secret = secret.as_bytes();
        Ok((CursorKey::new(secret), CallbackKey::new(secret), GrantKey::new(secret), StateKey::new(secret)))
    }

    fn new(data: SnapshotData, own: OwnKeys, known: Option<&Snapshot>) -> Self {
        let (cursor_key, callback_key, grant_key, state_key) = own;
        let by_key = data.keys.iter().enumerate().map(|(at, key)| (key.id.clone(), at)).collect();
        let entry = |registered: StoredService| {
            let same = known.and_then(|known| known.service(registered.service.id.as_str()));
            let schemas = same.filter(|entry| have_same_schemas(entry.service(), &registered.service));
            let schemas = schemas.map(|entry| entry.schemas.clone()).unwrap_or_else(|| {
                Rc::new(registered.service.capabilities.iter().map(|_| Schemas::default()).collect())
            });
            // A service registered again, or moved to another address, starts anew.
            let since = |registered: &StoredService| (registered.created_at, registered.moved_at);
            let same = same.filter(|entry| since(&entry.registered) == since(&registered));
            let live = same.map(|entry| entry.live.clone()).unwrap_or_default();
            let secrets =
                same.filter(|entry| StoredSecrets::from(&entry.registered) == StoredSecrets::from(&registered));
            let decrypted = secrets.map(|entry| entry.decrypted.clone()).unwrap_or_default();
            Entry { registered, live, schemas, decrypted, address: RefCell::default() }
        };
        // These were validated when they were written.
        let role =
            |stored: &StoredDocument| Some((stored.id.clone(), serde_json::from_str(stored.document.get()).ok()?));
        let roles = data.documents.iter().filter(|stored| stored.kind == DocumentKind::Role).filter_map(role).collect();
        let issuers = data.documents.iter().filter(|stored| stored.kind == DocumentKind::Issuer);
        let issuer = |stored: &StoredDocument| {
            let issuer: Issuer = serde_json::from_str(stored.document.get()).ok()?;
            Some(Issuer { written: stored.written(), ..issuer })
        };
        let issuers = issuers.filter_map(issuer).collect();
        let limit = |stored: &StoredDocument| {
            let limit = serde_json::from_str(stored.document.get()).ok()?;
            Some(Policy { name: stored.id.clone(), limit, configured_at: stored.updated_at })
        };
        let limits =
            data.documents.iter().filter(|stored| stored.kind == DocumentKind::Limit).filter_map(limit).collect();
        let living = |stored: &&StoredDocument| stored.kind == DocumentKind::Tenant && stored.deleted_at.is_none();
        let tenants = data.documents.iter().filter(living).map(|stored| TenantId::from_stored(&*stored.id)).collect();
        let revoked = data.documents.iter().filter(|stored| stored.kind == DocumentKind::Revocation);
        let revoked = revoked.map(|stored| stored.id.clone()).collect();
        let snapshot = Self {
            revision: data.revision,
            soft: Cell::new(data.soft),
            services: data.services.into_iter().map(entry).collect(),
            stores: data.stores,
            keys: data.keys,
            documents: data.documents,
            roles,
            issuers,
            limits,
            tenants,
            revoked,
            left_out: data.left_out,
            own_secret: data.cursor_secret,
            cursor_key,
            callback_key,
            grant_key,
            state_key,
            by_key,
            fetched_at: Cell::new(clock::now()),
            refreshing: Cell::new(false),
        };
        snapshot.update_observed(data.soft, &data.measured);
        snapshot
    }

    fn update_observed(&self, soft: u64, measured: &[(ServiceId, ObservedStatus)]) {
        self.soft.set(soft);
        for (id, measured) in measured {
            if let Some(entry) = self.service(id.as_str()) {
                entry.live.update_observed(*measured);
            }
        }
    }

    pub fn service(&self, id: &str) -> Option<&Entry> {
        self.services.iter().find(|entry| entry.service().id.as_str() == id)
    }

    /// The id of the service that a client names, registered or not. `None` if no service can have it.
    pub fn service_id(&self, id: &str) -> Option<ServiceId> {
        self.service(id).map(|entry| entry.service().id.clone()).or_else(|| ServiceId::parse(id))
    }

    pub fn key(&self, id: &str) -> Option<&Key> {
        self.by_key.get(id).and_then(|at| self.keys.get(*at))
    }

    /// The principal of an API key, by name. `None` if the key does not exist or has expired, or if the principal has
    /// no key.
    pub fn principal(&self, tenant: &TenantId, name: &PrincipalId) -> Option<Principal> {
        let id = name.key()?;
        if id == "admin" {
            return tenant.is_first().then(Principal::admin);
        }
        let (key, now) = (self.key(id)?, clock::now());
        let role = self.role(&key.role).into_iter().flatten();
        (key.expires_at > now).then(|| Principal {
            principal: name.clone(),
            name: Some(key.name.clone()),
            tenant: tenant.clone(),
            role: key.role.clone(),
            permissions: role.map(str::to_string).chain(key.permissions.iter().cloned()).collect(),
            until: Some(key.expires_at),
            from: Vec::new(),
            roles: Vec::new(),
        })
    }

    /// The documents of a kind, by id.
    pub fn documents(&self, kind: DocumentKind) -> impl Iterator<Item = &StoredDocument> {
        self.documents.iter().filter(move |stored| stored.kind == kind && stored.deleted_at.is_none())
    }

    /// The tenant with this id, if it exists; only the deployment's own tenant knows.
    pub fn tenant(&self, id: &str) -> Option<&TenantId> {
        self.tenants.get(id)
    }

    pub fn client(&self, id: &str) -> Option<Client> {
        let stored = self.documents(DocumentKind::Client).find(|stored| stored.id == id)?;
        serde_json::from_str(stored.document.get()).ok()
    }

    /// Whether a grant, or a token without one, was revoked.
    pub fn is_revoked(&self, family: &str) -> bool {
        self.revoked.contains(family)
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

    pub fn age_ms(&self) -> u64 {
        clock::now().since(self.fetched_at.get())
    }

    pub fn is_fresh(&self) -> bool {
        self.age_ms() < settings::timing().snapshot_max_age_ms
    }

    /// True for the one caller that should refresh it in the background.
    pub fn wants_refresh(&self) -> bool {
        self.age_ms() >= settings::timing().snapshot_refresh_ms && !self.refreshing.replace(true)
    }
}

fn cached(tenant: &TenantId) -> Option<Rc<Snapshot>> {
    SNAPSHOTS.with_borrow(|snapshots| snapshots.get(tenant).cloned())
}

/// The cached snapshot, of any age; fetched if there is none.
pub async fn any(tenant: &TenantId) -> Result<Rc<Snapshot>, Failure> {
    match cached(tenant) {
        Some(snapshot) => Ok(snapshot),
        None => refreshed(tenant).await,
    }
}

/// A snapshot of at most this age, in milliseconds, or requested now.
pub async fn within(tenant: &TenantId, max_ms: u64) -> Result<Rc<Snapshot>, Failure> {
    match cached(tenant).filter(|snapshot| snapshot.age_ms() < max_ms) {
        Some(snapshot) => Ok(snapshot),
        None => refreshed(tenant).await,
    }
}

/// A snapshot at most `snapshot_max_age_ms` old.
pub async fn fresh(tenant: &TenantId) -> Result<Rc<Snapshot>, Failure> {
    within(tenant, settings::timing().snapshot_max_age_ms).await
}

/// Fetches or revalidates the snapshot now.
pub async fn refreshed(tenant: &TenantId) -> Result<Rc<Snapshot>, Failure> {
    let known = cached(tenant);
    let request = ReadSnapshot {
        known: known.as_ref().map(|snapshot| snapshot.revision),
        stores: known.as_ref().map_or(0, |snapshot| snapshot.stores.len()),
        soft: known.as_ref().map(|snapshot| snapshot.soft.get()),
    };
    let asked_at = clock::now();
    let reply = ask(tenant, &request).await;
    if let Some(known) = &known {
        known.refreshing.set(false);
    }
    let snapshot = match (reply?, known) {
        (SnapshotReply::Unchanged, Some(known)) => known,
        (SnapshotReply::Measured { soft, measured }, Some(known)) => {
            known.update_observed(soft, &measured);
            known
        }
        (SnapshotReply::Snapshot(data), known) => {
            let own = Snapshot::own_keys(tenant, &data.cursor_secret, known.as_deref()).await?;
            Rc::new(Snapshot::new(*data, own, known.as_deref()))
        }
        (SnapshotReply::Unchanged | SnapshotReply::Measured { .. }, None) => {
            return Err(Failure("the registry has left out the snapshot, though none is cached".into()));
        }
    };
    // Its age counts from the request, not from the reply.
    snapshot.fetched_at.set(asked_at);
    SNAPSHOTS.with_borrow_mut(|snapshots| {
        let newer = snapshots.get(tenant).is_some_and(|cached| cached.revision > snapshot.revision);
        if !newer {
            if snapshots.len() >= MAX_TENANTS && !snapshots.contains_key(tenant) {
                let oldest =
                    snapshots.iter().min_by_key(|(_, cached)| cached.fetched_at.get()).map(|(id, _)| id.clone());
                oldest.and_then(|id| snapshots.remove(&id));
            }
            snapshots.insert(tenant.clone(), snapshot.clone());
        }
    });
    Ok(snapshot)
}
