//! Reading the document of an issuer.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use super::super::jose::algorithm::Algorithm;
use super::super::jose::jwk::{self, MAX_KEYS};
use super::super::jose::jwt::AUDIENCE;
use super::super::permission;
use super::super::sign_in;
use super::{ACCESS_TOKEN, AddressRules, Claims, DocumentVersion, Issuer, Keys};
use crate::base::json::{Fault, Object, child};
use crate::base::names::valid_id;
use crate::base::tenant_id::TenantId;
use crate::http::egress_address;

/// Maximum number of mapped words of a claim.
const MAX_ROLES: usize = 100;
const MAX_AUDIENCES: usize = 20;
/// Maximum number of permissions for one word of a scope.
const MAX_PERMISSIONS: usize = 50;
/// The longest name of a claim, in characters.
const LONGEST_CLAIM: usize = 200;

/// Reads a document that has passed `json::check`. Returns every fault.
pub fn read(name: &str, text: &str, rules: AddressRules<'_>) -> Result<Issuer, Vec<Fault>> {
    let mut body = Object::new(text, "#").map_err(|fault| vec![fault])?;
    let issuer = body.string("issuer", 1..=512);
    let issuer = body.require("issuer", issuer).unwrap_or_default();
    let (audience, more_audiences) = read_audiences(&mut body);
    let audience_claim = body.string("audience_claim", 1..=LONGEST_CLAIM).filter(|claim| claim != AUDIENCE);
    let keys = read_keys(&mut body, rules, true);
    // An issuer with fixed keys is never called.
    let checked = match &keys {
        Some(Keys::Fixed(keys)) if !keys.is_empty() => egress_address::check_name(&issuer, rules.own_hosts),
        _ => egress_address::check(&issuer, rules.addresses, rules.own_hosts).map(|_| ()),
    };
    if let Err(refusal) = checked
        && !issuer.is_empty()
    {
        body.fault("issuer", refusal.to_string());
    }
    let algorithms = body.array("algorithms", 1..=Algorithm::ALL.len());
    let algorithms = body.require("algorithms", algorithms).unwrap_or_default();
    let algorithms = read_algorithms(&mut body, &algorithms);
    let typ = body.string("type", 1..=64).unwrap_or_else(|| ACCESS_TOKEN.into());
    let sign_in = sign_in::read(&mut body, rules);
    let claims = read_claims(&mut body);
    let roles = read_roles(&mut body);
    let scopes = read_scopes(&mut body, &claims);
    let role = body.parsed("role", "a role's name", |role| valid_id(role).then(|| role.to_string()));
    let tenant = body.parsed("tenant", "a tenant's name", TenantId::parse);
    if tenant.is_some() && claims.tenant.is_some() {
        body.fault("tenant", "cannot be combined with claims.tenant");
    }
    if claims.role.is_some() == roles.is_empty() {
        body.fault("roles", "requires claims.role, and claims.role requires it");
    } else if role.is_none() && roles.is_empty() {
        body.fault("role", "is required without claims.role and roles");
    }
    let faults = body.finish();
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Issuer {
        name: name.into(),
        issuer,
        audience,
        more_audiences,
        audience_claim,
        keys: keys.unwrap_or(Keys::Fixed(Vec::new())),
        algorithms,
        typ,
        claims,
        roles,
        scopes,
        role,
        tenant,
        sign_in,
        written: DocumentVersion::default(),
    })
}

/// Reads one audience or several alternatives.
fn read_audiences(body: &mut Object<'_>) -> (String, Vec<String>) {
    if !body.has_array("audience") {
        let audience = body.string("audience", 1..=512);
        return (body.require("audience", audience).unwrap_or_default(), Vec::new());
    }
    let mut listed = body.strings("audience", MAX_AUDIENCES, 512).unwrap_or_default();
    let mut seen = BTreeSet::new();
    listed.retain(|audience| seen.insert(audience.clone()));
    if listed.is_empty() {
        body.require::<()>("audience", None);
        return (String::new(), listed);
    }
    let first = listed.remove(0);
    (first, listed)
}

/// Reads the members `jwks_url` and `keys`, of which at most one is allowed, and with `required` exactly one.
pub fn read_keys(body: &mut Object<'_>, rules: AddressRules<'_>, required: bool) -> Option<Keys> {
    let url = body.string("jwks_url", 1..=2048);
    let fixed = body.array("keys", 1..=MAX_KEYS);
    match (url, fixed) {
        (Some(url), None) => match egress_address::check(&url, rules.addresses, rules.own_hosts) {
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
            body.fault("keys", "cannot be combined with jwks_url");
            None
        }
        (None, None) if required => body.require("jwks_url", None),
        (None, None) => None,
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
                body.faults([Fault::new(pointer, format!("must be {}", Algorithm::listed(Algorithm::ALL)))]);
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
        role: claims.string("role", 1..=LONGEST_CLAIM),
        tenant: claims.string("tenant", 1..=LONGEST_CLAIM),
        scope: claims.string("scope", 1..=LONGEST_CLAIM),
        subject: claims.string("subject", 1..=LONGEST_CLAIM),
    };
    body.absorb(claims);
    read
}

fn read_roles(body: &mut Object<'_>) -> BTreeMap<String, String> {
    let Some(raw) = body.raw("roles") else {
        return BTreeMap::new();
    };
    match serde_json::from_str::<BTreeMap<String, String>>(raw.get()) {
        Ok(roles) if roles.len() <= MAX_ROLES && roles.values().all(|role| valid_id(role)) => roles,
        _ => {
            body.fault("roles", format!("must be an object of at most {MAX_ROLES} members whose values name roles"));
            BTreeMap::new()
        }
    }
}

/// Reads the permissions for words of the scope claim.
fn read_scopes(body: &mut Object<'_>, claims: &Claims) -> BTreeMap<String, Vec<String>> {
    let Some(raw) = body.raw("scopes") else {
        return BTreeMap::new();
    };
    if claims.scope.is_none() {
        body.fault("scopes", "requires claims.scope, the claim that contains its words");
    }
    let Ok(scopes) = serde_json::from_str::<BTreeMap<String, Vec<String>>>(raw.get()) else {
        body.fault("scopes", "must be an object whose values are arrays of permissions");
        return BTreeMap::new();
    };
    let is_word = |word: &String| (1..=LONGEST_CLAIM).contains(&word.len()) && !word.contains(' ');
    if scopes.len() > MAX_ROLES || !scopes.keys().all(is_word) {
        let detail = format!("may have at most {MAX_ROLES} members, named by words of up to {LONGEST_CLAIM} bytes");
        body.fault("scopes", detail);
    }
    for (word, permissions) in &scopes {
        let pointer = child(&body.pointer_to("scopes"), word);
        if permissions.len() > MAX_PERMISSIONS {
            body.faults([Fault::new(&*pointer, format!("may have at most {MAX_PERMISSIONS} permissions"))]);
        }
        for (at, wanted) in permissions.iter().enumerate().filter(|(_, wanted)| !permission::valid(wanted)) {
            let detail = format!("must be a permission such as contexts:create:llm.*, not {wanted:?}");
            body.faults([Fault::new(format!("{pointer}/{at}"), detail)]);
        }
    }
    scopes
}
