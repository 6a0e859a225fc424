//! The ids of tenants. They are in this room because the rooms of contexts and events name tenants too.

use super::text_id::text_id;

const MAX_LENGTH: usize = 32;

text_id!(
    /// The id of a tenant, such as `acme-eu`: 1 to 32 lower-case letters, digits or `-`, not beginning with `-`.
    ///
    /// It is the boundary between tenants: the name of every object, every secret and every token begins with it or is
    /// bound to it. None of the characters that separate the parts of those (`/`, `.`, `_`, `|`) can be in it.
    TenantId
);

impl TenantId {
    /// The id of the tenant that exists in every deployment.
    pub const FIRST: &'static str = "default";

    /// The tenant that exists in every deployment, and manages the others.
    pub fn first() -> Self {
        thread_local! {
            static FIRST: TenantId = TenantId(TenantId::FIRST.into());
        }
        FIRST.with(Self::clone)
    }

    pub fn is_first(&self) -> bool {
        self.as_str() == Self::FIRST
    }

    /// `None` if no tenant can have this id.
    pub fn parse(text: &str) -> Option<Self> {
        Self::is_valid(text).then(|| Self(text.into()))
    }

    /// Whether a tenant can have this id.
    pub fn is_valid(text: &str) -> bool {
        (1..=MAX_LENGTH).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_named_in_lower_case_and_digits() {
        for good in [TenantId::FIRST, "a", "0", "a-", "a--b", "acme-eu-1", &"z".repeat(32)] {
            assert_eq!(TenantId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "A", "a_b", "a.b", "a b", "ä", "a/b", "a|b", &"z".repeat(33)] {
            assert_eq!(TenantId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_first_tenant_is_the_same_everywhere() {
        let (first, other) = (TenantId::first(), TenantId::parse("acme").unwrap());
        assert!(first.is_first() && !other.is_first());
        assert_eq!(serde_json::to_string(&first).unwrap(), r#""default""#);
        assert_eq!(TenantId::parse("default"), Some(first));
    }
}
