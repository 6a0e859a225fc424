//! Grants: a person's authorization of a client, from the code to the last refresh token. Each grant has its own
//! object, so that single use is decided in one place.
//!
//! Codes and refresh tokens contain the id of their grant and an HMAC with the tenant's secret. A forged token is
//! rejected without a lookup. An authentic token that is not the current one proves that it was copied.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::form::proves;
use crate::base::canonical::digest;
use crate::base::opaque_token::Signer;
use crate::base::principal_id::PrincipalId;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;

/// How long a code is valid, in milliseconds.
pub const CODE_MS: u64 = 60_000;
/// The longest lifetime of a grant, in milliseconds: 30 days.
pub const GRANT_MS: u64 = 30 * 86_400_000;
/// How long a repeated request with the same token gets the same response, in milliseconds, as the first one may have
/// been lost.
pub const RETRY_MS: u64 = 30_000;
/// After this many wrong verifiers or redirect URIs a code is invalid.
pub const MAX_TRIES: u8 = 3;
/// How long a stored client may be used while its document is unreachable, in milliseconds.
pub const SEEN_MS: u64 = 86_400_000;
/// A stored client is updated after this time, in milliseconds.
const CLIENT_REFRESH_INTERVAL_MS: u64 = 3_600_000;

/// The key that signs codes and refresh tokens. `Debug` does not show it.
#[derive(Clone)]
pub struct GrantKey(Signer);

impl std::fmt::Debug for GrantKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GrantKey(…)")
    }
}

/// What a token of a grant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantToken {
    Code,
    /// A refresh token, with its number in the sequence, from 1.
    Refresh(u64),
}

impl GrantToken {
    fn word(self) -> String {
        match self {
            GrantToken::Code => "c".into(),
            GrantToken::Refresh(place) => format!("r{place}"),
        }
    }

    fn parse(word: &str) -> Option<Self> {
        match word {
            "c" => Some(GrantToken::Code),
            _ => word.strip_prefix('r')?.parse().ok().map(GrantToken::Refresh),
        }
    }
}

/// An authentic code or refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedToken {
    pub grant: String,
    pub used: GrantToken,
    /// SHA-256 of the whole token, in hex.
    pub hash: String,
}

impl GrantKey {
    pub fn new(secret: &[u8]) -> Self {
        Self(Signer::new("narthex grant\0", secret))
    }

    /// Writes the token `nxg_{tenant}.{grant}.{use}.{secret}.{tag}`.
    pub fn write(&self, tenant: &TenantId, grant: &str, used: GrantToken, secret: &[u8; 32]) -> String {
        self.0.sign_text(&format!("nxg_{tenant}.{grant}.{}.{}", used.word(), URL_SAFE_NO_PAD.encode(secret)))
    }

    /// Writes the token that follows `presented` in its grant. It is derived from `presented`, so that a lost response
    /// can be repeated although only hashes are stored. Without the tenant's secret it cannot be computed.
    pub fn write_next(&self, tenant: &TenantId, grant: &str, used: GrantToken, presented: &str) -> String {
        // Signed texts never begin like this.
        let secret = self.0.derive(&[b"next\0", presented.as_bytes()]);
        self.write(tenant, grant, used, &secret)
    }

    /// Parses a token; `None` if it is not authentic.
    pub fn read(&self, text: &str) -> Option<PresentedToken> {
        let mut parts = self.0.verify_text(text)?.split('.').skip(1);
        let (grant, word) = (parts.next()?, parts.next()?);
        Some(PresentedToken { grant: grant.into(), used: GrantToken::parse(word)?, hash: digest(text) })
    }
}

/// The tenant in a token, whose key must verify it.
pub fn tenant_of(text: &str) -> Option<&str> {
    let (tenant, _) = text.strip_prefix("nxg_")?.split_once('.')?;
    TenantId::is_valid(tenant).then_some(tenant)
}

/// The access that was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedAccess {
    pub client: String,
    pub subject: PrincipalId,
    pub scope: Vec<String>,
    pub resource: String,
    /// The roles of a person who signed in at an external issuer; those of a key are in the registry.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// A client as it was last read from its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenClient {
    pub client: Client,
    pub at: Timestamp,
}

impl SeenClient {
    /// Whether it may still be used while the document is unreachable.
    pub fn serves(&self, now: Timestamp) -> bool {
        now.since(self.at) < SEEN_MS
    }

    pub fn is_due(&self, now: Timestamp) -> bool {
        now.since(self.at) >= CLIENT_REFRESH_INTERVAL_MS
    }
}

/// The refresh token that was last accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRefresh {
    pub place: u64,
    pub hash: String,
    pub at: Timestamp,
}

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub allowed: GrantedAccess,
    pub redirect_uri: String,
    pub challenge: String,
    pub code_hash: String,
    pub code_until: Timestamp,
    pub until: Timestamp,
    /// The number and the hash of the valid refresh token.
    #[serde(default)]
    pub current: Option<(u64, String)>,
    #[serde(default)]
    pub redeemed: bool,
    #[serde(default)]
    pub ended: bool,
    /// When the code was redeemed.
    #[serde(default)]
    pub redeemed_at: Option<Timestamp>,
    /// How often the code was presented with a wrong verifier or redirect URI.
    #[serde(default)]
    pub tries: u8,
    #[serde(default)]
    pub last: Option<LastRefresh>,
    /// The client, if it is not registered.
    #[serde(default)]
    pub seen: Option<SeenClient>,
}

/// The result of presenting a code or refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenResult {
    /// It was valid, and is now used.
    Accepted,
    /// It was accepted a moment ago: the same response is sent again, and nothing changes.
    Repeated,
    /// It is invalid. Nothing changes.
    Rejected,
    /// It was used before, so it was copied: the grant is revoked.
    Replayed,
}

/// A request with a code.
#[derive(Debug, Clone, Copy)]
pub struct Redemption<'a> {
    pub hash: &'a str,
    pub client: &'a str,
    pub redirect_uri: Option<&'a str>,
    pub verifier: &'a str,
    /// The hash of the first refresh token, if there is one.
    pub next: Option<&'a str>,
}

/// A request with a refresh token.
#[derive(Debug, Clone, Copy)]
pub struct Refresh<'a> {
    pub place: u64,
    pub hash: &'a str,
    pub client: &'a str,
    /// The hash of the refresh token that replaces it.
    pub next: &'a str,
}

/// The time, and how long a response may be repeated, in milliseconds; 0 for never.
#[derive(Debug, Clone, Copy)]
pub struct RetryWindow {
    pub now: Timestamp,
    pub retry_ms: u64,
}

impl RetryWindow {
    fn is_retry(&self, first: Timestamp) -> bool {
        self.now.since(first) < self.retry_ms
    }
}

impl Grant {
    fn is_over(&self, now: Timestamp) -> bool {
        self.ended || now >= self.until
    }

    /// Whether the client may still use the grant.
    pub fn is_open_to(&self, client: &str, now: Timestamp) -> bool {
        !self.is_over(now) && self.allowed.client == client
    }

    /// When a token of the grant was last accepted.
    pub fn used_at(&self) -> Option<Timestamp> {
        self.last.as_ref().map(|last| last.at).max(self.redeemed_at)
    }

    /// Redeems the code.
    pub fn redeem(&mut self, asked: &Redemption<'_>, at: RetryWindow) -> TokenResult {
        let now = at.now;
        if !self.is_open_to(asked.client, now) || asked.hash != self.code_hash {
            return TokenResult::Rejected;
        }
        // OAuth 2.1 no longer requires the redirect URI here; if it is sent, it must match.
        let redirects = asked.redirect_uri.is_none_or(|uri| uri == self.redirect_uri);
        let proven = redirects && proves(asked.verifier, &self.challenge);
        if self.redeemed {
            // The first refresh token, if any, has not been used yet.
            let same =
                self.current.as_ref().map(|(place, hash)| (*place, hash.as_str())) == asked.next.map(|next| (1, next));
            if proven && same && self.redeemed_at.is_some_and(|first| at.is_retry(first)) {
                return TokenResult::Repeated;
            }
            self.ended = true;
            return TokenResult::Replayed;
        }
        if now >= self.code_until {
            self.ended = true;
            return TokenResult::Rejected;
        }
        if !proven {
            // A single mistake is forgiven; guessing is not.
            self.tries = self.tries.saturating_add(1);
            self.ended = self.tries >= MAX_TRIES;
            return TokenResult::Rejected;
        }
        (self.redeemed, self.redeemed_at) = (true, Some(now));
        self.current = asked.next.map(|hash| (1, hash.into()));
        TokenResult::Accepted
    }

    /// Replaces this refresh token by the next one.
    pub fn refresh(&mut self, asked: &Refresh<'_>, at: RetryWindow) -> TokenResult {
        let Some((current, known)) = self.current.clone() else {
            return TokenResult::Rejected;
        };
        if !self.is_open_to(asked.client, at.now) {
            return TokenResult::Rejected;
        }
        if asked.place == current && asked.hash == known {
            self.last = Some(LastRefresh { place: current, hash: known, at: at.now });
            self.current = Some((current + 1, asked.next.into()));
            return TokenResult::Accepted;
        }
        // The previous token, whose response may have been lost: the token in that response is still the current one.
        let lost = self
            .last
            .as_ref()
            .is_some_and(|last| (last.place, last.hash.as_str()) == (asked.place, asked.hash) && at.is_retry(last.at));
        if lost && known == asked.next {
            return TokenResult::Repeated;
        }
        self.ended = true;
        TokenResult::Replayed
    }

    /// Whether this refresh token would be accepted.
    pub fn is_current(&self, place: u64, hash: &str, now: Timestamp) -> bool {
        !self.is_over(now) && self.current.as_ref().is_some_and(|(at, known)| *at == place && known == hash)
    }
}

#[cfg(test)]
mod tests;
