//! Tokens for an upstream by client credentials (RFC 6749 §4.4): the request and its response.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::base::json::Object;
use crate::base::json_repair;
use crate::base::time::Timestamp;
use crate::services::credentials::OAuthClient;

/// The longest accepted token, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The default lifetime of a token, and how long before its expiry it is replaced, in seconds.
const USUAL_SECONDS: u64 = 300;
const AHEAD_SECONDS: u64 = 30;

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub value: String,
    /// Not used after this time.
    pub until: Timestamp,
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The body of the request. `resource` is the URL that the token is for (RFC 8707).
pub fn body(client: &OAuthClient, resource: &str) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if let Some(scope) = &client.scope {
        form.append_pair("scope", scope);
    }
    form.append_pair("resource", resource);
    form.finish()
}

/// The client's authentication: `Authorization: Basic` (RFC 6749 §2.3.1).
pub fn authorization(client: &OAuthClient, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(&client.client_id), encoded(secret))))
}

/// Reads the response; `None` without a bearer token.
pub fn read(body: &[u8], now: Timestamp) -> Option<Token> {
    let text = json_repair::json(body)?;
    let mut answer = Object::new(&text, "#").ok()?;
    let value = answer.string("access_token", 1..=MAX_TOKEN_BYTES)?;
    let bearer = answer.string("token_type", 1..=64)?.eq_ignore_ascii_case("bearer");
    if !bearer || !value.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        return None;
    }
    let seconds = answer.integer("expires_in", 0..=u64::MAX / 4000).unwrap_or(USUAL_SECONDS);
    Some(Token { value, until: now.plus_ms(seconds.saturating_sub(AHEAD_SECONDS) * 1000) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> OAuthClient {
        OAuthClient { token_url: "https://a.example/token".into(), client_id: "me:1".into(), scope: Some("a b".into()) }
    }

    #[test]
    fn a_client_asks_for_a_token_of_one_resource() {
        let expected = "grant_type=client_credentials&scope=a+b&resource=https%3A%2F%2Fup.example%2Fmcp";
        assert_eq!(body(&client(), "https://up.example/mcp"), expected);
        assert_eq!(authorization(&client(), "s&"), format!("Basic {}", STANDARD.encode("me%3A1:s%26")));
    }

    #[test]
    fn a_token_is_used_until_shortly_before_its_end() {
        let now = Timestamp(1_000);
        let of = |text: &str| read(text.as_bytes(), now);
        let token = of(r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#).unwrap();
        assert_eq!((token.value.as_str(), token.until), ("t", Timestamp(31_000)));
        assert_eq!(of(r#"{"access_token":"t","token_type":"bearer"}"#).unwrap().until, Timestamp(271_000));
        assert_eq!(of(r#"{"access_token":"t","token_type":"bearer","expires_in":5}"#).unwrap().until, now);
        for text in [
            "",
            "{}",
            r#"{"access_token":"t"}"#,
            r#"{"access_token":"t","token_type":"mac"}"#,
            r#"{"access_token":"a b","token_type":"bearer"}"#,
            r#"{"error":"invalid_client"}"#,
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
