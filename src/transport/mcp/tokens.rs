//! Tokens for upstreams whose credentials are a client's: remembered by this isolate until they end.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::platform::calls::{self, Method, Request};
use crate::platform::http::Headers;
use crate::platform::{clock, log_event, settings};
use narthex_core::calling::response::{CallResult, NotCalled};
use narthex_core::mcp::client::access_token::{self, Token};

use super::Peer;

/// How long an authorization server may take, in milliseconds.
const PATIENCE_MS: u64 = 10_000;
/// Before a token is asked for again, in milliseconds; more with each time.
const PAUSES_MS: [u64; 2] = [200, 800];
/// Tokens an isolate remembers.
const MAX_TOKENS: usize = 512;

thread_local! {
    static TOKENS: RefCell<HashMap<String, Token>> = RefCell::new(HashMap::new());
}

/// A token that was refused is not used again.
pub fn forget(peer: &Peer) {
    TOKENS.with_borrow_mut(|tokens| tokens.remove(&peer.place));
}

/// The header that shows a token; nothing where no token is asked for.
pub async fn authorization(peer: &Peer) -> Result<Option<String>, CallResult> {
    let Some((client, secret)) = peer.secrets.client() else { return Ok(None) };
    let now = clock::now();
    let known = TOKENS.with_borrow(|tokens| tokens.get(&peer.place).filter(|token| token.until > now).cloned());
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
    let until = now.plus_ms(PATIENCE_MS);
    let mut pauses = PAUSES_MS.into_iter();
    let answer = loop {
        let left = until.since(clock::now()).max(1);
        let answer = calls::send(&Request::within(left, Method::Post, url, headers, body)).await;
        // Asked twice it gives two tokens, which does no harm.
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
        log_event!(TokenNotObtained, tenant = &*peer.tenant, service = &*peer.service, status = answer.status());
        return Err(CallResult::NotCalled(NotCalled::Token));
    };
    let shown = format!("Bearer {}", token.value);
    TOKENS.with_borrow_mut(|tokens| {
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        tokens.insert(peer.place.clone(), token);
    });
    Ok(Some(shown))
}
