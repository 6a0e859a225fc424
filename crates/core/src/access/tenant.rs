//! Tenants, as the deployment's own tenant manages them.

use serde::{Deserialize, Serialize};

use crate::base::json::{Fault, Object};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Tenant {
    pub name: String,
    #[serde(flatten)]
    pub retention: Retention,
}

/// How long a tenant's data is kept; the deployment's settings are the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Retention {
    pub context_retention_days: Option<u64>,
    pub event_retention_hours: Option<u64>,
}

impl Retention {
    /// For a deleted tenant: the shortest times.
    pub const ENDED: Self = Self { context_retention_days: Some(1), event_retention_hours: Some(1) };
}

/// Reads the body of a tenant. Returns every fault.
pub fn read(text: &str) -> Result<Tenant, Vec<Fault>> {
    let mut body = Object::new(text, "#").map_err(|fault| vec![fault])?;
    let name = body.string("name", 1..=200);
    let name = body.require("name", name).unwrap_or_default();
    let context_retention_days = body.integer("context_retention_days", 1..=3650);
    let event_retention_hours = body.integer("event_retention_hours", 1..=8760);
    let faults = body.finish();
    let retention = Retention { context_retention_days, event_retention_hours };
    if faults.is_empty() { Ok(Tenant { name, retention }) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_read_with_all_its_faults() {
        let tenant = read(r#"{"name":"Acme","context_retention_days":7,"event_retention_hours":null}"#).unwrap();
        assert_eq!(tenant.name, "Acme");
        assert_eq!(tenant.retention.context_retention_days, Some(7));
        assert_eq!(tenant.retention.event_retention_hours, None);
        let faults = read(r#"{"context_retention_days":0,"event_retention_hours":9999,"x":1}"#).unwrap_err();
        let pointers: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["#/name", "#/context_retention_days", "#/event_retention_hours", "#/x"]);
    }

    #[test]
    fn it_is_kept_as_it_is_shown() {
        let tenant = Tenant { name: "A".into(), retention: Retention::ENDED };
        let text = serde_json::to_string(&tenant).unwrap();
        assert_eq!(text, r#"{"name":"A","context_retention_days":1,"event_retention_hours":1}"#);
        assert_eq!(serde_json::from_str::<Tenant>(&text).unwrap(), tenant);
    }
}
