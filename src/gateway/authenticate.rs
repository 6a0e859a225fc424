//! The phase between a request's route and its handler: identifies the caller and applies their limits.

use crate::auth::{self, Age};
use crate::objects::registry::snapshot;
use crate::platform::{clock, log_event, tasks};
use narthex_core::access::audit::Actor;
use narthex_core::http::problem::Problem;

use super::answer::internal;
use super::call::{Call, Caller};
use super::{credentials, limits};

/// Authenticates a request and counts it against the limits of its sender. Timed, because the registry may have to be
/// asked.
pub async fn authenticated(call: &Call, age: Age) -> Result<Caller, Problem> {
    if auth::presented(&call.request).is_some() {
        limits::logins::check(call)?;
    }
    let before = clock::now();
    let (principal, snapshot) = match auth::authenticate(&call.request, &call.settings, age).await {
        Ok(found) => found,
        Err(problem) => return Err(credentials::refused(call, problem).await),
    };
    call.tenant.borrow_mut().clone_from(&principal.tenant);
    *call.principal.borrow_mut() = Some(principal.principal.clone());
    credentials::used(call, &principal);
    call.auth_ms.set(clock::now().since(before));
    limits::request(call, &principal, &snapshot).await?;
    let by = Actor {
        actor: principal.principal.to_string(),
        name: principal.name.clone(),
        request_id: call.request_id.clone(),
        address: call.address().to_string(),
    };
    Ok(Caller { principal, snapshot, by })
}

impl Caller {
    /// Reads the registry anew, with every write that has been answered.
    pub async fn refresh(&mut self) -> Result<(), Problem> {
        self.snapshot = snapshot::refreshed(&self.principal.tenant).await.map_err(internal)?;
        Ok(())
    }

    /// Identifies the caller again, after the registry was found to have changed.
    pub async fn authenticate_again(&mut self, call: &Call) -> Result<(), Problem> {
        match auth::authenticate(&call.request, &call.settings, Age::Any).await {
            Ok((principal, _)) => self.principal = principal,
            Err(problem) => return Err(credentials::refused(call, problem).await),
        }
        limits::request(call, &self.principal, &self.snapshot).await
    }

    /// Refreshes the snapshot in the background before it is too old, so that requests need not wait for it.
    pub fn refresh_ahead(&self) {
        if self.snapshot.wants_refresh() {
            let tenant = self.principal.tenant.clone();
            tasks::keep_running(async move {
                if let Err(failure) = snapshot::refreshed(&tenant).await {
                    log_event!(SnapshotNotRefreshed, tenant = &tenant, detail = &failure);
                }
            });
        }
    }
}
