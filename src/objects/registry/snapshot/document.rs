//! The documents of the services that an isolate uses, within a limit: the registry sends any of them again.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use crate::objects::registry::client::ask;
use crate::objects::registry::compiled_schemas::{Schemas, have_same_schemas};
use crate::objects::registry::messages::{CurrentService, ReadServices, Services, StoredService};
use crate::objects::secrets::{DecryptedSecrets, StoredSecrets};
use crate::platform::{Failure, clock, settings};
use narthex_core::base::lru::Lru;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::http::egress_address::{Address, AddressError};
use narthex_core::services::Service;
use narthex_core::services::schema::{Formats, Schema};

/// The most that an isolate keeps, in bytes of the stored form. In memory, with compiled schemas, a document takes up
/// to five times as much.
const MAX_KEPT_BYTES: usize = 4 * 1024 * 1024;
/// Documents requested at a time.
const AT_ONCE: usize = 200;

/// The result of the address rules, with the gateway's own origin for which it holds.
struct AddressCheck {
    origin: String,
    address: Result<Rc<Address>, AddressError>,
}

/// The document of a service, with what an isolate derives from it.
pub struct ServiceDocument {
    pub registered: StoredService,
    /// That of its outline.
    digest: String,
    /// Shared by all documents with the same schemas.
    schemas: Rc<Vec<Schemas>>,
    /// Its secrets, decrypted on the first call; shared by all documents with the same secrets.
    decrypted: Rc<OnceCell<Rc<DecryptedSecrets>>>,
    /// Its address as the present rules allow it.
    address: RefCell<Option<AddressCheck>>,
}

/// Why a document is missing.
#[derive(Debug)]
pub enum Missing {
    /// The service was deleted after the snapshot was made.
    Deleted,
    /// It is of a later version, which this one cannot read.
    Unreadable,
    Failed(Failure),
}

impl From<Failure> for Missing {
    fn from(failure: Failure) -> Self {
        Missing::Failed(failure)
    }
}

impl From<Missing> for Failure {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Deleted => Failure("the service was deleted in the meantime".into()),
            Missing::Unreadable => Failure("the service is of a later version, which this one cannot read".into()),
            Missing::Failed(failure) => failure,
        }
    }
}

type Key = (TenantId, ServiceId);

thread_local! {
    static DOCUMENTS: RefCell<Lru<Key, Rc<ServiceDocument>>> = RefCell::new(Lru::new(MAX_KEPT_BYTES));
}

fn key(tenant: &TenantId, service: &ServiceId) -> Key {
    (tenant.clone(), service.clone())
}

/// The kept document of a service, of any age.
fn known(tenant: &TenantId, service: &ServiceId) -> Option<Rc<ServiceDocument>> {
    DOCUMENTS.with_borrow_mut(|documents| documents.get(&key(tenant, service)).cloned())
}

fn stored(current: &CurrentService) -> Result<StoredService, Missing> {
    // It was validated when it was written.
    serde_json::from_str(current.service.get()).map_err(|_| Missing::Unreadable)
}

/// Keeps a document that the registry has sent.
pub(super) fn keep(tenant: &TenantId, current: CurrentService) -> Result<Rc<ServiceDocument>, Missing> {
    let registered = stored(&current)?;
    let CurrentService { digest, service } = current;
    let known = known(tenant, &registered.service.id);
    if let Some(known) = known.as_ref().filter(|known| known.digest == digest) {
        return Ok(known.clone());
    }
    let key = key(tenant, &registered.service.id);
    let document = Rc::new(ServiceDocument::new(registered, digest, known.as_deref()));
    DOCUMENTS.with_borrow_mut(|documents| documents.insert(key, document.clone(), service.get().len()));
    Ok(document)
}

/// The document that belongs to an outline with this digest, or a newer one.
pub(super) async fn read(tenant: &TenantId, service: &ServiceId, digest: &str) -> Result<Rc<ServiceDocument>, Missing> {
    if let Some(known) = known(tenant, service).filter(|known| known.digest == digest) {
        return Ok(known);
    }
    let request = ReadServices { ids: vec![service.clone()], for_list: false };
    let Services::Services { services, .. } = ask(tenant, &request).await.map_err(Failure::from)?;
    let current = services.into_iter().next().ok_or(Missing::Deleted)?;
    keep(tenant, current)
}

/// The documents of the first of these services, in their order, and how many services that covers: as many as one
/// reply of the registry has room for, at least one. Deleted and unreadable services have none. A document is kept only
/// if there is room: a list must not displace what calls need.
pub(super) async fn read_first(
    tenant: &TenantId,
    wanted: &[(&ServiceId, &str)],
) -> Result<(Vec<Rc<ServiceDocument>>, usize), Failure> {
    let mut found: HashMap<ServiceId, Rc<ServiceDocument>> = HashMap::new();
    let mut missing = Vec::new();
    let mut covered = 0;
    for (service, digest) in wanted {
        match known(tenant, service).filter(|known| known.digest == **digest) {
            Some(known) => drop(found.insert((*service).clone(), known)),
            None if missing.len() == AT_ONCE => break,
            None => missing.push((covered, (*service).clone())),
        }
        covered += 1;
    }
    if !missing.is_empty() {
        let ids = missing.iter().map(|(_, id)| id.clone()).collect();
        let Services::Services { services, read } = ask(tenant, &ReadServices { ids, for_list: true }).await?;
        for current in services {
            let bytes = current.service.get().len();
            let Ok(registered) = stored(&current) else { continue };
            let service = registered.service.id.clone();
            let earlier = known(tenant, &service);
            let document = Rc::new(ServiceDocument::new(registered, current.digest, earlier.as_deref()));
            DOCUMENTS.with_borrow_mut(|all| all.insert_if_room(key(tenant, &service), document.clone(), bytes));
            found.insert(service, document);
        }
        covered = missing.get(read.max(1)).map_or(covered, |(at, _)| *at);
    }
    let first = wanted.iter().take(covered);
    Ok((first.filter_map(|(service, _)| found.remove(*service)).collect(), covered))
}

impl ServiceDocument {
    /// `known`: an earlier document of the service.
    pub(super) fn new(registered: StoredService, digest: String, known: Option<&ServiceDocument>) -> Self {
        let schemas = known.filter(|known| have_same_schemas(known.service(), &registered.service));
        let schemas = schemas
            .map(|known| known.schemas.clone())
            .unwrap_or_else(|| Rc::new(registered.service.capabilities.iter().map(|_| Schemas::default()).collect()));
        let secrets = known.filter(|known| StoredSecrets::from(&known.registered) == StoredSecrets::from(&registered));
        let decrypted = secrets.map(|known| known.decrypted.clone()).unwrap_or_default();
        Self { registered, digest, schemas, decrypted, address: RefCell::default() }
    }

    pub fn service(&self) -> &Service {
        &self.registered.service
    }

    /// The index of a capability in this version.
    pub fn position(&self, name: &str, version: &semver::Version) -> Option<usize> {
        self.service().capabilities.iter().position(|offer| offer.name == name && offer.version == *version)
    }

    /// Its address `url`, if it may be called. `origin` is the gateway's own.
    pub fn address(&self, url: &str, origin: &str) -> Result<Rc<Address>, AddressError> {
        let mut cached = self.address.borrow_mut();
        if let Some(check) = cached.as_ref().filter(|check| check.origin == origin) {
            return check.address.clone();
        }
        let address = settings::current().may_call(url, Some(origin)).map(Rc::new);
        *cached = Some(AddressCheck { origin: origin.into(), address: address.clone() });
        address
    }

    /// The secrets for calling it.
    pub async fn secrets(&self, tenant: &TenantId) -> Result<Rc<DecryptedSecrets>, Failure> {
        if let Some(decrypted) = self.decrypted.get() {
            return Ok(decrypted.clone());
        }
        let stored = StoredSecrets::from(&self.registered);
        let decrypted = Rc::new(DecryptedSecrets::of(tenant, &self.service().id, stored, clock::now()).await?);
        Ok(self.decrypted.get_or_init(|| decrypted).clone())
    }

    /// The schema for parameters; `None` if the capability has none, or the service validates them itself.
    pub fn input(&self, capability: usize) -> Option<&Schema> {
        if !self.service().check_arguments {
            return None;
        }
        let raw = self.service().capabilities.get(capability)?.input_schema.as_ref();
        let cell = &self.schemas.get(capability)?.input;
        cell.get_or_init(|| raw.and_then(|raw| self.compiled(capability, raw.get()))).as_ref()
    }

    /// The schema compiled when it was registered; a schema of an upstream server that does not compile is validated by
    /// that server only.
    fn compiled(&self, capability: usize, schema: &str) -> Option<Schema> {
        let formats = self.service().capabilities.get(capability).map_or_else(Formats::default, |offer| offer.format);
        Schema::compile_as(schema, formats).ok()
    }

    pub fn output(&self, capability: usize) -> Option<&Schema> {
        let raw = self.service().capabilities.get(capability)?.output_schema.as_ref();
        let cell = &self.schemas.get(capability)?.output;
        cell.get_or_init(|| raw.and_then(|raw| self.compiled(capability, raw.get()))).as_ref()
    }
}
