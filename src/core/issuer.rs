//! Outside issuers of tokens: who is trusted, for what, and what their claims mean here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::address::{self, Policy};
use super::id::valid_name;
use super::json::{Fault, Object};
use super::jwk::{self, Jwk, MAX_KEYS};
use super::jwt::{Algorithm, Expected, Refused, Token, words};
use super::key::valid_tenant;
use super::sign_in::{self, SignIn};

/// The type of an access token (RFC 9068 §2.1).
pub const ACCESS_TOKEN: &str = "at+jwt";
const MAX_ROLES: usize = 100;

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
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    pub name: String,
    pub issuer: String,
    pub audience: String,
    pub keys: Keys,
    pub algorithms: Vec<Algorithm>,
    pub typ: String,
    pub claims: Claims,
    /// From what the role claim says to a role here.
    pub roles: BTreeMap<String, String>,
    /// For whom no entry of `roles` fits.
    pub role: Option<String>,
    /// Whose the tokens are when no claim says it.
    pub tenant: Option<String>,
    #[serde(default)]
    pub sign_in: Option<SignIn>,
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

impl Issuer {
    pub fn expected(&self) -> Expected<'_> {
        Expected { issuer: &self.issuer, audience: &self.audience, typ: &self.typ, algorithms: &self.algorithms }
    }

    /// Every role its tokens may have.
    pub fn granted_roles(&self) -> impl Iterator<Item = &str> {
        self.roles.values().map(String::as_str).chain(self.role.as_deref())
    }

    /// Reads claims that are to be believed. `default_tenant` is whose tokens are that name none.
    pub fn map(&self, token: &Token<'_>, default_tenant: &str) -> Result<Mapped, Refused> {
        let subject = token.subject()?.to_string();
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
        let scope = self.claims.scope.as_deref().map(|claim| {
            let said = token.claim(claim).map(words).unwrap_or_default();
            said.into_iter().map(Into::into).collect()
        });
        Ok(Mapped { tenant: tenant.into(), roles, scope, subject })
    }
}

/// Reads a document that has passed `json::check`. All faults are named.
pub fn read(name: &str, text: &str, rules: Rules<'_>) -> Result<Issuer, Vec<Fault>> {
    let mut body = Object::new(text, "#").map_err(|fault| vec![fault])?;
    let issuer = body.string("issuer", 1..=512);
    let issuer = body.require("issuer", issuer).unwrap_or_default();
    if !issuer.is_empty()
        && let Err(refusal) = address::check(&issuer, rules.addresses, rules.own_hosts)
    {
        body.fault("issuer", refusal.to_string());
    }
    let audience = body.string("audience", 1..=512);
    let audience = body.require("audience", audience).unwrap_or_default();
    let keys = read_keys(&mut body, rules);
    let algorithms = body.array("algorithms", 1..=Algorithm::ALL.len());
    let algorithms = body.require("algorithms", algorithms).unwrap_or_default();
    let algorithms = read_algorithms(&mut body, &algorithms);
    let typ = body.string("type", 1..=64).unwrap_or_else(|| ACCESS_TOKEN.into());
    let sign_in = sign_in::read(&mut body, rules);
    let claims = read_claims(&mut body);
    let roles = read_roles(&mut body);
    let role = body.parsed("role", "a role's name", |role| valid_name(role).then(|| role.to_string()));
    let tenant = body.parsed("tenant", "a tenant's name", |tenant| valid_tenant(tenant).then(|| tenant.to_string()));
    if tenant.is_some() && claims.tenant.is_some() {
        body.fault("tenant", "cannot stand beside claims.tenant");
    }
    if claims.role.is_some() == roles.is_empty() {
        body.fault("roles", "belongs to claims.role, and claims.role to it");
    } else if role.is_none() && roles.is_empty() {
        body.fault("role", "is required without claims.role and roles");
    }
    let faults = body.finish();
    if !faults.is_empty() {
        return Err(faults);
    }
    let keys = keys.unwrap_or(Keys::Fixed(Vec::new()));
    Ok(Issuer { name: name.into(), issuer, audience, keys, algorithms, typ, claims, roles, role, tenant, sign_in })
}

fn read_keys(body: &mut Object<'_>, rules: Rules<'_>) -> Option<Keys> {
    let url = body.string("jwks_url", 1..=2048);
    let fixed = body.array("keys", 1..=MAX_KEYS);
    match (url, fixed) {
        (Some(url), None) => match address::check(&url, rules.addresses, rules.own_hosts) {
            Ok(url) => Some(Keys::Url(url.into())),
            Err(refusal) => {
                body.fault("jwks_url", refusal.to_string());
                None
            }
        },
        (None, Some(fixed)) => {
            let (keys, faults) = jwk::read_registered(&fixed, &body.pointer_to("keys"));
            body.faults(faults);
            Some(Keys::Fixed(keys))
        }
        (Some(_), Some(_)) => {
            body.fault("keys", "cannot stand beside jwks_url");
            None
        }
        (None, None) => body.require("jwks_url", None),
    }
}

fn read_algorithms(body: &mut Object<'_>, listed: &[&RawValue]) -> Vec<Algorithm> {
    let mut algorithms = Vec::new();
    for (index, raw) in listed.iter().enumerate() {
        let name = serde_json::from_str::<String>(raw.get()).ok();
        match name.as_deref().and_then(Algorithm::parse) {
            Some(algorithm) if !algorithms.contains(&algorithm) => algorithms.push(algorithm),
            Some(_) => {}
            None => {
                let pointer = format!("{}/{index}", body.pointer_to("algorithms"));
                body.faults([Fault::new(pointer, "must be ES256, EdDSA, RS256 or PS256")]);
            }
        }
    }
    algorithms
}

fn read_claims(body: &mut Object<'_>) -> Claims {
    let Some(mut claims) = body.object("claims") else {
        return Claims::default();
    };
    let read = Claims {
        role: claims.string("role", 1..=200),
        tenant: claims.string("tenant", 1..=200),
        scope: claims.string("scope", 1..=200),
    };
    body.absorb(claims);
    read
}

fn read_roles(body: &mut Object<'_>) -> BTreeMap<String, String> {
    let Some(raw) = body.raw("roles") else {
        return BTreeMap::new();
    };
    match serde_json::from_str::<BTreeMap<String, String>>(raw.get()) {
        Ok(roles) if roles.len() <= MAX_ROLES && roles.values().all(|role| valid_name(role)) => roles,
        _ => {
            body.fault("roles", format!("must be an object of at most {MAX_ROLES} members whose values name roles"));
            BTreeMap::new()
        }
    }
}

#[cfg(test)]
#[path = "issuer_tests.rs"]
mod tests;
