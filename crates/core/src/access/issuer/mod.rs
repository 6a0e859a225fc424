//! Outside issuers of tokens: who is trusted, for what, and what their claims mean here.

mod document;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::api_key::valid_tenant;
use super::jose::jwk::Jwk;
use super::jose::jwt::{AUDIENCE, Algorithm, Audience, Expected, MAX_SUBJECT, Refused, SUBJECT, Token, words};
use super::permission;
use super::sign_in::SignIn;
use crate::base::time::Timestamp;
use crate::http::egress_address::Policy;

pub use document::{read, read_keys};

/// The type of an access token (RFC 9068 §2.1).
pub const ACCESS_TOKEN: &str = "at+jwt";

/// Where an issuer's keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    Url(String),
    Fixed(Vec<Jwk>),
}

/// The names of the claims that are looked at. A name that begins with `/` is a JSON Pointer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Permissions that narrow the role's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Who it is about, where that is not `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    pub name: String,
    pub issuer: String,
    pub audience: String,
    /// Further ones: a token is for one of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_audiences: Vec<String>,
    /// The claim that names the audience, where that is not `aud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience_claim: Option<String>,
    pub keys: Keys,
    pub algorithms: Vec<Algorithm>,
    pub typ: String,
    pub claims: Claims,
    /// From what the role claim says to a role here.
    pub roles: BTreeMap<String, String>,
    /// From words of the scope claim to permissions; other words are permissions themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scopes: BTreeMap<String, Vec<String>>,
    /// For whom no entry of `roles` fits.
    pub role: Option<String>,
    /// Whose the tokens are when no claim says it.
    pub tenant: Option<String>,
    #[serde(default)]
    pub sign_in: Option<SignIn>,
    /// Which writing of the document this is: its key set is not that of another.
    #[serde(skip)]
    pub written: Written,
}

/// A writing of a document: when the document was made, and its generation, which grows with every writing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written {
    pub created_at: Timestamp,
    pub generation: u64,
}

/// What a deployment allows when an issuer is written.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'r> {
    pub addresses: Policy,
    pub own_hosts: &'r [&'r str],
}

/// What a token's claims come to here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    pub tenant: String,
    /// In the order of the claim; the first gives the principal its role, all give permissions.
    pub roles: Vec<String>,
    /// Permissions that narrow those of the roles.
    pub scope: Option<Vec<String>>,
    pub subject: String,
}

/// The longest name of a principal that comes of a token, in bytes: `issuer:<name>:<subject>`.
pub const LONGEST_PRINCIPAL: usize = 80 + MAX_SUBJECT;

/// What roles permit, as far as a scope goes: for tokens of issuers, and for grants of people who signed in there.
/// `grants` says what a role of their tenant grants now.
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

/// Where the tokens of an issuer permit something, seen from the deployment's own tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach<'i> {
    Own,
    /// In one other tenant, by the roles that are there.
    Tenant(&'i str),
    /// In whichever tenant a token names.
    Every,
}

impl Reach<'_> {
    /// What giving permissions there takes beside having them: nobody has a permission in another tenant, so there it
    /// is the right to make tenants, and what may be given in every one has no bound but all.
    pub fn takes(self) -> &'static [&'static str] {
        match self {
            Reach::Own => &[],
            Reach::Tenant(_) => &["tenants:write"],
            Reach::Every => &["tenants:write", "*"],
        }
    }
}

impl Issuer {
    /// `own` is the tenant that has the issuers.
    pub fn reach(&self, own: &str) -> Reach<'_> {
        match &self.tenant {
            _ if self.claims.tenant.is_some() => Reach::Every,
            Some(tenant) if tenant != own => Reach::Tenant(tenant),
            _ => Reach::Own,
        }
    }

    pub fn expected(&self) -> Expected<'_> {
        Expected { issuer: &self.issuer, audience: self.audience(), typ: &self.typ, algorithms: &self.algorithms }
    }

    fn audience(&self) -> Audience<'_> {
        let claim = self.audience_claim.as_deref().unwrap_or(AUDIENCE);
        Audience { claim, first: &self.audience, more: &self.more_audiences }
    }

    /// All that it accepts as audience.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.audience().names()
    }

    /// Whether a token may be one of either: both say the same issuer, and one audience in the same claim.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (own, others) = (self.audience(), other.audience());
        self.issuer == other.issuer && own.claim == others.claim && own.names().any(|name| others.accepts(name))
    }

    /// Every role its tokens may have.
    pub fn granted_roles(&self) -> impl Iterator<Item = &str> {
        self.roles.values().map(String::as_str).chain(self.role.as_deref())
    }

    /// What who it is about is called here. The name has no colon in it, and the subject stays as it is: so two
    /// subjects are never one principal, and none is of another kind.
    pub fn principal(&self, subject: &str) -> String {
        format!("issuer:{}:{subject}", self.name)
    }

    /// The permissions that words of the scope claim stand for; what stands for none is passed over.
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
                None if permission::is_named(word) => add(word),
                None => {}
            }
        }
        within
    }

    /// Reads claims that are to be believed. `default_tenant` is whose tokens are that name none.
    pub fn map(&self, token: &Token<'_>, default_tenant: &str) -> Result<Mapped, Refused> {
        let subject = token.subject(self.claims.subject.as_deref().unwrap_or(SUBJECT))?.to_string();
        let tenant = match &self.claims.tenant {
            None => self.tenant.as_deref().unwrap_or(default_tenant),
            Some(claim) => token.claim(claim).and_then(|value| value.as_str()).ok_or(Refused::Unmapped)?,
        };
        if !valid_tenant(tenant) {
            return Err(Refused::Unmapped);
        }
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
            return Err(Refused::Unmapped);
        }
        let scope = self.claims.scope.as_deref();
        let scope = scope.map(|claim| self.within(&token.claim(claim).map(words).unwrap_or_default()));
        Ok(Mapped { tenant: tenant.into(), roles, scope, subject })
    }
}

#[cfg(test)]
mod tests;
