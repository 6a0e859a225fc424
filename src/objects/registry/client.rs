//! Calls of a tenant's registry.

use crate::objects::protocol::{Pending, Request, call_enclosed};
use narthex_core::access::audit::Actor;
use narthex_core::base::tenant_id::TenantId;

use super::messages::{Message, Registries};

/// Sends a request without an actor.
pub fn ask<R: Request<Object = Registries>>(tenant: &TenantId, request: &R) -> Pending<R::Reply> {
    ask_as(tenant, &Actor::default(), request)
}

/// Sends a request on behalf of an actor.
pub fn ask_as<R: Request<Object = Registries>>(tenant: &TenantId, by: &Actor, request: &R) -> Pending<R::Reply> {
    let envelope = Message { tenant: tenant.clone(), by: by.clone(), ask: () };
    call_enclosed(&Registries::of(tenant), &envelope, request)
}
