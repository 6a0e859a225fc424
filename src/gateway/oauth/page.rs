//! The consent page, which a person reads before a client may act for them. It has no scripts and no external
//! resources.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use narthex_core::access::oauth::redirect_uri::{self, Destination};

use super::super::answer::Answer;

const STYLE: &str = "\
*{box-sizing:border-box}body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f4f5f7;color:#1a1d21}\
main{max-width:30rem;margin:8vh auto;padding:2rem;background:#fff;border:1px solid #d8dce1;border-radius:12px}\
h1{font-size:1.35rem;line-height:1.3;margin:0 0 1rem}ul{padding-left:1.2rem}code{font-size:.85em;color:#5a626c}\
label{display:block;font-weight:600;margin-top:1.25rem}input{width:100%;font:inherit;padding:.6rem;margin-top:.3rem;\
border:1px solid #8a929c;border-radius:6px}p.note{color:#5a626c;font-size:.9rem}p.wrong{color:#a4161a;font-weight:600}\
div{display:flex;gap:.75rem;margin-top:1.25rem}button{flex:1;font:inherit;font-weight:600;\
padding:.65rem;border-radius:6px;border:1px solid #8a929c;background:#fff;color:inherit;cursor:pointer}\
button.go{background:#0b5cad;border-color:#0b5cad;color:#fff}\
:focus-visible{outline:3px solid #7db4ec;outline-offset:2px}\
@media(prefers-color-scheme:dark){body{background:#14171a;color:#e8eaed}main{background:#1d2125;border-color:#3a4047}\
input,button{background:#14171a;color:inherit}code,p.note{color:#a8b0ba}p.wrong{color:#ff9a9a}}";

/// Escapes a text for an element or a quoted attribute.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// The description of a permission; nothing if it has none.
fn meaning(permission: &str) -> Option<&'static str> {
    Some(match permission {
        "*" => "do everything you may do, including changes and deletions",
        "contexts:create:*" => "run any service you may use",
        "contexts:read" => "read the work you started, and its results",
        "contexts:read:*" => "read everyone's work and its results",
        "contexts:cancel" => "cancel your work",
        "services:read" => "see services and capabilities",
        "services:*" => "register, change and remove services",
        "events:read" => "watch events live",
        "usage:read" => "see usage figures",
        "keys:read" => "see API keys, without their secrets",
        _ => return None,
    })
}

/// The policy has no `form-action`: browsers apply it to every redirect after a form, and an app may redirect people
/// from its own URI to any other.
fn html(status: u16, title: &str, body: &str) -> Answer {
    let text = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{}</title><style>{STYLE}</style><main>{body}</main></html>",
        escaped(title)
    );
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!("default-src 'none'; style-src 'sha256-{style}'; frame-ancestors 'none'; base-uri 'none'");
    Answer::text(status, "text/html; charset=utf-8", text)
        .with("content-security-policy", &policy)
        .with("x-frame-options", "DENY")
        .with("referrer-policy", "no-referrer")
}

/// The page for an error without a safe redirect.
pub fn failure(text: &str) -> Answer {
    failure_as(400, text)
}

pub fn failure_as(status: u16, text: &str) -> Answer {
    let body = format!(
        "<h1>This sign-in request is invalid</h1><p>{}</p><p class=\"note\">Nothing was allowed. Go back to the app, \
         and report this message to its developers.</p>",
        escaped(text)
    );
    html(status, "Invalid sign-in request", &body)
}

/// The page for a failed sign-in whose app gets no automatic redirect.
pub fn failed_sign_in(text: &str, client: &str, redirect_uri: &str, back: &str) -> Answer {
    let body = format!(
        "<h1>Sign-in failed</h1><p>{}</p><p class=\"note\">Nothing was allowed.</p><p><a href=\"{}\" \
         rel=\"noreferrer\">Go back to {}</a> at <strong>{}</strong></p>",
        escaped(text),
        escaped(back),
        escaped(client),
        escaped(&destination(redirect_uri))
    );
    html(400, "Sign-in failed", &body)
}

/// The source of an app's registration.
#[derive(Debug, Clone, Copy)]
pub enum ClientSource<'a> {
    /// An administrator of this gateway.
    Administrator,
    /// A document at this host.
    Document(&'a str),
    /// The app itself.
    Itself,
}

/// The content of the consent page.
pub struct ConsentPage<'a> {
    pub client: &'a str,
    pub source: ClientSource<'a>,
    /// The destination of the response.
    pub redirect_uri: &'a str,
    pub scope: &'a [String],
    /// The members of the request, which the form sends back.
    pub fields: &'a [(&'static str, String)],
    /// The person who signed in at an external issuer, and the signed state that proves it.
    pub person: Option<(&'a str, &'a str)>,
    /// The names of the issuers that offer sign-in.
    pub issuers: &'a [&'a str],
    /// The error of the previous submission.
    pub error: Option<&'a str>,
}

/// The destination of a URI, in words.
fn destination(uri: &str) -> String {
    match redirect_uri::place(uri) {
        Some(Destination::Host(host)) => host,
        Some(Destination::Loopback(host)) => format!("a program on this computer ({host})"),
        Some(Destination::Scheme(scheme)) => format!("the app on this device that opens {scheme}: addresses"),
        None => String::new(),
    }
}

/// A warning about the app's name, unless an administrator has registered it.
fn name_warning(source: ClientSource<'_>) -> String {
    match source {
        ClientSource::Administrator => String::new(),
        ClientSource::Document(host) => {
            format!("<p>The name comes from <strong>{}</strong> and has not been verified.</p>", escaped(host))
        }
        ClientSource::Itself => "<p>The app registered itself under this name, which has not been verified.</p>".into(),
    }
}

pub fn consent(page: &ConsentPage<'_>) -> Answer {
    let client = escaped(page.client);
    let mut body = format!("<h1>{client} asks to act for you</h1>{}", name_warning(page.source));
    body.push_str("<p>If you allow it, it can:</p><ul>");
    for permission in page.scope {
        let code = escaped(permission);
        let _ = match meaning(permission) {
            Some(words) => write!(body, "<li>{words} <code>{code}</code></li>"),
            None => write!(body, "<li><code>{code}</code></li>"),
        };
    }
    let _ = write!(
        body,
        "</ul><p class=\"note\">Only within your own permissions, and until you revoke it. The response goes to \
         <strong>{}</strong>: allow this only if you know that place and started there yourself.</p>",
        escaped(&destination(page.redirect_uri))
    );
    body.push_str("<form method=\"post\" action=\"/oauth/authorize\">");
    for (name, value) in page.fields {
        let _ = write!(body, "<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escaped(value));
    }
    if let Some((name, state)) = page.person {
        let (name, state) = (escaped(name), escaped(state));
        let _ = write!(
            body,
            "<input type=\"hidden\" name=\"person\" value=\"{state}\"><p>You are signed in as <strong>{name}</strong>.</p>"
        );
    } else {
        body.push_str(
            "<label for=\"key\">Your API key</label><input id=\"key\" name=\"api_key\" type=\"password\" \
             autocomplete=\"off\" spellcheck=\"false\" autofocus>",
        );
        let _ = write!(body, "<p class=\"note\">The key stays with the gateway. {client} never sees it.</p>");
    }
    if let Some(error) = page.error {
        let _ = write!(body, "<p class=\"wrong\" role=\"alert\">{}</p>", escaped(error));
    }
    body.push_str(
        "<div><button name=\"decision\" value=\"deny\">Deny</button>\
         <button class=\"go\" name=\"decision\" value=\"allow\">Allow</button></div>",
    );
    for issuer in page.issuers.iter().filter(|_| page.person.is_none()) {
        let issuer = escaped(issuer);
        let _ = write!(
            body,
            "<div><button name=\"sign_in\" value=\"{issuer}\">Sign in with {issuer} instead</button></div>"
        );
    }
    body.push_str("</form>");
    let status = if page.error.is_some() { 403 } else { 200 };
    html(status, &format!("{} asks to act for you", page.client), &body)
}
