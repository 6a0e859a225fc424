//! Whether whoever listens to a context's stream still may. No object holds such a stream, so it looks by itself.

use crate::auth::standing;
use crate::core::time::Timestamp;
use crate::objects::registry::snapshot;
use crate::platform::clock;

use super::super::call::Caller;

/// It looks after so long, in milliseconds: with all other streams of the isolate it costs one question to the registry.
const LOOK_MS: u64 = 5_000;

/// The credentials a stream was opened with.
pub(super) struct Standing {
    tenant: String,
    principal: String,
    until: Option<Timestamp>,
}

impl Standing {
    pub fn of(caller: &Caller) -> Self {
        let principal = &caller.principal;
        Self { tenant: principal.tenant.clone(), principal: principal.principal.clone(), until: principal.until }
    }

    /// Lasts as long as they do. Tokens say themselves how long that is; of keys the registry knows.
    pub async fn ends(self) {
        loop {
            let left = self.until.map_or(LOOK_MS, |until| until.since(clock::now()).min(LOOK_MS));
            clock::pause(left).await;
            if self.until.is_some_and(|until| until <= clock::now()) {
                return;
            }
            // A registry that cannot be reached says nothing against anybody.
            if self.principal.starts_with("key:")
                && let Ok(snapshot) = snapshot::fresh(&self.tenant).await
                && standing(&self.tenant, &self.principal, &snapshot).is_none()
            {
                return;
            }
        }
    }
}
