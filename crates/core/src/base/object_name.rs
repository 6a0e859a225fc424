//! The names of the objects that hold state.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::tenant_id::TenantId;

/// The name of an object: a tenant, or a tenant and a part. Only a [`TenantId`] makes one, so that no text from outside
/// can name an object of another tenant. The tenant is everything before the first `/`.
#[derive(Clone)]
pub struct ObjectName(Name);

#[derive(Clone)]
enum Name {
    /// The tenant's only object of its class.
    Tenant(TenantId),
    /// The tenant, `/`, and the part.
    Part(String),
}

impl TenantId {
    /// The name of the tenant's object of a class of which it has one.
    pub fn object(&self) -> ObjectName {
        ObjectName(Name::Tenant(self.clone()))
    }

    /// The name of one of the tenant's objects of a class: `{tenant}/{part}`.
    pub fn object_for(&self, part: impl fmt::Display) -> ObjectName {
        ObjectName(Name::Part(format!("{self}/{part}")))
    }
}

impl ObjectName {
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Tenant(tenant) => tenant.as_str(),
            Name::Part(name) => name,
        }
    }
}

impl PartialEq for ObjectName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for ObjectName {}

impl Hash for ObjectName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for ObjectName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// From the gateway's own storage and messages, where it was made from a tenant.
impl<'de> Deserialize<'de> for ObjectName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Name::Part(String::deserialize(deserializer)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_by_its_tenant() {
        let tenant = TenantId::parse("acme").unwrap();
        assert_eq!(tenant.object().as_str(), "acme");
        assert_eq!(tenant.object_for("index").as_str(), "acme/index");
        assert_eq!(tenant.object_for(7), tenant.object_for("7"));
        assert_ne!(tenant.object(), TenantId::first().object());
    }

    #[test]
    fn a_name_is_kept_as_its_text() {
        let name = TenantId::first().object_for("s1");
        let text = serde_json::to_string(&name).unwrap();
        assert_eq!(text, r#""default/s1""#);
        assert_eq!(serde_json::from_str::<ObjectName>(&text).unwrap(), name);
        assert_eq!(serde_json::from_str::<ObjectName>(r#""default""#).unwrap(), TenantId::first().object());
    }
}
