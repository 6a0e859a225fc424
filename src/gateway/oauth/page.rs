//! The consent page: what a person reads before a client may act for them. No script, nothing from elsewhere.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use narthex_core::access::oauth::redirect_uri::{self, Destination};

use super::super::answer::Answer;

const STYLE: &str = "*{box-sizing:border-box}body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f4f5f7;color:#1a1d21}\
main{max-width:30rem;margin:8vh auto;padding:2rem;background:#fff;border:1px solid #d8dce1;border-radius:12px}\
h1{font-size:1.35rem;line-height:1.3;margin:0 0 1rem}ul{padding-left:1.2rem}code{font-size:.85em;color:#5a626c}\
label{display:block;font-weight:600;margin-top:1.25rem}input{width:100%;font:inherit;padding:.6rem;margin-top:.3rem;\
border:1px solid #8a929c;border-radius:6px}p.note{color:#5a626c;font-size:.9rem}p.wrong{color:#a4161a;font-weight:600}\
div{display:flex;gap:.75rem;margin-top:1.25rem}button{flex:1;font:inherit;font-weight:600;padding:.65rem;border-radius:6px;\
border:1px solid #8a929c;background:#fff;color:inherit;cursor:pointer}button.go{background:#0b5cad;border-color:#0b5cad;color:#fff}\
:focus-visible{outline:3px solid #7db4ec;outline-offset:2px}\
@media(prefers-color-scheme:dark){body{background:#14171a;color:#e8eaed}main{background:#1d2125;border-color:#3a4047}\
input,button{background:#14171a;color:inherit}code,p.note{color:#a8b0ba}p.wrong{color:#ff9a9a}}";

/// Text as it can stand in an element or a quoted attribute.
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

/// What a permission means, in words; what has none stands for itself.
fn meaning(permission: &str) -> Option<&'static str> {
    Some(match permission {
        "*" => "do everything you may do, changing and deleting included",
        "contexts:create:*" => "have work done by any service you may use",
        "contexts:read" => "read the work you have asked for, and its results",
        "contexts:read:*" => "read everybody's work and its results",
        "contexts:cancel" => "cancel your work",
        "services:read" => "see which services and capabilities there are",
        "services:*" => "register, change and remove services",
        "events:read" => "watch what happens as it happens",
        "usage:read" => "see usage figures",
        "keys:read" => "see which API keys there are, without their secrets",
        _ => return None,
    })
}

/// The policy has no `form-action`: browsers hold every hop of what follows a form against it, and where an app sends
/// its people from its own address is the app's affair.
fn page(status: u16, title: &str, body: &str) -> Answer {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{}</title><style>{STYLE}</style><main>{body}</main></html>",
        escaped(title)
    );
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!("default-src 'none'; style-src 'sha256-{style}'; frame-ancestors 'none'; base-uri 'none'");
    Answer::text(status, "text/html; charset=utf-8", html)
        .with("content-security-policy", &policy)
        .with("x-frame-options", "DENY")
        .with("referrer-policy", "no-referrer")
}

/// Said to a person when there is nowhere safe to send them.
pub fn failure(text: &str) -> Answer {
    failure_as(400, text)
}

pub fn failure_as(status: u16, text: &str) -> Answer {
    let body = format!(
        "<h1>This sign-in request does not work</h1><p>{}</p><p class=\"note\">Nothing was allowed. Go back to the app, \
         and tell its makers what stands here.</p>",
        escaped(text)
    );
    page(status, "This request does not work", &body)
}

/// Said to a person whose app is not trusted with being sent back to by itself.
pub fn failed_sign_in(text: &str, client: &str, redirect_uri: &str, back: &str) -> Answer {
    let body = format!(
        "<h1>Signing in did not work</h1><p>{}</p><p class=\"note\">Nothing was allowed.</p><p><a href=\"{}\" \
         rel=\"noreferrer\">Go back to {}</a> at <strong>{}</strong></p>",
        escaped(text),
        escaped(back),
        escaped(client),
        escaped(&target(redirect_uri))
    );
    page(400, "Signing in did not work", &body)
}

/// How the gateway knows an app.
#[derive(Debug, Clone, Copy)]
pub enum Known<'a> {
    /// Somebody here has registered it.
    Registered,
    /// By a document at this host.
    Document(&'a str),
    /// It registered itself.
    Itself,
}

/// What is asked of a person.
pub struct Asked<'a> {
    pub client: &'a str,
    pub known: Known<'a>,
    /// Where the answer goes.
    pub redirect_uri: &'a str,
    pub scope: &'a [String],
    /// The request itself, which comes back with the answer.
    pub fields: &'a [(&'static str, String)],
    /// Who has signed in elsewhere, and the signed state that says so.
    pub person: Option<(&'a str, &'a str)>,
    /// Where people may sign in, by name.
    pub issuers: &'a [&'a str],
    /// What was wrong with the last answer.
    pub wrong: Option<&'a str>,
}

/// Where an address leads, as people know it.
fn target(uri: &str) -> String {
    match redirect_uri::place(uri) {
        Some(Destination::Host(host)) => host,
        Some(Destination::Loopback(host)) => format!("a program on this computer ({host})"),
        Some(Destination::Scheme(scheme)) => format!("the app on this device that opens {scheme}: addresses"),
        None => String::new(),
    }
}

/// What vouches for the app's name.
fn vouched(known: Known<'_>) -> String {
    match known {
        Known::Registered => String::new(),
        Known::Document(host) => format!(
            "<p>Its name is what <strong>{}</strong> says of it; nobody here has checked that.</p>",
            escaped(host)
        ),
        Known::Itself => "<p>It registered itself under this name; nobody here has checked that.</p>".into(),
    }
}

pub fn consent(asked: &Asked<'_>) -> Answer {
    let client = escaped(asked.client);
    let mut body = format!("<h1>{client} asks to act for you</h1>{}", vouched(asked.known));
    body.push_str("<p>If you allow it, it can:</p><ul>");
    for permission in asked.scope {
        let code = escaped(permission);
        let _ = match meaning(permission) {
            Some(words) => write!(body, "<li>{words} <code>{code}</code></li>"),
            None => write!(body, "<li><code>{code}</code></li>"),
        };
    }
    let _ = write!(
        body,
        "</ul><p class=\"note\">Only as far as your own key goes, and until you revoke it. The answer is sent to \
         <strong>{}</strong>: allow this only if you know it and have begun there yourself.</p>",
        escaped(&target(asked.redirect_uri))
    );
    body.push_str("<form method=\"post\" action=\"/oauth/authorize\">");
    for (name, value) in asked.fields {
        let _ = write!(body, "<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escaped(value));
    }
    if let Some((name, state)) = asked.person {
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
    if let Some(wrong) = asked.wrong {
        let _ = write!(body, "<p class=\"wrong\" role=\"alert\">{}</p>", escaped(wrong));
    }
    body.push_str(
        "<div><button name=\"decision\" value=\"deny\">Deny</button>\
         <button class=\"go\" name=\"decision\" value=\"allow\">Allow</button></div>",
    );
    for issuer in asked.issuers.iter().filter(|_| asked.person.is_none()) {
        let issuer = escaped(issuer);
        let _ = write!(
            body,
            "<div><button name=\"sign_in\" value=\"{issuer}\">Sign in with {issuer} instead</button></div>"
        );
    }
    body.push_str("</form>");
    let status = if asked.wrong.is_some() { 403 } else { 200 };
    page(status, &format!("{} asks to act for you", asked.client), &body)
}
