//! The services of a snapshot.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use crate::objects::registry::compiled_schemas::Schemas;
use crate::objects::registry::messages::StoredService;
use crate::objects::secrets::{DecryptedSecrets, StoredSecrets};
use crate::platform::{Failure, clock, settings};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::execution::known_service::KnownService;
use narthex_core::http::egress_address::{Address, AddressError};
use narthex_core::lane::live::Live;
use narthex_core::services::Service;
use narthex_core::services::routing::{Condition, Routable};
use narthex_core::services::schema::{Formats, Schema};

/// The result of the address rules, with the gateway's own origin for which it holds.
pub(super) struct AddressCheck {
    origin: String,
    address: Result<Rc<Address>, AddressError>,
}

/// A service in a snapshot, with what an isolate derives from its document.
pub struct Entry {
    pub registered: StoredService,
    pub live: Rc<Live>,
    /// Shared by all snapshots in which the service has the same schemas.
    pub(super) schemas: Rc<Vec<Schemas>>,
    /// Its secrets, decrypted on the first call; shared by all snapshots with the same secrets.
    pub(super) decrypted: Rc<OnceCell<Rc<DecryptedSecrets>>>,
    /// Its address as the present rules allow it.
    pub(super) address: RefCell<Option<AddressCheck>>,
}

impl<'s> Routable<'s> for &'s Entry {
    fn service(&self) -> &'s Service {
        &self.registered.service
    }

    fn condition(&self) -> Condition {
        let measured = self.measured();
        // Only an open breaker needs the time; reading it costs more than everything else here.
        let now = if measured.breaker_until.is_some() { clock::now() } else { Timestamp::default() };
        Condition::of(&measured, now)
    }
}

impl KnownService for Entry {
    fn service(&self) -> &Service {
        &self.registered.service
    }

    fn live(&self) -> &Live {
        &self.live
    }
}

impl Entry {
    pub fn service(&self) -> &Service {
        &self.registered.service
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
