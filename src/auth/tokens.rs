//! Tokens of outside issuers: from a text to a principal.
//!
//! A token that was verified is remembered by its digest until it ends or the registry changes, so the usual request
//! pays for one hash. Everything that can be told without a key is told before one is fetched.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use sha2::{Digest, Sha256};

use crate::objects::registry::snapshot::Snapshot;
use crate::platform::clock;
use narthex_core::access::issuer::{Issuer, MappedIdentity};
use narthex_core::access::jose::jwt::{Token, TokenError, parse};
use narthex_core::access::principal::Principal;
use narthex_core::access::tenant::FIRST_TENANT;
use narthex_core::base::time::Timestamp;

use super::key_sets::{self, Owner};
use super::{Age, Own, is_tenant, own, taken};

/// More than these are forgotten together: it is rare, and each costs one verification.
const MAX_REMEMBERED: usize = 2_000;

struct Remembered {
    principal: Principal,
    /// Of the registries that decided it: the deployment's, which has the issuers, and the tenant's, which has the
    /// roles.
    revisions: [u64; 2],
    until: Timestamp,
}

thread_local! {
    static REMEMBERED: RefCell<HashMap<[u8; 32], Remembered>> = RefCell::new(HashMap::new());
}

fn remembered(digest: &[u8; 32], revision: u64, now: Timestamp) -> Option<(Principal, u64)> {
    REMEMBERED.with_borrow(|all| {
        let known = all.get(digest)?;
        let [issuers, own] = known.revisions;
        (issuers == revision && now < known.until).then(|| (known.principal.clone(), own))
    })
}

fn remember(digest: [u8; 32], principal: &Principal, revisions: [u64; 2], until: Timestamp) {
    REMEMBERED.with_borrow_mut(|all| {
        if all.len() >= MAX_REMEMBERED {
            all.clear();
        }
        all.insert(digest, Remembered { principal: principal.clone(), revisions, until });
    });
}

/// The registry of the tenant a token is for.
async fn registry_of(tenant: &str, issuers: &Rc<Snapshot>, age: Age) -> Result<Rc<Snapshot>, TokenError> {
    if tenant == FIRST_TENANT {
        return Ok(issuers.clone());
    }
    match is_tenant(tenant).await {
        Ok(true) => taken(tenant, age).await.map_err(|_| TokenError::Unmapped),
        _ => Err(TokenError::Unmapped),
    }
}

/// Who presents this token, by what `issuers`, the deployment's registry, says of issuers; and the registry of the
/// tenant it is for. `own` is the issuer the gateway is itself, if it is one.
pub async fn principal(
    text: &str,
    issuers: &Rc<Snapshot>,
    own: Option<Own<'_>>,
    age: Age,
) -> Result<(Principal, Rc<Snapshot>), TokenError> {
    // What it is good for at one resource says nothing of another.
    let path = own.map_or("", |own| own.path);
    let digest: [u8; 32] = Sha256::new().chain_update(text).chain_update("\n").chain_update(path).finalize().into();
    let now = clock::now();
    if let Some((principal, revision)) = remembered(&digest, issuers.revision, now) {
        let own = registry_of(&principal.tenant, issuers, age).await?;
        if own.revision == revision {
            return Ok((principal, own));
        }
    }
    let token = parse(text)?;
    let said = token.issuer().ok_or(TokenError::Issuer)?;
    if let Some(own) = own.filter(|own| own.origin == said) {
        let (claims, until) = own::claims(&token, own.origin, &own.audience()).await?;
        let own = registry_of(&claims.tenant, issuers, age).await?;
        let principal = own::principal(issuers, &own, &claims, until)?;
        remember(digest, &principal, [issuers.revision, own.revision], until);
        return Ok((principal, own));
    }
    let (issuer, mapped, until) = claimed(&token, said, &issuers.issuers, now)?;
    let good_until = verify(&token, issuer).await?;
    let own = registry_of(&mapped.tenant, issuers, age).await?;
    let principal = named(&own, issuer, mapped, until);
    remember(digest, &principal, [issuers.revision, own.revision], until.min(good_until));
    Ok((principal, own))
}

/// The document among those of this issuer that a token is for, and what it says by it. Of several that fit, the one
/// whose audience the token names first.
fn claimed<'i>(
    token: &Token<'_>,
    said: &str,
    issuers: &'i [Issuer],
    now: Timestamp,
) -> Result<(&'i Issuer, MappedIdentity, Timestamp), TokenError> {
    let mut fitting: Vec<(usize, &Issuer, MappedIdentity, Timestamp)> = Vec::new();
    let mut refused = TokenError::Issuer;
    for issuer in issuers.iter().filter(|issuer| issuer.issuer == said) {
        let expected = issuer.expected();
        let read = token.check_header(&expected).and_then(|()| token.check_claims(&expected, now));
        let read = read.and_then(|until| Ok((issuer.map(token, FIRST_TENANT)?, until)));
        match read {
            Ok((mapped, until)) => {
                fitting.push((token.place_of(expected.audience).unwrap_or(usize::MAX), issuer, mapped, until));
            }
            // Why it is refused says the one that it is for.
            Err(why) if refused == TokenError::Issuer || refused == TokenError::Audience => refused = why,
            Err(_) => {}
        }
    }
    let first = fitting.into_iter().min_by_key(|(place, ..)| *place);
    first.map(|(_, issuer, mapped, until)| (issuer, mapped, until)).ok_or(refused)
}

/// Whether the signature is by one of the issuer's keys; until when that may be remembered.
pub async fn verify(token: &Token<'_>, issuer: &Issuer) -> Result<Timestamp, TokenError> {
    let path = format!("issuers/{}", issuer.name);
    key_sets::verify(token, &issuer.keys, Owner { path: &path, written: issuer.written }).await
}

fn named(snapshot: &Snapshot, issuer: &Issuer, mapped: MappedIdentity, until: Timestamp) -> Principal {
    let permissions = own::permitted(snapshot, &mapped.roles, mapped.scope.as_deref());
    Principal {
        principal: issuer.principal(&mapped.subject),
        name: None,
        tenant: mapped.tenant,
        role: mapped.roles.first().cloned().unwrap_or_default(),
        permissions,
        until: Some(until),
        from: vec![format!("issuers/{}", issuer.name)],
        roles: mapped.roles,
    }
}
