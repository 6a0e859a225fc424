//! The choice of a service for a new context, as the gateway makes it.

use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::execution::known_service::KnownService;
use narthex_core::services::outline::ServiceOutline;
use narthex_core::services::routing::{self, Condition, Routable, RouteRequest};

use crate::isolate::{KnownEntry, Snapshot};
use crate::world::World;

/// A service at a time, for the router.
struct RoutedEntry<'s>(&'s KnownEntry, Timestamp);

impl<'s> Routable<'s> for RoutedEntry<'s> {
    fn service(&self) -> &'s ServiceOutline {
        self.0.service()
    }

    fn condition(&self) -> Condition {
        Condition::of(&self.0.measured(), self.1)
    }
}

impl World {
    /// The index of the service that the router selects; `first` if it is registered.
    pub fn route(&mut self, first: Option<ServiceId>, snapshot: &Snapshot) -> Option<usize> {
        let known = |id: &ServiceId| snapshot.services.iter().any(|known| known.service().id == *id);
        let wanted = RouteRequest {
            capability: "echo",
            service: first.as_ref().filter(|id| known(id)),
            version: None,
            pre_releases: false,
            tags: &[],
        };
        let now = Timestamp(self.now);
        let routable = snapshot.services.iter().map(|known| RoutedEntry(known, now));
        let found = routing::candidates(routable, wanted, |service| !service.draining, |_, _| true).ok()?;
        let chosen = routing::choose(&found, self.dice.throw())?;
        snapshot.services.get(chosen.service).map(|known| known.lane)
    }
}
