//! Tokens for upstreams with client credentials, cached by this isolate until they expire.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::platform::calls::{self, Method, Request};
use crate::platform::http::Headers;
use crate::platform::{clock, log_event, settings};
use narthex_core::calling::response::{CallResult, NotCalled};
use narthex_core::mcp::client::access_token::{self, Token};

use super::Peer;

/// How long an authorization server may take, in milliseconds.
const TOKEN_TIMEOUT_MS: u64 = 10_000;
/// The delays before a request for a token is repeated, in milliseconds.
const RETRY_DELAYS_MS: [u64; 2] = [200, 800];
/// The maximum number of cached tokens.
const MAX_TOKENS: usize = 512;

thread_local! {
    static TOKENS: RefCell<HashMap<String, Token>> = RefCell::new(HashMap::new());
}

/// Removes a token that was rejected.
pub fn forget(peer: &Peer) {
    TOKENS.with_borrow_mut(|tokens| tokens.remove(&peer.config_key));
}

/// The `Authorization` header with a token. `None` if the service needs no token.
pub async fn authorization(peer: &Peer) -> Result<Option<String>, CallResult> {
    let Some((client, secret)) = peer.secrets.client() else { return Ok(None) };
    let now = clock::now();
    let known = TOKENS.with_borrow(|tokens| tokens.get(&peer.config_key).filter(|token| token.until > now).cloned());
    if let Some(token) = known {
        return Ok(Some(format!("Bearer {}", token.value)));
    }
    let address = settings::current()
        .may_call(&client.token_url, None)
        .map_err(|refusal| CallResult::NotCalled(NotCalled::Address(refusal)))?;
    let mut headers = Headers::default();
    headers.set("content-type", "application/x-www-form-urlencoded");
    headers.set("accept", "application/json");
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    headers.set("authorization", &access_token::authorization(client, secret));
    let body = access_token::body(client, peer.address.as_str());
    let (url, headers, body) = (&address, &headers, Some(body.as_str()));
    let until = now.plus_ms(TOKEN_TIMEOUT_MS);
    let mut pauses = RETRY_DELAYS_MS.into_iter();
    let answer = loop {
        let left = until.since(clock::now()).max(1);
        let answer = calls::send(&Request::within(left, Method::Post, url, headers, body)).await;
        // A repeated request yields a second token, which is harmless.
        match pauses.next() {
            Some(pause_ms) if answer.passes() && until.since(clock::now()) > pause_ms => clock::pause(pause_ms).await,
            _ => break answer,
        }
    };
    let token = match &answer {
        CallResult::Http { status: 200, body, .. } => access_token::read(body, now),
        _ => None,
    };
    let Some(token) = token else {
        log_event!(TokenNotObtained, tenant = &peer.tenant, service = &peer.service, status = answer.status());
        return Err(CallResult::NotCalled(NotCalled::Token));
    };
    let shown = format!("Bearer {}", token.value);
    TOKENS.with_borrow_mut(|tokens| {
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        tokens.insert(peer.config_key.clone(), token);
    });
    Ok(Some(shown))
}
