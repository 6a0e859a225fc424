//! The registry as cached in an isolate: decisions use it in memory, and it is refreshed when it may be outdated.
//!
//! A decision that a store confirms (it checks the revision) may use a snapshot of any age. A decision without such a
//! check uses a snapshot at most `snapshot_max_age_ms` old. A rejection is decided again with a fresh one.

mod complete;
mod document;
mod entry;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Deref;
use std::rc::Rc;

use crate::platform::{Failure, clock, log_event, secret_box, settings};
use narthex_core::access::encrypted_secret::EncryptedSecret;
use narthex_core::access::oauth::client::Client;
use narthex_core::access::oauth::grant::GrantKey;
use narthex_core::access::oauth::signed_state::StateKey;
use narthex_core::access::principal::Principal;
use narthex_core::base::lru::Lru;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::callback::CallbackKey;
use narthex_core::http::page_cursor::CursorKey;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::registry::copy::RegistryCopy;
use narthex_core::registry::secrets::tenant_secret_data;

use super::client::ask;
use super::messages::{
    DocumentKind, IndexData, Key, ReadSnapshot, SnapshotData, SnapshotReply, StoredDocument, StoredOutline,
    StoredService,
};

pub use complete::complete;
pub use document::{Missing, ServiceDocument};
pub use entry::Entry;

/// The most that an isolate keeps of all tenants, in bytes of the stored form, and what a tenant counts at least. In
/// memory, a snapshot takes about twice as much.
const MAX_KEPT_BYTES: usize = 16 * 1024 * 1024;
const MIN_TENANT_BYTES: usize = 64 * 1024;
/// Unreadable documents that are named in the log.
const MAX_LOGGED: usize = 5;

pub struct Snapshot {
    tenant: TenantId,
    copy: RegistryCopy,
    /// Grows with every change of an observed status.
    soft: Cell<u64>,
    /// In the order of the copy's outlines.
    pub services: Vec<Entry>,
    pub cursor_key: CursorKey,
    pub callback_key: CallbackKey,
    pub grant_key: GrantKey,
    pub state_key: StateKey,
    by_key: HashMap<String, usize>,
    fetched_at: Cell<Timestamp>,
    refreshing: Cell<bool>,
}

impl Deref for Snapshot {
    type Target = RegistryCopy;

    fn deref(&self) -> &RegistryCopy {
        &self.copy
    }
}

thread_local! {
    static SNAPSHOTS: RefCell<Lru<TenantId, Rc<Snapshot>>> = RefCell::new(Lru::new(MAX_KEPT_BYTES));
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
        if let Some(known) = known.filter(|known| known.copy.own_secret == *secret) {
            let (grant_key, state_key) = (known.grant_key.clone(), known.state_key.clone());
            return Ok((known.cursor_key.clone(), known.callback_key.clone(), grant_key, state_key));
        }
        let secret = secret_box::decrypt(tenant_secret_data(tenant), secret).await?;
        let secret = secret.as_bytes();
        Ok((CursorKey::new(secret), CallbackKey::new(secret), GrantKey::new(secret), StateKey::new(secret)))
    }

    /// `documents`: those that came with the index of a registry of an earlier version, by service.
    fn new(
        tenant: &TenantId,
        copy: RegistryCopy,
        soft: u64,
        own: OwnKeys,
        known: Option<&Snapshot>,
        documents: &HashMap<ServiceId, Rc<ServiceDocument>>,
    ) -> Self {
        let (cursor_key, callback_key, grant_key, state_key) = own;
        let by_key = copy.keys.iter().enumerate().map(|(at, key)| (key.id.clone(), at)).collect();
        let entry = |outline: &Rc<StoredOutline>| {
            let id = &outline.service.id;
            let same = known.and_then(|known| known.service(id.as_str()));
            // A service registered again, or moved to another address, starts anew.
            let since = |outline: &StoredOutline| (outline.created_at, outline.moved_at);
            let same = same.filter(|entry| since(&entry.outline) == since(outline));
            let live = same.map(|entry| entry.live.clone()).unwrap_or_default();
            Entry { outline: outline.clone(), live, tenant: tenant.clone(), document: documents.get(id).cloned() }
        };
        Self {
            tenant: tenant.clone(),
            soft: Cell::new(soft),
            services: copy.outlines.iter().map(entry).collect(),
            cursor_key,
            callback_key,
            grant_key,
            state_key,
            by_key,
            fetched_at: Cell::new(clock::now()),
            refreshing: Cell::new(false),
            copy,
        }
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
        self.services.get(self.copy.position(id)?)
    }

    /// The document of a service, if it is registered.
    ///
    /// # Errors
    /// The registry cannot be reached.
    pub async fn document(&self, id: &str) -> Result<Option<Rc<ServiceDocument>>, Failure> {
        let Some(entry) = self.service(id) else { return Ok(None) };
        match entry.document().await {
            Ok(document) => Ok(Some(document)),
            Err(Missing::Deleted) => Ok(None),
            Err(missing @ (Missing::Unreadable | Missing::Failed(_))) => Err(missing.into()),
        }
    }

    /// Whether it is from a registry of an earlier version, which sends all documents.
    fn has_no_digests(&self) -> bool {
        self.services.iter().any(|entry| entry.document.is_some())
    }

    /// The documents of the first of these services, for a list: in their order, as many as the registry sends at a
    /// time, and how many services that covers. Those that were deleted in the meantime have none.
    ///
    /// # Errors
    /// The registry cannot be reached.
    pub async fn first_documents(&self, entries: &[&Entry]) -> Result<(Vec<Rc<ServiceDocument>>, usize), Failure> {
        if let Some(all) = entries.iter().map(|entry| entry.document.clone()).collect() {
            return Ok((all, entries.len()));
        }
        let wanted = entries.iter().map(|entry| (&entry.service().id, entry.outline.digest.as_str()));
        document::read_first(&self.tenant, &wanted.collect::<Vec<_>>()).await
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
        let role = self.rules.role(&key.role).into_iter().flatten();
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
        self.copy.documents.iter().filter(move |stored| stored.kind == kind && stored.deleted_at.is_none())
    }

    pub fn client(&self, id: &str) -> Option<Client> {
        let stored = self.documents(DocumentKind::Client).find(|stored| stored.id == id)?;
        serde_json::from_str(stored.document.get()).ok()
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

/// The snapshot after an index, or after the changes of the known one.
async fn from_index(tenant: &TenantId, mut data: IndexData, known: Option<&Snapshot>) -> Result<Rc<Snapshot>, Failure> {
    let copy = match data.since {
        None => RegistryCopy::new(&mut data),
        Some(_) => known
            .and_then(|known| known.copy.changed(&mut data))
            .ok_or_else(|| Failure("the registry has sent other changes than those requested".into()))?,
    };
    for current in std::mem::take(&mut data.services) {
        // They only spare a request: one that cannot be read concerns the calls of its service.
        let _ = document::keep(tenant, current);
    }
    let own = Snapshot::own_keys(tenant, &copy.own_secret, known).await?;
    let snapshot = Snapshot::new(tenant, copy, data.soft, own, known, &HashMap::new());
    snapshot.update_observed(data.soft, &data.measured);
    log_unreadable(&snapshot);
    Ok(Rc::new(snapshot))
}

fn log_unreadable(snapshot: &Snapshot) {
    let unreadable: Vec<String> = snapshot.copy.unreadable().collect();
    if !unreadable.is_empty() {
        let first = unreadable.iter().take(MAX_LOGGED).cloned().collect::<Vec<_>>().join(", ");
        log_event!(DocumentsUnreadable, tenant = &snapshot.tenant, count = unreadable.len(), detail = first);
    }
}

/// The snapshot of a registry of the version before, which sends all documents.
async fn from_snapshot(
    tenant: &TenantId,
    mut data: SnapshotData,
    known: Option<&Snapshot>,
) -> Result<Rc<Snapshot>, Failure> {
    let (soft, measured) = (data.soft, std::mem::take(&mut data.measured));
    let document = |stored: &StoredService| {
        let known = known.and_then(|known| known.service(stored.service.id.as_str())?.document.clone());
        let document = ServiceDocument::new(stored.clone(), String::new(), known.as_deref());
        (stored.service.id.clone(), Rc::new(document))
    };
    let documents = data.services.iter().map(document).collect();
    let copy = RegistryCopy::of_snapshot(data);
    let own = Snapshot::own_keys(tenant, &copy.own_secret, known).await?;
    let snapshot = Snapshot::new(tenant, copy, soft, own, known, &documents);
    snapshot.update_observed(soft, &measured);
    Ok(Rc::new(snapshot))
}

fn cached(tenant: &TenantId) -> Option<Rc<Snapshot>> {
    SNAPSHOTS.with_borrow_mut(|snapshots| snapshots.get(tenant).cloned())
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

/// What a registry says to one who knows this.
fn question(known: Option<&Snapshot>) -> ReadSnapshot {
    ReadSnapshot {
        known: known.map(|snapshot| snapshot.revision),
        stores: known.map_or(0, |snapshot| snapshot.stores.len()),
        soft: known.map(|snapshot| snapshot.soft.get()),
        index: true,
        incomplete: known.is_some_and(|snapshot| !snapshot.left_out.is_empty() || snapshot.has_no_digests()),
    }
}

/// Fetches or revalidates the snapshot now.
pub async fn refreshed(tenant: &TenantId) -> Result<Rc<Snapshot>, Failure> {
    let known = cached(tenant);
    let asked_at = clock::now();
    let reply = ask(tenant, &question(known.as_deref())).await;
    if let Some(known) = &known {
        known.refreshing.set(false);
    }
    let snapshot = match (reply?, known) {
        (SnapshotReply::Unchanged, Some(known)) => known,
        (SnapshotReply::Measured { soft, measured }, Some(known)) => {
            known.update_observed(soft, &measured);
            known
        }
        (SnapshotReply::Index(data), known) => from_index(tenant, *data, known.as_deref()).await?,
        (SnapshotReply::Snapshot(data), known) => from_snapshot(tenant, *data, known.as_deref()).await?,
        (SnapshotReply::Unchanged | SnapshotReply::Measured { .. }, None) => {
            return Err(Failure("the registry has left out the snapshot, though none is cached".into()));
        }
    };
    // Its age counts from the request, not from the reply.
    snapshot.fetched_at.set(asked_at);
    SNAPSHOTS.with_borrow_mut(|snapshots| {
        let newer = snapshots.get(tenant).is_some_and(|cached| cached.revision > snapshot.revision);
        if !newer {
            let bytes = snapshot.copy.stored_bytes().max(MIN_TENANT_BYTES);
            snapshots.insert(tenant.clone(), snapshot.clone(), bytes);
        }
    });
    Ok(snapshot)
}
