//! The ids of services. They are in this room because contexts, events and permissions name services too.

use super::names::valid_id;
use super::text_id::text_id;

text_id!(
    /// The id of a service, such as `llm-primary`: 1 to 64 lower-case letters, digits, `-` or `_`, beginning with a
    /// letter or digit. Its tenant chooses it, and it is unique within that tenant only.
    ServiceId
);

impl ServiceId {
    /// `None` if no service can have this id.
    pub fn parse(text: &str) -> Option<Self> {
        Self::is_valid(text).then(|| Self(text.into()))
    }

    /// Whether a service can have this id.
    pub fn is_valid(text: &str) -> bool {
        valid_id(text)
    }
}

/// Tests name services by literals.
#[cfg(any(test, feature = "test-support"))]
impl From<&str> for ServiceId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_as_other_things_are() {
        for good in ["llm-primary", "0_a", &"a".repeat(64)] {
            let id = ServiceId::parse(good).unwrap();
            assert_eq!((id.as_str(), serde_json::to_string(&id).unwrap()), (good, format!("\"{good}\"")));
        }
        for bad in ["", "-a", "_a", "A", "a.b", "a/b", "ä", &"a".repeat(65)] {
            assert_eq!(ServiceId::parse(bad), None, "{bad}");
        }
    }
}
