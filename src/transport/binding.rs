//! `transport.kind: "binding"`: another Worker of the same account, called by the name of its service binding. The
//! exchange is that of `http`; only the way differs, and no address rule applies to it.

use crate::platform::settings;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::http::egress_address::{Address, AddressError};

use super::http::named_at;

/// The address where background work is cancelled: as [`named_at`], behind the same binding.
pub fn cancel_address(
    tenant: &TenantId,
    binding: &str,
    path: &str,
    location: Option<&str>,
) -> Result<Address, AddressError> {
    let settings = settings::current();
    let own = settings.binding_address(tenant, binding, path)?;
    let named = named_at(own.as_str(), location).and_then(|named| url::Url::parse(&named).ok());
    let Some(named) = named else { return Ok(own) };
    let query = named.query().map(|query| format!("?{query}")).unwrap_or_default();
    settings.binding_address(tenant, binding, &format!("{}{query}", named.path()))
}
