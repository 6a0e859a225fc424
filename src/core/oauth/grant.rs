//! Grants: what a person allowed a client, from the code to the last refresh token. One object keeps one grant, so that
//! single use is decided in one place.
//!
//! A code or a refresh token carries its grant's name under an HMAC of the tenant's secret: one that was never given
//! out costs no look-up, and one that was, but is no longer the current one, proves that somebody has a copy.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::super::canonical::digest;
use super::super::key::valid_tenant;
use super::super::mac::keyed;
use super::super::time::Timestamp;
use super::form::proves;

/// How long a code is good for, in milliseconds.
pub const CODE_MS: u64 = 60_000;
/// How long a grant lasts at most, in milliseconds: 30 days.
pub const GRANT_MS: u64 = 30 * 86_400_000;
const TAG: usize = 16;

/// What codes and refresh tokens are signed with.
#[derive(Clone)]
pub struct GrantKey(Hmac<Sha256>);

impl std::fmt::Debug for GrantKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GrantKey(…)")
    }
}

/// Which of a grant's texts it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Code,
    /// With its place in the row of them, from 1.
    Refresh(u64),
}

impl Use {
    fn word(self) -> String {
        match self {
            Use::Code => "c".into(),
            Use::Refresh(place) => format!("r{place}"),
        }
    }

    fn parse(word: &str) -> Option<Self> {
        match word {
            "c" => Some(Use::Code),
            _ => word.strip_prefix('r')?.parse().ok().map(Use::Refresh),
        }
    }
}

/// A code or refresh token that this tenant gave out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    pub grant: String,
    pub used: Use,
    /// SHA-256 of the whole text, in hex.
    pub hash: String,
}

impl GrantKey {
    pub fn new(secret: &[u8]) -> Self {
        Self(keyed("narthex grant\0", secret))
    }

    /// `nxg_{tenant}.{grant}.{use}.{secret}.{tag}`
    pub fn write(&self, tenant: &str, grant: &str, used: Use, secret: &[u8; 32]) -> String {
        let signed = format!("nxg_{tenant}.{grant}.{}.{}", used.word(), URL_SAFE_NO_PAD.encode(secret));
        let tag = self.0.clone().chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.get(..TAG).unwrap_or_default()))
    }

    pub fn read(&self, text: &str) -> Option<Presented> {
        let (signed, tag) = text.rsplit_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok().filter(|tag| tag.len() == TAG)?;
        self.0.clone().chain_update(signed).verify_truncated_left(&tag).ok()?;
        let mut parts = signed.split('.').skip(1);
        let (grant, word) = (parts.next()?, parts.next()?);
        Some(Presented { grant: grant.into(), used: Use::parse(word)?, hash: digest(text) })
    }
}

/// Whose a text says it is: whose key is to verify it.
pub fn tenant_of(text: &str) -> Option<&str> {
    let (tenant, _) = text.strip_prefix("nxg_")?.split_once('.')?;
    valid_tenant(tenant).then_some(tenant)
}

/// What was allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    pub client: String,
    /// A principal.
    pub subject: String,
    pub scope: Vec<String>,
    pub resource: String,
    /// Of a person who signed in elsewhere; a key's are in the registry.
    #[serde(default)]
    pub roles: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub allowed: Allowed,
    pub redirect_uri: String,
    pub challenge: String,
    pub code_hash: String,
    pub code_until: Timestamp,
    pub until: Timestamp,
    /// The refresh token that is good: its place and its hash.
    #[serde(default)]
    pub current: Option<(u64, String)>,
    #[serde(default)]
    pub redeemed: bool,
    #[serde(default)]
    pub ended: bool,
}

/// What becomes of a code or refresh token that is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was good, and is no longer.
    Taken,
    /// It is good for nothing, which changes nothing.
    Refused,
    /// It was used before: somebody has a copy, so the grant has ended.
    Replayed,
}

impl Grant {
    fn is_over(&self, now: Timestamp) -> bool {
        self.ended || now >= self.until
    }

    /// Redeems the code. `next` is the hash of the first refresh token, where there is one.
    pub fn redeem(
        &mut self,
        hash: &str,
        client: &str,
        redirect_uri: Option<&str>,
        verifier: &str,
        next: Option<&str>,
        now: Timestamp,
    ) -> Outcome {
        if self.is_over(now) || hash != self.code_hash || client != self.allowed.client {
            return Outcome::Refused;
        }
        if self.redeemed {
            self.ended = true;
            return Outcome::Replayed;
        }
        // OAuth 2.1 no longer has the redirect URI here; one that is sent is the one it was.
        let redirects = redirect_uri.is_none_or(|uri| uri == self.redirect_uri);
        if now >= self.code_until || !redirects || !proves(verifier, &self.challenge) {
            // A code is tried once.
            self.ended = true;
            return Outcome::Refused;
        }
        self.redeemed = true;
        self.current = next.map(|hash| (1, hash.into()));
        Outcome::Taken
    }

    /// Puts the next refresh token in the place of this one.
    pub fn refresh(&mut self, place: u64, hash: &str, client: &str, next: &str, now: Timestamp) -> Outcome {
        let Some((current, known)) = self.current.clone() else {
            return Outcome::Refused;
        };
        if self.is_over(now) || client != self.allowed.client {
            return Outcome::Refused;
        }
        if place != current || hash != known {
            self.ended = true;
            return Outcome::Replayed;
        }
        self.current = Some((current + 1, next.into()));
        Outcome::Taken
    }

    /// Whether this refresh token would be taken.
    pub fn is_current(&self, place: u64, hash: &str, now: Timestamp) -> bool {
        !self.is_over(now) && self.current.as_ref().is_some_and(|(at, known)| *at == place && known == hash)
    }
}

#[cfg(test)]
#[path = "grant_tests.rs"]
mod tests;
