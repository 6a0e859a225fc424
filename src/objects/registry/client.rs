//! Calls of a tenant's registry.

use crate::objects::protocol::{self, Named, Request};
use crate::platform::objects::CallError;
use narthex_core::access::audit::Actor;
use narthex_core::base::tenant_id::TenantId;

use super::messages::{Message, Registry};

/// A request that the gateway makes by itself, without an actor.
pub async fn ask<R: Request<Object = Registry>>(tenant: &TenantId, request: &R) -> Result<R::Reply, CallError> {
    ask_as(tenant, &Actor::default(), request).await
}

/// A request of this actor.
pub async fn ask_as<R: Request<Object = Registry>>(
    tenant: &TenantId,
    by: &Actor,
    request: &R,
) -> Result<R::Reply, CallError> {
    let message = Message { tenant: tenant.clone(), ask: Named(request), by: by.clone() };
    protocol::exchange(&Registry::of(tenant), &message, request.timeout_ms()).await
}
