//! Tokens of outside issuers: from a text to a principal.
//!
//! A token that was verified is remembered by its digest until it ends or the registry changes, so the usual request
//! pays for one hash. Everything that can be told without a key is told before one is fetched.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use sha2::{Digest, Sha256};

use crate::core::issuer::{Issuer, Keys, Mapped};
use crate::core::jwk::choose;
use crate::core::jwt::{Refused, Token, parse};
use crate::core::permission::meet_all;
use crate::core::time::Timestamp;
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::{clock, crypto};

use super::{FIRST_TENANT, Principal, key_sets, own};

/// More than these are forgotten together: it is rare, and each costs one verification.
const MOST_REMEMBERED: usize = 2_000;

struct Remembered {
    principal: Principal,
    /// Of the registry that decided it.
    revision: u64,
    until: Timestamp,
}

thread_local! {
    static REMEMBERED: RefCell<HashMap<[u8; 32], Remembered>> = RefCell::new(HashMap::new());
}

fn remembered(digest: &[u8; 32], revision: u64, now: Timestamp) -> Option<Principal> {
    REMEMBERED.with_borrow(|all| {
        let known = all.get(digest).filter(|known| known.revision == revision && now < known.until)?;
        Some(known.principal.clone())
    })
}

fn remember(digest: [u8; 32], principal: &Principal, revision: u64, until: Timestamp) {
    REMEMBERED.with_borrow_mut(|all| {
        if all.len() >= MOST_REMEMBERED {
            all.clear();
        }
        all.insert(digest, Remembered { principal: principal.clone(), revision, until });
    });
}

/// Who presents this token, by what `snapshot` says of issuers. `own` is the issuer the gateway is itself, if it is one.
pub async fn principal(text: &str, snapshot: &Rc<Snapshot>, own: Option<&str>) -> Result<Principal, Refused> {
    let digest: [u8; 32] = Sha256::digest(text).into();
    let now = clock::now();
    if let Some(principal) = remembered(&digest, snapshot.revision, now) {
        return Ok(principal);
    }
    let token = parse(text)?;
    let said = token.issuer().ok_or(Refused::Issuer)?;
    if let Some(origin) = own.filter(|origin| *origin == said) {
        let (claims, until) = own::claims(&token, origin, origin).await?;
        let principal = own::principal(snapshot, &claims, until)?;
        remember(digest, &principal, snapshot.revision, until);
        return Ok(principal);
    }
    let issuer = snapshot.issuers.iter().find(|issuer| issuer.issuer == said).ok_or(Refused::Issuer)?;
    let expected = issuer.expected();
    token.check_header(&expected)?;
    let until = token.check_claims(&expected, now)?;
    let mapped = issuer.map(&token, FIRST_TENANT)?;
    if mapped.tenant != FIRST_TENANT {
        return Err(Refused::Unmapped);
    }
    verify(&token, issuer).await?;
    let principal = named(snapshot, issuer, mapped, until);
    remember(digest, &principal, snapshot.revision, until);
    Ok(principal)
}

async fn verify(token: &Token<'_>, issuer: &Issuer) -> Result<(), Refused> {
    let (kid, algorithm) = (token.kid.as_deref(), token.algorithm);
    let key = match &issuer.keys {
        Keys::Fixed(keys) => choose(keys, kid, algorithm).cloned(),
        Keys::Url(url) => key_sets::key(url, kid, algorithm).await,
    };
    let key = key.ok_or(Refused::Key)?;
    if crypto::verify(algorithm, &key, &token.signature, token.signed).await { Ok(()) } else { Err(Refused::Signature) }
}

fn named(snapshot: &Snapshot, issuer: &Issuer, mapped: Mapped, until: Timestamp) -> Principal {
    let mut permissions: Vec<String> = Vec::new();
    for permission in mapped.roles.iter().filter_map(|role| snapshot.role(role)).flatten() {
        if !permissions.iter().any(|known| known == permission) {
            permissions.push(permission.into());
        }
    }
    if let Some(scope) = &mapped.scope {
        permissions = meet_all(&permissions, scope);
    }
    Principal {
        principal: format!("issuer:{}:{}", issuer.name, mapped.subject),
        tenant: mapped.tenant,
        role: mapped.roles.into_iter().next().unwrap_or_default(),
        permissions,
        until: Some(until),
    }
}
