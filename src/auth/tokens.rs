//! Tokens of external issuers.
//!
//! A verified token is cached by its digest until it expires or the registry changes, so that most requests pay for one
//! hash. All checks that need no key are made before a key set is fetched.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use sha2::{Digest, Sha256};

use crate::objects::registry::messages::DocumentKind;
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::clock;
use narthex_core::access::issuer::{Issuer, MappedIdentity};
use narthex_core::access::jose::jwt::{Token, TokenError, parse};
use narthex_core::access::principal::Principal;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::registry::later::Unreadable;
use narthex_core::registry::revision::Revision;

use super::key_sets::{self, Owner};
use super::{Age, OwnIssuer, own_tokens, snapshot_of};

/// At this size the cache is cleared: this is rare, and costs one verification per token.
const MAX_CACHED: usize = 2_000;

struct CachedToken {
    principal: Principal,
    revisions: DecidingRevisions,
    until: Timestamp,
}

/// The revisions of the registries that decided about a token.
#[derive(Clone, Copy)]
struct DecidingRevisions {
    /// Of the deployment's registry, which has the issuers.
    issuers: Revision,
    /// Of the tenant's registry, which has the roles.
    tenant: Revision,
}

impl DecidingRevisions {
    fn of(issuers: &Snapshot, tenant: &Snapshot) -> Self {
        Self { issuers: issuers.revision, tenant: tenant.revision }
    }
}

thread_local! {
    static CACHE: RefCell<HashMap<[u8; 32], CachedToken>> = RefCell::new(HashMap::new());
}

/// The cached principal, with the revision of its tenant's registry that it holds for.
fn cached(digest: &[u8; 32], issuers: Revision, now: Timestamp) -> Option<(Principal, Revision)> {
    CACHE.with_borrow(|all| {
        let known = all.get(digest)?;
        let holds = known.revisions.issuers == issuers && now < known.until;
        holds.then(|| (known.principal.clone(), known.revisions.tenant))
    })
}

fn cache(digest: [u8; 32], principal: &Principal, revisions: DecidingRevisions, until: Timestamp) {
    CACHE.with_borrow_mut(|all| {
        if all.len() >= MAX_CACHED {
            all.clear();
        }
        all.insert(digest, CachedToken { principal: principal.clone(), revisions, until });
    });
}

/// The registry of the tenant that a token is for.
async fn registry_of(tenant: &TenantId, issuers: &Rc<Snapshot>, age: Age) -> Result<Rc<Snapshot>, TokenError> {
    if tenant.is_first() {
        return Ok(issuers.clone());
    }
    match super::existing_tenant(tenant.as_str()).await {
        Ok(Some(tenant)) => snapshot_of(&tenant, age).await.map_err(|_| TokenError::Unmapped),
        _ => Err(TokenError::Unmapped),
    }
}

/// The principal of a token, with the registry of its tenant. `issuers` is the deployment's registry, `own` the gateway
/// as an issuer, if it is one.
pub async fn principal(
    text: &str,
    issuers: &Rc<Snapshot>,
    own: Option<OwnIssuer<'_>>,
    age: Age,
) -> Result<(Principal, Rc<Snapshot>), TokenError> {
    // The result for one resource does not apply to another.
    let path = own.map_or("", |own| own.path);
    let digest: [u8; 32] = Sha256::new().chain_update(text).chain_update("\n").chain_update(path).finalize().into();
    let now = clock::now();
    if let Some((principal, revision)) = cached(&digest, issuers.revision, now) {
        let own = registry_of(&principal.tenant, issuers, age).await?;
        if own.revision == revision {
            return Ok((principal, own));
        }
    }
    let token = parse(text)?;
    let issuer_id = token.issuer().ok_or(TokenError::Issuer)?;
    if let Some(own) = own.filter(|own| own.origin == issuer_id) {
        let (claims, until) = own_tokens::claims(&token, own.origin, &own.audience()).await?;
        let own = registry_of(&claims.tenant, issuers, age).await?;
        let principal = own_tokens::principal(issuers, &own, &claims, until)?;
        cache(digest, &principal, DecidingRevisions::of(issuers, &own), until);
        return Ok((principal, own));
    }
    let (issuer, mapped, until) = claimed(&token, issuer_id, &issuers.rules.issuers, now)?;
    let good_until = verify(&token, issuer).await?;
    let own = registry_of(&mapped.tenant, issuers, age).await?;
    let principal = named(&own, issuer, mapped, until);
    cache(digest, &principal, DecidingRevisions::of(issuers, &own), until.min(good_until));
    Ok((principal, own))
}

/// The issuer document that a token matches, and the identity it maps to. If several match, the one whose audience the
/// token names first.
fn claimed<'i>(
    token: &Token<'_>,
    issuer_id: &str,
    issuers: &'i [Issuer],
    now: Timestamp,
) -> Result<(&'i Issuer, MappedIdentity, Timestamp), TokenError> {
    let mut matches: Vec<(usize, &Issuer, MappedIdentity, Timestamp)> = Vec::new();
    let mut rejection = TokenError::Issuer;
    for issuer in issuers.iter().filter(|issuer| issuer.issuer == issuer_id) {
        let expected = issuer.expected();
        let read = token.check_header(&expected).and_then(|()| token.check_claims(&expected, now));
        let read = read.and_then(|until| Ok((issuer.map(token, &TenantId::first())?, until)));
        match read {
            Ok((mapped, until)) => {
                matches.push((token.place_of(expected.audience).unwrap_or(usize::MAX), issuer, mapped, until));
            }
            // The reason comes from the document that matches the token best.
            Err(error) if rejection == TokenError::Issuer || rejection == TokenError::Audience => rejection = error,
            Err(_) => {}
        }
    }
    let first = matches.into_iter().min_by_key(|(place, ..)| *place);
    first.map(|(_, issuer, mapped, until)| (issuer, mapped, until)).ok_or(rejection)
}

/// The name of the issuer of a token, if a later version has written it and this one cannot read it.
pub fn later_issuer<'s>(text: &str, issuers: &'s Snapshot) -> Option<&'s str> {
    let token = parse(text).ok()?;
    let is_its = |one: &&Unreadable| {
        one.kind == DocumentKind::Issuer.as_str() && one.issuer.is_some() && one.issuer.as_deref() == token.issuer()
    };
    issuers.rules.all_unreadable().find(is_its).map(|one| one.id.as_str())
}

/// Verifies a token's signature against the issuer's keys; returns until when the result may be cached.
pub async fn verify(token: &Token<'_>, issuer: &Issuer) -> Result<Timestamp, TokenError> {
    let path = format!("issuers/{}", issuer.name);
    key_sets::verify(token, &issuer.keys, Owner { path: &path, written: issuer.written, is_stranger: false }).await
}

fn named(snapshot: &Snapshot, issuer: &Issuer, mapped: MappedIdentity, until: Timestamp) -> Principal {
    let permissions = own_tokens::permitted(snapshot, &mapped.roles, mapped.scope.as_deref());
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
