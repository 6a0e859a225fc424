//! The ids of principals. They are in this room because contexts and lanes name principals too.

use super::text_id::text_id;

/// The longest subject of a token, in bytes. It becomes part of a principal's id.
pub const MAX_SUBJECT: usize = 1024;

const KEY: &str = "key:";
const CLIENT: &str = "client:";
const ISSUER: &str = "issuer:";

text_id!(
    /// The id of a principal, the identity that a request acts as: `key:{key id}` for an API key, `client:{client id}`
    /// for an OAuth client, `issuer:{issuer}:{subject}` for a subject of an external issuer. Those of existing
    /// principals have at most [`PrincipalId::MAX_BYTES`] bytes. It is unique within its tenant only.
    PrincipalId
);

impl PrincipalId {
    /// That of a subject of an issuer is the longest.
    pub const MAX_BYTES: usize = 80 + MAX_SUBJECT;

    /// The principal of the API key with this id.
    pub fn of_key(id: &str) -> Self {
        Self(format!("{KEY}{id}").into())
    }

    /// The principal of the OAuth client that identifies itself by this `client_id`.
    pub fn of_client(client_id: &str) -> Self {
        Self(format!("{CLIENT}{client_id}").into())
    }

    /// The principal of a subject of an issuer. An issuer's name contains no colon and the subject is unchanged, so
    /// different subjects are always different principals.
    pub fn of_subject(issuer: &str, subject: &str) -> Self {
        Self(format!("{ISSUER}{issuer}:{subject}").into())
    }

    /// A principal that a client names, of 1 to [`Self::MAX_BYTES`] characters; whether it exists is not known.
    pub fn parse(text: &str) -> Option<Self> {
        (1..=Self::MAX_BYTES).contains(&text.chars().count()).then(|| Self(text.into()))
    }

    /// The id of the API key, if the principal is one.
    pub fn key(&self) -> Option<&str> {
        self.0.strip_prefix(KEY)
    }

    /// The `client_id` of the OAuth client, if the principal is one.
    pub fn client(&self) -> Option<&str> {
        self.0.strip_prefix(CLIENT)
    }

    /// The name of the issuer, if the principal is a subject of one.
    pub fn issuer(&self) -> Option<&str> {
        self.0.strip_prefix(ISSUER)?.split_once(':').map(|(issuer, _)| issuer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_names_what_it_is() {
        let key = PrincipalId::of_key("default-000000000000");
        assert_eq!(serde_json::to_string(&key).unwrap(), r#""key:default-000000000000""#);
        assert_eq!((key.key(), key.client(), key.issuer()), (Some("default-000000000000"), None, None));
        let client = PrincipalId::of_client("acme.app");
        assert_eq!(client.as_str(), "client:acme.app");
        assert_eq!((client.key(), client.client(), client.issuer()), (None, Some("acme.app"), None));
        let person = PrincipalId::of_subject("corp", "key:a");
        assert_eq!(person.as_str(), "issuer:corp:key:a");
        assert_eq!((person.key(), person.client(), person.issuer()), (None, None, Some("corp")));
    }

    #[test]
    fn subjects_of_different_issuers_are_different_principals() {
        assert_ne!(PrincipalId::of_subject("a", "b:c"), PrincipalId::of_subject("b", "c"));
        assert_ne!(PrincipalId::of_subject("a", "b"), PrincipalId::of_client("a:b"));
    }

    #[test]
    fn a_named_principal_has_a_bounded_length() {
        let longest = "x".repeat(PrincipalId::MAX_BYTES);
        assert_eq!(PrincipalId::parse(&longest).unwrap().as_str(), longest);
        assert_eq!(PrincipalId::parse("key:a"), Some(PrincipalId::of_key("a")));
        for bad in ["", &format!("{longest}x")] {
            assert_eq!(PrincipalId::parse(bad), None);
        }
    }
}
