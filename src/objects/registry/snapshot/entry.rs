//! The services of a snapshot.

use std::rc::Rc;

use super::document::{self, Missing, ServiceDocument};
use crate::objects::registry::messages::StoredOutline;
use crate::platform::clock;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::execution::known_service::KnownService;
use narthex_core::lane::live::Live;
use narthex_core::services::outline::ServiceOutline;
use narthex_core::services::routing::{Condition, Routable};

/// A service in a snapshot: its outline, and what was observed of it. Its document is read when it is needed.
pub struct Entry {
    pub outline: Rc<StoredOutline>,
    pub live: Rc<Live>,
    pub(super) tenant: TenantId,
    /// Its document, where a registry of an earlier version has sent that with the snapshot.
    pub(super) document: Option<Rc<ServiceDocument>>,
}

impl<'s> Routable<'s> for &'s Entry {
    fn service(&self) -> &'s ServiceOutline {
        &self.outline.service
    }

    fn condition(&self) -> Condition {
        let measured = self.measured();
        // Only an open breaker needs the time; reading it costs more than everything else here.
        let now = if measured.breaker_until.is_some() { clock::now() } else { Timestamp::default() };
        Condition::of(&measured, now)
    }
}

impl KnownService for Entry {
    fn service(&self) -> &ServiceOutline {
        &self.outline.service
    }

    fn live(&self) -> &Live {
        &self.live
    }
}

impl Entry {
    pub fn service(&self) -> &ServiceOutline {
        &self.outline.service
    }

    /// Its document: the one that the outline belongs to, or a newer one.
    ///
    /// # Errors
    /// The service was deleted in the meantime, this version cannot read it, or the registry cannot be reached.
    pub async fn document(&self) -> Result<Rc<ServiceDocument>, Missing> {
        match &self.document {
            Some(document) => Ok(document.clone()),
            None if self.service().is_unreadable() => Err(Missing::Unreadable),
            None => document::read(&self.tenant, &self.service().id, &self.outline.digest).await,
        }
    }
}
