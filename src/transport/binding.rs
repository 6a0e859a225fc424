//! `transport.kind: "binding"`: another Worker of the same account, called by the name of its service binding. What is
//! said is what `http` says; only the way there is another, which no address rule concerns.

use crate::auth::FIRST_TENANT;
use crate::platform::settings::{self, Settings};
use narthex_core::http::egress_address::{Address, Refusal};

use super::http::named_at;

/// The service bindings a tenant's services may name. They are the deployment's, so only the first tenant's may.
pub fn bindings_of<'s>(tenant: &str, settings: &'s Settings) -> Option<&'s [String]> {
    (tenant == FIRST_TENANT).then_some(settings.bindings.as_slice())
}

/// Where it is called, if its tenant may and the deployment still has the binding.
pub fn address(tenant: &str, binding: &str, path: &str) -> Result<Address, Refusal> {
    Address::bound(binding, path, bindings_of(tenant, &settings::current()))
}

/// Where work in the background is cancelled: as [`named_at`], behind the same binding.
pub fn cancel_address(tenant: &str, binding: &str, path: &str, location: Option<&str>) -> Result<Address, Refusal> {
    let own = address(tenant, binding, path)?;
    let named = named_at(own.as_str(), location).and_then(|named| url::Url::parse(&named).ok());
    let Some(named) = named else { return Ok(own) };
    let query = named.query().map(|query| format!("?{query}")).unwrap_or_default();
    address(tenant, binding, &format!("{}{query}", named.path()))
}
