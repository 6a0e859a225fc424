//! External token issuers: which are trusted, for what, and how their claims are mapped.

mod document;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::jose::algorithm::Algorithm;
use super::jose::jwk::Jwk;
use super::jose::jwt::{AUDIENCE, Audience, SUBJECT, Token, TokenError, TokenRequirements, words};
use super::permission;
use super::sign_in::SignIn;
use crate::base::principal_id::PrincipalId;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;
use crate::base::version::Generation;
use crate::http::egress_address::Policy;

pub use document::{read, read_keys};

/// The type of an access token (RFC 9068 §2.1).
pub const ACCESS_TOKEN: &str = "at+jwt";

/// The source of an issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    Url(String),
    Fixed(Vec<Jwk>),
}

/// The names of the claims that are used. A name that begins with `/` is a JSON Pointer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Claims {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Permissions that narrow the role's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The subject, if not in `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// A trusted issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    pub name: String,
    pub issuer: String,
    pub audience: String,
    /// Further accepted audiences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_audiences: Vec<String>,
    /// The claim with the audience, if not `aud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience_claim: Option<String>,
    pub keys: Keys,
    pub algorithms: Vec<Algorithm>,
    pub typ: String,
    pub claims: Claims,
    /// Maps values of the role claim to roles.
    pub roles: BTreeMap<String, String>,
    /// Maps words of the scope claim to permissions; other words are permissions themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scopes: BTreeMap<String, Vec<String>>,
    /// The role of tokens that match no entry of `roles`.
    pub role: Option<String>,
    /// The tenant of tokens without a tenant claim.
    pub tenant: Option<TenantId>,
    #[serde(default)]
    pub sign_in: Option<SignIn>,
    /// The version of the document. Each version has its own key set.
    #[serde(skip)]
    pub written: DocumentVersion,
}

/// A version of a document: its time of creation, and its generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DocumentVersion {
    pub created_at: Timestamp,
    pub generation: Generation,
}

/// The deployment's rules for addresses in documents.
#[derive(Debug, Clone, Copy)]
pub struct AddressRules<'r> {
    pub addresses: Policy<'r>,
    pub own_hosts: &'r [&'r str],
}

/// The identity that follows from a token's claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedIdentity {
    pub tenant: TenantId,
    /// In the order of the claim. The first is the principal's role; all contribute permissions.
    pub roles: Vec<String>,
    /// Permissions that limit those of the roles.
    pub scope: Option<Vec<String>>,
    pub subject: String,
}

/// The permissions of roles, limited by a scope: for tokens of issuers, and for grants of people who signed in there.
/// `grants` returns the present permissions of a role of the tenant.
pub fn permitted<'r, P: IntoIterator<Item = &'r str>>(
    roles: &[String],
    scope: Option<&[String]>,
    grants: impl Fn(&str) -> Option<P>,
) -> Vec<String> {
    let mut permissions: Vec<String> = Vec::new();
    for permission in roles.iter().filter_map(|role| grants(role)).flatten() {
        if !permissions.iter().any(|known| known == permission) {
            permissions.push(permission.into());
        }
    }
    match scope {
        Some(scope) => permission::meet_all(&permissions, scope),
        None => permissions,
    }
}

/// The tenants in which an issuer's tokens are valid, as seen by the tenant that has the issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach<'i> {
    Own,
    /// One other tenant, with that tenant's roles.
    Tenant(&'i TenantId),
    /// Any tenant that a token names.
    Every,
}

impl Reach<'_> {
    /// The permissions required to grant permissions there, in addition to those granted. For another tenant that is
    /// the right to create tenants; for every tenant it is also `*`.
    pub fn takes(self) -> &'static [&'static str] {
        match self {
            Reach::Own => &[],
            Reach::Tenant(_) => &["tenants:write"],
            Reach::Every => &["tenants:write", "*"],
        }
    }
}

impl Issuer {
    /// `own`: the tenant that has the issuer.
    pub fn reach(&self, own: &TenantId) -> Reach<'_> {
        match &self.tenant {
            _ if self.claims.tenant.is_some() => Reach::Every,
            Some(tenant) if tenant != own => Reach::Tenant(tenant),
            _ => Reach::Own,
        }
    }

    pub fn expected(&self) -> TokenRequirements<'_> {
        TokenRequirements {
            issuer: &self.issuer,
            audience: self.audience(),
            typ: &self.typ,
            algorithms: &self.algorithms,
        }
    }

    fn audience(&self) -> Audience<'_> {
        let claim = self.audience_claim.as_deref().unwrap_or(AUDIENCE);
        Audience { claim, first: &self.audience, more: &self.more_audiences }
    }

    /// All accepted audiences.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.audience().names()
    }

    /// Whether a token could belong to both issuers: they have the same `iss`, and a common audience in the same claim.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (own, others) = (self.audience(), other.audience());
        self.issuer == other.issuer && own.claim == others.claim && own.names().any(|name| others.accepts(name))
    }

    /// Every role that its tokens can have.
    pub fn granted_roles(&self) -> impl Iterator<Item = &str> {
        self.roles.values().map(String::as_str).chain(self.role.as_deref())
    }

    /// The principal for a subject.
    pub fn principal(&self, subject: &str) -> PrincipalId {
        PrincipalId::of_subject(&self.name, subject)
    }

    /// The permissions for the words of a scope claim. Words without permissions are ignored.
    fn within(&self, words: &[&str]) -> Vec<String> {
        let mut within: Vec<String> = Vec::new();
        let mut add = |permission: &str| {
            if !within.iter().any(|known| known == permission) {
                within.push(permission.into());
            }
        };
        for word in words {
            match self.scopes.get(*word) {
                Some(permissions) => permissions.iter().for_each(|permission| add(permission)),
                None => {
                    let permission = permission::of_scope(word);
                    if permission::is_named(&permission) {
                        add(&permission);
                    }
                }
            }
        }
        within
    }

    /// Maps the claims of a verified token. `default_tenant` applies to tokens that name none.
    pub fn map(&self, token: &Token<'_>, default_tenant: &TenantId) -> Result<MappedIdentity, TokenError> {
        let subject = token.subject(self.claims.subject.as_deref().unwrap_or(SUBJECT))?.to_string();
        let tenant = match &self.claims.tenant {
            None => self.tenant.as_ref().unwrap_or(default_tenant).as_str(),
            Some(claim) => token.claim(claim).and_then(|value| value.as_str()).ok_or(TokenError::Unmapped)?,
        };
        let tenant = TenantId::parse(tenant).ok_or(TokenError::Unmapped)?;
        let said = self.claims.role.as_deref().and_then(|claim| token.claim(claim)).map(words).unwrap_or_default();
        let mut roles: Vec<String> = Vec::new();
        for role in said.iter().filter_map(|word| self.roles.get(*word)) {
            if !roles.contains(role) {
                roles.push(role.clone());
            }
        }
        if roles.is_empty() {
            roles.extend(self.role.clone());
        }
        if roles.is_empty() {
            return Err(TokenError::Unmapped);
        }
        let scope = self.claims.scope.as_deref();
        let scope = scope.map(|claim| self.within(&token.claim(claim).map(words).unwrap_or_default()));
        Ok(MappedIdentity { tenant, roles, scope, subject })
    }
}

#[cfg(test)]
mod tests;
